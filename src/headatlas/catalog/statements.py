"""Statements of findings are exported one by one, so that each must be understood without its neighbours."""

import re
from collections.abc import Iterable, Iterator

from headatlas.catalog.problems import Problem
from headatlas.catalog.schema import HeadType

# A text that begins so has its noun in another finding.
_LEADING = re.compile(
    r"(?:Both|They|It|Its|Their|Them|These|Those|This|Such)\b"
    r"|\S+ (?:all )?(?:these|those|this|such|them|it)\b"
)
# In the first sentence, "the same" test or file is that of another finding. "The same token" is no such reference.
_OF_ANOTHER = (
    "ablation|author|authors|code|data|example|experiment|file|first author|intervention|list|lists|method|model"
    "|multiplication|notebook|paper|procedure|prompt|prompts|replication|rerun|score|scores|script|source|study|table"
    "|test|text|traces"
)
_SAME = re.compile(rf"(?:\S+ )?[Tt]he same\b|.*?\bthe same (?:{_OF_ANOTHER})\b|.*?\b[Tt]hat (?:study|paper)\b")
_FIRST = re.compile(r"(.*?[.:;])(?:\s|$)")


def check(heads: Iterable[HeadType]) -> Iterator[Problem]:
    """Statements that begin with a pronoun, or that refer to "the same" thing as another finding."""
    for head in heads:
        for number, finding in enumerate(head.findings):
            if said := reference(finding.statement):
                field = f"findings.{number}.statement"
                yield Problem(
                    f"heads/{head.id}.yaml",
                    field,
                    f"{finding.id} says {said!r}, which another finding explains; each is exported alone, so name it",
                )


def reference(statement: str) -> str | None:
    """The words of the first sentence that refer to another finding; None if there are none."""
    first = _FIRST.match(statement)
    sentence = first[1] if first else statement
    found = _LEADING.match(sentence) or _SAME.match(sentence)
    return " ".join(found[0].split()[-6:]) if found else None
