"""Methods are entries: their functions are there, their examples run, and the figures say that something happened."""

import importlib
import inspect
import json
import math
import re
from collections.abc import Callable

import pytest

import headatlas
from headatlas import methods
from headatlas.catalog.schema import Method
from headatlas.cli.program import main
from headatlas.errors import HeadatlasError
from headatlas.lab import OpenModel

CATALOG = headatlas.load()
Figures = dict[str, float | str]


def figure(figures: Figures, start: str) -> float:
    """The one figure whose label starts so."""
    (value,) = (value for label, value in figures.items() if label.startswith(start))
    assert isinstance(value, float)
    return value


# What each example must show; where the method did nothing, none of these would hold.
SHOWN: dict[str, Callable[[Callable[[str], float]], bool]] = {
    "activation-patching": lambda of: of("noising") > 0.2 and of("denoising") > 0.2,
    "attribution-patching": lambda of: of("its estimated") * of("its exact") > 1 and of("rank") > 0.3,
    "automated-circuit-discovery": lambda of: 0 < of("edges kept") < of("edges tried") and of("divergence") > 0,
    "composition-scores": lambda of: of("its score") > of("score of random") + 10 * of("their standard"),
    "direct-logit-attribution": lambda of: (
        of("its part") > 0.2 and math.isclose(of("all parts"), of("logit difference"), rel_tol=1e-3)
    ),
    "directional-addition": lambda of: (
        of("pushed towards the first") > of("intact") + 1 and of("pushed towards the second") < of("intact") - 1
    ),
    "directional-subtraction": lambda of: of("without the") < of("without random") - 1,
    "information-flow-graph": lambda of: of("heads on") > 1 and 0 < of("walks") < 1,
    "logit-lens": lambda of: (
        of("log-probability of the right token after") > 5 + of("log-probability of the right token before layer 0")
    ),
    "mean-ablation": lambda of: of("with them") < of("intact") - 1,
    "path-patching": lambda of: of("change by") < of("mean change") - 1,
    "probing": lambda of: of("its held-out") > of("its accuracy") + 0.3,
    "resample-ablation": lambda of: of("with the four heads") < min(of("intact"), of("with the four at")) - 5,
    "scoring": lambda of: of("its attention") > of("the same") + 0.5,
    "simplified-model-training": lambda of: of("accuracy on random spans of period 25 in the end") > 0.9,
    "zero-ablation": lambda of: of("with them") < of("intact") - 1,
}


@pytest.mark.parametrize("method", CATALOG.methods.values(), ids=list(CATALOG.methods))
class TestEveryMethod:
    def test_links_to_public_functions(self, method: Method) -> None:
        assert bool(method.functions) == (method.id != "simplified-model-training")
        for name in method.functions:
            module, function = name.rsplit(".", 1)
            found = getattr(importlib.import_module(module), function)
            assert inspect.isfunction(found) and found.__doc__, name

    def test_its_example_shows_what_it_does(self, method: Method, specimen: OpenModel) -> None:
        figures = dict(methods.run_example(method.id, specimen))
        assert all(isinstance(value, str) or math.isfinite(value) for value in figures.values())
        assert SHOWN[method.id](lambda start: figure(figures, start)), figures

    def test_its_example_uses_its_functions(self, method: Method) -> None:
        code = methods.path_of(method.id).read_text(encoding="utf-8")
        used = [re.search(rf"\b{name.rsplit('.', 1)[1]}\b", code) for name in method.functions]
        assert any(used) or not used, f"none of {method.functions} is in the example"


def test_there_is_no_example_without_a_method() -> None:
    folder = methods.path_of("scoring").parent
    assert {path.stem for path in folder.glob("*.py")} == set(CATALOG.methods) == set(SHOWN)


def test_the_same_two_people() -> None:
    words = headatlas.lab.open_model("specimen").vocabulary
    prompts = methods.two_names(words, 20, same=True)
    assert len({frozenset((each.readouts[0].answer, *each.readouts[0].rivals)) for each in prompts}) == 1
    assert len({each.readouts[0].answer for each in prompts}) == 2 and len({len(each.tokens) for each in prompts}) == 1


def test_no_example() -> None:
    with pytest.raises(HeadatlasError, match="no worked example of nothing"):
        methods.shows("nothing")


class TestCommand:
    def test_a_method_for_a_person(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["method", "scoring"]) == 0
        text = capsys.readouterr().out
        assert "headatlas.lab.score_heads" in text and "its attention to the targets (share)" in text

    def test_a_method_as_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["method", "composition-scores", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["functions"] == ["headatlas.lab.composition"] and found["figures"]["its score"] > 0.1

    def test_the_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["method", "--json"]) == 0
        assert [row["id"] for row in json.loads(capsys.readouterr().out)] == list(CATALOG.methods)
        assert main(["method"]) == 0
        text = capsys.readouterr().out
        assert all(id in text for id in CATALOG.methods)

    def test_an_unknown_method(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["method", "nothing"]) == 2
        assert "no method 'nothing'" in capsys.readouterr().err
