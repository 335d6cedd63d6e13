"""Draws a collaboration: each measured circuit beside the published one, and the strongest pairs of heads."""

from collections.abc import Iterable, Sequence
from typing import get_args

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import Circuit, Role, Status
from headatlas.collaboration.schema import (
    Collaboration,
    FoundType,
    Measure,
    MeasuredCircuit,
    MeasuredComposition,
    MeasuredEdge,
    Pair,
)
from headatlas.notation import Head
from headatlas.pages.figures.circuit import Arrow, CircuitPart, published_picture
from headatlas.pages.figures.collaboration import Link, Node, measured_picture, side_by_side

SHOWN = 24  # pairs of the graph
_STATUS = get_args(Status)  # best first


def circuit_picture(catalog: Catalog, record: Collaboration, circuit: MeasuredCircuit) -> str:
    """A measured circuit beside the published one, or only the published one if nothing was measured."""
    published, model = catalog.circuits[circuit.id], record.model.name
    schematic = published_picture(
        [_part(catalog, record, published, type) for type in _types(published)],
        _arrows(catalog, published),
        f"{published.name} as published",
    )
    measured = [edge for edge in circuit.edges if edge.measure and edge.pairs]
    if not measured:
        return side_by_side({f"Published; no edge could be measured in {model}": schematic})
    shares = {id(pair): _share(edge, pair.patched.effect) for edge in measured for pair in edge.pairs}
    widest = max(max(shares.values()), 1e-9)
    links = [
        Link(
            pair.sender,
            pair.receiver,
            edge.via,
            shares[id(pair)] / widest,
            pair.patched.stands,
            _numbers(pair, edge.measure),
        )
        for edge in measured
        for pair in edge.pairs
        if edge.via and edge.measure
    ]
    heads = {head for link in links for head in (link.sender, link.receiver)}
    nodes = _nodes(catalog, record, heads, set(_types(published)))
    title = f"{published.name} measured in {model}"
    picture = measured_picture(nodes, links, title, _notes(circuit, measured, links, widest))
    return side_by_side({f"Measured in {model}": picture, "Published": schematic})


def _share(edge: MeasuredEdge, effect: float) -> float:
    """An effect as a share of the unpatched value."""
    return effect / edge.measure.clean if edge.measure and edge.measure.clean else 0.0


def _notes(
    circuit: MeasuredCircuit, measured: Sequence[MeasuredEdge], links: Sequence[Link], widest: float
) -> list[str]:
    """Notes below the picture: what line widths mean, the effect of all senders at once, missing types."""
    notes = [f"widest line: patching this path removes {widest:.0%} of {_read(measured[0])}"]
    if faint := sum(not link.stands for link in links):
        notes.append(f"dashed: {faint} of {len(links)} edges without more effect than other heads")
    for edge in measured:
        if edge.together and len(edge.together.senders) > 1:
            share, count = _share(edge, edge.together.patched.effect), len(edge.together.senders)
            notes.append(f"all {count} {edge.sender} heads at once, to {edge.receiver} ({edge.via}): {share:.0%}")
    if missing := list(dict.fromkeys(each.type for each in circuit.missing)):
        rows = [", ".join(missing[start : start + 3]) for start in range(0, len(missing), 3)]
        notes.append(f"not found in this model: {rows[0]}{',' * (len(rows) > 1)}")
        notes += [row + "," * (row != rows[-1]) for row in rows[1:]]
    return notes


def _read(edge: MeasuredEdge) -> str:
    return "the receiver's attention" if edge.measure and edge.measure.of == "attention" else "the behaviour"


def graph_picture(catalog: Catalog, record: Collaboration) -> str:
    """The strongest pairs of all heads found, by how much their composition exceeds chance."""
    edges, every = record.graph.edges[:SHOWN], len(record.graph.edges)
    if not edges:
        return side_by_side(
            {f"None of {record.graph.tested} pairs exceeds chance": measured_picture((), (), "no edge")}
        )
    over = [edge.composition.score - edge.composition.expected for edge in edges]
    links = [
        Link(edge.sender, edge.receiver, edge.via, excess / max(over), True, _weights(edge.composition))
        for edge, excess in zip(edges, over, strict=True)
    ]
    nodes = _nodes(catalog, record, {head for link in links for head in (link.sender, link.receiver)}, None)
    shown = "All" if len(edges) == every else f"The strongest {len(edges)} of"
    title = f"Composition between the heads found in {record.model.name}"
    picture = measured_picture(nodes, links, title, [f"widest line: {max(over):.2f} above chance"])
    return side_by_side({f"{shown} {every} pairs that exceed chance, of {record.graph.tested}": picture})


def _weights(found: MeasuredComposition) -> str:
    return f"composition {found.score:.2f}, by chance {found.expected:.2f} (q {found.q:.1g})"


def _types(circuit: Circuit) -> list[str]:
    """The types at the ends of published edges."""
    return list(dict.fromkeys(id for edge in circuit.edges for id in (edge.sender, edge.receiver)))


def _part(catalog: Catalog, record: Collaboration, circuit: Circuit, type: str) -> CircuitPart:
    roles = [role for role in circuit.roles if role.head == type]
    named: Role | None = next((role for role in roles if role.heads), roles[0] if roles else None)
    where = ""
    if named:
        model = catalog.models[named.model].name if named.model else None
        where = ", ".join(each for each in (model, _source(catalog, named.source)) if each)
    return CircuitPart(
        type,
        _stage(catalog, type),
        tuple(str(head) for head in named.heads) if named else (),
        where,
        any(each.id == type for each in record.types),
    )


def _arrows(catalog: Catalog, circuit: Circuit) -> list[Arrow]:
    """One arrow per pair of types, with all sources for this edge."""
    joined: dict[tuple[str, str], list[tuple[str | None, str]]] = {}
    for edge in circuit.edges:
        said = f"{_source(catalog, edge.source)}, {edge.at}"
        joined.setdefault((edge.sender, edge.receiver), []).append((edge.via, said))
    return [
        Arrow(
            *ends, tuple(dict.fromkeys(via for via, _ in said if via)), "; ".join(dict.fromkeys(at for _, at in said))
        )
        for ends, said in joined.items()
    ]


def _source(catalog: Catalog, key: str) -> str:
    return catalog.references[key].short if key in catalog.references else key


def _stage(catalog: Catalog, type: str) -> str:
    entry = catalog.heads.get(type)
    return next((stage.short for stage in catalog.taxonomy.stages if entry and stage.id == entry.stage), "")


def _nodes(catalog: Catalog, record: Collaboration, heads: Iterable[str], among: set[str] | None) -> list[Node]:
    """Heads with their types: best established types first, then types in which the head ranks higher."""
    made = []
    for name in sorted(heads, key=Head.parse):
        found = [each for each in record.types if (among is None or each.id in among) and _rank(each, name) is not None]
        types = [
            each.id for each in sorted(found, key=lambda each: (_known(catalog, each), _rank(each, name), each.id))
        ]
        made.append(Node(name, Head.parse(name).layer, tuple(types), _stage(catalog, types[0]) if types else ""))
    return made


def _known(catalog: Catalog, type: FoundType) -> int:
    """The rank of a type's evidence, 0 for the best established."""
    entry = catalog.heads.get(type.id)
    return _STATUS.index(entry.status) if entry else len(_STATUS)


def _rank(type: FoundType, head: str) -> int | None:
    names = [each.head for each in type.heads]
    return names.index(head) if head in names else None


def _numbers(pair: Pair, measure: Measure | None) -> str:
    patched = pair.patched
    return (
        f"{measure.of if measure else ''} {measure.clean if measure else 0:.3g} falls by {patched.effect:.3g} "
        f"[{patched.low:.3g}, {patched.high:.3g}], more than for {patched.share_exceeded:.0f}% of "
        f"{len(patched.others)} other heads; {_weights(pair.composition)}"
    )
