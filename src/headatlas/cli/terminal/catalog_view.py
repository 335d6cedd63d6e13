"""Prints lists of the catalog: head types by stage, and search results."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.collections import HeadTypes
from headatlas.catalog.schema import HeadType
from headatlas.cli.terminal import console as _console
from headatlas.cli.terminal import print_items
from headatlas.cli.terminal.signs import HEADING, print_key, print_models_key, signs_of
from headatlas.evidence.signs import short_names

if TYPE_CHECKING:
    from headatlas.catalog.search import Hit, Match
    from headatlas.protocol.results import Result

_WIDE = 110  # columns from which status and number of findings have columns of their own
_HITS = 10  # search results shown with their texts


def print_list(catalog: Catalog, heads: HeadTypes, results: "Sequence[Result] | None" = None) -> None:
    """Print head types by stage, each stage in the given order; with the verdicts of `results`, if given."""
    console = _console(one_line=True)
    if not heads:
        console.print("no head type meets all these conditions")
        return
    verdicts = _Verdicts(catalog, results) if results is not None else None
    wide = console.width >= _WIDE
    left = max(map(len, heads)) + 2
    for stage in catalog.taxonomy.stages:
        here = [head for head in heads.values() if head.stage == stage.id]
        if here and console.is_terminal:
            console.print(Text(f"{stage.name} ({stage.short})", style=HEADING))
        for head in here:
            line = Text(head.id.ljust(left))
            if verdicts:
                line += verdicts.of(head) + Text("  ")
            if wide:
                mark = "" if head.placed_by == "survey" else "*"
                line += Text(f"{stage.short + mark:5}" if not console.is_terminal else f"{mark:2}")
                line += Text(f"{head.status:14} {len(head.findings):3}  ", style="dim")
            line += Text(head.summary)
            line.truncate(console.width, overflow="ellipsis")
            console.print(line)
    _print_legend(console, catalog, heads, wide)
    if verdicts:
        verdicts.print_key(console)


def _print_legend(console: Console, catalog: Catalog, heads: HeadTypes, wide: bool) -> None:
    shorts = ", ".join(f"{stage.short} {stage.name.lower()}" for stage in catalog.taxonomy.stages)
    said = [f"{len(heads)} head types", *([shorts] if not console.is_terminal else [])]
    said += ["columns: status, findings, what it does"] if wide else []
    if wide and (beyond := sum(head.placed_by == "headatlas" for head in heads.values())):
        said.append(f"* not in the survey, placed by headatlas ({beyond})")
    console.print(Text(f"\n{'; '.join(said)}", style="dim"))


class _Verdicts:
    """The verdicts of all models on a head type, in one column: a sign per model, real models first."""

    def __init__(self, catalog: Catalog, results: "Sequence[Result]") -> None:
        from headatlas.protocol.results import models_run

        ran = models_run(catalog, results)
        self.models = [*ran.real, *ran.small]
        self.labels = {(each.record.entry.id, each.record.model.id): each.record.verdict.label for each in results}

    def of(self, head: HeadType) -> Text:
        """The signs of one head type."""
        return signs_of([self.labels.get((head.id, model)) for model in self.models])

    def print_key(self, console: Console) -> None:
        """Print what the signs mean, and whose they are."""
        print_key(console, self.labels.values())
        console.print(Text("signs from left to right:", style="dim"))
        print_models_key(console, short_names(self.models))


def print_hits(hits: "Sequence[Hit]", query: str) -> None:
    """Print search results, best first: the type, then the texts that match, with the words that match in bold."""
    console = _console(one_line=True)
    if not hits:
        console.print(Text(f"nothing matches {query!r}; try fewer or other words"))
    elif not console.is_terminal:
        for hit in hits:
            for match in hit.matches:
                print(f"{hit.head_type.id}\t{match.where}\t{match.excerpt}")  # rich would expand the tabs
    else:
        for hit in hits[:_HITS]:
            console.print(Text.assemble((hit.head_type.id, HEADING), ("  " + hit.head_type.signature, "dim")))
            print_items(console, map(_said, hit.matches))
        if more := [hit.head_type.id for hit in hits[_HITS:]]:
            console.print(Text(f"\nand {len(more)} more: {', '.join(more)}", style="dim"))


def _said(match: "Match") -> Text:
    """Where a text stands, and the text with the words that match in bold."""
    said = Text(match.excerpt)
    said.highlight_words(match.words, style="bold", case_sensitive=False)
    return Text.assemble((f"{match.where}: ", "dim"), said)
