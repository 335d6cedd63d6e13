"""How the heads of a model work together: the edges of published circuits, and the strongest of all pairs."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from headatlas.catalog.catalog import Catalog
from headatlas.collaboration.schema import Collaboration, MeasuredEdge, Patched
from headatlas.terminal import console as _console

_SHOWN = 8  # pairs of an edge, and of the graph


def print_collaboration(catalog: Catalog, found: Collaboration, path: Path) -> None:
    """One model."""
    console = _console()
    console.print(Text(f"\n{found.model.name}: {len(found.types)} head types found, at most "
                       f"{found.settings.heads} heads of each", style="bold"))  # fmt: skip
    unmeasured = []
    for circuit in found.circuits:
        if not any(edge.measure for edge in circuit.edges):
            unmeasured.append(catalog.circuits[circuit.id].name)
            continue
        console.print(Text(f"\n{catalog.circuits[circuit.id].name}", style="bold"))
        for edge in circuit.edges:
            console.print(Text(f"  {_title(edge)}"))
            if edge.pairs:
                console.print(_pairs(edge))
    if unmeasured:
        console.print(Text(f"\nno edge of these was measured, as their heads were not found: {', '.join(unmeasured)}"))
    graph = found.graph
    console.print(Text(f"\nComposition of all heads found: {len(graph.edges)} of {graph.tested} pairs exceed chance"))
    for each in graph.edges[:_SHOWN]:
        numbers = f"{each.composition.score:.2f}, by chance {each.composition.expected:.2f}"
        console.print(Text(f"  {each.sender} -> {each.via} of {each.receiver}  {numbers}"))
    seconds = found.environment.seconds
    console.print(Text(f"\nrecord {path} ({seconds:.1f} s, seed {found.settings.seed})", style="dim"))


def _title(edge: MeasuredEdge) -> str:
    via = f" ({edge.via})" if edge.via else ""
    text = f"{edge.sender} -> {edge.receiver}{via}: "
    if edge.why_not or edge.measure is None:
        return text + f"not measured: {edge.why_not}"
    standing = sum(pair.patched.stands for pair in edge.pairs)
    text += f"{standing} of {len(edge.pairs)} pairs stand; {edge.measure.what}, clean {edge.measure.clean:.3g}"
    if edge.together:
        text += f"; all {len(edge.together.senders)} senders at once: {_effect(edge.together.patched)}"
    return text


def _effect(patched: Patched) -> str:
    return (
        f"falls by {patched.effect:.3g} [{patched.low:.3g}, {patched.high:.3g}], "
        f"more than {patched.share_exceeded:.0f}% of {len(patched.others)} others (p = {patched.p:.2g})"
    )


def _pairs(edge: MeasuredEdge) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for column in ("sender", "receiver", "path patching", "composition", "by chance", "q"):
        table.add_column(column)
    for pair in sorted(edge.pairs, key=lambda pair: -pair.patched.effect)[:_SHOWN]:
        weights = pair.composition
        table.add_row(
            pair.sender,
            pair.receiver,
            ("" if pair.patched.stands else "(no) ") + _effect(pair.patched),
            f"{weights.score:.2f}",
            f"{weights.expected:.2f}",
            f"{weights.q:.2g}",
        )
    return table
