"""The sheet of one named head: everything that papers report of it, and what we measured on it, as data."""

from collections.abc import Iterator, Sequence
from typing import Literal

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import Checked, Circuit, Finding, Role, Strict
from headatlas.census.schema import Census
from headatlas.evidence.record_parts import Number
from headatlas.notation import Head
from headatlas.protocol.results import Result
from pages.maps import ModelMap, NamedHead
from pages.scores import Score, of_census, of_runs

SCHEMA_VERSION: Literal[1] = 1


class PublishedName(Strict):
    """A name that papers give the head: the findings that support it, and those that qualify or contradict it."""

    type: str
    name: str
    stage: str
    sources: list[str]
    findings: list[Finding]
    disputing: list[Finding]


class Neighbour(Strict):
    """Heads of a type that act on this head, or on which it acts, in a circuit as its paper describes it."""

    type: str
    direction: Literal["sends to this head", "receives from this head"]
    via: Literal["Q", "K", "V"] | None
    heads: list[str]
    source: str


class CircuitPart(Strict):
    """The part of the head in one circuit; `type` is None if the part is no head type."""

    circuit: str
    circuit_name: str
    type: str | None
    part: str
    source: str
    at: str
    checked: Checked
    neighbours: list[Neighbour]


class PublishedScore(Strict):
    """A score that a source publishes for every head of the model."""

    name: str
    definition: str
    score: Number
    rank: int
    source: str
    at: str


class Sheet(Strict):
    """One head of one model: `names` and `circuits` are what papers report, `measured` is what we measured."""

    schema_version: Literal[1] = SCHEMA_VERSION
    model: str
    head: str
    layer: int
    index: int
    names: list[PublishedName]
    circuits: list[CircuitPart]
    published_scores: list[PublishedScore]
    measured: list[Score]
    to_know: str | None
    sources: list[str]


def sheets(
    catalog: Catalog, map: ModelMap, runs: Sequence[Result], census: Census | None
) -> Iterator[tuple[NamedHead, Sheet]]:
    """The sheet of every named head of a model.

    Args:
        catalog: for circuits and names of types.
        map: of the model.
        runs: recorded on the model.
        census: of the model, if there is one.
    """
    to_know = {each.head: each.says for each in map.model.heads_to_know}
    for head, each in map.named.items():
        published = [
            PublishedName(
                type=name.type.id,
                name=name.type.name,
                stage=name.type.stage,
                sources=name.papers.sources,
                findings=list(name.papers.findings),
                disputing=list(name.papers.disputing),
            )
            for name in each.names
            if name.papers
        ]
        yield (
            each,
            Sheet(
                model=map.model.id,
                head=str(head),
                layer=head.layer,
                index=head.head,
                names=published,
                circuits=list(_circuits(catalog, map, each)),
                published_scores=list(_published(map, head)),
                measured=[*of_census(catalog, each, census), *of_runs(catalog, each, runs)],
                to_know=to_know.get(head),
                sources=each.sources,
            ),
        )


def _circuits(catalog: Catalog, map: ModelMap, named: NamedHead) -> Iterator[CircuitPart]:
    roles = [pair for name in named.papers if name.papers for pair in name.papers.roles]
    for circuit, role in (*roles, *named.parts):
        type = catalog.heads.get(role.head) if role.head else None
        yield CircuitPart(
            circuit=circuit.id,
            circuit_name=circuit.name,
            type=role.head,
            part=type.name if type else role.name or "",
            source=role.source,
            at=role.at,
            checked=role.checked,
            neighbours=list(_neighbours(circuit, role, map.model.id)),
        )


def _neighbours(circuit: Circuit, role: Role, model: str) -> Iterator[Neighbour]:
    """The heads that the circuit's paper connects with a role, in the same model."""
    heads: dict[str | None, list[str]] = {}
    for each in circuit.roles:
        if each.model == model:
            heads.setdefault(each.head, []).extend(map(str, each.heads))
    for edge in circuit.edges if role.head else ():
        if edge.receiver == role.head:
            said: Literal["sends to this head", "receives from this head"] = "sends to this head"
            other = edge.sender
        elif edge.sender == role.head:
            said, other = "receives from this head", edge.receiver
        else:
            continue
        yield Neighbour(type=other, direction=said, via=edge.via, heads=heads.get(other, []), source=edge.source)


def _published(map: ModelMap, head: Head) -> Iterator[PublishedScore]:
    for each in map.model.published:
        score = each.scores[head.layer][head.head]
        rank = 1 + sum(other > score for row in each.scores for other in row)
        yield PublishedScore(
            name=each.name, definition=each.definition, score=score, rank=rank, source=each.source, at=each.at
        )
