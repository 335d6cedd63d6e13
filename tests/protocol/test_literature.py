"""What a run on a published model says of the heads that papers name there, driven with made-up measurements.

Every entry with a rule and every GPT-2 and Pythia model in which its findings name heads: the moment a user runs one,
this comparison is made.
"""

import numpy as np
import pytest

import headatlas
from headatlas.evidence import records, verdict
from headatlas.evidence.records import Behaviour, Cause, Detection
from headatlas.lab import Scores
from headatlas.notation import Head
from headatlas.protocol import assess

CATALOG = headatlas.load()
PUBLISHED = {
    (id, model): sorted(heads)
    for id in CATALOG.find(reproduction=True)
    for model in CATALOG.models
    if model.startswith(("gpt2", "pythia"))
    and CATALOG.models[model].layers
    and (
        heads := {
            head
            for finding in CATALOG.heads[id].findings
            if finding.model == model and finding.stance == "supports"
            for head in finding.heads
        }
    )
}
PASSED = Behaviour(metric="m", unit="nats", value=1, low=1, high=1, chance=0, minimum=0, n=48, passed=True)
CAUSED = Cause(
    intervention="mean", direction="decrease", n=48, effect=1, low=0.9, high=1.1, matching="layer", distinct_sets=200,
    random_effects=[0.0] * 200, share_exceeded=100, p=0.005, alone=[], passed=True,
)  # fmt: skip


def found(id: str, model: str, heads: list[Head]) -> Detection:
    """A detection by the entry's rule in which exactly these heads score above the threshold."""
    rule, shape = CATALOG.heads[id].rule, CATALOG.models[model]
    assert rule and shape.layers and shape.heads
    score = np.zeros((24, shape.layers, shape.heads))
    for head in heads:
        score[:, head.layer, head.head] = rule.detection.threshold + 0.1
    noise = np.random.default_rng(0).normal(0, 1e-3, score.shape)
    both = {split: Scores(score + noise, np.zeros_like(score)) for split in ("find", "test")}
    detection = assess.detection_of(rule, both)  # type: ignore[arg-type]
    assert set(detection.selected) == set(map(str, heads))
    return detection


def judged(id: str, model: str, heads: list[Head]) -> tuple[records.Verdict, records.Literature]:
    findings = [finding for finding in CATALOG.heads[id].findings if finding.model == model]
    detection = found(id, model, heads)
    literature = assess.literature_of(detection, findings)
    return verdict.judge(PASSED, detection, CAUSED, literature), literature


def others(model: str, heads: list[Head], count: int) -> list[Head]:
    """Heads that no paper names, from the last layer on."""
    shape = CATALOG.models[model]
    assert shape.layers and shape.heads
    every = [Head(layer, head) for layer in reversed(range(shape.layers)) for head in range(shape.heads)]
    return [head for head in every if head not in heads][:count]


def test_there_is_something_to_compare() -> None:
    assert len(PUBLISHED) >= 6 and {"induction", "name-mover"} <= {id for id, _ in PUBLISHED}


@pytest.mark.parametrize("id, model", PUBLISHED)
class TestPublishedHeads:
    def test_agreement(self, id: str, model: str) -> None:
        named = PUBLISHED[id, model]
        says, literature = judged(id, model, named)
        assert says.label == "reproduced" and set(literature.shared) == set(map(str, named))
        assert f"of {len(named)} heads that papers name in this model {len(named)} are among those found" in " ".join(
            says.reasons
        )

    def test_disagreement(self, id: str, model: str) -> None:
        named = PUBLISHED[id, model]
        says, literature = judged(id, model, others(model, named, 4))
        assert says.label == "partly" and literature.shared == [] and literature.overlap_p == 1.0
        assert f"of {len(named)} heads that papers name in this model 0 are among those found" in " ".join(says.reasons)

    def test_partial_agreement(self, id: str, model: str) -> None:
        named = PUBLISHED[id, model]
        half = named[: (len(named) + 1) // 2]
        says, literature = judged(id, model, [*half, *others(model, named, len(half))])
        assert set(literature.shared) == set(map(str, half)) and literature.overlap_p is not None
        assert says.label == ("reproduced" if literature.overlap_p < 0.05 else "partly")
        assert f"{len(half)} are among those found" in " ".join(says.reasons)
