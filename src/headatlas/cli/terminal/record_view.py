"""Prints a run: verdict and reasons, the heads found, the causal effect, and what papers say."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import HeadType
from headatlas.cli.terminal import console as _console
from headatlas.cli.terminal import print_indented
from headatlas.cli.terminal.signs import COLOURS, QUICK, QUICK_LEGEND
from headatlas.evidence.outcome import Outcome
from headatlas.evidence.record_parts import ModelRecord
from headatlas.evidence.records import Cause, Detection, Record
from headatlas.evidence.signs import VERDICTS, against
from headatlas.notation import Head

_SHOWN, _ROW = 12, 3  # heads in a table, and in a row; the record has all
_COLUMNS = (
    "null: score without the feature; off the sink: score / (1 - attention to token 0); alone: effect of intervening "
    "on this head only"
)
_DONE = {
    "zero": "zero-ablating",
    "mean": "mean-ablating",
    "resample": "resample-ablating",
    "steer": "steering",
    "patch": "patching",
}


def print_record(catalog: Catalog, entry: HeadType, record: Record, path: Path) -> None:
    """Print one run: verdict and reasons, the heads found, the causal effect, and what papers say."""
    console = _console()
    label = record.verdict.label
    console.print(
        f"\n[bold]{escape(entry.name)}[/bold] on [bold]{escape(record.model.name)}[/bold] "
        f"({record.model.size}): [bold {COLOURS[label]}]{VERDICTS[label]} {label}[/]"
    )
    reasons = Table.grid(padding=(0, 1))
    for reason in record.verdict.reasons:
        reasons.add_row("  -", Text(reason))
    console.print(reasons)
    if record.detection:
        found = "" if record.detection.selected else " (none found; the three best)"
        title = f"{record.detection.metric}, on held-out stimuli{found}"
        print_indented(console, Text(title, style="italic"))
        console.print(_heads_table(record.detection, record.cause))
        print_indented(console, Text(_COLUMNS, style="dim"))
        if lost := record.detection.did_not_hold:
            more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
            console.print(
                Text(f"  selected, but failed on held-out stimuli: {' '.join(lost[:_SHOWN])}{more}", style="dim")
            )
    if record.cause:
        print_indented(console, _cause_line(record.cause))
    _print_literature(console, catalog, record)
    _print_expectation(console, entry, record)
    if len(record.stability.families) > 1:
        families = ", ".join(f"{name}: {verdict}" for name, verdict in record.stability.families.items())
        print_indented(console, Text(f"by prompt family  {families}"))
    if len(record.stability.seeds) > 1:
        seeds = ", ".join(f"{seed}: {verdict}" for seed, verdict in record.stability.seeds.items())
        print_indented(console, Text(f"by seed           {seeds}"))
    if record.stimuli and record.stimuli.chat:
        print_indented(console, Text(f"turns of a chat in {record.stimuli.chat}"))
    _print_opened(console, record.model)
    seconds = record.environment.seconds
    quick = ", quick budget" if record.budget == "quick" else ""
    print_indented(
        console, Text(f"record {path} ({seconds:.1f} s, seed {record.environment.seed}{quick})", style="dim")
    )


def _print_opened(console: Console, model: ModelRecord) -> None:
    """Print how the model was opened if that differs from the default."""
    if model.identity is None:
        return
    what = model.identity
    said = [f"in {what.dtype}"] * (what.dtype != "float32")
    if model.dequantised:
        said.append(f"from {model.dequantised.file}, dequantised to {model.dequantised.dtype}")
    elif what.quantisation:
        said.append(f"quantised by {what.quantisation}")
    said += ["with an adapter"] * bool(what.adapter) + ["running code of its own"] * bool(what.code)
    if said:
        console.print(Text(f"  opened {', '.join(said)}"))


def _heads_table(detection: Detection, cause: Cause | None) -> Table:
    """The heads found, best first; if there are none, the three best heads."""
    found = [Head.parse(head) for head in detection.selected]
    shown = found[:_SHOWN] or _best(detection, 3)
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for column in ("head", "score", "95% CI", "null", "off the sink", "alone"):
        table.add_column(column, justify="left" if column == "head" else "right")
    alone = {each.head: each.effect for each in cause.alone} if cause else {}
    for head in shown:
        at = head.layer, head.head
        effect = alone.get(str(head))
        table.add_row(
            str(head),
            f"{_at(detection.score, at):.2f}",
            f"{_at(detection.low, at):.2f} to {_at(detection.high, at):.2f}",
            f"{_at(detection.control, at):.2f}",
            f"{_at(detection.sink_normalised, at):.2f}" if detection.sink_normalised else "",
            "" if effect is None else figure(effect, sign="+"),
        )
    if len(found) > _SHOWN:
        table.caption = f"and {len(found) - _SHOWN} more in the record"
    return table


def _at(grid: list[list[float]], place: tuple[int, int]) -> float:
    return grid[place[0]][place[1]]


def _best(detection: Detection, count: int) -> list[Head]:
    heads = [Head(layer, head) for layer, row in enumerate(detection.score) for head in range(len(row))]
    return sorted(heads, key=lambda head: -_at(detection.score, head))[:count]


def _cause_line(cause: Cause) -> Text:
    effects = sorted(cause.random_effects)
    middle, high = effects[len(effects) // 2], effects[min(len(effects) - 1, int(0.95 * len(effects)))]
    return Text(
        f"{_DONE[cause.intervention]} all heads found: {cause.direction} by {figure(cause.effect)} "
        f"[{figure(cause.low)}, {figure(cause.high)}]; {len(effects)} random sets: median {figure(middle)}, "
        f"95% below {figure(high)}"
    )


def figure(value: float, sign: str = "") -> str:
    """An effect with two decimals; '<0.01' or '>-0.01' for one that is not zero and would look like it."""
    if value and abs(value) < 0.005:
        return "<0.01" if value > 0 else ">-0.01"
    return f"{value + 0:{sign}.2f}"


def _print_literature(console: Console, catalog: Catalog, record: Record) -> None:
    if record.model.catalog_id is None or not record.literature.findings:
        console.print(Text("  papers name no heads of this model", style="dim"))
        return
    console.print(Text("  what papers report about this model"))
    for finding in record.literature.findings:
        word = {True: "agrees", False: "disagrees", None: ""}[finding.agrees]
        reported = "" if finding.reported is None else f" reported {finding.reported:g}"
        measured = "" if finding.measured is None else f", measured {finding.measured:.2f}: {word}"
        heads = " ".join(finding.heads)
        console.print(
            Text(f"    {catalog.references[finding.source].short}: {heads}{reported}{measured} ({finding.finding})")
        )


def _print_expectation(console: Console, entry: HeadType, record: Record) -> None:
    for expected in entry.reproduction.expected:
        if expected.model == record.model.catalog_id:
            compared = against(record.verdict.label, expected.verdict)
            console.print(Text(f"  expected before the run: {expected.verdict} ({compared})"))
            if expected.layers and (heads := record.selected):
                there = f"{expected.in_layers(heads)} of {len(heads)} are"
                console.print(Text(f"  expected in {expected.layers_text}: {there}"))


def print_verdicts(catalog: Catalog, outcomes: Sequence[Outcome]) -> None:
    """Print one line per finding: verdict, heads found, and the figures that decided."""
    console = _console()
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for column in ("head type", "verdict", "heads found", "what decided it"):
        table.add_column(column, no_wrap=column in ("head type", "verdict"))
    for outcome in outcomes:
        if outcome.record is None:
            table.add_row(outcome.entry, Text("failed", style="bold red"), "", Text(outcome.error or "", style="dim"))
            continue
        label, heads = outcome.record.verdict.label, [str(head) for head in outcome.record.selected]
        more = f" +{len(heads) - _ROW}" if len(heads) > _ROW else ""
        table.add_row(
            outcome.entry,
            Text(f"{VERDICTS[label]} {label}" + QUICK * (outcome.record.budget == "quick"), style=COLOURS[label]),
            " ".join(heads[:_ROW]) + more,
            Text(_decided(outcome.record), style="dim"),
        )
    console.print()
    console.print(table)
    if any(outcome.record and outcome.record.budget == "quick" for outcome in outcomes):
        console.print(Text(QUICK_LEGEND, style="dim"))
    if kept := sum(outcome.kept for outcome in outcomes):
        console.print(Text(f"{kept} of {len(outcomes)} have a current record and were not rerun; --again reruns them"))


def _decided(record: Record) -> str:
    """The figures behind a verdict, in short."""
    behaviour, cause = record.behaviour, record.cause
    if behaviour is None:
        return record.verdict.reasons[0]
    said = f"behaviour {behaviour.value:.2g} (needed {max(behaviour.minimum, behaviour.chance):g})"
    found = record.detection
    if found and not found.selected:
        why = "not significant" if found.undecided else f"needed {found.threshold:g}"
        if found.did_not_hold and not found.undecided:
            why = f"needed {found.threshold:g} on new prompts too"
        return f"{said}, best score {found.best:.2g} ({why})"
    return f"{said}, effect above {cause.share_exceeded:.0f}% of random sets" if cause else said
