"""Path patching of every head at once, against path patching of one head after the other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from conftest import EACH_FAMILY, roughen
from headatlas import HeadatlasError
from headatlas.lab import OpenModel, forward, logit_difference, open_model, path_patch, path_sweep
from headatlas.lab.paths import PathRuns, Receiver, path_effects, path_runs
from headatlas.lab.paths.first_run import FirstRun, Reached, Sender
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout

Tiny = Callable[[str], Path]
TOKENS, OTHERS = torch.randint(1, 299, (2, 3, 20), generator=torch.Generator().manual_seed(1))
EVERY = [Head(layer, head) for layer in range(2) for head in range(4)]
LATE = Receiver(Head(1, 2), "q")
MIXED = (Receiver(Head(1, 2), "k"), Receiver(Head(1, 1), "v"), Receiver(Head(0, 1), "q"))


def rough(tiny: Tiny, family: str) -> OpenModel:
    model = open_model(str(tiny(family)))
    roughen(model.model)
    return model


def metric(logits: Tensor) -> Tensor:
    return logits[:, -1, 5] - logits[:, 0, 7]


def one_by_one(runs: PathRuns, *path: Any, **at: Any) -> Tensor:
    return torch.stack([path_patch(runs, [head], *path, **at) for head in EVERY]).reshape(2, 4, -1)


@pytest.mark.parametrize("mlps", ["recomputed", "frozen"])
@pytest.mark.parametrize("family", EACH_FAMILY)
def test_a_sweep_is_path_patching_of_each_head(tiny: Tiny, family: str, mlps: Literal["recomputed", "frozen"]) -> None:
    runs = path_runs(rough(tiny, family), TOKENS, OTHERS, positions=[7, 19], mlps=mlps)
    own = torch.tensor([[3, 19], [2, 7], [7, 8]])  # of each prompt
    for receivers, sent, read in (
        ("logits", None, None),
        ("logits", own, None),
        ([LATE], None, None),
        ([LATE, Receiver(Head(1, 3), "k")], [3, 17], own),
        (MIXED, [3, 4, 17], None),
    ):
        at = {"sender_positions": sent, "receiver_positions": read}
        found = path_sweep(runs, receivers, metric, **at)
        expected = one_by_one(runs, receivers, metric, **at)
        assert found.notes == ()
        assert (found.effect - expected).abs().max() < 1e-5
        assert expected[0].abs().max() > 1e-4, "an effect too small to compare"
        if receivers != "logits":
            assert (found.effect[1] == 0).all(), "no path leads back"


def test_the_last_position_is_that_of_each_prompt(tiny: Tiny) -> None:
    model = rough(tiny, "llama")
    prompts = [
        Prompt(tuple(one[:length]), tuple(other[:length]), readouts=(Readout(length - 1, 5, (7,)),))
        for one, other, length in zip(TOKENS.tolist(), OTHERS.tolist(), (20, 12, 20), strict=True)
    ]
    found, everywhere = (path_effects(model, prompts, logit_difference, sender_positions=at) for at in ("last", None))
    for number, length in ((0, 20), (1, 12)):
        alone = path_effects(model, prompts[number : number + 1], logit_difference, sender_positions=[length - 1])
        assert abs(found[number] - alone[0]).max() < 1e-5
    sent = [Receiver(head, "v") for head in EVERY if head.layer]
    behind, before = (
        path_effects(model, prompts, logit_difference, sent, sender_positions=at) for at in ("last", None)
    )
    assert abs(found - everywhere).max() < 1e-5, "to the logits only the last position leads"
    assert abs(behind - before).max() > 1e-4


def test_the_metric_may_see_the_logits_of_a_few_tokens(tiny: Tiny) -> None:
    for family in ("gpt2", "phi", "gemma2"):  # tied, with a bias, and with a softcap
        model = rough(tiny, family)
        for receivers in ("logits", [LATE]):
            few = path_runs(model, TOKENS, OTHERS, [7, 19], vocabulary=[7, 5])
            whole = path_runs(model, TOKENS, OTHERS, [7, 19])
            assert torch.allclose(few.logits, whole.logits[..., [7, 5]], atol=1e-5)
            found = path_sweep(few, receivers, lambda logits: logits[:, -1, 1] - logits[:, 0, 0])
            assert (found.effect - path_sweep(whole, receivers, metric).effect).abs().max() < 1e-5
            single = path_patch(few, [Head(0, 1)], receivers, lambda logits: logits[:, -1, 1] - logits[:, 0, 0])
            assert (found.effect[0, 1] - single).abs().max() < 1e-5
        assert forward(model, TOKENS, {}).shape[-1] == 4096


def test_how_many_senders_run_together_does_not_matter(tiny: Tiny) -> None:
    runs = path_runs(rough(tiny, "llama"), TOKENS, OTHERS)
    for receivers in ("logits", [LATE]):
        together, alone = (path_sweep(runs, receivers, metric, memory=memory).effect for memory in (None, 1))
        assert (together - alone).abs().max() < 1e-5


@pytest.mark.parametrize("receivers", ["logits", (LATE,)])
def test_a_model_whose_blocks_cannot_be_skipped_is_run_in_full(tiny: Tiny, receivers: Any) -> None:
    """The second block reads what the first left beside the stream, as models with shared layers do."""
    model = rough(tiny, "llama")
    first, second = model.anatomy.blocks
    left: list[Tensor] = []
    first.mlp.register_forward_hook(lambda _m, _i, output: left.append(output))
    second.mlp.register_forward_hook(lambda _m, _i, output: output + 10 * left[-1][0, -1, 0])
    runs = path_runs(model, TOKENS, OTHERS)
    found = path_sweep(runs, receivers, metric)
    assert "ran in full" in found.notes[0]
    assert torch.equal(found.effect, one_by_one(runs, receivers, metric))


def test_receivers_that_nothing_comes_before(tiny: Tiny) -> None:
    runs = path_runs(rough(tiny, "llama"), TOKENS, OTHERS)
    assert (path_sweep(runs, [Receiver(Head(0, 1), "q")], metric).effect == 0).all()


def test_an_exception_leaves_the_model_as_it_was(tiny: Tiny) -> None:
    model = rough(tiny, "llama")
    before = forward(model, TOKENS, {})
    runs = path_runs(model, TOKENS, OTHERS, vocabulary=[5, 7])

    def explode(logits: Tensor) -> Tensor:
        if not torch.equal(logits, runs.logits):
            raise KeyError("inside")
        return logits[:, 0, 0]

    for receivers in ("logits", [LATE]):
        with pytest.raises(KeyError):
            path_sweep(runs, receivers, explode)
    for module in model.model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and "forward" not in vars(module)
    assert torch.equal(forward(model, TOKENS, {}), before)


def test_memory_that_is_short_is_asked_for_in_halves(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = path_runs(rough(tiny, "llama"), TOKENS, OTHERS)
    expected = path_sweep(runs, "logits", metric).effect
    plain = FirstRun.send

    def short(at_most: int, message: str) -> Callable[[FirstRun, int, list[Sender]], Reached]:
        def limited(self: FirstRun, layer: int, senders: list[Sender]) -> Reached:
            if len(senders) > at_most:
                raise RuntimeError(message)
            return plain(self, layer, senders)

        return limited

    monkeypatch.setattr(FirstRun, "send", short(1, "can't allocate memory: you tried"))
    found = path_sweep(runs, "logits", metric)
    assert (found.effect - expected).abs().max() < 1e-5
    assert found.notes == tuple(f"not enough memory for {n} heads at once; they ran in halves" for n in (4, 2))
    monkeypatch.setattr(FirstRun, "send", short(0, "can't allocate memory: you tried"))
    with pytest.raises(HeadatlasError, match="one head on 3 prompts; give path_runs fewer"):
        path_sweep(runs, "logits", metric)
    monkeypatch.setattr(FirstRun, "send", short(0, "something else"))
    with pytest.raises(RuntimeError, match="something else"):
        path_sweep(runs, "logits", metric)


class TestMistakes:
    def test_of_users(self, tiny: Tiny) -> None:
        model = rough(tiny, "llama")
        runs = path_runs(model, TOKENS, OTHERS)
        with pytest.raises(HeadatlasError, match="position 20 is outside"):
            path_sweep(runs, "logits", metric, sender_positions=[20])
        with pytest.raises(HeadatlasError, match="position 21 is outside"):
            path_sweep(runs, [LATE], metric, receiver_positions=[21])
        with pytest.raises(HeadatlasError, match="token 4096 lies outside the vocabulary"):
            path_runs(model, TOKENS, OTHERS, vocabulary=[5, 4096])

    def test_of_programmers(self, tiny: Tiny) -> None:
        runs = path_runs(rough(tiny, "llama"), TOKENS, OTHERS)
        path_sweep(runs, [LATE], metric)  # what the model allows is known now
        with pytest.raises(ValueError, match="no receivers"):
            path_sweep(runs, [], metric)
        for head in (Head(2, 0), Head(1, 4)):
            with pytest.raises(ValueError, match=f"{head} is not in a model"):
                path_sweep(runs, [Receiver(head, "q")], metric)
