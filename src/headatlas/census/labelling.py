"""Labels heads: turns the measurements of all types into the types of each head."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from headatlas.arrays import Array
from headatlas.catalog.catalog import Catalog
from headatlas.census import cache
from headatlas.census.cache import Plan, TypePart
from headatlas.census.schema import (
    Causal,
    Census,
    HeadResult,
    Label,
    TypeResult,
)
from headatlas.census.summary import depth, groups_of, specific_first, summary_of
from headatlas.errors import HeadatlasError
from headatlas.evidence import held_out, record_parts, statistics
from headatlas.evidence.record_parts import ModelRecord
from headatlas.evidence.records import Environment
from headatlas.notation import Head

Labels = dict[Head, list[Label]]
TESTED_WITH_OTHERS = "the cause was tested on heads of which some do not hold on new prompts; take the census again"
NONE = "no head carries this label"


def census_of(catalog: Catalog, plan: Plan, found: Iterable[TypePart]) -> Census:
    """Put a census together.

    Args:
        catalog: for names, stages and thresholds.
        plan: which types it is of.
        found: a part for each of them.

    Raises:
        HeadatlasError: where a part is missing.
    """
    by_id = {part.entry.id: part for part in found}
    if missing := [id for id in plan.settings.types if id not in by_id]:
        raise HeadatlasError(
            f"{len(missing)} of {len(plan.settings.types)} types are not measured yet ({', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}); run the other shards, or this one again"
        )
    chosen = [by_id[id] for id in plan.settings.types]
    q = joint_q(chosen)
    labels: Labels = {}
    lost: Labels = {}
    types = [_type(catalog, part, q.get(part.entry.id), labels, lost) for part in chosen]
    heads = _heads(plan.model, labels, lost, {each.id: len(each.heads) for each in types})
    stages = [(stage.id, stage.short, stage.name) for stage in catalog.taxonomy.stages]
    return Census(
        model=plan.model,
        settings=plan.settings,
        environment=_environment([part.environment for part in chosen], [part.work.seconds for part in chosen]),
        summary=summary_of(stages, types, heads),
        types=types,
        heads=heads,
        groups=groups_of(plan.model, heads),
    )


def collect(catalog: Catalog, folders: Sequence[Path]) -> tuple[Census, Plan]:
    """The census that the shards in some folders make together.

    Raises:
        HeadatlasError: where they are of different censuses, or something is missing or stale.
    """
    plans = [cache.read_plan(folder) for folder in folders]
    first = plans[0]
    for folder, plan in zip(folders, plans, strict=True):
        apart = plan.model.differs(first.model)
        if apart == ["identity"]:  # both are older than identities, or one is
            apart = ["description"] if plan.model != first.model else []
        if apart or plan.settings != first.settings:
            what = f"models (other {', '.join(apart)})" if apart else "settings"
            raise HeadatlasError(f"{folders[0]} and {folder} are of different {what}; merge shards of one census only")
    found: dict[str, TypePart] = {}
    for folder in folders:
        for path in sorted((folder / "parts").glob("*.json")):
            part = cache.read(path)
            if part.entry.id not in first.settings.types:
                continue
            _require_fit(catalog, path, part, first)
            known = found.get(part.entry.id)
            if known is None or known.status == "failed":
                found[part.entry.id] = part
    return census_of(catalog, first, found.values()), first


def _require_fit(catalog: Catalog, path: Path, part: TypePart, plan: Plan) -> None:
    changes = part.changes(cache.key_of(catalog, part.entry.id, plan.model, plan.settings))
    if not changes:
        return
    said = {
        "entry": "an entry that has changed since",
        "settings": "other settings",
        "identity": "a time before parts kept all that identifies a model",
    }
    reasons = [said.get(change, f"a model with another {change}") for change in changes]
    raise HeadatlasError(f"{path} is of {', and of '.join(reasons)}; run its shard again")


def joint_q(found: Sequence[TypePart]) -> dict[str, Array]:
    """Benjamini-Hochberg adjusted p over all heads and all types together: [layer head] of each type measured."""
    measured = [(part.entry.id, record_parts.padded(part.scores.p)) for part in found if part.scores]
    if not measured:
        return {}
    q = statistics.q_values(np.stack([p for _, p in measured]))
    return {id: q[number] for number, (id, _) in enumerate(measured)}


def _type(catalog: Catalog, part: TypePart, q: Array | None, labels: Labels, lost: Labels) -> TypeResult:
    """One type; the labels it gives are added to those of their heads, and those that do not hold to `lost`."""
    entry = catalog.heads[part.entry.id]
    assert entry.rule
    rule, scores = entry.rule.detection, part.scores
    selected, others = _selected(part, q, rule.threshold, rule.fdr)
    causal, why = causal_of(part, selected, others)
    for heads, given in ((selected, labels), (others, lost)):
        for head in heads:
            assert q is not None
            given.setdefault(head, []).append(_label(part, entry.stage, head, q, causal))
    layers = part.model.layers
    return TypeResult(
        id=entry.id,
        name=entry.name,
        stage=entry.stage,
        status=part.status,
        reason=part.reason or None,
        entry=part.entry,
        metric=rule.metric,
        threshold=rule.threshold,
        fdr=rule.fdr,
        n_find=scores.n if scores else None,
        n_test=scores.held.n if scores and scores.held else None,
        find=scores.find if scores else None,
        find_control=scores.find_control if scores else None,
        q=None if q is None else record_parts.grid(q),
        behaviour=part.behaviour,
        heads=[str(head) for head in selected],
        did_not_hold=[str(head) for head in others],
        causal=causal,
        causal_why=why,
        tested=part.tested,
        mean_depth=float(np.mean([depth(head.layer, layers) for head in selected])) if selected else None,
        work=part.work,
    )


def _selected(part: TypePart, q: Array | None, threshold: float, fdr: float) -> tuple[list[Head], list[Head]]:
    """The heads that are selected and hold on held-out prompts, and those that are selected and do not."""
    if q is None or part.scores is None or part.scores.held is None:
        return [], []
    found, held = statistics.select(record_parts.padded(part.scores.find), q, threshold, fdr), part.scores.held
    return held_out.split_by_held_out(found, held.score, held.control, threshold)


def causal_of(part: TypePart, selected: Sequence[Head], lost: Sequence[Head]) -> tuple[Causal, str]:
    """Whether intervening on the candidates does what the type's rule claims, and the figures as text.

    Nothing is said of it where heads that did not hold were intervened on together with those that do.
    """
    if not selected:
        return "not tested", part.reason or NONE
    if part.tested is None:
        return "not tested", part.causal_why
    if set(part.tested.heads) & set(map(str, lost)):
        return "not tested", TESTED_WITH_OTHERS
    cause = part.tested.figures
    if cause.too_few_sets:
        return "not tested", f"only {len(cause.random_effects)} matched random sets exist, too few to show a cause"
    figures = (
        f"{cause.intervention} on {len(part.tested.heads)} heads together: {cause.direction} by {cause.effect:.3g} "
        f"[{cause.low:.3g}, {cause.high:.3g}], more than {cause.share_exceeded:.0f}% of {len(cause.random_effects)} "
        f"random sets matched in {cause.matching}"
    )
    return ("supported" if cause.passed else "not supported"), figures


def _label(part: TypePart, stage: str, head: Head, q: Array, causal: Causal) -> Label:
    scores, place = part.scores, (head.layer, head.head)
    assert scores and scores.held
    tested = part.tested is not None and str(head) in part.tested.heads
    alone = {each.head: each.effect for each in part.tested.figures.alone} if part.tested else {}

    def at(grid: Sequence[Sequence[float]]) -> float:
        return grid[place[0]][place[1]]

    return Label(
        type=part.entry.id,
        stage=stage,
        score=at(scores.held.score),
        low=at(scores.held.low),
        high=at(scores.held.high),
        control=at(scores.held.control),
        selected_on=at(scores.find),
        q=float(q[place]),
        behaviour=bool(part.behaviour and part.behaviour.passed),
        causal=causal if tested else "not tested",
        alone=alone.get(str(head)),
    )


def _heads(
    model: ModelRecord,
    labels: Mapping[Head, list[Label]],
    lost: Mapping[Head, list[Label]],
    carried: Mapping[str, int],
) -> list[HeadResult]:
    return [
        HeadResult(
            head=str(head),
            layer=head.layer,
            index=head.head,
            group=model.kv_head(head),
            depth=depth(head.layer, model.layers),
            labels=specific_first(labels.get(head, []), carried),
            did_not_hold=lost.get(head, []),
        )
        for head in model.every_head
    ]


def _environment(found: Sequence[Environment], seconds: Sequence[float]) -> Environment:
    """That of the first part to start; the time that all took together, and the most memory that one held."""
    first = min(found, key=lambda each: each.started)
    return first.model_copy(
        update={"seconds": sum(seconds), "peak_memory_mb": max(each.peak_memory_mb for each in found)}
    )
