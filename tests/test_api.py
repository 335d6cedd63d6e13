"""Rerunning a finding from Python."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

import headatlas
from headatlas import HeadatlasError, Rerun, load
from headatlas.evidence import record_files
from headatlas.lab import OpenModel


@pytest.fixture(scope="module")
def found(specimen: OpenModel) -> Rerun:
    return headatlas.rerun("Correct Letter Head", model=specimen)


def test_it_is_what_run_records(found: Rerun, specimen: OpenModel) -> None:
    assert found.record.entry.id == "correct-letter" and found.record.model.name == "specimen"
    assert found.verdict.label == found.record.verdict.label == "reproduced"
    assert found.heads == found.record.selected and found.heads
    assert specimen.model.config._attn_implementation.startswith("headatlas"), "a model that came open stays open"


def test_the_frame_has_a_row_per_head(found: Rerun) -> None:
    frame, detection = found.frame, found.record.detection
    assert detection is not None
    assert len(frame) == 48 and frame.index[0] == "L0H0" and frame.index.name == "head"
    assert sorted(frame.index[frame.selected]) == sorted(detection.selected)
    best = found.heads[0]
    row = frame.loc[str(best)]
    assert (row.layer, row["index"]) == tuple(best)
    assert row.score == detection.score[best.layer][best.head] and row.null == detection.control[best.layer][best.head]
    assert row.low <= row.score <= row.high and row.q <= detection.fdr
    assert not frame.did_not_hold[frame.selected].any()


def test_it_shows_itself(found: Rerun) -> None:
    assert str(found).startswith("correct-letter in specimen: reproduced\n  behaviour present")
    assert set(found.figures) == {"scores", "effect"}
    for picture in found.figures.values():
        assert ElementTree.fromstring(picture).tag.endswith("svg") and picture in found._repr_html_()


def test_it_can_be_saved(found: Rerun, tmp_path: Path) -> None:
    path = found.save(tmp_path)
    assert path == tmp_path / "specimen" / "correct-letter.json"
    assert record_files.read(path).selected == found.heads and record_files.read(path).verdict == found.verdict


def test_without_scores_there_are_no_rows(found: Rerun) -> None:
    empty = Rerun(found.record.model_copy(update={"detection": None, "cause": None}))
    assert empty.frame.empty and "score" in empty.frame.columns and empty.figures == {} and empty.heads == []


def test_mistakes_are_said_before_anything_runs(specimen: OpenModel) -> None:
    with pytest.raises(HeadatlasError, match="no-such-type"):
        headatlas.rerun("no-such-type")
    without = next(head.id for head in load().heads.values() if head.rule is None)
    with pytest.raises(HeadatlasError, match=f"no reproduction yet for {without}"):
        headatlas.rerun(without)
    with pytest.raises(ValueError, match="no seeds"):
        headatlas.rerun("induction", seeds=())
    with pytest.raises(ValueError, match="leave out dtype"):
        headatlas.rerun("induction", model=specimen, dtype="bfloat16")
