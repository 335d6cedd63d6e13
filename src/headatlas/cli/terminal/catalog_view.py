"""Prints the catalog: lists, one entry in full, search results, the names of a head, sources."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.collections import HeadTypes, Naming
from headatlas.catalog.schema import CHECKED, Finding, HeadType, Model, PublishedList, Rule
from headatlas.catalog.search import Hit
from headatlas.cli.terminal import console as _console
from headatlas.notation import Head

_MARK = {"supports": "", "qualifies": "[yellow]qualifies:[/] ", "contradicts": "[red]contradicts:[/] "}
_SCORES = 6  # scores of a finding in a table; `--json` has all
_SHOWN = 3  # supporting findings of a name; `--json` has all


def _table(*columns: str, title: str | None = None, one_line: bool = False) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=one_line and column != columns[-1])
    return table


def _cut(text: str) -> Text:
    """Text that a narrow column cuts instead of breaking."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def print_list(catalog: Catalog, heads: HeadTypes) -> None:
    """Print head types by stage, each stage in the given order."""
    table = _table("id", "stage", "status", "findings", "what it does", one_line=True)
    order = [stage.id for stage in catalog.taxonomy.stages]
    for head in sorted(heads.values(), key=lambda head: order.index(head.stage)):
        short = catalog.taxonomy.stage(head.stage).short + ("" if head.placed_by == "survey" else "*")
        table.add_row(head.id, short, head.status, str(len(head.findings)), _cut(head.summary))
    console = _console(one_line=True)
    if not heads:
        console.print("no head type meets all these conditions")
        return
    console.print(table)
    shorts = ", ".join(f"{stage.short} {stage.name.lower()}" for stage in catalog.taxonomy.stages)
    beyond = sum(head.placed_by == "headatlas" for head in heads.values())
    starred = f"; * not in the survey, placed by headatlas ({beyond})" if beyond else ""
    console.print(f"\n[dim]{len(heads)} head types; {shorts}{starred}[/dim]")


def print_head(catalog: Catalog, head: HeadType) -> None:
    """Print one entry in full."""
    console = _console()
    stage = catalog.taxonomy.stage(head.stage)
    console.print(f"[bold]{escape(head.name)}[/bold]   {escape(head.signature)}")
    placed = "" if head.placed_by == "survey" else " (not in the survey, placed by headatlas)"
    console.print(f"[dim]{stage.name} / {stage.group(head.group).name}{placed} · {head.status}[/dim]")
    if head.aliases:
        names = ", ".join(f"{alias.name} ({catalog.references[alias.source].short})" for alias in head.aliases)
        console.print(f"[dim]also called: {escape(names)}[/dim]")
    console.print(f"\n{escape(head.summary)}\n")
    if head.property_why:
        console.print(f"[bold]A property rather than a kind of head[/bold]  {escape(head.property_why)}\n")
    parts = {
        "What it does": head.definition,
        "QK reads": head.qk,
        "OV writes": head.ov,
        "Recognised by": head.criterion,
    }
    for title, text in parts.items():
        console.print(f"[bold]{title}[/bold]  {escape(text)}\n")
    _print_findings(console, catalog, [each for each in head.findings if each.published_list is None])
    for published in head.published_lists:
        _print_published(console, catalog, published)
    for other in head.distinct_from:
        console.print(f"[bold]Not the same as[/bold] {other.head}. {escape(other.why)}")
    for relation in head.relations:
        via = f" via {relation.via}" if relation.via else ""
        console.print(f"[bold]{relation.type}[/bold]{via} {relation.head}. {escape(relation.note or '')}")
    for controversy in head.controversies:
        console.print(f"\n[bold]Disputed[/bold]  {escape(controversy.statement)}")
    for question in head.open_questions:
        console.print(f"[bold]Open[/bold]  {escape(question)}")
    _print_reproduction(console, head)


def _print_findings(console: Console, catalog: Catalog, findings: Sequence[Finding]) -> None:
    table = _table("finding", "model", "heads", "value", "source", title="What papers report")
    for finding in findings:
        source = f"{catalog.references[finding.source].short}, {finding.at} ({finding.checked})"
        statement = _MARK[finding.stance] + escape(finding.statement)
        table.add_row(statement, finding.model or "", _heads(finding), finding.figure, escape(source))
    console.print(table)
    badges = dict.fromkeys(finding.checked for finding in findings)
    console.print(f"[dim]{escape('; '.join(f'{each}: {CHECKED[each]}' for each in badges))}[/dim]\n")


def _print_published(console: Console, catalog: Catalog, published: PublishedList) -> None:
    """One line per model."""
    reached = published.gives("reach")
    table = _table("model", *(["reach it"] if reached else []), "heads", "note", title=escape(published.title))
    for row, finding in zip(published.models, published.findings, strict=True):
        total = f" of {row.total}" if row.total else ""
        counts = [f"{row.reach}{total}"] if reached else []
        table.add_row(row.model, *counts, _heads(finding), escape(row.note or ""))
    console.print(table)
    source = f"{catalog.references[published.source].short}, {published.at} ({published.checked})"
    console.print(f"[dim]{escape(source)}[/dim]\n")


def _heads(finding: Finding) -> str:
    if not finding.scores:
        return " ".join(map(str, finding.heads))
    scores = [f"{head} {finding.score(head)}" for head in finding.heads]
    more = [f"and {len(scores) - _SCORES} more"] if len(scores) > _SCORES else []
    return "\n".join(scores[:_SCORES] + more)


def _print_reproduction(console: Console, head: HeadType) -> None:
    rerun = head.reproduction
    console.print(f"\n[bold]A rerun needs[/bold]  {escape(rerun.needs)}")
    console.print(f"[bold]Smallest model[/bold]  {rerun.smallest_model or 'none known'}. {escape(rerun.smallest_why)}")
    if rerun.rule is None:
        console.print("\n[dim]no reproduction yet: reproductions/ has no script for this type[/dim]")
        return
    _print_rule(console, rerun.rule)
    console.print("[bold]Expected before the run[/bold]")
    for expected in rerun.expected:
        heads = f" ({' '.join(map(str, expected.heads))})" if expected.heads else ""
        heads += f" in {expected.layers_text}" if expected.layers else ""
        _print_indented(console, f"{expected.model}: {expected.verdict}{heads}. {escape(expected.why)}")
    for each in rerun.explained:
        console.print(f"[bold]Why not on {each.model}[/bold]")
        _print_indented(console, f"{escape(each.why)} Shown by: {escape(each.shown_by)}")
    console.print(f"\n[dim]to rerun: headatlas run {head.id}[/dim]")


def _print_indented(console: Console, text: str) -> None:
    """Print a line whose continuation lines are indented too."""
    console.print(Padding(text, (0, 0, 0, 2), expand=False))


def _print_rule(console: Console, rule: Rule) -> None:
    needed, cause = max(rule.behaviour.chance, rule.behaviour.minimum), rule.cause
    console.print(f"\n[bold]Rule[/bold] (version {rule.version}, fixed {rule.fixed})")
    _print_indented(console, f"behaviour  {escape(rule.behaviour.metric)}: above {needed:g}")
    _print_indented(console, f"detection  {escape(rule.detection.metric)}: at least {rule.detection.threshold:g}")
    _print_indented(
        console,
        f"cause      {cause.intervention} on the heads found: {cause.direction}, "
        f"more than with {cause.percentile:g}% of matched random sets",
    )


def print_hits(hits: Sequence[Hit], query: str) -> None:
    """Print search results, best first."""
    console = _console(one_line=True)
    if not hits:
        console.print(Text(f"nothing matches {query!r}; try fewer or other words"))
        return
    table = _table("id", "where", "what matches", one_line=True)
    for hit in hits:
        table.add_row(hit.head_type.id, hit.where, _cut(hit.excerpt))
    console.print(table)


def print_who(catalog: Catalog, model: Model, head: Head, namings: Sequence[Naming]) -> None:
    """Print the names of one head, each with its findings and circuits."""
    console = _console()
    if not namings:
        console.print(f"no finding in the catalog names {head} of {model.id}")
        return
    plural = "s" if len(namings) > 1 else ""
    console.print(f"[bold]{head}[/bold] of {escape(model.name)} has {len(namings)} name{plural}\n")
    for naming in namings:
        console.print(f"[bold]{escape(naming.head_type.name)}[/bold] [dim]({naming.head_type.id})[/dim]")
        table = Table.grid(padding=(0, 1))
        for finding in (*naming.findings[:_SHOWN], *naming.disputing):
            score = finding.score(head)
            figure = f" [bold]{score}[/bold]" if score else ""
            source = f"{catalog.references[finding.source].short}, {finding.at}; {finding.checked}"
            statement = f"{_MARK[finding.stance]}{escape(finding.statement)}{figure} [dim]({escape(source)})[/dim]"
            table.add_row("  -", statement)
        if (more := len(naming.findings) - _SHOWN) > 0:
            table.add_row("  -", f"and {more} more: headatlas show {naming.head_type.id}")
        for circuit, role in naming.roles:
            source = f"{catalog.references[role.source].short}, {role.at}"
            table.add_row("  -", f"part of the circuit {escape(circuit.name)} [dim]({escape(source)})[/dim]")
        console.print(table)
        console.print()
