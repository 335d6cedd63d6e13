"""Heads as text, such as "L4H5", wherever a public function takes heads: the same numbers as with Head."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from headatlas import Head, HeadatlasError, lab
from headatlas.lab import OpenModel
from headatlas.lab.ablation import ZValues, ablate, patch_sweeps
from headatlas.lab.attribution import direct_effects_without
from headatlas.lab.fits import HeadDirections
from headatlas.lab.graphs import prune_edges
from headatlas.lab.paths import Receiver, attention_paths, path_effects, path_runs, set_path_effects
from headatlas.notation import HeadLike, heads_of
from headatlas.stimuli import Prompt

CLEAN, CORRUPTED = "When Mary and John went, John gave a map to", "When Mary and John went, Paul gave a map to"
ONE, TWO = Head(4, 3), Head(4, 5)
Ask = Callable[[OpenModel, HeadLike, HeadLike], object]


def logits(model: OpenModel, edit: lab.edits.Edit) -> torch.Tensor:
    with lab.intervene(model, [edit]):
        return lab.forward(model, model.tokens(CLEAN))


def prompts(model: OpenModel) -> list[Prompt]:
    return [Prompt.from_text(model, CLEAN, CORRUPTED, " Mary", " John")]


def paired(model: OpenModel) -> list[Prompt]:
    [prompt] = prompts(model)
    return [Prompt(prompt.tokens, prompt.corrupted, pairs=((11, 2),))]


def runs(model: OpenModel) -> object:
    return path_runs(model, model.tokens(CLEAN), model.tokens(CORRUPTED))


def last(found: torch.Tensor) -> torch.Tensor:
    return found[:, -1, 5]


DIRECTION = torch.linspace(-1, 1, 16)
ASKED: dict[str, Ask] = {
    "zero": lambda m, a, b: logits(m, lab.edits.zero("z", [a, b])),
    "one head by itself": lambda m, a, b: logits(m, lab.edits.zero("z", a)),
    "scale": lambda m, a, b: logits(m, lab.edits.scale("q", [a, b], 0.5)),
    "add": lambda m, a, b: logits(m, lab.edits.add("z", [a, b], {a: DIRECTION, b: -DIRECTION})),
    "project_out": lambda m, a, b: logits(m, lab.edits.project_out("z", [a, b], {a: DIRECTION, b: DIRECTION + 1})),
    "knockout": lambda m, a, b: logits(m, lab.edits.knockout([a, b], [(11, 2)])),
    "ablate": lambda m, a, b: lab.forward(m, m.tokens(CLEAN), ablate(m.anatomy, [a, b], ZValues.zero(m.anatomy))),
    "recording": lambda m, a, b: lab.record(m, m.tokens(CLEAN), ["pattern"])["pattern", a],
    "sweep": lambda m, a, b: lab.sweep(m, prompts(m), lab.logit_difference, "zero", heads=[b, a]).ablated,
    "patch_sweeps": lambda m, a, b: patch_sweeps(m, prompts(m), lab.logit_difference, [None], heads=[b, a])[0].ablated,
    "ablate_sets": lambda m, a, b: lab.ablate_sets(m, prompts(m), lab.logit_difference, [[b, a], [], a], "zero"),
    "path_patch": lambda m, a, b: lab.path_patch(runs(m), ["L3H5"], [Receiver(a, "q")], last),
    "path_sweep": lambda m, a, b: lab.path_sweep(runs(m), [Receiver(a, "k")], last).effect,
    "path_effects": lambda m, a, b: path_effects(m, prompts(m), lab.logit_difference, [Receiver(b, "q")]),
    "set_path_effects": lambda m, a, b: set_path_effects(
        m, prompts(m), lab.logit_difference, [[a], [a, b]], [Receiver("L5H0", "q")]
    ),
    "attention_paths": lambda m, a, b: attention_paths(m, paired(m), [["L2H3"], []], [a, b], "k"),
    "direct_effects_without": lambda m, a, b: direct_effects_without(m, prompts(m), [[a, b], []]),
    "prune_edges": lambda m, a, b: sorted(prune_edges(m, prompts(m), 1e-4, heads=[a, b]).edges(data="weight")),
    "kv_head": lambda m, a, b: m.anatomy.kv_head(b),
    "require": lambda m, a, b: m.anatomy.require([b, a]),
    "steps": lambda m, a, b: HeadDirections(torch.ones(6, 8, 16), torch.ones(6, 8)).steps([a, b]),
}


@pytest.mark.parametrize("name", ASKED)
def test_text_gives_the_same_as_head(specimen: OpenModel, name: str) -> None:
    ask = ASKED[name]
    expected, found = ask(specimen, ONE, TWO), ask(specimen, str(ONE), str(TWO))
    if isinstance(expected, torch.Tensor | np.ndarray):
        assert np.array_equal(np.asarray(expected), np.asarray(found), equal_nan=True)
    elif isinstance(expected, dict):
        assert expected.keys() == found.keys() and all(map(torch.equal, expected.values(), found.values()))
    else:
        assert expected == found


@pytest.mark.parametrize("name", [each for each in ASKED if each not in ("steps", "recording")])
@pytest.mark.parametrize("wrong", ["L9H9", "head 3", 4.5])
def test_what_is_no_head_is_one_clear_line(specimen: OpenModel, name: str, wrong: HeadLike) -> None:
    with pytest.raises(
        (HeadatlasError, ValueError), match=r"is not a head|is not in a model|not a head|no heads"
    ) as error:
        ASKED[name](specimen, wrong, wrong)
    assert "\n" not in str(error.value)


def test_one_head_or_several() -> None:
    assert heads_of("L4H5") == heads_of(TWO) == heads_of(["4.5"]) == [TWO]
    assert heads_of(each for each in ("L4H5", ONE, "a4.h5")) == [TWO, ONE, TWO] and heads_of([]) == []


def test_layers_are_not_heads() -> None:
    with pytest.raises(ValueError, match="acts on layers, not on 'L4H5'"):
        lab.edits.zero("resid", "L4H5")
    with pytest.raises(ValueError, match="acts on heads, not on 4; write a head as 'L5H10'"):
        lab.edits.zero("z", [4])


def test_a_recording_says_what_it_cannot_give(specimen: OpenModel) -> None:
    seen = lab.record(specimen, specimen.tokens(CLEAN), ["z", "k", "resid"])
    assert torch.equal(seen["z", "L4H5"], seen["z", 4][:, :, 5])
    for asked in (("k", "L4H5"), ("resid", "L4H5"), ("z", "L4H9"), ("z", "L7H0"), ("pattern", "L4H5")):
        with pytest.raises(HeadatlasError, match=r"not per head|heads were recorded|was not recorded"):
            seen[asked]  # type: ignore[index]
