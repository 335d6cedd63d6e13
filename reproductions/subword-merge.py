"""Subword merge heads let the last piece of a word look back at its earlier pieces, so that it means the word.

Claim      Where a word is cut into several tokens, the head brings the earlier ones to the later ones
           (ferrando2024information; correia2019adaptively).
Stimuli    Long words of three or more pieces in sentences that ask for their kind: "The rhinoceros is a kind of". In
           the corrupted prompt as many whole words stand in their places, and name a thing of another kind: "The big
           old knife".
Score      Flow: the share that what the head takes from the earlier pieces has in the state of the last piece after
           attention, by the nearness of information-flow routes: how much closer to the sum a part lies than nothing.
Control    The same, at the same distances, where they lead across whole words, as for a previous-token head.
Behaviour  How often the word's kind has a larger logit than the other kinds.
Cause      The heads found are replaced by their mean over the corrupted prompts: the kind should lose its lead, as
           words that are not put together cannot be read. A published test zeroes a head on misspelt words
           (dostal2025tracing).
"""

import random

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.graphs import flow_scores
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, UntestableError, Vocabulary, facts, spelling
from headatlas.stimuli.cases import in_partition
from headatlas.stimuli.lexicon import COLORS, QUALITIES

FAMILIES = {
    "is a kind of": "The{word} is a kind of",
    "counts as": "A{word} counts as",
    "is a sort of": "What we call{word} is a sort of",
}
BEHAVIOUR, EFFECT = accuracy_among_rivals, logit_difference
PIECES = 3  # at least


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A long word, and its kind asked for; pairs lead from its last piece to the earlier ones."""
    frame = FAMILIES[family]
    kind, pieces = rng.choice(long_words(vocab, frame))
    other = rng.choice([each for each in spelling.LONG if each != kind])
    noun = rng.choice(vocab.singles(facts.KINDS[other]))
    qualities = rng.sample(vocab.singles((*QUALITIES, *COLORS), at_least=8), len(pieces) - 1)
    whole = tuple(vocab.continuation(f" {word}")[0] for word in (*qualities, noun))
    before, after = frame.split("{word}")
    start, rest = vocab.bos + vocab.encode(before), vocab.continuation(after)
    tokens, last = start + pieces + rest, len(start) + len(pieces) - 1
    answer, *rivals = (vocab.continuation(f" {each}")[0] for each in sorted(spelling.LONG, key=lambda k: k != kind))
    return Prompt(
        tokens=tokens,
        corrupted=start + whole + rest,
        pairs=tuple((last, place) for place in range(len(start), last)),
        readouts=(Readout(len(tokens) - 1, answer, tuple(rivals)),),
    )


def long_words(vocab: Vocabulary, frame: str) -> list[tuple[str, tuple[int, ...]]]:
    """The kind and the pieces of every word that this tokenizer cuts, and that was trained on in this frame."""
    cut = [
        (kind, vocab.continuation(f" {word}"))
        for kind, each in spelling.LONG.items()
        for word in each
        if in_partition("train", frame, word)
    ]
    usable = [(kind, pieces) for kind, pieces in cut if PIECES <= len(pieces) <= 8]
    if len(usable) < 12:
        raise UntestableError(f"only {len(usable)} of the long words have three or more pieces under this tokenizer")
    return usable


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The flow from the earlier pieces to the last, and that across whole words."""
    return flow_scores(model, sample.prompts)
