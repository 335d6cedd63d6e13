"""Cases: prompts of a family as text segments, with answers, a corrupted prompt, and the continuation of the text.

Families are written once, as cases. The specimen is trained on their documents. Reproductions prompt any model with
them: `prompt` turns a case into tokens.

This module is long because a case, its tokens and the prompts made of it stand together.
"""

import random
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

Partition = Literal["train", "held-out"]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Segment:
    """A piece of text.

    Attributes:
        text: including its leading space.
        known: whether the preceding text determines it.
        role: its function in the family ("subject", "key", "value" …), or "".
    """

    text: str
    known: bool = False
    role: str = ""


@dataclass(frozen=True)
class Case:
    """One prompt of a family.

    Attributes:
        segments: everything up to the answer.
        answers: right answers, with a leading space; the document uses the first.
        rivals: wrong answers.
        corrupted: segments of the corrupted prompt, which lacks the feature under study; empty if there is none.
        after: continuation of the document after the answer.
    """

    segments: tuple[Segment, ...]
    answers: tuple[str, ...]
    rivals: tuple[str, ...] = ()
    corrupted: tuple[Segment, ...] = ()
    after: str = "."

    @property
    def text(self) -> str:
        """The text of the prompt, up to the answer."""
        return "".join(segment.text for segment in self.segments)

    @property
    def document(self) -> list[Segment]:
        """The prompt, its first answer, and the continuation."""
        return [*self.segments, Segment(self.answers[0], known=True, role="answer"), Segment(self.after)]


def in_partition(split: Partition, *what: str) -> bool:
    """Whether a combination of words belongs to the split; one in six is held out, the same ones on every machine."""
    return (zlib.crc32(" ".join(what).encode()) % 6 == 0) == (split == "held-out")


def of_partition(split: Partition, words: Sequence[Item], family: str) -> list[Item]:
    """The words that a family uses in a split; one in six is held out from training."""
    return [word for word in words if in_partition(split, family, str(word))]


def segments(*parts: str | tuple[str, str] | Segment) -> tuple[Segment, ...]:
    """Make segments from plain texts, (text, role) pairs and segments; empty texts are dropped."""
    whole = (Segment(part) if isinstance(part, str) else part for part in parts)
    made = (part if isinstance(part, Segment) else Segment(part[0], role=part[1]) for part in whole)
    return tuple(segment for segment in made if segment.text)


def fill_roles(template: str, parts: Mapping[str, tuple[str, str]]) -> tuple[Segment, ...]:
    """Fill a template: each {name} becomes a segment with the text and role given for it."""
    made: list[Segment] = []
    for index, piece in enumerate(template.replace("}", "{").split("{")):
        made.append(Segment(parts[piece][0], role=parts[piece][1]) if index % 2 else Segment(piece))
    return tuple(segment for segment in made if segment.text)


def filled(template: str, **parts: str) -> tuple[Segment, ...]:
    """Fill a template: each {name} becomes a segment with the given text and the role `name`."""
    return fill_roles(template, {name: (text, name) for name, text in parts.items()})


def others(values: Iterable[str], right: str, rng: random.Random, count: int) -> list[str]:
    """Draw `count` different values, excluding the right one."""
    return rng.sample(sorted({value for value in values if value != right}), count)


@dataclass(frozen=True)
class Tokens:
    """Segments as tokens.

    Attributes:
        ids: token ids, starting with BOS if the tokenizer has one.
        spans: start and end position of each segment, the end exclusive.
        roles: role of each segment.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    roles: tuple[str, ...]

    def at(self, role: str) -> list[int]:
        """The last position of every segment with this role."""
        return [end - 1 for (_, end), mine in zip(self.spans, self.roles, strict=True) if mine == role]

    def covers(self, role: str) -> list[int]:
        """All positions of segments with this role."""
        spans = zip(self.spans, self.roles, strict=True)
        return [place for (start, end), mine in spans if mine == role for place in range(start, end)]


def tokenize(words: Vocabulary, parts: Sequence[Segment]) -> Tokens:
    """Tokenize segments one by one, so that each has positions of its own."""
    ids = list(words.bos)
    spans: list[tuple[int, int]] = []
    for index, segment in enumerate(parts):
        start = len(ids)
        ids += words.continuation(segment.text) if index else words.encode(segment.text)
        spans.append((start, len(ids)))
    return Tokens(tuple(ids), tuple(spans), tuple(segment.role for segment in parts))


def prompt(words: Vocabulary, case: Case) -> Prompt:
    """Turn a case into a prompt with readouts at its end and before every earlier known segment.

    A case without corrupted segments uses the prompt itself as its corrupted prompt.

    Raises:
        UntestableError: if prompt and corrupted prompt differ in length under this tokenizer, or a rival begins with
            the answer's first token.
    """
    mine = tokenize(words, case.segments)
    corrupted = tokenize(words, case.corrupted) if case.corrupted else mine
    if len(corrupted.ids) != len(mine.ids):
        raise UntestableError(
            f"a prompt and its corrupted prompt have {len(mine.ids)} and {len(corrupted.ids)} tokens under this "
            "tokenizer, so they do not align"
        )
    first = [words.continuation(text)[0] for text in (case.answers[0], *case.rivals)]
    if first[0] in first[1:]:
        raise UntestableError(f"{case.answers[0]!r} and one of its rivals begin with the same token")
    known = [
        Readout(start - 1, mine.ids[start])
        for (start, _), segment in zip(mine.spans, case.segments, strict=True)
        if segment.known
    ]
    last = Readout(len(mine.ids) - 1, first[0], tuple(dict.fromkeys(first[1:])))
    spans = {role: tuple(mine.covers(role)) for role in mine.roles if role}
    return Prompt(mine.ids, corrupted.ids, readouts=(*known, last), spans=spans)


def in_place(words: Vocabulary, case: Case) -> tuple[Prompt, Tokens]:
    """Turn a case into a prompt; also return its tokens by segment.

    Raises:
        UntestableError: as in `prompt`, or if a segment has another position in the corrupted prompt.
    """
    made, places = prompt(words, case), tokenize(words, case.segments)
    if case.corrupted and tokenize(words, case.corrupted).spans != places.spans:
        raise UntestableError("words of a prompt and its corrupted prompt differ in length under this tokenizer")
    return made, places


def in_same_places(words: Vocabulary, *parts: Sequence[Segment]) -> list[Tokens]:
    """Tokenize several fillings of the same segments.

    Raises:
        UntestableError: if a segment does not have the same position in all of them.
    """
    made = [tokenize(words, each) for each in parts]
    if any(each.spans != made[0].spans for each in made):
        raise UntestableError("words of prompts that must align differ in length under this tokenizer")
    return made


def aligned(words: Vocabulary, make: Callable[[], Case], tries: int = 100) -> Prompt:
    """Draw cases until `prompt` accepts one under this tokenizer.

    Raises:
        UntestableError: if none of `tries` cases is accepted.
    """
    return first_usable(lambda: prompt(words, make()), tries)


def with_pairs(
    words: Vocabulary, make: Callable[[], Case], key: str, query: str | None = None, tries: int = 100
) -> Prompt:
    """Like `aligned`, with pairs from query positions to the key's tokens.

    Args:
        words: vocabulary of the model.
        make: draws a case.
        key: role of the segments that heads should attend to, at all their tokens.
        query: role of the segments they should attend from, at their last tokens; by default the end of the prompt.
        tries: maximum number of draws.

    Raises:
        UntestableError: if none of `tries` cases can be used.
    """

    def draw() -> Prompt:
        case = make()
        drawn, places = prompt(words, case), tokenize(words, case.segments)
        queries = [len(drawn.tokens) - 1] if query is None else places.at(query)
        pairs = tuple((start, end) for start in queries for end in places.covers(key) if end < start)
        if not pairs:
            raise UntestableError(f"no {key} stands before the query")
        return replace(drawn, pairs=pairs)

    return first_usable(draw, tries)


def first_usable(draw: Callable[[], Item], tries: int = 100) -> Item:
    """Draw until no UntestableError is raised.

    Raises:
        UntestableError: if all `tries` draws raise one; gives the last reason.
    """

    reason = ""
    for _ in range(tries):
        try:
            return draw()
        except UntestableError as error:
            reason = str(error)
    raise UntestableError(f"none of {tries} prompts can be used; the last one because {reason}")


def document_prompt(words: Vocabulary, parts: Sequence[Segment]) -> Prompt:
    """Turn a document into a prompt with readouts before every known segment; it is its own corrupted prompt.

    Raises:
        ValueError: if no segment is known.
    """
    made = tokenize(words, parts)
    readouts = tuple(
        Readout(start - 1, made.ids[start])
        for (start, _), segment in zip(made.spans, parts, strict=True)
        if segment.known
    )
    if not readouts:
        raise ValueError("nothing in this document can be known, so it cannot be read")
    end = max(readout.position for readout in readouts) + 1
    return Prompt(tokens=made.ids[:end], corrupted=made.ids[:end], readouts=readouts)
