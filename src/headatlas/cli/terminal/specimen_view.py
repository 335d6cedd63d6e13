"""Prints a specimen's card: what it can do, its verdicts beside those of its siblings, its limits, its provenance."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headatlas.cli.terminal import console as _console
from headatlas.cli.terminal import print_items
from headatlas.cli.terminal.signs import Grid, print_key, sign
from headatlas.evidence.agreement import Agreement
from headatlas.specimens import retrained

_SHOWN = 3  # heads of a family


def print_card(name: str, card: Mapping[str, Any], agreement: Agreement) -> None:
    """Print a row per family, the textbook heads, verdicts beside those of siblings, the limits, the recipe."""
    console = _console()
    recipe = card["recipe"]
    console.print(Text(name, style="bold"))
    grouped = recipe["kv_heads"] if recipe["arch"] == "llama" else recipe["heads"]
    console.print(
        f"{recipe['arch']}, {recipe['layers']} layers x {recipe['heads']} heads ({grouped} key/value heads), "
        f"{card['parameters'] / 1e6:.1f} M parameters, {card['vocabulary']} tokens, "
        f"context {recipe['schedule']['length']}\n"
    )
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
    for title, lines in (("limits", card["limits"]), ("what was tried", card["tried"]), ("recipe", _recipe(card))):
        if lines:
            console.print(Text(f"\n{title}", style="bold"))
            print_items(console, [Text(line) for line in lines])


def _recipe(card: Mapping[str, Any]) -> list[str]:
    recipe = card["recipe"]
    trained = f"trained on {card['tokens'] / 1e6:.0f} M tokens in {recipe['steps']} steps, seed {recipe['seed']}"
    return [trained, f"sha256 {card['sha256']}", *(retrained(found) for found in card.get("retrained", ()))]


def _print_verdicts(console: Console, agreement: Agreement) -> None:
    """Print the signs of all models, and in how many of its siblings a verdict is the same."""
    cells = {
        (entry, model): sign(label)
        for entry, labels in agreement.labels.items()
        for model, label in zip(agreement.models, labels, strict=True)
        if label is not None
    }
    others = {
        entry: Text(f"{sum(label == labels[0] for label in labels[1:])}/{sum(map(bool, labels[1:]))}")
        for entry, labels in agreement.labels.items()
        if labels[0] is not None and any(labels[1:])
    }
    after = {"same in": others} if others else {}
    Grid([("", list(agreement.labels))], agreement.models, cells, after).print(console)
    counts = {model: agreement.same(model) for model in agreement.models[1:]}
    if counts:
        said = ", ".join(f"{model} {same} of {both}" for model, (same, both) in counts.items())
        console.print(Text(f"same verdict as {agreement.models[0]}: {said}", style="dim"))
    print_key(console, [label for labels in agreement.labels.values() for label in labels if label])


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
