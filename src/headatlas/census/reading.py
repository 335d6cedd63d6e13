"""Finds and reads censuses: files, folders, and those that ship with the project."""

import glob
from pathlib import Path

import numpy as np

from headatlas import locations
from headatlas.census import labelling
from headatlas.census.schema import Census, HeadResult, Label, TypeResult
from headatlas.census.summary import depth, groups_of, summary_of
from headatlas.errors import HeadatlasError
from headatlas.evidence import files, held_out
from headatlas.fetching.known import folder_when_open
from headatlas.notation import Head


def read(path: Path) -> Census:
    """Read a census; from one taken before names had to hold on new prompts, those that do not are taken away.

    Raises:
        HeadatlasError: where it is none of this schema version.
    """
    return without_heads_that_fail(files.read(Census, path, "the census", "is not a census", "take it again"))


def without_heads_that_fail(census: Census) -> Census:
    """A census in which every name holds on held-out prompts, and all that is counted of names is of those.

    Raises:
        HeadatlasError: where heads carry types that the census does not have.
    """
    thresholds = {each.id: each.threshold for each in census.types}
    if unknown := {label.type for head in census.heads for label in head.labels} - thresholds.keys():
        named = ", ".join(sorted(unknown))
        raise HeadatlasError(f"the census of {census.model.name} has names of no type in it ({named}); take it again")

    def holds(label: Label) -> bool:
        return held_out.holds(label.score, label.control, thresholds[label.type])

    if all(holds(label) for head in census.heads for label in head.labels):
        return census
    lost = {
        type: [head.head for head in census.heads for label in head.labels if label.type == type and not holds(label)]
        for type in thresholds
    }
    types = [_of_those(each, lost[each.id], census.model.layers) for each in census.types]
    causal = {each.id: each.causal for each in types}

    def told(label: Label) -> Label:
        return label if causal[label.type] != "not tested" else label.model_copy(update={"causal": "not tested"})

    def kept(head: HeadResult) -> HeadResult:
        names = {True: [], False: [*head.did_not_hold]}
        for label in head.labels:
            names[holds(label)].append(told(label))
        return head.model_copy(update={"labels": names[True], "did_not_hold": names[False]})

    heads = [kept(head) for head in census.heads]
    stages = [(each.stage, each.short, each.name) for each in census.summary.stages]
    summed = summary_of(stages, types, heads)
    groups = groups_of(census.model, heads)
    return census.model_copy(update={"types": types, "heads": heads, "groups": groups, "summary": summed})


def _of_those(type: TypeResult, lost: list[str], layers: int) -> TypeResult:
    """A type without some heads. What was tested on them together with others was not tested on those others."""
    if not lost:
        return type
    heads = [head for head in type.heads if head not in lost]
    depths = [depth(Head.parse(head).layer, layers) for head in heads]
    update: dict[str, object] = {
        "heads": heads,
        "did_not_hold": [*type.did_not_hold, *(head for head in type.heads if head in lost)],
        "mean_depth": float(np.mean(depths)) if depths else None,
    }
    if not heads:
        update |= {"causal": "not tested", "causal_why": labelling.NONE}
    elif type.tested and set(type.tested.heads) & set(lost):
        update |= {"causal": "not tested", "causal_why": labelling.TESTED_WITH_OTHERS}
    return type.model_copy(update=update)


def find(name: str, out: Path = locations.DEFAULT_CENSUS) -> Path | None:
    """Where the census of a model lies: a file or folder of that name, one taken here before, or one that ships."""
    return next((given for given in (as_given(name), *by_name(name, out)) if given), None)


def as_given(name: str) -> Path | None:
    """The census that a name itself points at: a file, or the folder of a census that is no model."""
    here = Path(name)
    place = here if here.suffix == ".json" else here / "census.json"
    return place if place.is_file() and not (here / "config.json").is_file() else None


def by_name(name: str, out: Path = locations.DEFAULT_CENSUS) -> list[Path]:
    """Where censuses of models of a name lie: taken here, that of the model opened last first, or shipped."""
    id = folder_when_open(name)  # of a GGUF file without its quantisation, which stands behind
    beside = sorted(out.glob(f"{glob.escape(id)}-*/census.json"))
    places = [out / id / "census.json", *beside, locations.censuses() / f"{id}.json"]
    return [place for place in places if place.is_file()]


def recorded(folder: Path | None = None) -> list[Census]:
    """The censuses that ship with the project, by model."""
    return [read(path) for path in sorted((folder or locations.censuses()).glob("*.json"))]
