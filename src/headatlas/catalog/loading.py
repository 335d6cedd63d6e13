"""Loads the catalog and reports every error of every file at once."""

import gc
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from headatlas import locations
from headatlas.catalog import checks, links, reading, strays
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.collections import HeadTypes
from headatlas.catalog.problems import CatalogError, Problem, from_validation
from headatlas.catalog.schema import FILES, FOLDERS, Model, Strict, Taxonomy
from headatlas.errors import HeadatlasError

Entity = TypeVar("Entity", bound=Strict)

_MODEL_ID = re.compile(r"[a-z0-9]+([-.][a-z0-9]+)*")  # as the schema has it
_LONGEST_ID = 200  # bytes of a file name: what is longer is no model of the catalog

# What to do, by the parser's message.
_ADVICE = {
    "mapping values are not allowed": "put text that contains a colon in quotes",
    "cannot start any token": "indent with spaces, and put text that begins with @, ` or % in quotes",
}
_QUOTES = "correct it; put text with YAML characters (: # [ ] { } & * ! | > % @ `) in quotes"


def load(folder: Path | None = None) -> Catalog:
    """Load the catalog, or the one in `folder`.

    Raises:
        CatalogError: with every problem of every YAML file. `check` also checks the bibliography and what involves
            several files.
    """
    catalog, problems = _read(folder or locations.catalog())
    if catalog is not None:
        problems += links.check(catalog)
    if problems or catalog is None:
        raise CatalogError(problems)
    return catalog


def model(id: str, folder: Path | None = None) -> Model | None:
    """Load one model of the catalog, or of the catalog in `folder`; None if no model has this id.

    Reads one file, which takes a hundredth of the time of `load`.

    Raises:
        CatalogError: with every problem of the file.
    """
    folder = folder or locations.catalog()
    path = folder / "models" / f"{id}.yaml"
    if not _MODEL_ID.fullmatch(id) or len(id) > _LONGEST_ID or not path.is_file():
        return None
    problems: list[Problem] = []
    found = _entity(path, folder, Model, problems)
    if problems:
        raise CatalogError(problems)
    return found


def check(folder: Path | None = None) -> tuple[Catalog | None, list[Problem]]:
    """Load the catalog and its bibliography; returns the catalog, if it could be loaded, and every problem."""
    from headatlas.catalog import bibliography

    folder = folder or locations.catalog()
    catalog, problems = _read(folder)
    references, found = bibliography.read(folder / "references.bib")
    if catalog is not None:
        problems += [
            *links.check(catalog),
            *checks.whole(catalog),
            *strays.programs(catalog, reproductions_of(folder)),
        ]
    problems += strays.files(folder, FOLDERS, FILES)
    problems += found
    if catalog is not None:
        broken = {problem.field.split(".")[0] for problem in found}
        problems += checks.citations(catalog, set(references) | broken)
    return catalog, list(dict.fromkeys(problems))


def reproductions_of(folder: Path) -> Path:
    """The scripts of a catalog: the folder beside the catalog, in a checkout and in the wheel."""
    return locations.reproductions() if folder == locations.catalog() else folder.resolve().parent / "reproductions"


def _read(folder: Path) -> tuple[Catalog | None, list[Problem]]:
    if not folder.is_dir():
        raise HeadatlasError(f"{folder} is not a folder; give the folder that holds taxonomy.yaml and heads/")
    problems: list[Problem] = []
    with _collector_paused():
        taxonomy = _entity(folder / "taxonomy.yaml", folder, Taxonomy, problems)
        entities = {kind: _entities(folder, kind, schema, problems) for kind, schema in FOLDERS.items()}
        lists = {name: _list(folder, name, schema, problems) for name, schema in FILES.items()}
    if taxonomy is None:
        return None, problems
    heads = HeadTypes(entities.pop("heads").values())  # type: ignore[arg-type]
    return Catalog(folder, taxonomy, heads, **entities, **lists), problems  # type: ignore[arg-type]


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector: while parsing makes many small objects, it takes a quarter of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _entities(folder: Path, kind: str, schema: type[Entity], problems: list[Problem]) -> Mapping[str, Entity]:
    found: dict[str, Entity] = {}
    for path in strays.entries(folder / kind):
        entity = _entity(path, folder, schema, problems)
        if entity is None:
            continue
        id = entity.id  # type: ignore[attr-defined]
        file = str(path.relative_to(folder))
        if id != path.stem:
            problems.append(Problem(file, "id", f"is {id!r} but the file is called {path.name}; make them the same"))
        if id in found or (id != path.stem and (folder / kind / f"{id}.yaml").exists()):
            problems.append(Problem(file, "id", f"{id!r} is also the id of another file of {kind}; use each id once"))
        else:
            found[id] = entity
    return MappingProxyType(found)


def _list(folder: Path, name: str, schema: type[Entity], problems: list[Problem]) -> Mapping[str, Any]:
    """The entries of a file that holds many, by id."""
    whole = _entity(folder / f"{name}.yaml", folder, schema, problems)
    found: dict[str, Any] = {}
    for number, entry in enumerate(getattr(whole, name, ())):
        if entry.id in found:
            problems.append(Problem(f"{name}.yaml", f"{name}.{number}.id", f"{entry.id!r} is used twice"))
        found[entry.id] = entry
    return MappingProxyType(found)


def _entity(path: Path, folder: Path, schema: type[Entity], problems: list[Problem]) -> Entity | None:
    file = str(path.relative_to(folder))
    read = _data(path, file, problems)
    if read is None:
        return None
    problems += [Problem(file, fault.field, fault.message, fault.line) for fault in read.faults]
    try:
        return schema.model_validate_json(json.dumps(read.data))
    except ValidationError as error:
        said = {fault.field for fault in read.faults}
        problems += [each for each in from_validation(file, error, "", read.places()) if each.field not in said]
    except (ValueError, TypeError, RecursionError) as error:
        problems.append(Problem(file, "", f"not valid YAML ({str(error).splitlines()[0]}); correct it"))
    return None


def _data(path: Path, file: str, problems: list[Problem]) -> reading.Read | None:
    """Read a file; adds a problem if the file cannot be read."""
    try:
        return reading.read(reading.text_of(path))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        advice = next((advice for sign, advice in _ADVICE.items() if sign in str(error.problem)), _QUOTES)
        said = str(error.problem) if ";" in str(error.problem) else f"{error.problem}; {advice}"
        problems.append(Problem(file, "", f"not valid YAML: {said}", line))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problems.append(Problem(file, "", f"cannot be read as YAML: {str(error).splitlines()[0]}"))
    except OSError as error:
        problems.append(Problem(file, "", f"cannot be read ({error.strerror}); restore the file or its permissions"))
    return None
