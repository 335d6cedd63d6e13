"""What the lab exports, and the ways from text to a prompt and back."""

import importlib
import inspect
import types

import pytest
import torch

import headatlas
from headatlas import HeadatlasError
from headatlas.lab import OpenModel, forward, log_probability, logit_difference, metric_per_prompt
from headatlas.stimuli import Prompt
from test_floors import MODULES

PACKAGES = sorted(
    name for name, path in MODULES.items() if path.name == "__init__.py" and "\n__all__ = " in path.read_text()
)
CLEAN, CORRUPTED = "When Mary and John went, John gave a map to", "When Mary and John went, Paul gave a map to"


@pytest.mark.parametrize("package", PACKAGES)
class TestExports:
    def test_are_sorted_there_and_documented(self, package: str) -> None:
        module = importlib.import_module(package)
        assert module.__all__ == sorted(set(module.__all__), key=lambda name: (not name.isupper(), name))
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isfunction(found) or inspect.isclass(found) or isinstance(found, types.ModuleType):
                assert found.__doc__, f"{package}.{name} has no docstring"

    def test_hide_no_module(self, package: str) -> None:
        """`import headatlas.lab.x` gives the module x, never something else of that name."""
        exported = importlib.import_module(package).__all__
        assert not [name for name in exported if f"{package}.{name}" in MODULES]


def test_the_lab_exports_few_verbs() -> None:
    assert len(headatlas.lab.__all__) <= 32


class TestText:
    def test_tokens_and_back(self, specimen: OpenModel) -> None:
        tokens = specimen.tokens(CLEAN)
        assert tokens.shape == (1, 12) and tokens[0, 0] == specimen.tokenizer.bos_token_id
        assert specimen.text(tokens) == specimen.text(tokens[0]) == CLEAN
        assert specimen.text(tokens[:, 3:5]) == " and John"
        assert forward(specimen, tokens).shape[:2] == (1, 12)

    def test_a_prompt_is_read_at_its_last_position(self, specimen: OpenModel) -> None:
        prompt = Prompt.from_text(specimen, CLEAN, CORRUPTED, " Mary", " John")
        assert prompt == Prompt.from_text(specimen.vocabulary, CLEAN, CORRUPTED, " Mary", " John")
        logits = forward(specimen, specimen.tokens(CLEAN))[0, -1]
        mary, john = (specimen.vocabulary.single(name) for name in ("Mary", "John"))
        found = metric_per_prompt(specimen, [prompt], logit_difference)
        assert found[0] == pytest.approx((logits[mary] - logits[john]).item(), abs=1e-4)
        assert torch.tensor([prompt.corrupted]).equal(specimen.tokens(CORRUPTED))

    def test_a_rival_may_be_left_out(self, specimen: OpenModel) -> None:
        prompt = Prompt.from_text(specimen, CLEAN, CORRUPTED, " Mary")
        likely = forward(specimen, specimen.tokens(CLEAN))[0, -1].log_softmax(-1)
        expected = likely[specimen.vocabulary.single("Mary")].item()
        assert metric_per_prompt(specimen, [prompt], log_probability)[0] == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize(
        "texts, said",
        [
            (
                ("When Mary", "When Mary and", " Mary"),
                r"has 3 tokens \(.*When\| Mary\) and the corrupted 4 \(.*\| and\)",
            ),
            (("When Mary", "When John", " Mary Ann"), r"' Mary Ann' is 3 tokens \( Mary\| An\|n\)"),
            (("When Mary", "When John", " Mary", "xyzzy"), r"'xyzzy' is 5 tokens .* perhaps ' xyzzy' with a space"),
            (("When Mary", "When John", ""), r"'' is 0 tokens \(\); give a single one$"),
        ],
    )
    def test_what_does_not_fit_is_said_in_one_line(
        self, specimen: OpenModel, texts: tuple[str, ...], said: str
    ) -> None:
        with pytest.raises(HeadatlasError, match=said) as error:
            Prompt.from_text(specimen, *texts)
        assert "\n" not in str(error.value)
