"""Checks of links between files, and of the heads that they name."""

import difflib
from collections.abc import Iterable, Iterator

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.problems import Problem
from headatlas.notation import Head


def check(catalog: Catalog) -> list[Problem]:
    """Links to files that do not exist, and heads that a model does not have."""
    return [
        *_head_links(catalog),
        *_circuit_links(catalog),
        *_model_links(catalog),
        *_list_links(catalog),
    ]


def _unknown(catalog: Catalog, file: str, field: str, kind: str, links: Iterable[str | None]) -> Iterator[Problem]:
    ids = catalog.file_ids[kind]
    for id in links:
        if id is not None and id not in ids:
            near = difflib.get_close_matches(id, ids, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"add {kind}/{id}.yaml or drop the link"
            yield Problem(file, field, f"there is no {id!r}; {hint}")


def _head_links(catalog: Catalog) -> Iterator[Problem]:
    for head in catalog.heads.values():
        file = f"heads/{head.id}.yaml"
        groups = [group.id for group in catalog.taxonomy.stage(head.stage).groups]
        if head.group not in groups:
            yield Problem(
                file, "group", f"{head.group!r} is not a group of {head.stage!r}, which has {', '.join(groups)}"
            )
        for field in ("relations", "distinct_from"):
            for number, link in enumerate(getattr(head, field)):
                yield from _unknown(catalog, file, f"{field}.{number}.head", "heads", [link.head])
        for number, alias in enumerate(head.aliases):
            yield from _unknown(catalog, file, f"aliases.{number}.also", "heads", alias.also)
        for kind in ("methods", "benchmarks", "circuits"):
            for number, id in enumerate(getattr(head, kind)):
                yield from _unknown(catalog, file, f"{kind}.{number}", kind, [id])
        for number, finding in enumerate(head.findings):
            yield from _unknown(catalog, file, f"findings.{number}.model", "models", [finding.model])
            yield from _outside(catalog, file, f"findings.{number}.heads", finding.model, finding.heads)
        rerun = head.reproduction
        yield from _unknown(catalog, file, "reproduction.smallest_model", "models", [rerun.smallest_model])
        for number, expectation in enumerate(rerun.expected):
            where = f"reproduction.expected.{number}"
            yield from _unknown(catalog, file, f"{where}.model", "models", [expectation.model])
            ends = [Head(layer, 0) for layer in expectation.layer_numbers]
            yield from _outside(catalog, file, f"{where}.heads", expectation.model, expectation.heads)
            yield from _outside(catalog, file, f"{where}.layers", expectation.model, ends)
        for number, explanation in enumerate(rerun.explained):
            yield from _unknown(catalog, file, f"reproduction.explained.{number}.model", "models", [explanation.model])


def _circuit_links(catalog: Catalog) -> Iterator[Problem]:
    for circuit in catalog.circuits.values():
        file = f"circuits/{circuit.id}.yaml"
        for number, role in enumerate(circuit.roles):
            yield from _unknown(catalog, file, f"roles.{number}.head", "heads", [role.head])
            yield from _unknown(catalog, file, f"roles.{number}.model", "models", [role.model])
            yield from _outside(catalog, file, f"roles.{number}.heads", role.model, role.heads)
        for number, edge in enumerate(circuit.edges):
            yield from _unknown(catalog, file, f"edges.{number}", "heads", [edge.sender, edge.receiver])


def _model_links(catalog: Catalog) -> Iterator[Problem]:
    for model in catalog.models.values():
        file = f"models/{model.id}.yaml"
        for number, each in enumerate(model.heads_to_know):
            yield from _unknown(catalog, file, f"heads_to_know.{number}.types", "heads", each.types)
            yield from _outside(catalog, file, f"heads_to_know.{number}.head", model.id, [each.head])


def _list_links(catalog: Catalog) -> Iterator[Problem]:
    for name in ("errata", "parallels", "topics"):
        for number, entry in enumerate(getattr(catalog, name).values()):
            yield from _unknown(catalog, f"{name}.yaml", f"{name}.{number}.heads", "heads", entry.heads)
    for number, term in enumerate(catalog.glossary.values()):
        for id in term.see:
            if id not in catalog.glossary:
                yield Problem("glossary.yaml", f"glossary.{number}.see", f"{id!r} is not a term; use the id of a term")


def _outside(catalog: Catalog, file: str, field: str, model: str | None, heads: Iterable[Head]) -> Iterator[Problem]:
    """Heads that the named model does not have."""
    shape = catalog.models.get(model or "")
    for head in heads:
        if shape and shape.layers and shape.heads and not (head.layer < shape.layers and head.head < shape.heads):
            yield Problem(file, field, f"{head} is not a head of {model} ({shape.layers} layers x {shape.heads} heads)")
