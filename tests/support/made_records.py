"""Records and their parts, made up."""

from headatlas.evidence import record_parts, records
from headatlas.evidence.verdict import judge


def behaviour(passed: bool = True) -> records.Behaviour:
    return records.Behaviour(
        metric="m", unit="u", value=1, low=0.9, high=1.1, chance=0, minimum=0.2, n=48, passed=passed
    )


def detection(score: float = 0.9, q: float = 0.001, selected: tuple[str, ...] = ("L0H0",)) -> records.Detection:
    grid = [[score, 0.0]]
    return records.Detection(
        metric="m", threshold=0.4, fdr=0.05, null="t", n_find=48, n_test=48, find=grid, find_control=grid,
        q=[[q, 1.0]], score=grid, low=grid, high=grid, control=[[0.0, 0.0]], sink_normalised=None,
        selected=list(selected),
    )  # fmt: skip


def cause(passed: bool = True) -> records.Cause:
    return records.Cause(
        intervention="mean", direction="decrease", n=48, effect=1, low=0.9, high=1.1, matching="layer",
        distinct_sets=50, random_effects=[0.0], share_exceeded=100, p=0.02, alone=[], passed=passed,
    )  # fmt: skip


def literature(p: float | None) -> records.Literature:
    return records.Literature(reported_heads=["L0H0"], shared=[], overlap_p=p)


NOTHING = records.Literature()


def record() -> records.Record:
    return records.Record(
        entry=records.Entry(id="induction", rule_version=1, script_sha256="0"),
        model=record_parts.ModelRecord(
            id="m", name="m", revision=None, sha256="0", architecture="A", layers=1, heads=2, kv_heads=1, d_head=4,
            catalog_id=None,
        ),
        stimuli=None,
        environment=records.Environment(
            headatlas="0", python="3", torch="2", transformers="5", numpy="2", device="cpu", dtype="float32",
            attention="sdpa", threads=2, seed=0, started="2026-01-01T00:00:00+00:00", seconds=1.23456789,
            peak_memory_mb=1,
        ),
        behaviour=behaviour(),
        detection=detection(),
        cause=cause(),
        literature=NOTHING,
        stability=records.Stability(families={}, seeds={"0": "reproduced"}),
        verdict=judge(behaviour(), detection(), cause(), NOTHING),
    )  # fmt: skip
