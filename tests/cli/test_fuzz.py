"""A few hundred broken inputs, each seeded: no traceback, no exit code but 0, 1 for a verdict, and 2."""

import collections
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import headatlas
from fuzzing import kinds, mutate

COUNT, SEED = 300, 17


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kinds.Bench]:
    """The things to break; the catalog is read once."""
    with pytest.MonkeyPatch.context() as patch:
        whole = headatlas.load()
        patch.setattr(headatlas, "load", lambda folder=None: whole)
        patch.chdir(tmp_path_factory.mktemp("here"))
        yield kinds.Bench(tmp_path_factory.mktemp("bench"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", kinds.KINDS)
def test_broken_inputs(bench: kinds.Bench, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    share = kinds.KINDS[kind][0]
    count = COUNT * share // sum(each for each, _ in kinds.KINDS.values())
    ended: collections.Counter[str] = collections.Counter()
    for number in range(count):
        outcome = kinds.made(bench, SEED, number, kind)
        ended[outcome.ended] += 1
        assert not outcome.fault, f"tools/fuzz.py --seed {SEED} --start {number} --kinds {kind}: {outcome.fault}"
    with capsys.disabled():
        print(f"{kind}: {count} broken inputs, exit codes {dict(sorted(ended.items()))}")
    assert ended["2"] > count // 4  # most are broken indeed


def test_a_fault_would_be_seen(bench: kinds.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise RuntimeError("planted")

    from headatlas.cli.commands import catalog

    monkeypatch.setattr(catalog, "show", broken)
    assert "planted" in kinds.command("show", "induction").fault
    monkeypatch.setattr(catalog, "show", lambda _: 1)
    assert "exit code 1" in kinds.command("show", "induction").fault
    monkeypatch.setitem(kinds.KINDS, "records", (1, broken))
    assert "planted" in kinds.made(bench, 0, 0, "records").fault


def test_inputs_repeat_by_their_number(request: pytest.FixtureRequest) -> None:
    limit = sys.getrecursionlimit()
    request.addfinalizer(lambda: sys.setrecursionlimit(limit))
    sys.setrecursionlimit(20_000)  # some are nested deeply
    whole = {"a": [1, 2.5, "x"], "b": {"c": None}}
    made = [repr(mutate.data(whole, random.Random(f"0/{number}/x"))) for number in range(50)]
    assert made == [repr(mutate.data(whole, random.Random(f"0/{number}/x"))) for number in range(50)]
    assert len(set(made)) > 30 and whole == {"a": [1, 2.5, "x"], "b": {"c": None}}


def test_every_kind_gets_its_share() -> None:
    total = sum(share for share, _ in kinds.KINDS.values())
    counts = collections.Counter(kinds.kind_of(number) for number in range(total))
    assert counts == {name: share for name, (share, _) in kinds.KINDS.items()}


def test_the_tool_prints_counts_and_offenders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from conftest import load_tool

    fuzz = load_tool("fuzz")
    assert fuzz.main(["--count", "3", "--kinds", "collaborations"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("3 damaged inputs, 0 faults") and lines[0].startswith("collaborations")
