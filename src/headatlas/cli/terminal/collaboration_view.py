"""Prints how the heads of a model work together: edges of published circuits, and the strongest pairs."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from headatlas.catalog.catalog import Catalog
from headatlas.cli.terminal import console as _console
from headatlas.collaboration.schema import Collaboration, MeasuredCircuit, MeasuredEdge

_SHOWN = 6  # pairs of an edge, and of the graph


def print_collaboration(catalog: Catalog, found: Collaboration, path: Path) -> None:
    """Print the collaboration of one model."""
    console = _console()
    types = f"{len(found.types)} head types found, at most {found.settings.heads} heads of each"
    console.print(Text(f"\n{found.model.name}: {types}", style="bold"))
    shown: set[tuple[str, str, str | None]] = set()
    for circuit in found.circuits:
        console.print(Text(f"\n{catalog.circuits[circuit.id].name}", style="bold"))
        for edge in circuit.edges:
            if not edge.pairs:
                continue
            console.print(Text(f"  {_said(edge)}"))
            if (edge.sender, edge.receiver, edge.via) not in shown:
                console.print(_pairs(edge))
            shown.add((edge.sender, edge.receiver, edge.via))
        if rest := _unmeasured(circuit):
            console.print(Text(f"  not measured: {rest}", style="dim"))
    graph = found.graph
    console.print(
        Text(f"\nComposition between all heads found: {len(graph.edges)} of {graph.tested} pairs exceed chance")
    )
    for each in graph.edges[:_SHOWN]:
        numbers = f"{each.composition.score:.2f}, by chance {each.composition.expected:.2f}"
        console.print(Text(f"  {each.sender} -> {each.via} of {each.receiver}  {numbers}"))
    seconds = found.environment.seconds
    console.print(Text(f"\nrecord {path} ({seconds:.1f} s, seed {found.settings.seed})", style="dim"))


def _name(edge: MeasuredEdge) -> str:
    return f"{edge.sender} -> {edge.receiver}" + (f" ({edge.via})" if edge.via else "")


def _unmeasured(circuit: MeasuredCircuit) -> str:
    """The edges that could not be measured, and the types that were not found."""
    edges = [_name(edge) for edge in circuit.edges if not edge.pairs]
    missing = [each.type for each in circuit.missing]
    others = dict.fromkeys(
        edge.why_not for edge in circuit.edges if not edge.pairs and not {edge.sender, edge.receiver} & set(missing)
    )
    if not edges:
        return ""
    why = f" (not found in this model: {', '.join(missing)})" if missing else ""
    return ", ".join(edges) + why + "".join(f"; {each}" for each in others)


def _said(edge: MeasuredEdge) -> str:
    assert edge.measure
    standing = sum(pair.patched.stands for pair in edge.pairs)
    text = f"{_name(edge)}: {standing} of {len(edge.pairs)} pairs stand; "
    text += f"clean {edge.measure.of} {edge.measure.clean:.3g}"
    if edge.together:
        patched, senders = edge.together.patched, len(edge.together.senders)
        text += (
            f"; patching all {senders} senders lowers it by {patched.effect:.3g} [{patched.low:.3g}, "
            f"{patched.high:.3g}], more than {patched.share_exceeded:.0f}% of {len(patched.others)} random sets do"
        )
    return text


def _pairs(edge: MeasuredEdge) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1))
    for column in ("  from", "to", "falls by", "95% CI", "exceeds", "stands", "composition"):
        table.add_column(column, no_wrap=True)
    for pair in sorted(edge.pairs, key=lambda pair: -pair.patched.effect)[:_SHOWN]:
        patched, weights = pair.patched, pair.composition
        table.add_row(
            f"  {pair.sender}",
            pair.receiver,
            f"{patched.effect:.3f}",
            f"{patched.low:.2f} to {patched.high:.2f}",
            f"{patched.share_exceeded:.0f}% of {len(patched.others)}",
            "yes" if patched.stands else "no",
            f"{weights.score:.2f} (chance {weights.expected:.2f})",
        )
    return table
