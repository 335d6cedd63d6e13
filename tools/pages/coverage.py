"""What was run, what is expected, what papers report, and what nobody has rerun yet, model by model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from headatlas.catalog.schema import Model
from headatlas.protocol import work
from pages.atlas import Atlas
from pages.render import page

_HOUR, _DAY = 3600, 24 * 3600


@dataclass(frozen=True)
class ModelCoverage:
    """How far the head types with a script are covered on one model.

    Attributes:
        model: its entry.
        run, expected, reported: ids of types with a record, with an expectation, and with heads that papers name.
        missing: ids of types with a script and without a record.
        seconds: that the scores of all missing types take on two cores, by estimate.
    """

    model: Model
    run: list[str]
    expected: list[str]
    reported: list[str]
    missing: list[str]
    seconds: float


def covered(atlas: Atlas) -> list[ModelCoverage]:
    """The models that papers or expectations are about and that can be opened: those with runs first, then by cost."""
    found = []
    for id, model in atlas.catalog.models.items():
        if model.access not in ("open", "gated") or model.architecture != "decoder" or not model.heads:
            continue
        types = {head.id: head for head in atlas.catalog.heads.values() if head.reproduction.rule}
        run = [head for head in types if (head, id) in atlas.by_place]
        expected = [head for head, each in types.items() if any(e.model == id for e in each.reproduction.expected)]
        reported = [head for head in types if (head, id) in atlas.reported]
        missing = [head for head in types if head not in run]
        if run or expected or reported:
            found.append(ModelCoverage(model, run, expected, reported, missing, scores_seconds(atlas, model, missing)))
    return sorted(found, key=lambda each: (not each.run, each.model.id not in atlas.leading, each.seconds))


def scores_seconds(atlas: Atlas, model: Model, types: list[str]) -> float:
    """Seconds that the scores of some types take on a model, on two cores.

    Scaled from the seconds of the largest model that was counted (`tools/count_work.py`): by the fitted work of each
    score on as many heads, and by layers x width^2, to which the time of a token is proportional.
    """
    measured, size = _measured(atlas)
    mine = _size(model)
    return sum(
        count.seconds * fit.work(count.tokens, count.prompts, (model.layers or 0) * (model.heads or 0))
        / fit.work(count.tokens, count.prompts, count.heads) * mine / size
        for count, fit in ((measured[id], work.fit_of(id)) for id in types if id in measured)
    )  # fmt: skip


def _measured(atlas: Atlas) -> tuple[Mapping[str, work.Count], float]:
    """The counts on the model with most heads, and its size."""
    rows = [(id, row) for id, counts in work.counts().items() for row in counts]
    most = max(row.heads for _, row in rows)
    found = {id: row for id, row in rows if row.heads == most}
    names = {row.model.split(" ")[0].lower() for row in found.values()}
    (model,) = (each for each in atlas.catalog.models.values() if each.id in names)
    return found, _size(model)


def _size(model: Model) -> float:
    return (model.layers or 0) * ((model.heads or 0) * (model.d_head or 0)) ** 2


def told(seconds: float) -> str:
    """A time with its unit, to one digit or two."""
    for unit, length in (("d", _DAY), ("h", _HOUR), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.2g} {unit}" if seconds < 100 * length else f"{seconds / length:.0f} {unit}"
    return "under a minute"


def commands(each: ModelCoverage) -> Iterator[str]:
    """What fills the gaps of a model, in the order in which to type it."""
    if each.model.packages:
        yield f"headatlas fetch {each.model.id}{' --accept-terms' if each.model.packages.must_accept else ''}"
    names = each.missing[0] if len(each.missing) == 1 else "--all"
    yield f"headatlas run {names} --model {each.model.id}"


def coverage_page(atlas: Atlas) -> str:
    """The page."""
    models = covered(atlas)
    return page(
        "coverage.md",
        atlas=atlas,
        root="../",
        ran=[each for each in models if each.run],
        waiting=[each for each in models if not each.run],
        told=told,
        commands=commands,
        scripts=sum(head.reproduction.rule is not None for head in atlas.catalog.heads.values()),
        without=[head.id for head in atlas.catalog.heads.values() if head.reproduction.rule is None],
    )
