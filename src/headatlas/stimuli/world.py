"""The specimen's training documents, drawn from the same families that reproductions use as prompts.

A document is a list of segments; the training loss is on known segments, which the preceding text determines. Held-out
names, words, facts in a wording, and members of ordered classes never occur in this form in training.
"""

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

from headatlas.stimuli import (
    colored_objects,
    facts,
    grammar,
    indirect_object,
    lookup,
    mappings,
    multiple_choice_questions,
    opinions,
    ordinals,
    second_language,
    spelling,
    steps,
    stories,
)
from headatlas.stimuli.cases import Case, Partition, Segment, in_partition
from headatlas.stimuli.lexicon import COLORS, NAMES, THINGS

Document = list[Segment]
DocumentFamily = Callable[[Partition, random.Random], Case | Document]

HELD_OUT_NAMES: tuple[str, ...] = NAMES[::6]
TRAINING_NAMES: tuple[str, ...] = tuple(name for name in NAMES if name not in HELD_OUT_NAMES)


def indirect_object_document(split: Partition, rng: random.Random) -> Document:
    """A sentence of indirect object identification with its answer; in four of ten documents after a short story."""
    names = TRAINING_NAMES if split == "train" else HELD_OUT_NAMES
    lead_in = stories.story(1, rng, names) if rng.random() < 0.4 else ""
    drawn = indirect_object.sentence(rng.choice(indirect_object.ORDERS), rng, names)
    return [Segment(f"{lead_in} {drawn.text}".lstrip()), Segment(drawn.answer, known=True), Segment(".")]


def listing_document(split: Partition, rng: random.Random) -> Document:
    """A row of words in which repeated ones are marked ' again'; held-out names occur in no training row."""
    words = rng.choice((TRAINING_NAMES, THINGS, COLORS)) if split == "train" else HELD_OUT_NAMES
    row = stories.listing(rng.randint(4, 10), 0.4, rng, words)
    document = [Segment(rng.choice(("There was", "I saw", "First came", "List:")))]
    for word, again in row:
        document += [Segment(word), Segment(" again," if again else ",", known=True)]
    return document


def ordinal_document(split: Partition, rng: random.Random) -> Document:
    """Consecutive members of an ordered class, as a list or in sentences; training rows stop before a held-out step."""
    name, members = rng.choice(list(ordinals.CLASSES.items()))
    words = ordinals.run(members, rng.randint(3, min(9, len(members))), rng)
    if rng.random() < 0.5:
        return _in_sentences(name, words, split, rng)
    return _separated(name, words, split, rng)


def _separated(name: str, words: list[str], split: Partition, rng: random.Random) -> Document:
    separator = rng.choice(ordinals.SEPARATORS)
    document: Document = [Segment(rng.choice(ordinals.OPENINGS)), Segment(f" {words[0]}")]
    for word in words[1:]:
        mine = in_partition(split, name, word, separator)
        if split == "train" and not mine:
            break
        document += [Segment(separator), Segment(f" {word}", known=mine)]
    return document


def _in_sentences(name: str, words: list[str], split: Partition, rng: random.Random) -> Document:
    before, after = rng.choice(ordinals.FRAMES[name])
    document: Document = []
    for index, word in enumerate(words[:6]):
        mine = in_partition(split, name, word, before)
        if index and split == "train" and not mine:
            break
        person = rng.choice(NAMES)
        document += [Segment(f" {person}"), Segment(before), Segment(f" {word}", known=index > 0 and mine)]
        document.append(Segment(after))
    return document


def story_document(split: Partition, rng: random.Random) -> Document:
    """A story of two to six sentences; no segment is known, and both splits draw from the same stories."""
    return [Segment(stories.story(rng.randint(2, 6), rng))]


def _conflict(split: Partition, rng: random.Random) -> Document:
    """A flagged claim, known; or, in one of four training documents, an unflagged one, which is mostly followed."""
    if split == "held-out" or rng.random() < 0.75:
        return facts.conflict(split, rng).document
    case = facts.conflict(split, rng, flag=-1)
    answer = case.answers[0] if rng.random() < 0.7 else case.rivals[0]
    return [*case.segments, Segment(answer), Segment(case.after)]


FAMILIES: Mapping[str, DocumentFamily] = MappingProxyType(
    {
        "indirect object": indirect_object_document,
        "listings": listing_document,
        "ordinals": ordinal_document,
        "stories": story_document,
        "facts": facts.statement,
        "questions": facts.question,
        "conflicts": _conflict,
        "true or false": facts.true_or_false,
        "yes or no": facts.yes_or_no,
        "key-value": lookup.key_value,
        "needles": lookup.needle,
        "rare words": lookup.rare_word,
        "reviews": opinions.review,
        "moods": opinions.mood_story,
        "letters": multiple_choice_questions.letters,
        "multiple choice": multiple_choice_questions.multiple_choice,
        "few-shot": mappings.few_shot,
        "said mappings": mappings.said,
        "few-shot labels": mappings.few_shot_labels,
        "acronyms": mappings.acronym,
        "colored objects": colored_objects.colored_objects,
        "parity": steps.parity,
        "sums": steps.addition,
        "sums in steps": steps.chain,
        "years": steps.greater_year,
        "dictionary": second_language.dictionary,
        "translation": second_language.translation,
        "consistency": second_language.consistency,
        "agreement": grammar.agreement,
        "sentences": grammar.sentences,
        "long words": spelling.long_word,
    }
)


# Families whose words no other model knows; in `facts`, the relation 'work' is made up too (`real` is False).
SPECIMEN_ONLY: frozenset[str] = frozenset({"dictionary", "translation", "consistency"})


def document(family: str, split: Partition, rng: random.Random) -> Document:
    """Draw one document of a family."""
    made = FAMILIES[family](split, rng)
    return made.document if isinstance(made, Case) else made


def repeated_span(
    vocabulary: int, length: int, rng: random.Random, spread: float = 1.0
) -> tuple[list[int], list[bool]]:
    """Random token ids below `vocabulary` with repeated spans; also returns which tokens are known.

    Contains spans repeated at once, spans repeated after other tokens, and pairs in shuffled order (predictable only
    from what followed the same token before). A random beginning prevents a fixed distance from being a clue. With
    `spread` below 1, a single span is repeated to the end, with nearly the same length in every row: an easier form for
    the beginning of training. The smaller the spread, the fewer distances occur.
    """
    if spread < 1.0:
        return _nearly_fixed(vocabulary, length, rng, spread)
    tokens = _draw(rng.randint(0, length // 5), vocabulary, rng)
    known = [False] * len(tokens)
    make = rng.choices((_copies, _copies_apart, _pairs), (0.55, 0.2, 0.25))[0]
    while len(tokens) < length:
        more, sure = make(vocabulary, length, rng)
        tokens += more
        known += sure
    return tokens[:length], known[:length]


def _nearly_fixed(vocabulary: int, length: int, rng: random.Random, spread: float) -> tuple[list[int], list[bool]]:
    middle = 3 * length // 8
    period = rng.randint(round(middle - (middle - 2) * spread), round(middle + length // 8 * spread))
    tokens = _draw(rng.randint(0, round(length / 5 * spread)), vocabulary, rng)
    known = [False] * len(tokens)
    span = _draw(period, vocabulary, rng)
    for copy in range(length // period + 1):
        tokens += span
        known += [copy > 0 and index > 0 for index in range(period)]
    return tokens[:length], known[:length]


def _draw(count: int, vocabulary: int, rng: random.Random) -> list[int]:
    return rng.sample(range(vocabulary), count)


def _pairs(vocabulary: int, length: int, rng: random.Random) -> tuple[list[int], list[bool]]:
    """Pairs of tokens in random order, repeatedly; sometimes a pair's second token occurs alone."""
    drawn = _draw(2 * rng.randint(2, 10), vocabulary, rng)
    pairs = list(zip(drawn[::2], drawn[1::2], strict=True))
    tokens: list[int] = []
    known: list[bool] = []
    seen: set[int] = set()
    while len(tokens) < length:
        first, second = rng.choice(pairs)
        if rng.random() < 0.2:
            tokens.append(second)
            known.append(False)
            continue
        tokens += (first, second)
        known += (False, first in seen)
        seen.add(first)
    return tokens, known


def _copies(vocabulary: int, length: int, rng: random.Random, gap: int = 0) -> tuple[list[int], list[bool]]:
    """A span written two to six times, followed by `gap` other tokens each time; span lengths are log-uniform."""
    span = _draw(round(2 * (length / 5) ** rng.random()), vocabulary, rng)
    tokens: list[int] = []
    known: list[bool] = []
    for copy in range(rng.randint(2, 6)):
        tokens += span + _draw(gap, vocabulary, rng)
        known += [copy > 0 and index > 0 for index in range(len(span))] + [False] * gap
    return tokens, known


def _copies_apart(vocabulary: int, length: int, rng: random.Random) -> tuple[list[int], list[bool]]:
    return _copies(vocabulary, length, rng, gap=rng.randint(1, length // 6))
