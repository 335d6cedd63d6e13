"""Measures the catalog's circuits on one model, and the composition between all heads found in the model."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from headatlas.arrays import Array
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import Circuit
from headatlas.collaboration import patching, schema
from headatlas.collaboration.found import Found, found_in
from headatlas.collaboration.schema import CollaborationSettings, MeasuredEdge, Via
from headatlas.errors import HeadatlasError
from headatlas.evidence import statistics
from headatlas.evidence.record_parts import ModelRecord
from headatlas.lab import OpenModel, composition
from headatlas.lab.weights import composition_chance
from headatlas.notation import Head
from headatlas.progress import Progress, no_progress
from headatlas.protocol.provenance import catalog_id, environment, model_record
from headatlas.protocol.script import load_script

STANDARD = CollaborationSettings(seed=0, heads=5, prompts=24, sets=99, others=40, fdr=0.05)
KINDS: tuple[Via, ...] = ("Q", "K", "V")


def collaborate(
    catalog: Catalog,
    model: OpenModel,
    folder: Path,
    settings: CollaborationSettings = STANDARD,
    report: Progress = no_progress,
) -> schema.Collaboration:
    """Measure the edges between the heads found in a model.

    Args:
        catalog: the catalog with the circuits.
        model: the model to measure.
        folder: folder of the records that found the heads, with <model>/<entry>.json.
        settings: number of heads, prompts and random sets.
        report: receives progress.

    Raises:
        HeadatlasError: if there are no records of this model, or its weights cannot be compared.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    record = about(catalog, model)
    found = found_in(folder, record, settings.heads)
    weights = Weights(model)
    session = _Session(model, found, weights, settings)
    circuits = [circuit for circuit in catalog.circuits.values() if circuit.edges]
    measured = []
    for done, circuit in enumerate(circuits):
        report(circuit.id, done, len(circuits))
        measured.append(session.circuit(circuit))
    return schema.Collaboration(
        model=record,
        settings=settings,
        environment=environment(model, settings.seed, started, time.perf_counter() - clock),
        types=list(found.types.values()),
        circuits=measured,
        graph=_graph(found, weights, settings.fdr),
    )


def about(catalog: Catalog, model: OpenModel) -> ModelRecord:
    """The description of the model in a record."""
    return model_record(model, catalog_id(catalog, model))


class Weights:
    """Composition scores between all heads of a model, with their chance level."""

    def __init__(self, model: OpenModel) -> None:
        self._anatomy = model.anatomy
        self._scores: dict[Via, Array] = {}
        self._chance: dict[Via, tuple[Array, Array]] = {}
        for kind in KINDS:
            scores = composition(model, kind)
            expected, p = composition_chance(model, scores)
            self._scores[kind] = np.nan_to_num(scores.scores.detach().numpy())  # zero weights give NaN
            self._chance[kind] = expected, np.nan_to_num(p, nan=1.0)

    def of(self, paths: Sequence[tuple[Head, Head, Via]]) -> list[schema.MeasuredComposition]:
        """Composition of each path (sender, receiver, via); q corrects over all given paths."""
        p = np.array([self._chance[via][1][(*sender, *receiver)] for sender, receiver, via in paths])
        q = statistics.q_values(p) if len(p) else p
        return [self._one(*path, p[number], q[number]) for number, path in enumerate(paths)]

    def _one(self, sender: Head, receiver: Head, via: Via, p: float, q: float) -> schema.MeasuredComposition:
        senders, receivers = (self._anatomy.heads_in(head.layer) for head in (sender, receiver))
        block = self._scores[via][sender.layer, :senders, receiver.layer, :receivers]
        score = block[sender.head, receiver.head]
        return schema.MeasuredComposition(
            score=float(score),
            expected=float(self._chance[via][0][receiver.layer]),
            p=float(p),
            q=float(q),
            percentile=float(100 * (block < score).sum() / max(1, block.size - 1)),
        )


class _Session:
    """Measures edges, each only once even if several circuits contain it."""

    def __init__(self, model: OpenModel, found: Found, weights: Weights, settings: CollaborationSettings) -> None:
        self._model, self._found, self._weights, self._settings = model, found, weights, settings
        self._known: dict[tuple[str, str, Via], MeasuredEdge] = {}

    def circuit(self, circuit: Circuit) -> schema.MeasuredCircuit:
        types = dict.fromkeys([role.head for role in circuit.roles if role.head] + _ends(circuit))
        missing = [schema.Missing(type=id, why=why) for id in types if (why := self._found.why_missing(id))]
        edges = []
        for edge in {(each.sender, each.receiver, each.via): each for each in circuit.edges}.values():
            if any(self._found.why_missing(id) for id in (edge.sender, edge.receiver)):
                why = "; ".join(
                    f"{each.type}: {each.why}" for each in missing if each.type in (edge.sender, edge.receiver)
                )
                edges.append(_unmeasured(edge.sender, edge.receiver, edge.via, edge.via, why))
                continue
            for via in (edge.via,) if edge.via else KINDS:
                edges.append(self._edge(edge.sender, edge.receiver, via, edge.via))
        return schema.MeasuredCircuit(id=circuit.id, missing=missing, edges=edges)

    def _edge(self, sender: str, receiver: str, via: Via, published: Via | None) -> MeasuredEdge:
        if (sender, receiver, via) not in self._known:
            self._known[sender, receiver, via] = self._measure(sender, receiver, via)
        return self._known[sender, receiver, via].model_copy(update={"published_via": published})

    def _measure(self, sender: str, receiver: str, via: Via) -> MeasuredEdge:
        senders, receivers = self._found.heads(sender), self._found.heads(receiver)
        if not any(a.layer < b.layer for a in senders for b in receivers):
            return _unmeasured(sender, receiver, via, via, f"no {sender} head lies before a {receiver} head")
        try:
            every = self._found.every[sender]
            paths = patching.Paths(self._model, load_script(receiver), senders, receivers, via, every, self._settings)
            measure, together, effects = patching.measure(paths)
        except HeadatlasError as error:
            return _unmeasured(sender, receiver, via, via, str(error))
        compositions = self._weights.of([(*ends, via) for ends in effects])
        pairs = [
            schema.Pair(sender=str(a), receiver=str(b), composition=found, patched=effect)
            for ((a, b), effect), found in zip(effects.items(), compositions, strict=True)
        ]
        return MeasuredEdge(
            sender=sender,
            receiver=receiver,
            via=via,
            published_via=via,
            why_not=None,
            measure=measure,
            together=together,
            pairs=pairs,
        )


def _ends(circuit: Circuit) -> list[str]:
    return [id for edge in circuit.edges for id in (edge.sender, edge.receiver)]


def _unmeasured(sender: str, receiver: str, via: Via | None, published: Via | None, why: str) -> MeasuredEdge:
    return MeasuredEdge(sender=sender, receiver=receiver, via=via, published_via=published, why_not=why)


def _graph(found: Found, weights: Weights, fdr: float) -> schema.Graph:
    """Composition between the best heads of all types, corrected over all pairs."""
    heads = sorted({head for type in found.types for head in found.heads(type)})
    paths = [(a, b, via) for a in heads for b in heads if a.layer < b.layer for via in KINDS]
    edges = [
        schema.GraphEdge(sender=str(a), receiver=str(b), via=via, composition=each)
        for (a, b, via), each in zip(paths, weights.of(paths), strict=True)
        if each.q <= fdr
    ]
    edges.sort(key=lambda edge: -edge.composition.score)
    return schema.Graph(tested=len(paths), edges=edges)
