"""Prints a specimen's card: its recipe, what it can do, which heads matter, and what it cannot do."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headatlas.cli.terminal import console as _console
from headatlas.cli.terminal.record_view import COLOURS
from headatlas.evidence.agreement import Agreement
from headatlas.specimens import retrained

_SHOWN = 3  # heads of a family
_WORD = max(len(label) for label in COLOURS)


def print_card(name: str, card: Mapping[str, Any], agreement: Agreement) -> None:
    """Print the recipe, a row per family, the textbook heads, verdicts beside those of siblings, the limits."""
    console = _console()
    recipe = card["recipe"]
    console.print(Text(name, style="bold"))
    grouped = recipe["kv_heads"] if recipe["arch"] == "llama" else recipe["heads"]
    console.print(
        f"{recipe['arch']}, {recipe['layers']} layers x {recipe['heads']} heads ({grouped} key/value heads), "
        f"{card['parameters'] / 1e6:.1f} M parameters, {card['vocabulary']} tokens, "
        f"context {recipe['schedule']['length']}"
    )
    console.print(f"trained on {card['tokens'] / 1e6:.0f} M tokens in {recipe['steps']} steps, seed {recipe['seed']}")
    console.print(f"sha256 {card['sha256']}")
    for found in card.get("retrained", ()):
        console.print(retrained(found))
    console.print()
    console.print(_families(card["families"]))
    console.print(
        "accuracy: on held-out documents; without: the family's heads mean-ablated;\nrandom: layer-matched sets of "
        "other heads mean-ablated (median); * less than 5% of these sets do as much harm",
        style="dim",
    )
    if card["needed_by_all"]:
        console.print(
            f"Not listed, because almost every family needs them: {', '.join(card['needed_by_all'])}", style="dim"
        )
    console.print()
    for kind, heads in card["textbook"].items():
        console.print(f"{kind:16} " + ", ".join(f"{head} {score:.2f}" for head, score in heads.items()))
    if agreement.labels:
        console.print(Text("\nverdicts", style="bold"))
        _print_verdicts(console, agreement)
    for title, lines in (("limits", card["limits"]), ("what was tried", card["tried"])):
        if lines:
            console.print(Text(f"\n{title}", style="bold"))
        for line in lines:
            console.print(f"  - {line}", soft_wrap=True)


def _print_verdicts(console: Console, agreement: Agreement) -> None:
    """Print a row per head type and a column per model: whole words if they fit, else initials with a legend."""
    found = agreement.labels.values()
    wide = max(len(entry) for entry in agreement.labels) + 2 + (_WORD + 2) * len(agreement.models) <= console.width
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("", no_wrap=True)
    for model in agreement.models:
        table.add_column(model if wide else model.removeprefix("specimen-"), no_wrap=True)
    for entry, labels in agreement.labels.items():
        table.add_row(entry, *(_verdict(label, wide) for label in labels))
    counts = [agreement.same(model) for model in agreement.models[1:]]
    if counts:
        said = " of " if wide else "/"
        table.add_row("same verdict", "", *(f"{same}{said}{both}" for same, both in counts), style="bold")
    console.print(table)
    if not wide:
        used = [label for label in COLOURS if any(label in labels for labels in found)]
        console.print(", ".join(f"{label[0]} {label}" for label in used), style="dim")


def _verdict(label: str | None, whole: bool) -> Text:
    if label is None:
        return Text("not run" if whole else "-", style="dim")
    return Text(label if whole else label[0], style=COLOURS[label])


def _families(families: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for column in ("family", "accuracy", "chance", "without", "random", "heads"):
        table.add_column(column, justify="left" if column in ("family", "heads") else "right", no_wrap=True)
    for family, each in families.items():
        more = len(each["heads"]) - _SHOWN
        table.add_row(
            family,
            Text(f"{each['accuracy']:.2f}", style="green" if each["accuracy"] >= each["aim"] else "yellow"),
            f"{each['chance']:.2f}",
            f"{each['without_them']:.2f}{'*' if each['p'] < 0.05 else ' '}",
            f"{each['without_random']:.2f}",
            " ".join(each["heads"][:_SHOWN]) + (f" +{more}" if more > 0 else ""),
        )
    return table
