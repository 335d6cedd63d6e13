"""Golden numbers: a change of the code that moves a number of a record must be seen, and told by a new version."""

import json
from copy import deepcopy
from functools import cache

import pytest

import golden
from headatlas.lab import OpenModel
from headatlas.protocol.freshness import MEASUREMENT

WRITTEN = json.loads(golden.GOLDEN.read_text())


@cache
def opened(name: str) -> OpenModel:
    return golden.opened(name)


def test_they_are_those_of_this_version_and_of_every_script() -> None:
    assert WRITTEN["measurement"] == MEASUREMENT, "run: python tools/golden.py --write"
    assert sorted(WRITTEN["numbers"]) == sorted(f"{model}/{id}" for model, id in golden.every())
    tested = [numbers for numbers in WRITTEN["numbers"].values() if "untestable" not in numbers]
    assert len(tested) > 0.9 * len(WRITTEN["numbers"])


EVERY = [pytest.param(model, id, marks=() if model == "specimen" else pytest.mark.slow) for model, id in golden.every()]


@pytest.mark.parametrize(("model", "id"), EVERY)
def test_what_a_script_measures_has_not_moved(model: str, id: str) -> None:
    moved = golden.moved(WRITTEN["numbers"][f"{model}/{id}"], golden.measured(id, opened(model)))
    assert not moved, f"{moved} moved; if that is right, run python tools/golden.py --write, which says what to raise"


def test_a_number_that_moves_is_seen_and_rounding_is_not() -> None:
    numbers = WRITTEN["numbers"]["specimen/induction"]
    for name in golden.MEASURED:
        other, rounded = deepcopy(numbers), deepcopy(numbers)
        if name == "behaviour":
            other[name], rounded[name] = numbers[name] * 1.01, numbers[name] * (1 + 1e-5)
        else:
            row = other[name][-1] if isinstance(other[name][-1], list) else other[name]
            row[-1] += 0.05
            near = rounded[name][-1] if isinstance(rounded[name][-1], list) else rounded[name]
            near[-1] *= 1 + 1e-5
        assert golden.moved(numbers, other) == [name] and golden.moved(numbers, rounded) == []
    assert golden.moved(numbers, {"untestable": "too few words"})
