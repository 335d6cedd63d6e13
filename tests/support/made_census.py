"""Censuses from scores that a test draws by hand: no model is run."""

from collections.abc import Mapping, Sequence
from typing import Any

import headatlas
from headatlas.census.cache import HeldOutScores, Plan, TypePart, TypeScores
from headatlas.census.labelling import census_of
from headatlas.census.schema import Census, CensusSettings, Tested, Work
from headatlas.evidence import record_parts, records
from headatlas.notation import Head

CATALOG = headatlas.load()


def uneven_record(counts: Sequence[int], kv_counts: Sequence[int], name: str = "made") -> record_parts.ModelRecord:
    """A model whose layers have different numbers of heads, some none."""
    alike = model_record(len(counts), max(counts), max(kv_counts), name)
    return alike.model_copy(update={"head_counts": list(counts), "kv_head_counts": list(kv_counts)})


def model_record(layers: int, heads: int, kv_heads: int | None = None, name: str = "made") -> record_parts.ModelRecord:
    return record_parts.ModelRecord(
        id=name,
        name=name,
        revision=None,
        sha256="0" * 64,
        architecture="Made",
        layers=layers,
        heads=heads,
        kv_heads=kv_heads or heads,
        d_head=8,
        catalog_id=None,
    )


def settings(types: Sequence[str]) -> CensusSettings:
    return CensusSettings(
        budget="quick", prompts=8, cause_prompts=8, seed=0, cause=True, random_sets=24, types=list(types)
    )


def environment() -> records.Environment:
    return records.Environment(
        headatlas="0",
        python="3",
        torch="2",
        transformers="5",
        numpy="2",
        device="cpu",
        dtype="float32",
        attention="sdpa",
        threads=1,
        seed=0,
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        peak_memory_mb=100.0,
    )


def behaviour(passed: bool) -> records.Behaviour:
    value = 1.0 if passed else 0.0
    return records.Behaviour(
        metric="m", unit="fraction", value=value, low=value, high=value, chance=0, minimum=0.5, n=24, passed=passed
    )


def cause(heads: Sequence[str], passed: bool, sets: int = 24, planned: int | None = None) -> Tested:
    figures = records.Cause(
        intervention="mean",
        direction="decrease",
        n=24,
        effect=1.0,
        low=0.5,
        high=1.5,
        matching="layer",
        distinct_sets=sets,
        planned_sets=planned,
        random_effects=[0.0 if passed else 2.0] * sets,
        share_exceeded=100.0 if passed else 0.0,
        p=0.04,
        alone=[records.HeadEffect(head=heads[0], effect=0.7)],
        passed=passed,
    )
    return Tested(heads=list(heads), figures=figures)


def part(
    id: str,
    model: record_parts.ModelRecord,
    scores: Mapping[str, tuple[float, float]] | None,
    able: bool = True,
    tested: Tested | None = None,
    **more: Any,
) -> TypePart:
    """A part in which some heads have a (score, p); all others score 0 with a p of 1."""
    entry = CATALOG.heads[id]
    assert entry.rule
    find = record_parts.padded([[0.0] * count for count in model.by_layer])
    p = find + 1
    for text, (score, value) in (scores or {}).items():
        head = Head.parse(text)
        find[head], p[head] = score, value
    grid, zero, low, high = map(record_parts.grid, (find, find * 0, find - 0.1, find + 0.1))
    held = HeldOutScores(n=24, score=grid, low=low, high=high, control=zero)
    made = {
        "entry": records.Entry(id=id, rule_version=entry.rule.version, script_sha256="0", stimuli_sha256="0"),
        "model": model,
        "settings": settings([id]),
        "environment": environment(),
        "status": "measured",
        "scores": None
        if scores is None
        else TypeScores(n=24, find=grid, find_control=zero, p=record_parts.grid(p), held=held),
        "behaviour": behaviour(able),
        "tested": tested,
        "work": Work(passes=1, tokens=10, seconds=1),
    }
    return TypePart.model_validate(made | more)


def census(model: record_parts.ModelRecord, *parts: TypePart) -> Census:
    return census_of(CATALOG, Plan(model=model, settings=settings([each.entry.id for each in parts])), parts)
