"""Collections of head types and findings: iteration, lookup, display in a notebook, pandas."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from headatlas.catalog.formulas import plain
from headatlas.catalog.schema import Circuit, Finding, HeadType, Role

if TYPE_CHECKING:
    import pandas


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """An HTML table; escapes all cells."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


class HeadTypes(Mapping[str, HeadType]):
    """Head types by id, in the order of the catalog."""

    def __init__(self, heads: Iterable[HeadType]) -> None:
        self._heads = {head.id: head for head in heads}

    def __getitem__(self, id: str) -> HeadType:
        return self._heads[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._heads)

    def __len__(self) -> int:
        return len(self._heads)

    def __repr__(self) -> str:
        return f"<{len(self)} head types: {', '.join(self)}>"

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per head type; lists are joined by '; '."""
        return [
            {
                "id": head.id,
                "name": head.name,
                "stage": head.stage,
                "group": head.group,
                "placed_by": head.placed_by,
                "status": head.status,
                "aliases": "; ".join(alias.name for alias in head.aliases),
                "signature": head.signature,
                "summary": head.summary,
                "findings": len(head.findings),
                "models": "; ".join(sorted({finding.model for finding in head.findings if finding.model})),
                "sources": "; ".join(sorted({finding.source for finding in head.findings})),
                "methods": "; ".join(head.methods),
                "benchmarks": "; ".join(head.benchmarks),
                "circuits": "; ".join(head.circuits),
                "reproduction": head.rule is not None,
            }
            for head in self.values()
        ]

    def to_frame(self) -> "pandas.DataFrame":
        """One row per head type, indexed by id; the columns of `rows`."""
        import pandas

        return pandas.DataFrame(self.rows()).set_index("id") if self else pandas.DataFrame()

    def _repr_html_(self) -> str:
        rows = ([h.id, h.stage, h.status, len(h.findings), h.signature, h.summary] for h in self.values())
        return table(("id", "stage", "status", "findings", "signature", "what it does"), rows)


class Known(NamedTuple):
    """A finding and its head type."""

    head_type: HeadType
    finding: Finding


class Findings(Sequence[Known]):
    """Findings over several head types."""

    def __init__(self, known: Iterable[Known]) -> None:
        self._known = tuple(known)

    @overload
    def __getitem__(self, index: int) -> Known: ...
    @overload
    def __getitem__(self, index: slice) -> "Findings": ...
    def __getitem__(self, index: int | slice) -> "Known | Findings":
        return Findings(self._known[index]) if isinstance(index, slice) else self._known[index]

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        types = dict.fromkeys(known.head_type.id for known in self)
        return f"<{len(self)} findings on {', '.join(types)}>" if self else "<0 findings>"

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per finding; heads are joined by spaces, scores are 'L5H1=0.963', formulas are Unicode."""
        return [
            {
                "type": head.id,
                "id": finding.id,
                "statement": finding.statement,
                "kind": finding.kind,
                "stance": finding.stance,
                "model": finding.model,
                "heads": " ".join(map(str, finding.heads)),
                "scores": " ".join(f"{name}={score:g}" for name, score in finding.scores.items()),
                "metric": finding.metric,
                "formula": plain(finding.formula) if finding.formula else None,
                "value": finding.value,
                "error": finding.error,
                "unit": finding.unit,
                "bound": finding.bound,
                "of": finding.of,
                "n": finding.n,
                "published_list": finding.published_list,
                "source": finding.source,
                "at": finding.at,
                "checked": finding.checked,
            }
            for head, finding in self
        ]

    def to_frame(self) -> "pandas.DataFrame":
        """One row per finding; the columns of `rows`."""
        import pandas

        return pandas.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        rows = (
            [
                head.id,
                finding.stance,
                finding.statement,
                finding.model or "",
                " ".join(map(str, finding.heads)),
                finding.figure,
                f"{finding.source}, {finding.at}",
            ]
            for head, finding in self
        )
        return table(("type", "stance", "what is reported", "model", "heads", "value", "source"), rows)


class Naming(NamedTuple):
    """A name that papers give one head of one model, with the evidence.

    Attributes:
        head_type: the type.
        findings: the findings that support the name.
        disputing: findings about this head that qualify or contradict it.
        roles: the circuits in which the head has this role.
    """

    head_type: HeadType
    findings: tuple[Finding, ...]
    disputing: tuple[Finding, ...]
    roles: tuple[tuple[Circuit, Role], ...]

    @property
    def sources(self) -> list[str]:
        """The BibTeX keys of the evidence, sorted."""
        return sorted({each.source for each in (*self.findings, *self.disputing, *(role for _, role in self.roles))})

    def __repr__(self) -> str:
        disputed = f", {len(self.disputing)} disputing" if self.disputing else ""
        circuits = f", {len(self.roles)} circuit roles" if self.roles else ""
        return f"<{self.head_type.id}: {len(self.findings)} findings{disputed}{circuits}; {', '.join(self.sources)}>"

    def _repr_html_(self) -> str:
        return Namings([self])._repr_html_()


class Namings(tuple[Naming, ...]):
    """The names that papers give one head, best supported first."""

    def rows(self) -> list[dict[str, Any]]:
        """A row for each name: type, name, findings, disputing, circuits, sources."""
        return [
            {
                "type": each.head_type.id,
                "name": each.head_type.name,
                "findings": len(each.findings),
                "disputing": len(each.disputing),
                "circuits": "; ".join(circuit.id for circuit, _ in each.roles),
                "sources": "; ".join(each.sources),
            }
            for each in self
        ]

    def to_frame(self) -> "pandas.DataFrame":
        """One row per name."""
        import pandas

        return pandas.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        if not self:
            return "<p>no finding names this head</p>"
        rows = self.rows()
        return table(rows[0], [row.values() for row in rows])
