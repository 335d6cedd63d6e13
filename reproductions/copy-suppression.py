"""Copy suppression heads look at a word that the model is about to repeat, and write against it.

Claim      Where the components before it predict a token that stands in the context, the head attends to that token
           and lowers its logit; by its weights it lowers most tokens that it may attend to (mcdougall2024copy).
Stimuli    Text in which a token of the context is next: sentences with two people, a story and random tokens that begin
           a second time. The corrupted prompt has other names, or a first time of something else.
Score      By how many nats the head's direct effect, through its attention to the next token, lowers the logit
           of that token, less that of twenty unrelated ones (the authors' released score, which takes the logit by
           itself and names only), times a score of weights: for which share of those tokens of the prompts the token is
           among the ten that the head's OV circuit lowers most. The authors read any token in the state after the first
           MLP; here a head reads it in the stream of its own layer, which is what it has. Their test of three
           conditions at single completions, and their ablation on open text, are not rerun.
Control    The same for another token of the context that is not due: a head that writes against all that it attends to
           suppresses no prediction.
Behaviour  How often the token that comes next is the likeliest one.
Cause      At the end the heads found give their mean over the ends of corrupted prompts: the token should gain on the
           unrelated.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, accuracy, logit_difference
from headatlas.lab.ablation import ZValues, mean_z
from headatlas.lab.attribution import direct_effects
from headatlas.lab.weights import copying_in_prompts
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, indirect_object, repeated_text, stories

FAMILIES = {"two people": "names", "a story": "words", "random tokens": "tokens"}
BEHAVIOUR, EFFECT, POSITIONS = accuracy, logit_difference, "last"
COST = "vocabulary"
LENGTH, UNRELATED, LOWEST = 25, 20, 10


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A text before a token that stood in it; pairs lead to it, null pairs to a token that does not follow."""
    if FAMILIES[family] == "names":
        made = indirect_object.prompt(vocab, rng.choice(indirect_object.ORDERS), 0, rng)
        [readout] = made.readouts
        return repeated_text.read_before(
            vocab, made.tokens, made.corrupted, readout.answer, readout.rivals[0], UNRELATED, rng
        )
    if FAMILIES[family] == "words":
        first, fresh = (vocab.continuation(f" {stories.story(8, rng)}")[:LENGTH] for _ in range(2))
    else:
        first, fresh = (vocab.draw(rng, LENGTH) for _ in range(2))
    return repeated_text.begun_again(vocab, first, fresh, UNRELATED, rng)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """What each head takes from a token's logit through its attention to it: [prompt layer head], in nats."""
    said, not_said = sample.prompts, [turned(prompt) for prompt in sample.prompts]
    keys = [[[key for _, key in prompt.pairs] for prompt in prompts] for prompts in (said, not_said)]
    read = [first + second for first, second in zip(*keys, strict=True)]
    lowers = copying_in_prompts(model, said, read, LOWEST).suppression.numpy()  # [layer head]
    score, null = (-direct_effects(model, *each) * lowers for each in zip((said, not_said), keys, strict=True))
    return Scores(score, null)


def turned(prompt: Prompt) -> Prompt:
    """The same prompt, read for the token that is not due."""
    readout, token = prompt.readouts[0], prompt.tokens[prompt.null_pairs[0][1]]
    return replace(prompt, pairs=prompt.null_pairs, readouts=(replace(readout, answer=token),))


def edit(model: OpenModel, sample: PromptSample) -> ZValues:
    """What each head gives on average at the end of a corrupted prompt, where nothing can be repeated."""
    return mean_z(model, [prompt.corrupted for prompt in sample.prompts], position=-1)
