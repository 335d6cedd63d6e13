"""The page that sets our measurements beside those that another group published, head by head."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from scipy import stats

from headatlas import locations
from headatlas.arrays import Array
from headatlas.catalog.schema.entities import Model, PublishedScores
from headatlas.errors import HeadatlasError
from headatlas.notation import Head
from headatlas.pages.figures.scatter import Point, scatter_picture
from pages.atlas import Atlas
from pages.render import page

_BEST = 10  # heads whose overlap is counted


def outside_page(atlas: Atlas, folder: Path | None = None) -> str:
    """A section per model, with a scatter and three figures per score."""
    folder = folder or locations.reproductions() / "outside"
    models = [
        each for each in atlas.catalog.models.values() if each.published and (folder / f"{each.id}.json").is_file()
    ]
    return page("outside.md", atlas=atlas, models=[_model(each, folder / f"{each.id}.json") for each in models])


def _model(model: Model, path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    return {
        "entity": model,
        "opened": found["model"],
        "texts": found["texts"],
        "tokens": found["tokens"],
        "scores": [_score(each, _grid(found["scores"], each, path)) for each in model.published],
    }


def _grid(scores: dict[str, list[list[float]]], published: PublishedScores, path: Path) -> Array:
    if published.name not in scores:
        raise HeadatlasError(f"{path} lacks {published.name}; run tools/outside_check.py again")
    return np.array(scores[published.name])


def _score(published: PublishedScores, ours: Array) -> dict[str, Any]:
    """One score: how far both measurements agree, and the picture."""
    theirs = np.array(published.scores)
    if theirs.shape != ours.shape:
        raise HeadatlasError(f"{published.name} was measured on {ours.shape} heads, and {theirs.shape} are published")
    heads = [Head(layer, head) for layer, head in np.ndindex(*theirs.shape)]
    points = [Point(str(head), float(theirs[head]), float(ours[head])) for head in heads]
    best = [_best(heads, each) for each in (theirs, ours)]
    pearson, spearman = stats.pearsonr(theirs.ravel(), ours.ravel()), stats.spearmanr(theirs.ravel(), ours.ravel())
    far = max(heads, key=lambda head: abs(ours[head] - theirs[head]))
    title = f"{published.name}: ours against what is published, {len(heads)} heads, Pearson {pearson.statistic:.3f}"
    return {
        "published": published,
        "pearson": float(pearson.statistic),
        "spearman": float(spearman.statistic),
        "shared": len({*best[0]} & {*best[1]}),
        "best": _BEST,
        "first": [each[0] for each in best],
        "mean": [float(each.mean()) for each in (theirs, ours)],
        "far": {"head": far, "theirs": float(theirs[far]), "ours": float(ours[far])},
        "picture": Markup(scatter_picture(points, "published", "measured here", title)),
    }


def _best(heads: Sequence[Head], scores: Array) -> list[Head]:
    return sorted(heads, key=lambda head: -scores[head])[:_BEST]
