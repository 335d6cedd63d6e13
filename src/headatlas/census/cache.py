"""Stores the measurements of one head type on one model in a file; a census is put together and resumed from these."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError, model_validator

from headatlas import locations
from headatlas.catalog.catalog import Catalog
from headatlas.census.schema import CensusSettings, Tested, Work
from headatlas.errors import HeadatlasError
from headatlas.evidence import files, homes
from headatlas.evidence.record_parts import ModelRecord, RecordPart, require_fit
from headatlas.evidence.records import Behaviour, Entry, Environment
from headatlas.protocol import freshness

SCHEMA_VERSION: Literal[1] = 1
Status = Literal["measured", "untestable", "left out", "failed"]
Exact = list[list[float]]  # [layer][head], as measured, a row for each layer: q-values are made of them


class HeldOutScores(RecordPart):
    """Scores on held-out prompts, with 95% intervals: [layer][head]."""

    n: int
    score: Exact
    low: Exact
    high: Exact
    control: Exact


class TypeScores(RecordPart):
    """Scores on the prompts that select heads, [layer][head]; on held-out ones where a head may be selected."""

    n: int
    find: Exact
    find_control: Exact
    p: Exact
    held: HeldOutScores | None


class TypePart(RecordPart):
    """What was measured of one type. Where it was not, `scores` is None and `reason` says why.

    `settings.types` is this one alone, so that parts of any shards can be told to fit.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    entry: Entry
    model: ModelRecord
    settings: CensusSettings
    environment: Environment
    status: Status
    reason: str | None = None
    scores: TypeScores | None = None
    behaviour: Behaviour | None = None
    tested: Tested | None = None
    causal_why: str = ""
    work: Work

    @model_validator(mode="after")
    def _grids_fit(self) -> "TypePart":
        if found := self.scores:
            require_fit(self.model, (found.find, found.find_control, found.p))
        if found and (held := found.held):
            require_fit(self.model, (held.score, held.low, held.high, held.control))
        return self

    def same_work(self, other: "TypePart | CacheKey") -> bool:
        """Whether both are of one entry as it is, one model to the last part and one amount of work."""
        return not self.changes(other)

    def changes(self, other: "TypePart | CacheKey") -> list[str]:
        """What is different: 'entry', 'settings', and of the model the names of the parts that differ."""
        apart = {"entry": self.entry != other.entry, "settings": self.settings != other.settings}
        return [name for name, differs in apart.items() if differs] + self.model.differs(other.model)


class CacheKey(RecordPart):
    """What a part must be of to be kept."""

    entry: Entry
    model: ModelRecord
    settings: CensusSettings


class Plan(RecordPart):
    """What all shards of one census share: which types it is of, and the model."""

    schema_version: Literal[1] = SCHEMA_VERSION
    model: ModelRecord
    settings: CensusSettings


def home_of(out: Path, model: ModelRecord) -> Path:
    """Where a census of a model lies or goes: <out>/<model>, or <out>/<model>-<hash> (`headatlas.evidence.homes`)."""
    return homes.home(out / model.id, model, _models_in)


def claim(out: Path, model: ModelRecord) -> str | None:
    """Give a model <out>/<model>; says where the census of another model of that name went.

    Raises:
        HeadatlasError: where the folder cannot be written.
    """
    return homes.claim(out / model.id, model, _models_in)


def own(folder: Path, model: ModelRecord) -> Path:
    """A folder for the parts of a model: this one, or the one beside it where this one holds another's census."""
    return homes.home(folder, model, _models_in) if plan_path(folder).is_file() else folder


def claim_parts(folder: Path, model: ModelRecord) -> None:
    """Where a folder that was given by hand holds parts of another model, they go to parts-<hash> beside its own."""
    if not plan_path(folder).is_file():
        homes.claim(folder / "parts", model, _models_of_parts)


def _models_in(folder: Path) -> Iterator[ModelRecord]:
    """The model of a census: that of its plan, or of its parts where there is no plan that can be read."""
    try:
        yield read_plan(folder).model
    except HeadatlasError:
        yield from _models_of_parts(folder / "parts")


def _models_of_parts(folder: Path) -> Iterator[ModelRecord]:
    yield from filter(None, map(_model_of, sorted(folder.glob("*.json"))))


def _model_of(path: Path) -> ModelRecord | None:
    """The model of a part; None where it cannot be read."""
    try:
        return read(path).model
    except HeadatlasError:
        return None


def path_of(folder: Path, id: str) -> Path:
    """Where the part of a type lies."""
    return folder / "parts" / f"{id}.json"


def plan_path(folder: Path) -> Path:
    """Where the plan lies."""
    return folder / "plan.json"


def write(part: TypePart, folder: Path) -> Path:
    """Write a part whole or not at all, beside the folder where another model of its name has got that since."""
    path = path_of(own(folder, part.model), part.entry.id)
    if path.is_file() and (there := _model_of(path)):
        homes.make_room(path, part.model, there)
    return files.write(path, part.model_dump_json() + "\n")


def write_plan(plan: Plan, folder: Path) -> Path:
    """Write what all shards share."""
    return files.write(plan_path(folder), plan.model_dump_json(indent=1) + "\n")


def read(path: Path) -> TypePart:
    """Read a part.

    Raises:
        HeadatlasError: where it is none, or damaged.
    """
    try:
        return TypePart.model_validate_json(path.read_bytes())
    except OSError as error:
        raise HeadatlasError(f"cannot read {path} ({error.strerror})") from None
    except (ValidationError, ValueError):
        raise HeadatlasError(f"{path} is damaged, or of another version; delete it, and run that shard again") from None


def read_plan(folder: Path) -> Plan:
    """Read what all shards share.

    Raises:
        HeadatlasError: where the folder holds no census.
    """
    path = plan_path(folder)
    try:
        return Plan.model_validate_json(path.read_bytes())
    except OSError:
        raise HeadatlasError(f"{folder} holds no shard of a census: it has no plan.json") from None
    except (ValidationError, ValueError):
        raise HeadatlasError(f"{path} is damaged, or of another version; run that shard again") from None


def key_of(catalog: Catalog, id: str, model: ModelRecord, settings: CensusSettings) -> CacheKey:
    """What a part of this type must be of, to be kept: with as many prompts as its rule asks where they are fitted."""
    rule = catalog.heads[id].rule
    assert rule
    prompts = None if rule.detection.fitted else settings.prompts
    return CacheKey(
        entry=freshness.entry_of(id, rule.version, locations.reproductions() / f"{id}.py"),
        model=model,
        settings=settings.model_copy(update={"types": [id], "prompts": prompts}),
    )


def load_cached(folder: Path, id: str, key: CacheKey) -> TypePart | None:
    """The part of an earlier run, where all it depends on is as it was; none that failed or is damaged."""
    path = path_of(folder, id)
    if not path.is_file():
        return None
    try:
        part = read(path)
    except HeadatlasError:
        return None
    return part if part.status != "failed" and part.same_work(key) else None
