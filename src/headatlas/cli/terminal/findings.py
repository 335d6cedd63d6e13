"""Prints findings as a list: the sentence, its value in bold, its model and heads, and its source."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import CHECKED, Finding, Stance
from headatlas.cli.terminal import print_items
from headatlas.notation import Head

_STYLES: dict[Stance, str] = {"supports": "", "qualifies": "yellow", "contradicts": "red"}
_HEADS = 6  # heads of a finding; `--json` has all


def print_findings(console: Console, catalog: Catalog, findings: Iterable[Finding], places: bool = True) -> None:
    """Print findings one by one, each with its source, and with the place in it unless that is not asked for."""
    print_items(console, [statement(each) + "\n" + where(catalog, each, places) for each in findings])


def print_by_source(console: Console, catalog: Catalog, findings: Sequence[Finding], head: Head) -> None:
    """Print findings about one head, those of one source together; each place of the source is said once."""
    for source in dict.fromkeys(finding.source for finding in findings):
        mine = [finding for finding in findings if finding.source == source]
        print_items(console, [statement(each, head) for each in mine])
        places = "; ".join(dict.fromkeys(each.at for each in mine))
        checked = ", ".join(dict.fromkeys(each.checked for each in mine))
        print_items(console, [Text(f"{catalog.references[source].short}, {places} ({checked})", style="dim")], " ")


def statement(finding: Finding, head: Head | None = None) -> Text:
    """What a finding says, its stance where it does not support, and its figure, or its score of one head."""
    said = Text()
    if finding.stance != "supports":
        said += Text(f"{finding.stance}: ", style=_STYLES[finding.stance])
    said += Text(finding.statement)
    figure = finding.figure if head is None else finding.score(head)
    return said + Text(f" {figure}", style="bold") if figure else said


def where(catalog: Catalog, finding: Finding, place: bool = True) -> Text:
    """The model and the heads of a finding, and its source, with the place in it."""
    said = Text()
    about = " ".join(part for part in (finding.model or "", _heads(finding)) if part)
    if about:
        said += Text(f"{about}  ")
    at = f", {finding.at}" if place else ""
    source = f"{catalog.references[finding.source].short}{at} ({finding.checked})"
    return said + Text(source, style="dim")


def checked_legend(findings: Iterable[Finding]) -> str:
    """What the badges behind the sources mean."""
    badges = dict.fromkeys(finding.checked for finding in findings)
    return "; ".join(f"{each}: {CHECKED[each]}" for each in badges)


def _heads(finding: Finding) -> str:
    heads = [f"{head} {finding.score(head)}".strip() for head in finding.heads]
    more = [f"+{len(heads) - _HEADS}"] if len(heads) > _HEADS else []
    return (", " if finding.scores else " ").join([*heads[:_HEADS], *more])
