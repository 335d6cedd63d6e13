"""Full-text search over head types that tolerates typing errors."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple, Protocol

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from headatlas.catalog.names import plain
from headatlas.catalog.schema import HeadType

_SIMILAR = 0.79  # of 0 to 1: one error in five letters, two in ten
_COVERED = 0.6  # share of the query's weight that a type must match
_NAMED = 86.0  # rapidfuzz ratio, 0 to 100, from which the whole query counts as a name


class Named(Protocol):
    """An entity with a name."""

    @property
    def name(self) -> str: ...


class Hit(NamedTuple):
    """A head type that matches: score (higher is better, no unit), field, and the text around the match."""

    head_type: HeadType
    score: float
    where: str
    excerpt: str


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
        wanted = list(dict.fromkeys(words_of(query)))
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
        best: tuple[float, _Field, str] = (0.0, fields[0], "")
        for word, candidates in alike.items():
            gains = [
                (rarity[word] * field.weight * fit * (1 - 0.5 ** field.words[each]), field, each)
                for field in fields
                for each, fit in candidates.items()
                if each in field.words
            ]
            if gains:
                gains.sort(key=lambda gain: -gain[0])
                score += sum(gain for gain, _, _ in gains[:3])
                matched += rarity[word]
                best = max(best, gains[0], key=lambda each: each[0])
        named = max(fuzz.ratio(plain(query), plain(field.text)) for field in fields if field.where == "name")
        if named < _NAMED and (not matched or matched < _COVERED * sum(rarity.values())):
            return None
        if named >= _NAMED:
            score += named
        phrase = words_of(query)
        for field in fields:
            if len(phrase) > 1 and f" {' '.join(phrase)} " in f" {' '.join(words_of(field.text))} ":
                score, best = score + 4 * field.weight, (score, field, phrase[0])
                break
        return Hit(head, score, best[1].where, _around(best[1].text, best[2]))


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
