"""Concept induction heads bring over a word of several tokens as a whole when it comes back, not token by token.

Claim      At the token before the second mention of a word, the head's output already carries what comes after the
           word's first token (feucht2025dual).
Stimuli    Words and names of two to five tokens after a piece of a story, a newline, and the same piece up to the
           word's first token. In the corrupted prompt another piece stands before the newline, so that the word was not
           there.
Score      Concept copying: the head's output at the token before the second mention, from the prompt, is put into the
           corrupted prompt; how much the probability of the word's second token rises, one token later.
Control    The same from a prompt in which another word of as many tokens stands in its place: what carries only that
           a word comes next, or that the text repeats, raises the second token as much from there.
Behaviour  The probability of the second token in the prompt, minus that in the corrupted prompt.
Cause      At the token before the second mention, the heads found are replaced by their mean over the corrupted
           prompts, and that difference should shrink. One token later, token induction heads can still copy: in a text
           repeated to the letter they can stand in, and in the paper it is translation that needs these heads.
"""

import random

from headatlas.lab import OpenModel, Scores, probability
from headatlas.lab.ablation import patch_sweeps
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, UntestableError, Vocabulary, spelling, stories

FAMILIES = {
    "long words": [word for kind in spelling.LONG.values() for word in kind],
    "places": spelling.NAMED["place"],
    "people": spelling.NAMED["person"],
}
LENGTH = 24  # of the part before the newline, word included; the paper has 30
BEHAVIOUR, CONTRAST, POSITIONS = probability, True, (-2,)


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A story that leads to a word, twice, the second time up to its first token."""
    word, other = rng.sample(of_one_length(vocab, family, rng), 2)
    story, another = (vocab.encode(stories.story(12, rng)) for _ in range(2))
    lead, line = story[: LENGTH - len(word)], vocab.continuation("\n")
    again = line + lead + word[:1]
    tokens = vocab.bos + lead + word + again
    return Prompt(
        tokens=tokens,
        corrupted=vocab.bos + another[:LENGTH] + again,
        readouts=(Readout(len(tokens) - 1, word[1]),),
        alternatives={"other word": vocab.bos + lead + other + again},
    )


def of_one_length(vocab: Vocabulary, family: str, rng: random.Random) -> list[tuple[int, ...]]:
    """The words of the family that have some number of tokens, two to five, as ids; their second tokens differ."""
    by_length: dict[int, dict[int, tuple[int, ...]]] = {}
    for ids in (vocab.continuation(f" {word}") for word in FAMILIES[family]):
        if 2 <= len(ids) <= 5:
            by_length.setdefault(len(ids), {}).setdefault(ids[1], ids)
    usable = [list(each.values()) for each in by_length.values() if len(each) > 1]
    if sum(map(len, usable)) < 6:
        raise UntestableError(f"fewer than six of the {family} have two to five tokens")
    return rng.choices(usable, [len(each) for each in usable])[0]


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """How much each head's output raises the second token when put into the corrupted prompt, and that of another
    word's prompt.
    """
    prompts = sample.prompts
    corrupted = [Prompt(prompt.corrupted, prompt.tokens, readouts=prompt.readouts) for prompt in prompts]
    sources = [prompt.tokens for prompt in prompts], [prompt.alternatives["other word"] for prompt in prompts]
    score, null = patch_sweeps(model, corrupted, BEHAVIOUR, sources, POSITIONS)
    return Scores(score.effect_per_prompt, null.effect_per_prompt)
