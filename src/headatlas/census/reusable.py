"""Finds an earlier census of this very model, by the cheapest check that is enough."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from headatlas import specimens
from headatlas.census import reading
from headatlas.census.schema import Census
from headatlas.errors import HeadatlasError
from headatlas.evidence.identity import is_gguf, title
from headatlas.evidence.record_parts import ModelRecord
from headatlas.fetching import known
from headatlas.progress import Notify
from headatlas.protocol.model_options import ModelOptions

_READ = {".json", ".jinja", ".model", ".txt", ".tiktoken", ".py", ".safetensors"}  # what a model may be read from


def find_reusable(
    name: str, options: ModelOptions, dtype_asked: bool, places: Sequence[Path], tell: Notify
) -> Census | None:
    """The census among some that is of this model, opened as asked; why there is none is told in one line.

    A model that ships, or lies in a folder, is compared file by file; only where a file differs is it opened, to see
    whether the difference counts. A model of the hub is not asked: there the name, the revision and the options speak;
    of a model in packages, the sum that the catalog gives.

    Args:
        name: of the model.
        options: how it would be opened.
        dtype_asked: whether the dtype must be that of the options; else any will do.
        places: of censuses of models of that name.
        tell: told of a census that is of another model, or cannot be read.

    Raises:
        HeadatlasError: where the model has to be opened and cannot be.
    """
    found: list[tuple[Path, Census]] = []
    for place in places:
        try:
            found.append((place, reading.read(place)))
        except HeadatlasError as error:
            tell(str(error))
    found = [(place, each) for place, each in found if _of_the_name(name, place, each.model)]
    opened_so = [each for each in found if _opened_so(each[1].model, options, dtype_asked)]
    folder = _folder(name)
    if (packaged := known.packaged(name)) and packaged.packages:
        return next((census for _, census in opened_so if census.model.sha256 == packaged.packages.sha256), None)
    if folder is None:
        return next((census for _, census in opened_so), None)
    for _, census in opened_so:
        if _files_are(census.model, folder, name):
            return census
    return _by_opening(name, options, found, tell) if found else None


def _of_the_name(name: str, place: Path, model: ModelRecord) -> bool:
    """Not of a model whose name only begins in the same way."""
    name = known.name_when_open(name)
    called = title(name, model.dequantised.quantisation if model.dequantised else None)
    if model.name == called or Path(name).exists():
        return model.name == called
    return name in (model.name, place.parent.name, place.stem) or model.id == name.replace("/", "--")


def _folder(name: str) -> Path | None:
    if name in specimens.names():
        return specimens.folder(name)
    here = Path(name)
    if here.is_dir():
        return here if (here / "config.json").is_file() or any(map(is_gguf, map(str, here.iterdir()))) else None
    return here if is_gguf(name) and here.is_file() else None


def _opened_so(model: ModelRecord, options: ModelOptions, dtype_asked: bool) -> bool:
    what, plain = model.identity, options.adapter in (None, "none")
    if options.revision is not None and not (model.revision or "").startswith(options.revision):
        return False
    if what is None:
        return plain and options.dtype == "float32"
    if dtype_asked and options.dtype not in what.dtype.split(", "):
        return False
    return plain and what.adapter is None


def _files_are(model: ModelRecord, folder: Path, name: str) -> bool:
    """Whether a folder holds the very files that a census was taken of."""
    if model.identity is None:  # of a model that ships, the weights are enough
        return name in specimens.names() and model.sha256 == specimens.card(name)["sha256"]
    if folder.is_file():
        return model.dequantised is not None and _sha256(folder) == model.dequantised.sha256
    before = model.identity.files
    if model.identity.source == "loaded" or not all((folder / file).is_file() for file in before):
        return False
    suffixes = _READ | {Path(file).suffix for file in before}
    if {path.name for path in folder.iterdir() if path.is_file() and path.suffix in suffixes} != before.keys():
        return False
    return all(_sha256(folder / file) == sha256 for file, sha256 in before.items())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_opening(name: str, options: ModelOptions, found: Sequence[tuple[Path, Census]], tell: Notify) -> Census | None:
    """The census of what is opened now; where there is none, why the first is not it."""
    from headatlas import load
    from headatlas.lab import open_model
    from headatlas.protocol.provenance import catalog_id, model_record

    with open_model(name, **options.keywords()) as model:
        now = model_record(model, catalog_id(load(), model))
    for _, census in found:
        if not census.model.differs(now):
            return census
    place, first = found[0]
    differs = first.model.differs(now)
    if differs == ["identity"]:
        tell(f"{place} does not say all that identifies {name}; another census is taken")
    else:
        tell(f"{place} is not of {name} as it is now (other {', '.join(differs)}); another census is taken")
    return None
