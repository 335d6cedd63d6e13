"""Lumi, a made-up second language: a dictionary, word-by-word translations, and texts in one language.

Only models trained on it, such as the specimen, can know it.
"""

import random
from collections.abc import Mapping
from types import MappingProxyType

from headatlas.stimuli import facts
from headatlas.stimuli.cases import Case, Partition, Segment, in_partition, segments
from headatlas.stimuli.prompts import Vocabulary

_ONSETS = "b d f g k l m n p r s t v z".split()
_ENGLISH: tuple[str, ...] = tuple(
    """
    bird cat dog horse cow pig sheep duck lion bear wolf fox mouse snake frog apple bread cake cheese egg rice soup
    meat butter corn lemon milk tea water wine car bus train boat plane bike truck ship drum guitar piano wood glass
    gold silver iron stone shirt shoe sock belt hat coat animal food drink vehicle instrument material garment
    red blue green yellow white black big small old new cold hot
    """.split()
)
VERBS: tuple[str, ...] = tuple("sees likes finds takes wants knows".split())


def _coined() -> dict[str, str]:
    """A different two-syllable word for each English word."""
    rng = random.Random("Lumi")
    words = [f"{a}{x}{b}{y}" for a in _ONSETS for b in _ONSETS for x in "ui" for y in "ui" if a != b]
    return dict(zip((*_ENGLISH, *VERBS), rng.sample(words, len(_ENGLISH) + len(VERBS)), strict=True))


WORDS: Mapping[str, str] = MappingProxyType(_coined())  # English -> Lumi
THE = "ka"
NOUNS: tuple[str, ...] = tuple(word for kind in facts.KINDS.values() for word in kind if word in WORDS)
COLOURS: tuple[str, ...] = tuple("red blue green yellow white black".split())


def dictionary(split: Partition, rng: random.Random) -> Case:
    """A word and its translation. The corrupted prompt has another word."""
    while True:
        word, form = rng.choice(list(WORDS)), rng.randrange(4)
        if in_partition(split, "dictionary", word, str(form)):
            break
    other = rng.choice([each for each in WORDS if each != word])

    def write(english: str) -> tuple[Segment, ...]:
        lumi = WORDS[english]
        return (
            segments("In Lumi,", (f" {english}", "word"), " is"),
            segments("In English,", (f" {lumi}", "word"), " is"),
            segments("Lumi for", (f" {english}", "word"), ":"),
            segments("English for", (f" {lumi}", "word"), ":"),
        )[form]

    def image(english: str) -> str:
        return f" {english if form % 2 else WORDS[english]}"

    return Case(write(word), (image(word),), (image(other),), write(other))


def _sentence(rng: random.Random) -> list[str]:
    """Draw the words of a sentence: the (color) noun verb the (color) noun."""
    one, two = rng.sample(NOUNS, 2)
    made = ["the"]
    made += [rng.choice(COLOURS)] if rng.random() < 0.4 else []
    made += [one, rng.choice(VERBS), "the"]
    made += [rng.choice(COLOURS)] if rng.random() < 0.4 else []
    return [*made, two]


def in_lumi(english: str) -> str:
    """Translate a word into Lumi."""
    return THE if english == "the" else WORDS[english]


def translation(split: Partition, rng: random.Random, to_lumi: bool | None = None) -> Case:
    """A sentence and its word-by-word translation. The corrupted prompt is another sentence of the same form."""
    to_lumi = rng.random() < 0.5 if to_lumi is None else to_lumi
    while True:
        words = _sentence(rng)
        if in_partition(split, "translation", *words):
            break
    nouns, verbs = list(NOUNS), list(VERBS)
    swap = {word: rng.choice(nouns if word in NOUNS else verbs if word in VERBS else list(COLOURS)) for word in words}
    other = [word if word == "the" else swap[word] for word in words]

    def write(row: list[str]) -> tuple[Segment, ...]:
        there, here = ([*row], [in_lumi(word) for word in row])
        source, target = (there, here) if to_lumi else (here, there)
        names = ("English:", " Lumi:") if to_lumi else ("Lumi:", " English:")
        return (
            Segment(names[0]),
            *(Segment(f" {word}", role="source") for word in source),
            *segments(".", names[1]),
            *(Segment(f" {word}", known=True, role="target") for word in target[:-1]),
        )

    def image(english: str) -> str:
        return f" {in_lumi(english) if to_lumi else english}"

    return Case(
        write(words), (image(words[-1]),), (image(rng.choice([n for n in NOUNS if n != words[-1]])),), write(other)
    )


def known(words: Vocabulary) -> bool:
    """Whether a tokenizer has every word of Lumi as a single token, as only the specimen's does."""
    return all(words.single(word) is not None for word in WORDS.values())


def consistency(split: Partition, rng: random.Random, sentences: int = 1, lumi: bool | None = None) -> Case:
    """The kind of a thing, stated in one language after sentences in it; the answer is a word of that language.

    The rival is the translation of the answer; the corrupted prompt is the whole text in the other language.
    """
    while True:
        noun = rng.choice(NOUNS)
        if in_partition(split, "consistency", noun):
            break
    kind = facts.BY_NAME["kind"].pairs[noun]
    lumi = rng.random() < 0.6 if lumi is None else lumi
    rows = [_sentence(rng) for _ in range(sentences)]

    def write(foreign: bool) -> tuple[Segment, ...]:
        def say(word: str) -> str:
            return f" {in_lumi(word) if foreign else word}"

        first = [Segment(text) for row in rows for text in (*(say(word) for word in row), ".")]
        return (*first, *segments(say("the"), (say(noun), "subject"), " mo nu" if foreign else " is some"))

    right, wrong = (WORDS[kind], kind) if lumi else (kind, WORDS[kind])
    return Case(write(lumi), (f" {right}",), (f" {wrong}",), write(not lumi))
