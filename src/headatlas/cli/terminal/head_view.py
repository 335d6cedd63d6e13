"""Prints one head type: in short, or in full."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import Finding, HeadType, PublishedList, Rule, Stance
from headatlas.catalog.strength import disputing, strongest
from headatlas.cli.terminal import print_indented, print_items, prose
from headatlas.cli.terminal.findings import checked_legend, print_findings
from headatlas.cli.terminal.signs import signs_of, word
from headatlas.protocol.results import Result, models_run

_STRONG, _AGAINST = 3, 2  # strongest findings of the short form, and findings that dispute
_MODELS = 6  # models in the counts


def print_short(catalog: Catalog, head: HeadType, results: Sequence[Result]) -> None:
    """Print what a reader wants first: summary, counts, verdicts, the strongest findings, disputes, commands."""
    console = prose()
    _print_top(console, catalog, head)
    _print_part(console, "What it does", head.definition)
    findings = [each for each in head.findings if each.published_list is None]
    _print_counts(console, catalog, head)
    _print_verdicts(console, catalog, head, results)
    strong, against = strongest(findings, _STRONG), disputing(findings)[:_AGAINST]
    console.print(Text("\nStrongest findings", style="bold"))
    print_findings(console, catalog, strong, places=False)
    if against or head.controversies:
        console.print(Text("\nDisputed", style="bold"))
        print_items(console, [Text(each.statement) for each in head.controversies])
        print_findings(console, catalog, against, places=False)
    console.print(Text(f"\n{checked_legend([*strong, *against])}", style="dim"))
    _print_commands(console, head)


def print_full(catalog: Catalog, head: HeadType, results: Sequence[Result]) -> None:
    """Print one entry in full."""
    console = prose()
    _print_top(console, catalog, head)
    if head.property_why:
        _print_part(console, "A property rather than a kind of head", head.property_why)
    parts = {"What it does": head.definition, "QK reads": head.qk, "OV writes": head.ov}
    for title, said in (parts | {"Recognised by": head.criterion}).items():
        _print_part(console, title, said)
    _print_counts(console, catalog, head)
    _print_verdicts(console, catalog, head, results)
    findings = [each for each in head.findings if each.published_list is None]
    if findings:
        console.print(Text("\nWhat papers report", style="bold"))
        print_findings(console, catalog, findings)
        console.print(Text(checked_legend(findings), style="dim"))
    for published in head.published_lists:
        _print_published(console, catalog, published)
    _print_others(console, head)
    _print_reproduction(console, head)
    _print_commands(console, head, whole=True)


def _print_top(console: Console, catalog: Catalog, head: HeadType) -> None:
    stage = catalog.taxonomy.stage(head.stage)
    console.print(f"[bold]{escape(head.name)}[/bold]   {escape(head.signature)}")
    placed = "" if head.placed_by == "survey" else " (not in the survey, placed by headatlas)"
    console.print(f"[dim]{stage.name} / {stage.group(head.group).name}{placed} · {head.status}[/dim]")
    if head.aliases:
        names = ", ".join(f"{alias.name} ({catalog.references[alias.source].short})" for alias in head.aliases)
        console.print(f"[dim]also called: {escape(names)}[/dim]")
    console.print(f"\n{escape(head.summary)}\n")


def _print_part(console: Console, title: str, said: str) -> None:
    console.print(f"[bold]{title}[/bold]  {escape(said)}\n")


def _print_counts(console: Console, catalog: Catalog, head: HeadType) -> None:
    """One line on all findings: how many, from how many sources, for and against, on which models."""
    stances = Counter(each.stance for each in head.findings)
    models = Counter(each.model for each in head.findings if each.model)
    sources = {each.source for each in head.findings}
    said = f"{_count(len(head.findings), 'finding')} from {_count(len(sources), 'source')}: "
    said += ", ".join(f"{stances[each]} {_VERBS[each]}" for each in _VERBS if stances[each])
    if models:
        shown = [f"{model} ({count})" for model, count in models.most_common(_MODELS)]
        more = [f"{len(models) - _MODELS} more"] if len(models) > _MODELS else []
        said += f"; on {', '.join([*shown, *more])}"
    console.print(Text.assemble(("Reported  ", "bold"), said))


_VERBS: dict[Stance, str] = {"supports": "support", "qualifies": "qualify", "contradicts": "contradict"}


def _print_verdicts(console: Console, catalog: Catalog, head: HeadType, results: Sequence[Result]) -> None:
    """The verdicts of our own runs: whole words for real models, signs for small ones."""
    ran = models_run(catalog, results)
    by_model = {result.record.model.id: result.record.verdict.label for result in results}
    parts = [Text.assemble(word(by_model[id]), f" on {id}") for id in ran.real]
    if ran.small:
        small = f"{len(ran.small)} small test model" + "s" * (len(ran.small) > 1)
        parts.append(Text.assemble(signs_of([by_model[id] for id in ran.small]), f" on {small}"))
    if head.rule is None:
        parts = [Text("no reproduction yet: reproductions/ has no script for this type", style="dim")]
    said = Text("; ").join(parts) if parts else Text("not run yet", style="dim")
    console.print(Text.assemble(("Rerun     ", "bold"), said))


def _print_others(console: Console, head: HeadType) -> None:
    """Disputes, other types, relations and open questions."""
    console.print()
    for controversy in head.controversies:
        console.print(f"[bold]Disputed[/bold]  {escape(controversy.statement)}")
    for other in head.distinct_from:
        console.print(f"[bold]Not the same as[/bold] {other.head}. {escape(other.why)}")
    for relation in head.relations:
        via = f" via {relation.via}" if relation.via else ""
        console.print(f"[bold]{relation.type}[/bold]{via} {relation.head}. {escape(relation.note or '')}")
    for question in head.open_questions:
        console.print(f"[bold]Open[/bold]  {escape(question)}")


def _print_published(console: Console, catalog: Catalog, published: PublishedList) -> None:
    """One line per model."""
    console.print(Text(f"\n{published.title}", style="bold"))
    reached = published.gives("reach")
    items = []
    for row, finding in zip(published.models, published.findings, strict=True):
        total = f" of {row.total}" if row.total else ""
        said = Text(f"{row.model}  ", style="bold") + Text(f"{row.reach}{total} reach it  " if reached else "")
        items.append(said + Text(_heads(finding)) + Text(f"  {row.note}" if row.note else "", style="dim"))
    print_items(console, items)
    source = f"{catalog.references[published.source].short}, {published.at} ({published.checked})"
    console.print(f"[dim]{escape(source)}[/dim]")


def _heads(finding: Finding) -> str:
    return ", ".join(f"{head} {finding.score(head)}".strip() for head in finding.heads)


def _print_reproduction(console: Console, head: HeadType) -> None:
    rerun = head.reproduction
    console.print(f"\n[bold]A rerun needs[/bold]  {escape(rerun.needs)}")
    console.print(f"[bold]Smallest model[/bold]  {rerun.smallest_model or 'none known'}. {escape(rerun.smallest_why)}")
    if rerun.rule is None:
        return
    _print_rule(console, rerun.rule)
    console.print("[bold]Expected before the run[/bold]")
    for expected in rerun.expected:
        heads = f" ({' '.join(map(str, expected.heads))})" if expected.heads else ""
        heads += f" in {expected.layers_text}" if expected.layers else ""
        print_indented(console, f"{expected.model}: {expected.verdict}{heads}. {escape(expected.why)}")
    for each in rerun.explained:
        console.print(f"[bold]Why not on {each.model}[/bold]")
        print_indented(console, f"{escape(each.why)} Shown by: {escape(each.shown_by)}")


def _print_rule(console: Console, rule: Rule) -> None:
    needed, cause = max(rule.behaviour.chance, rule.behaviour.minimum), rule.cause
    console.print(f"\n[bold]Rule[/bold] (version {rule.version}, fixed {rule.fixed})")
    print_indented(console, f"behaviour  {escape(rule.behaviour.metric)}: above {needed:g}")
    print_indented(console, f"detection  {escape(rule.detection.metric)}: at least {rule.detection.threshold:g}")
    print_indented(
        console,
        f"cause      {cause.intervention} on the heads found: {cause.direction}, "
        f"more than with {cause.percentile:g}% of matched random sets",
    )


def _print_commands(console: Console, head: HeadType, whole: bool = False) -> None:
    """Where to go on."""
    commands = {} if whole else {f"show {head.id} --all": "every finding, and how a rerun is judged"}
    commands[f"cite {head.id}"] = "its sources, as BibTeX"
    if head.rule:
        commands[f"stimuli {head.id}"] = "three of its prompts, token by token"
        commands[f"run {head.id} --model MODEL"] = "test it on your model"
    width = max(map(len, commands))
    console.print()
    for command, what in commands.items():
        console.print(Text.assemble(f"headatlas {command:{width}}  ", (what, "dim")))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
