"""Full-text search over head types that tolerates typing errors."""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from headatlas.catalog.names import plain
from headatlas.catalog.schema import HeadType

_SIMILAR = 0.79  # of 0 to 1: one error in five letters, two in ten
_COVERED = 0.6  # share of the query's weight that a type must match
_NAMED = 86.0  # rapidfuzz ratio, 0 to 100, from which the whole query counts as a name
_MATCHES = 3  # texts of a type that a hit shows
# Words that tell no head type from another; they count only where a query has no other words.
_COMMON = frozenset(
    "a an and are as at be by can do does for from has have how in into is it its not of on or that the their them "
    "they this to was what when where which who why with head heads".split()
)


class Named(Protocol):
    """An entity with a name."""

    @property
    def name(self) -> str: ...


class Match(NamedTuple):
    """A text of a head type that matches: its field, the text around the match, and the words that match."""

    where: str
    excerpt: str
    words: tuple[str, ...]


class Hit(NamedTuple):
    """A head type that matches: score (higher is better, no unit), and its best texts, best first."""

    head_type: HeadType
    score: float
    matches: tuple[Match, ...]

    @property
    def where(self) -> str:
        """The field of the best match."""
        return self.matches[0].where

    @property
    def excerpt(self) -> str:
        """The text around the best match."""
        return self.matches[0].excerpt


class _Field(NamedTuple):
    where: str
    weight: float
    text: str
    words: Counter[str]


def words_of(text: str) -> list[str]:
    """The words of a text, lower case, without accents."""
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.findall(r"[a-z0-9]+", letters)


class Index:
    """An index of the words of head types by field, including the names of linked entities."""

    def __init__(
        self,
        heads: Iterable[HeadType],
        linked: Mapping[str, Mapping[str, Named]],
    ) -> None:
        self._heads = {head.id: head for head in heads}
        self._fields = {head.id: list(_fields(head, linked)) for head in self._heads.values()}

    @cached_property
    def _spread(self) -> Counter[str]:
        """The number of head types in which each word occurs."""
        return Counter(
            word for fields in self._fields.values() for word in {word for field in fields for word in field.words}
        )

    def search(self, query: str) -> list[Hit]:
        """The head types that match, best first."""
        words = list(dict.fromkeys(words_of(query)))
        wanted = [word for word in words if word not in _COMMON] or words
        if not wanted:
            return []
        alike = {word: self._alike(word) for word in wanted}
        rarity = {word: self._rarity(alike[word]) for word in wanted}
        hits = (self._hit(head, query, alike, rarity) for head in self._heads.values())
        return sorted((hit for hit in hits if hit), key=lambda hit: (-hit.score, hit.head_type.id))

    def _alike(self, word: str) -> dict[str, float]:
        """The catalog's words that a query word may mean, each with its similarity, 0 to 1."""
        found = {word: 1.0} if word in self._spread else {}
        if len(word) >= 4:
            found |= {each: 0.9 for each in self._spread if each.startswith(word) and each != word}
            near = process.extract(word, self._spread.keys(), scorer=OSA.normalized_similarity, score_cutoff=_SIMILAR)
            for each, similarity, _ in near:
                found.setdefault(each, 0.8 * similarity)
        return found

    def _rarity(self, alike: Mapping[str, float]) -> float:
        """The weight of a word: small if nearly every type contains it, largest if none does."""
        exact = max((self._spread[word] for word, fit in alike.items() if fit == max(alike.values())), default=0)
        return math.log(1 + len(self._heads) / (exact + 0.5))

    def _hit(
        self, head: HeadType, query: str, alike: Mapping[str, Mapping[str, float]], rarity: Mapping[str, float]
    ) -> Hit | None:
        fields = self._fields[head.id]
        score, matched = 0.0, 0.0
        gained: defaultdict[int, float] = defaultdict(float)  # by the number of the field
        found: dict[int, list[str]] = {}
        for word, candidates in alike.items():
            gains = sorted(
                (
                    (rarity[word] * field.weight * fit * (1 - 0.5 ** field.words[each]), -number, each)
                    for number, field in enumerate(fields)
                    for each, fit in candidates.items()
                    if each in field.words
                ),
                reverse=True,
            )
            score += sum(gain for gain, _, _ in gains[:3])
            matched += rarity[word] if gains else 0.0
            for gain, number, each in gains:
                gained[-number] += gain
                found.setdefault(-number, []).append(each)
        named = max(fuzz.ratio(plain(query), plain(field.text)) for field in fields if field.where == "name")
        if named < _NAMED and (not matched or matched < _COVERED * sum(rarity.values())):
            return None
        if named >= _NAMED:
            score += named
        phrase = [word for word in words_of(query) if word not in ("head", "heads")]
        for number, field in enumerate(fields):
            if len(phrase) > 1 and f" {' '.join(phrase)} " in f" {' '.join(words_of(field.text))} ":
                score += 4 * field.weight
                gained[number] += score
                found[number] = phrase
                break
        best: dict[str, int] = {}  # one text of each field
        for number in sorted(gained, key=lambda number: (-gained[number], number)) or [0]:
            best.setdefault(fields[number].where, number)
        matches = [_match(fields[number], found.get(number, [""])) for number in list(best.values())[:_MATCHES]]
        return Hit(head, score, tuple(matches))


def _match(field: _Field, words: Sequence[str]) -> Match:
    return Match(field.where, _around(field.text, words[0]), tuple(dict.fromkeys(words)))


def _fields(head: HeadType, linked: Mapping[str, Mapping[str, Named]]) -> Iterator[_Field]:
    def field(where: str, weight: float, text: str) -> _Field:
        return _Field(where, weight, text, Counter(words_of(text)))

    for name in (head.name, head.id, *(alias.name for alias in head.aliases)):
        yield field("name", 8, name)
    yield field("signature", 3, head.signature)
    yield field("summary", 4, head.summary)
    yield field("definition", 2, head.definition)
    yield field("criterion", 2, head.criterion)
    yield field("QK", 2, head.qk)
    yield field("OV", 2, head.ov)
    for kind, entities in linked.items():
        for id in getattr(head, kind):
            yield field(kind.removesuffix("s"), 3, entities[id].name)
    for finding in head.findings:
        yield field(f"finding {finding.id}", 1, f"{finding.statement} {finding.metric or ''} {finding.model or ''}")
    for text in (*head.open_questions, *(each.statement for each in head.controversies)):
        yield field("open questions", 0.5, text)


def _around(text: str, word: str, width: int = 110) -> str:
    """An excerpt of a text around a match."""
    if len(text) <= width:
        return text
    at = max(unicodedata.normalize("NFKD", text).lower().find(word), 0)
    start = max(0, min(at - width // 3, len(text) - width))
    start = text.rfind(" ", 0, start) + 1
    end = text.find(" ", min(start + width, len(text) - 1))
    return ("… " if start else "") + text[start : end if end > 0 else len(text)] + ("" if end < 0 else " …")
