"""Iteration heads fetch the next item of a list at each step of work that is written out.

Claim      Where a state is written after each item, s(t) = F(s(t-1), x(t)), the head looks from the place where s(t) is
           due to x(t), the item whose turn it is (cabannes2024iteration).
Stimuli    A row of bits, then their parity so far after each: "Bits: 0 1 1. Steps: 0 1 0". Three ranges of length, so
           that no fixed distance leads from a step to its bit.
Score      The diagonal of the attention map: from the place before each written step, the weight on the bit that it
           needs, averaged over steps. The authors count maps above one half as on target.
Control    The weight on one other bit of the row, drawn anew for each step.
Behaviour  How often the written step is the likeliest next token.
Cause      The heads found read the same row with other bits instead: the steps should go wrong.
Toy        The finding was made on a model of two layers of one head and width 128, trained on this task with its loss
           on the written steps; `--model toy` trains one. To be affordable it departs from the authors' recipe: rows
           of two to ten bits (theirs have up to 32), always new ones, 2,000 batches of 64 (theirs: 1,000 epochs over
           2,048 rows of each length), AdamW without decay at 0.001, warmed up and lowered to nothing over the last
           half. Such a model has one other head at most, too few to show a cause against.
"""

import random

from headatlas.lab import accuracy
from headatlas.lab.fits.toys import Toy
from headatlas.stimuli import Prompt, Readout, Vocabulary, steps
from headatlas.stimuli.cases import tokenize

FAMILIES = {"four or five bits": (4, 5), "six or seven": (6, 7), "eight or nine": (8, 9)}
BEHAVIOUR = accuracy
TOY = Toy(lambda rng: steps.parity("train", rng, rng.randint(2, 10)).segments, steps=2000, batch=64)


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A row of bits and the parity so far after each; read where each step after the first comes next."""
    case = steps.parity("train", rng, rng.choice(FAMILIES[family]))
    read, corrupted = tokenize(vocab, case.segments), tokenize(vocab, case.corrupted)
    bits, due = read.at("bit"), [place - 1 for place in read.at("step")]
    turns = list(zip(due, bits, strict=True))[1:]  # the first step repeats the first bit
    return Prompt(
        tokens=read.ids,
        corrupted=corrupted.ids,
        pairs=tuple(turns),
        null_pairs=tuple((query, rng.choice([bit for bit in bits if bit != turn])) for query, turn in turns),
        readouts=tuple(Readout(query, read.ids[query + 1]) for query, _ in turns),
    )
