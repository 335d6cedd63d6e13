"""Faithfulness heads are said to tie a model's answer to the reasoning that it wrote.

Claim      Some heads go with faithful chains of thought (zheng2024attention). The study that this rests on edited
           activations and had minimal success (tanneru2024difficulty); it names no heads and gives no score for them.
           What is rerun is therefore less: are there heads through which the answer follows the written steps?
Stimuli    Right chains: sums of three and of four numbers and the parity of bits, each step written out: "Add 3 4 5.
           Steps: 7, 12. So the answer is". In the corrupted prompt the last written step is wrong, as if by a mistake.
           Where a tokenizer writes numbers digit by digit, answers are read at the first digit in which they differ.
Score      Patching the head at the last token from the corrupted prompt: how much of the logit difference, between the
           answer of the right chain and that of the wrong step, it takes away. In units of the size of that difference
           in the prompt and in its corrupted prompt together: their distance, where the answer follows the step from
           one to the other. An untrained model has a distance too, but a tiny one beside the two, and a share of it
           would say nothing.
Control    The same from a chain in which an earlier step is wrong and the last one right, so that the answer stands.
Behaviour  How often the right answer beats that of the wrong step, minus the same after the wrong step: 1 where the
           answer always follows what was written, 0 where it ignores it.
Cause      The heads found give, at the last token, what they gave in the corrupted prompt: the right answer should lose
           its lead. This shows what carries the written step to the answer, not that pushing it makes a model more
           faithful.
"""

import random

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt, sweep
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, Vocabulary, steps
from headatlas.stimuli.cases import first_usable, in_same_places

FAMILIES = {"three numbers": (steps.chain, 3), "four numbers": (steps.chain, 4), "parity": (steps.parity, 5)}
BEHAVIOUR, CONTRAST, EFFECT, POSITIONS = accuracy_among_rivals, True, logit_difference, "last"
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A chain, cut before its answer, with its corrupted prompt and its alternative."""
    return first_usable(lambda: chain(vocab, family, rng))


def chain(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """One draw, which the tokenizer may not be able to express."""
    make, count = FAMILIES[family]
    case = make("train", rng, count)
    last = [index for index, part in enumerate(case.segments) if part.role == "step"][-1]
    wrong = steps.wrong_step(case, -1, rng)
    earlier = steps.wrong_step(case, rng.randrange(sum(part.role == "step" for part in case.segments) - 1), rng)
    read, corrupted, other_step = in_same_places(vocab, case.segments, wrong, earlier)
    rival = case.rivals[0] if family == "parity" else wrong[last].text
    shared, right, other = vocab.told_apart(case.answers[0], rival)
    readout = Readout(len(read.ids + shared) - 1, right, (other,))
    return Prompt(
        read.ids + shared,
        corrupted.ids + shared,
        readouts=(readout,),
        alternatives={"earlier step": other_step.ids + shared},
    )


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """What each head takes away, in units of the logit difference before and in the corrupted prompt: [prompt layer
    head].
    """
    prompts = sample.prompts
    lead, fall = (metric_per_prompt(model, prompts, EFFECT, contrast) for contrast in (False, True))  # [prompt]
    whole = abs(lead).mean() + abs(lead - fall).mean()
    sources = (None, [prompt.alternatives["earlier step"] for prompt in prompts])
    runs = (sweep(model, prompts, EFFECT, "resample", "last", source=source) for source in sources)
    score, null = (-run.effect_per_prompt / whole for run in runs)
    return Scores(score, null)
