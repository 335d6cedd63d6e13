"""Checks across files: citations, names, coverage, and statements that two entries must share."""

import difflib
from collections.abc import Iterator

from headatlas.catalog import formulas, names, statements, wordings
from headatlas.catalog.catalog import Catalog, cited
from headatlas.catalog.problems import Problem
from headatlas.catalog.schema import FILES, FOLDERS, Finding, HeadType, Strict
from headatlas.notation import Head

# If one head type states such a relation to another, the other must state it too.
_MUTUAL = ("same-as-under-task", "antagonist")
PLACEHOLDER = "TODO"


def whole(catalog: Catalog) -> list[Problem]:
    """Problems of the catalog as a whole: coverage, names, mutual and readable statements, formulas, placeholders."""
    return [
        *_coverage(catalog),
        *_parts(catalog),
        *_depths(catalog),
        *_mutual(catalog),
        *_circuits(catalog),
        *names.check(catalog.heads.values()),
        *statements.check(catalog.heads.values()),
        *_same_figures(catalog),
        *_unused_models(catalog),
        *_same_weights(catalog),
        *_placeholders(catalog),
        *_formulas(catalog),
        *wordings.check(catalog),
    ]


def citations(catalog: Catalog, known: set[str]) -> list[Problem]:
    """Keys without a BibTeX entry, and entries that nothing cites."""
    problems: list[Problem] = []
    used: set[str] = set()
    for file, entity in _files(catalog):
        keys = cited(entity)
        used |= keys
        for key in sorted(keys - known):
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "add it to references.bib"
            problems.append(Problem(file, "source", f"no BibTeX entry {key!r}; {hint}"))
    for key in sorted(known - used):
        problems.append(Problem("references.bib", key, "nothing in the catalog cites it; cite it or remove it"))
    return problems


def _files(catalog: Catalog) -> Iterator[tuple[str, Strict]]:
    """Every entity with its file."""
    yield "taxonomy.yaml", catalog.taxonomy
    for kind in FOLDERS:
        for id, entity in getattr(catalog, kind).items():
            yield f"{kind}/{id}.yaml", entity
    for name in FILES:
        for entry in getattr(catalog, name).values():
            yield f"{name}.yaml", entry


def _coverage(catalog: Catalog) -> Iterator[Problem]:
    """Entries that the taxonomy lists must exist; a type of the survey must have the survey's stage and group."""
    taxonomy = catalog.taxonomy
    survey = taxonomy.survey_heads
    listed = {
        "heads": [*survey, *taxonomy.beyond],
        "methods": [id for family in taxonomy.methods for id in family.members],
        "benchmarks": [id for family in taxonomy.benchmarks for id in family.members],
        "circuits": taxonomy.circuits,
    }
    for kind, wanted in listed.items():
        ids = catalog.file_ids[kind]
        for id in sorted(set(wanted) - ids):
            yield Problem("taxonomy.yaml", kind, f"{id!r} has no entry; add {kind}/{id}.yaml")
        if kind != "heads":
            for id in sorted(ids - set(wanted)):
                yield Problem("taxonomy.yaml", kind, f"{kind}/{id}.yaml is in no family; list it")
    for name in [name for name in FILES if name != "errata"]:
        for id in sorted(set(getattr(catalog, name)) ^ set(getattr(taxonomy, name))):
            yield Problem("taxonomy.yaml", name, f"{id!r} is listed here or in {name}.yaml, but not in both")
    for head in catalog.heads.values():
        file = f"heads/{head.id}.yaml"
        place = survey.get(head.id)
        if place and (head.stage, head.group) != place:
            yield Problem(file, "stage", f"the survey puts it under {' / '.join(place)}; see taxonomy.yaml")
        if (place is not None) != (head.placed_by == "survey"):
            where = "lists" if place else "does not list"
            yield Problem(file, "placed_by", f"is {head.placed_by!r}, but the survey {where} it; see taxonomy.yaml")


def _parts(catalog: Catalog) -> Iterator[Problem]:
    """The parts of a group hold each of its head types once."""
    for stage in catalog.taxonomy.stages:
        for group in stage.groups:
            placed = [head for part in group.parts for head in part.heads]
            if group.parts and sorted(placed) != sorted(group.heads):
                wrong = ", ".join(sorted(set(placed) ^ set(group.heads)) or sorted(placed))
                yield Problem(
                    "taxonomy.yaml", f"{group.id}.parts", f"must hold each type of the group once; see {wrong}"
                )


def _depths(catalog: Catalog) -> Iterator[Problem]:
    """The survey's figure of stages and layers holds each of its head types once, or says that it leaves it out."""
    figure = catalog.taxonomy.depths
    if figure is None:
        return
    placed = [head for column in figure.columns for head in column.heads] + [*figure.not_drawn]
    for id in sorted(set(placed) ^ set(catalog.taxonomy.survey_heads)):
        known = "is not in the survey; drop it" if id in placed else "is missing; add it to a column, or to `not_drawn`"
        yield Problem("taxonomy.yaml", "depths", f"{id!r} {known}")
    for id in sorted({each for each in placed if placed.count(each) > 1}):
        yield Problem("taxonomy.yaml", "depths", f"{id!r} is placed twice; place it once")


def _mutual(catalog: Catalog) -> Iterator[Problem]:
    for head in catalog.heads.values():
        for number, relation in enumerate(head.relations):
            other = catalog.heads.get(relation.head)
            field = f"relations.{number}"
            if relation.head == head.id:
                yield Problem(f"heads/{head.id}.yaml", field, f"{relation.type} itself; name another head type")
            elif other and relation.type in _MUTUAL and not _says(other, relation.type, head.id):
                yield Problem(
                    f"heads/{head.id}.yaml",
                    field,
                    f"{relation.type} {other.id} is mutual; state it in heads/{other.id}.yaml too",
                )
            if any((each.type, each.head) == (relation.type, relation.head) for each in head.relations[:number]):
                yield Problem(
                    f"heads/{head.id}.yaml", field, f"{relation.type} {relation.head} is listed twice; merge the two"
                )


def _says(head: HeadType, type: str, other: str) -> bool:
    return any(relation.type == type and relation.head == other for relation in head.relations)


def _circuits(catalog: Catalog) -> Iterator[Problem]:
    """A circuit and its head types must name each other."""
    for circuit in catalog.circuits.values():
        parts = {role.head for role in circuit.roles if role.head}
        parts |= {id for edge in circuit.edges for id in (edge.sender, edge.receiver)}
        for id in sorted(parts):
            head = catalog.heads.get(id)
            if head and circuit.id not in head.circuits:
                yield Problem(f"heads/{id}.yaml", "circuits", f"the circuit {circuit.id!r} contains this type; list it")
        for head in catalog.heads.values():
            if circuit.id in head.circuits and head.id not in parts:
                yield Problem(f"circuits/{circuit.id}.yaml", "roles", f"{head.id} lists this circuit; give it a role")


def _unused_models(catalog: Catalog) -> Iterator[Problem]:
    used = {finding.model for head in catalog.heads.values() for finding in head.findings}
    used |= {role.model for circuit in catalog.circuits.values() for role in circuit.roles}
    for head in catalog.heads.values():
        used |= {head.reproduction.smallest_model, *(each.model for each in head.reproduction.expected)}
    used |= {id for id, model in catalog.models.items() if model.packages or model.published}
    for id in sorted(set(catalog.models) - used):
        yield Problem(f"models/{id}.yaml", "", "no entry names this model; use it or remove the file")


def _same_weights(catalog: Catalog) -> Iterator[Problem]:
    """Two models with the same weights would be one model under two names."""
    first: dict[tuple[str, str], str] = {}
    for id, model in catalog.models.items():
        sums = {"sha256": model.sha256, "packages.sha256": model.packages.sha256 if model.packages else None}
        for field, sha256 in sums.items():
            if sha256 is not None and (other := first.setdefault((field, sha256), id)) != id:
                yield Problem(f"models/{id}.yaml", field, f"is that of {other}; give the sum of this model")


def _same_figures(catalog: Catalog) -> Iterator[Problem]:
    """One figure of one source, given in two entries, has one unit and is counted from one number."""
    first: dict[tuple[str, str, float], tuple[str, Finding]] = {}
    for head in catalog.heads.values():
        for number, finding in enumerate(head.findings):
            if finding.metric is None or finding.value is None:
                continue
            place, other = first.setdefault((finding.source, finding.metric, finding.value), (head.id, finding))
            for field in ("unit", "counts_from"):
                if getattr(finding, field) != getattr(other, field):
                    yield Problem(
                        f"heads/{head.id}.yaml",
                        f"findings.{number}.{field}",
                        f"{finding.id} differs from {place}/{other.id}, which has the same source, metric and value; "
                        "make them the same",
                    )


def _placeholders(catalog: Catalog) -> Iterator[Problem]:
    for file, entity in _files(catalog):
        for field, text in _texts(entity):
            if PLACEHOLDER in text:
                yield Problem(file, field, f"still contains {PLACEHOLDER}; replace it")


def _formulas(catalog: Catalog) -> Iterator[Problem]:
    for file, entity in _files(catalog):
        for field, text in _texts(entity):
            if field.split(".")[-1] == "formula" and (why := formulas.problem(text)):
                yield Problem(file, field, why)


def _texts(value: object, field: str = "") -> Iterator[tuple[str, str]]:
    """Every text of an entity, at any depth, with its dotted field."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Strict):
        for name in type(value).model_fields:
            yield from _texts(getattr(value, name), f"{field}.{name}" if field else name)
    elif isinstance(value, tuple) and not isinstance(value, Head):
        for number, part in enumerate(value):
            yield from _texts(part, f"{field}.{number}")
