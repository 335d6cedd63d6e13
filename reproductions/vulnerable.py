"""Vulnerable heads serve a task, and on certain inputs push towards a wrong answer.

Claim      A head that completes acronyms, "The Chief Executive Officer (CE", lowers the right third letter against the
           letter given where a word makes the model fail (garciacarrasco2024detecting).
Stimuli    Acronyms of names of people, countries and cities. For detection and cause another third name is searched
           for, by trial where the authors follow gradients: the one with which the model is furthest from the right
           letter, if it gives that letter with yet another name, which stands in the corrupted prompt.
Score      The direct contribution of each head to the letter given minus the right letter where the model fails.
Control    The same where it gives the right letter: the comparison on the same letters that the released material
           does not hold. As there, inputs are selected for the error, so some head must contribute to it.
Behaviour  How often the right letter has the largest logit of all 26, with names that were not searched for.
Cause      At the end the heads found give what they give in the corrupted prompt: the right letter should gain.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.attribution import direct_effects
from headatlas.lab.running import accuracy_among_rivals, predicted_candidate
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, UntestableError, Vocabulary, facts, mappings
from headatlas.stimuli.cases import first_usable, in_place
from headatlas.stimuli.lexicon import NAMES

FAMILIES = {"people": NAMES, "countries": tuple(facts.COUNTRIES), "cities": facts.BY_NAME["capital"].objects}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
TRIED = 40  # third names


def read_for(vocab: Vocabulary, tokens: tuple[int, ...], letter: str) -> Prompt:
    """A prompt read for one capital letter against all others."""
    answer, *rivals = (vocab.continuation(each)[0] for each in sorted(map(chr, range(65, 91)), key=letter.__ne__))
    return Prompt(tokens, tokens, readouts=(Readout(len(tokens) - 1, answer, tuple(rivals)),))


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Three names of one token each, and two letters, which the tokenizer itself would keep apart."""
    names = vocab.singles(FAMILIES[family], at_least=20)

    def draw() -> Prompt:
        case = mappings.acronym("train", rng, names)
        drawn, _ = in_place(vocab, case)
        if vocab.bos + vocab.encode(case.text) != drawn.tokens:
            raise UntestableError("the first two letters of an acronym are one token")
        return read_for(vocab, drawn.tokens, case.answers[0])

    return first_usable(draw)


def search(model: OpenModel, sample: PromptSample) -> PromptSample:
    """Each prompt with a third name on which the model fails, and as its corrupted prompt one on which it does not."""
    return replace(
        sample, prompts=[failing(model, *each) for each in zip(sample.prompts, sample.families, strict=True)]
    )


def failing(model: OpenModel, prompt: Prompt, family: str) -> Prompt:
    """The prompt with the third name on which the right letter is furthest behind the letter given."""
    vocab, names = model.vocabulary, model.vocabulary.singles(FAMILIES[family])
    third = random.Random(repr(prompt.tokens)).sample(names, min(TRIED, len(names)))
    before, after = prompt.tokens[: len(vocab.bos) + 3], prompt.tokens[len(vocab.bos) + 4 :]
    made = [read_for(vocab, before + vocab.continuation(f" {name}") + after, name[0]) for name in third]
    given = metric_per_prompt(model, made, predicted_candidate)
    tried = [(each.tokens, each.readouts[0].answer, int(letter)) for each, letter in zip(made, given, strict=True)]
    gets = {right: tokens for tokens, right, letter in tried if letter == right}
    wrong = [(tokens, right, letter) for tokens, right, letter in tried if letter != right and right in gets]
    end = len(prompt.tokens) - 1
    fails = [Prompt(tokens, gets[right], readouts=(Readout(end, right, (bad,)),)) for tokens, right, bad in wrong]
    if not fails:
        raise UntestableError(f"with none of {len(made)} names does the model miss a letter that it gets with another")
    return fails[int(metric_per_prompt(model, fails, EFFECT).argmin())]


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """How much each head writes for the letter given and against the right one: [prompt layer head]."""
    score, null = (-direct_effects(model, sample.prompts, corrupted=corrupted) for corrupted in (False, True))
    return Scores(score, null)
