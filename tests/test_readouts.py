"""Readouts against sums written out by hand, and attribution against the logits of plain transformers models."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn

from conftest import FAMILIES, roughen
from headatlas import HeadatlasError
from headatlas.lab import OpenModel, accuracy, log_probability, logit_difference, open_model
from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.activations.edits import add, patch, scale, zero
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.activations.recording import record
from headatlas.lab.attribution.frozen_norms import freeze_norm
from headatlas.lab.attribution.logit_attribution import direct_logit_attribution, logit_lens
from headatlas.lab.running import accuracy_among_rivals
from headatlas.lab.running.metrics import (
    all_finite,
    log_odds_of_candidates,
    loss_per_position,
    predicted_candidate,
    probability,
    probability_difference,
)
from headatlas.notation import Head

Tiny = Callable[[str], Path]
TOKENS = torch.randint(1, 299, (3, 20), generator=torch.Generator().manual_seed(1))
ANSWERS = [5, 9, 1500]
RIVALS = [[6, 7], [8, -1], [3, 2]]


_opened: dict[str, OpenModel] = {}


@pytest.fixture
def family() -> str:
    return "llama"


@pytest.fixture
def model(family: str, tiny: Tiny) -> OpenModel:
    if family not in _opened:
        _opened[family] = open_model(str(tiny(family)))
        roughen(_opened[family].model)
    return _opened[family]


def plain(family: str, tiny: Tiny) -> transformers.PreTrainedModel:
    """The same model without us."""
    found = transformers.AutoModelForCausalLM.from_pretrained(tiny(family)).eval()
    roughen(found)
    return found


@torch.no_grad()
def before_softcap(model: transformers.PreTrainedModel) -> Tensor:
    """Logits as the unembedding gives them, [batch position vocabulary]."""
    seen: list[Tensor] = []
    handle = model.get_output_embeddings().register_forward_hook(lambda _m, _i, out: seen.append(out))
    model(TOKENS, use_cache=False)
    handle.remove()
    return seen[0]


def differences(logits: Tensor) -> Tensor:
    """Answer minus mean rival, [batch], of logits [batch vocabulary]."""
    means = [logits[0, [6, 7]].mean(), logits[1, 8], logits[2, [3, 2]].mean()]
    return logits[torch.arange(3), ANSWERS] - torch.stack(means)


@pytest.mark.parametrize("family", FAMILIES)
class TestEveryFamily:
    def test_attribution_adds_up_to_the_logits_of_the_plain_model(
        self, family: str, model: OpenModel, tiny: Tiny
    ) -> None:
        logits = before_softcap(plain(family, tiny))
        at = torch.tensor([19, 4, 11])
        rows = torch.arange(3)
        for position, expected in ((None, logits[:, -1]), (at, logits[rows, at]), (0, logits[:, 0])):
            found = direct_logit_attribution(model, TOKENS, ANSWERS, RIVALS, position, sources=True)
            assert torch.allclose(found.total, differences(expected), atol=1e-5)
            assert found.sources is not None and found.heads.abs().min() > 0
            assert torch.allclose(found.sources.sum(-1), found.heads, atol=1e-5)
        alone = direct_logit_attribution(model, TOKENS, ANSWERS)
        assert torch.allclose(alone.total, logits[rows, -1, ANSWERS], atol=1e-5)

    def test_a_head_adds_what_the_frozen_norm_loses_without_it(self, family: str, model: OpenModel) -> None:
        """By hand: take the head's result out of the last stream, hold the scales, and read the logits again."""
        found = direct_logit_attribution(model, TOKENS, ANSWERS, RIVALS)
        seen = record(model, TOKENS, ["resid", "result", "attn_out"], [19])
        ending = model.anatomy.unembed
        assert ending is not None
        norm = model.anatomy.unembed.norm
        for layer, head in ((0, 1), (1, 3)):
            lost = seen["result", layer][:, 0, head]
            after = find_blocks(model, TOKENS)[layer].norm
            if after is not None:
                whole = seen["attn_out", layer][:, 0]
                lost = held(after, whole, whole) - held(after, whole, whole - lost)
            states = seen["resid", 2][:, 0]
            moved = ending.unembedding(held(norm, states, states)) - ending.unembedding(
                held(norm, states, states - lost)
            )
            assert torch.allclose(found.heads[:, layer, head], differences(moved), atol=1e-5)

    def test_the_lens_ends_in_the_models_own_logits(self, family: str, model: OpenModel, tiny: Tiny) -> None:
        reference = plain(family, tiny)
        with torch.no_grad():
            output = reference(TOKENS, use_cache=False, output_hidden_states=True)
            middle = model.anatomy.logits(output.hidden_states[1])
        lens = logit_lens(model, TOKENS)
        assert lens.shape == (3, 3, 20, 4096)
        assert torch.allclose(lens[-1], output.logits, atol=1e-5)
        assert torch.allclose(lens[1], middle, atol=1e-5)
        assert torch.equal(logit_lens(model, TOKENS, [1], [4, 19])[0], lens[1][:, [4, 19]])


def held(norm: nn.Module, at: Tensor, states: Tensor) -> Tensor:
    """A norm applied to states [batch d_model], with the scale it has at other states."""
    centre = isinstance(norm, nn.LayerNorm)
    x = at - at.mean(-1, keepdim=True) if centre else at
    eps = next(getattr(norm, name) for name in ("eps", "variance_epsilon") if hasattr(norm, name))
    root = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    weight = norm.weight + 1 if type(norm).__name__.startswith(("Gemma", "Qwen3Next", "Qwen3_5")) else norm.weight
    states = states - states.mean(-1, keepdim=True) if centre else states
    return states / root * weight + (norm.bias if centre and norm.bias is not None else 0.0)


class TestAttribution:
    def test_sources_are_weights_times_values(self, model: OpenModel) -> None:
        found = direct_logit_attribution(model, TOKENS, ANSWERS, RIVALS, sources=True)
        seen = record(model, TOKENS, ["pattern", "v", "resid"])
        weight, norm = model.model.lm_head.weight, model.model.model.norm
        states = seen["resid", 2][:, -1]
        gain = norm.weight / (states.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
        wanted = weight[ANSWERS] - torch.stack([weight[[6, 7]].mean(0), weight[8], weight[[3, 2]].mean(0)])
        w_o = model.anatomy.w_o(1)
        for head in range(4):
            given = seen["v", 1][:, :, head // 2] @ w_o[head]  # [batch key d_model]
            expected = seen["pattern", 1][:, head, -1] * (given * (gain * wanted)[:, None]).sum(-1)
            assert torch.allclose(found.sources[:, 1, head], expected, atol=1e-6)

    def test_edited_heads_are_attributed_as_they_ran(self, model: OpenModel) -> None:
        with intervene(model, [zero("pattern", [Head(1, 2)]), scale("z", [Head(0, 0)], 0.0)]):
            found = direct_logit_attribution(model, TOKENS, ANSWERS, RIVALS, sources=True)
        assert not found.heads[:, 1, 2].any() and not found.heads[:, 0, 0].any()
        assert not found.sources[:, 1, 2].any() and found.heads[:, 1, 1].all()

    def test_edits_may_be_in_force_when_a_model_is_first_attributed(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("olmo2")))
        source = record(model, TOKENS.flip(0), ["z"])
        with intervene(model, [patch("z", [Head(0, 1), Head(1, 3)], source, [19])]):
            fresh = direct_logit_attribution(model, TOKENS, ANSWERS, RIVALS)
            assert torch.equal(fresh.heads, direct_logit_attribution(model, TOKENS, ANSWERS, RIVALS).heads)
            assert find_blocks(model, TOKENS)[0].norm is model.anatomy.blocks[0].post_attention_layernorm

    def test_an_edited_stream_does_not_add_up(self, model: OpenModel) -> None:
        with (
            pytest.raises(HeadatlasError, match="do not add up"),
            intervene(model, [add("resid", [1], torch.ones(32) + model.model.lm_head.weight[5])]),
        ):
            direct_logit_attribution(model, TOKENS, ANSWERS, RIVALS)

    def test_half_precision(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("llama")), dtype=torch.bfloat16)
        found = direct_logit_attribution(model, TOKENS, ANSWERS, RIVALS)
        full = direct_logit_attribution(open_model(str(tiny("llama"))), TOKENS, ANSWERS, RIVALS)
        assert torch.allclose(found.heads, full.heads, atol=0.05 * float(full.heads.abs().max()))

    @pytest.mark.parametrize(
        "answers, rivals, position, error, complaint",
        [
            ([1, 2], None, None, ValueError, "one row for each prompt"),
            (ANSWERS, [[1], [2]], None, ValueError, "one row for each prompt"),
            ([1, 2, 4096], None, None, HeadatlasError, "outside the vocabulary"),
            (ANSWERS, [[1], [2], [9999]], None, HeadatlasError, "outside the vocabulary"),
            (ANSWERS, [[1], [-1], [2]], None, HeadatlasError, "has no rivals"),
            (ANSWERS, None, 20, HeadatlasError, "outside a prompt"),
            (ANSWERS, None, torch.tensor([1, 2]), ValueError, "one for each prompt"),
        ],
    )
    def test_bad_input(
        self,
        model: OpenModel,
        answers: list[int],
        rivals: list[list[int]] | None,
        position: int | Tensor | None,
        error: type[Exception],
        complaint: str,
    ) -> None:
        with pytest.raises(error, match=complaint):
            direct_logit_attribution(model, TOKENS, answers, rivals, position)

    def test_blocks_that_write_something_else_are_refused(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("llama")))
        model.anatomy.blocks[1].register_forward_hook(lambda _m, _i, out: out * 1.1)
        with pytest.raises(HeadatlasError, match="what layer 1 adds"):
            direct_logit_attribution(model, TOKENS, ANSWERS)

    def test_a_norm_of_another_kind_is_refused(self) -> None:
        class Cubic(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.ones(32))

            def forward(self, x: Tensor) -> Tensor:
                return x**3 * self.weight

        with pytest.raises(HeadatlasError, match="neither a LayerNorm"):
            freeze_norm(Cubic(), torch.randn(2, 32, generator=torch.Generator().manual_seed(0)))

    @pytest.mark.parametrize("size", [32, 33])
    @pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
    def test_frozen_norms(self, kind: type[nn.Module], size: int) -> None:
        norm = kind(size)
        roughen(norm)
        states = torch.randn(2, size, generator=torch.Generator().manual_seed(0)) + 1
        frozen = freeze_norm(norm, states)
        assert frozen.centred == (kind is nn.LayerNorm)
        along = torch.randn(2, size, generator=torch.Generator().manual_seed(1))
        through, constant = frozen.before(along)
        with torch.no_grad():
            assert torch.allclose((states * through).sum(-1) + constant, (norm(states) * along).sum(-1), atol=1e-5)


class TestPureReadouts:
    logits = torch.tensor([[[0.0, 3.0, 1.0, -1.0]], [[2.0, 0.0, 0.0, 0.0]]])  # [prompt readout vocabulary]
    answers = torch.tensor([[1], [1]])
    rivals = torch.tensor([[[0, 2]], [[0, -1]]])

    def test_probability(self) -> None:
        shares = self.logits.exp() / self.logits.exp().sum(-1, keepdim=True)
        assert torch.allclose(probability(self.logits, self.answers, self.rivals), shares[:, 0, 1])

    def test_candidate_given(self) -> None:
        assert predicted_candidate(self.logits, self.answers, self.rivals).tolist() == [1, 0]
        first_only = torch.tensor([[3], [3]])  # the largest logit of all is no candidate
        assert predicted_candidate(self.logits, first_only, torch.tensor([[[2, -1]], [[2, -1]]])).tolist() == [2, 3]

    def test_log_odds_of_candidates(self) -> None:
        inside = torch.tensor([[1.0, 20.086, 2.7183], [7.3891, 1.0, 0.0]]).sum(-1)
        outside = torch.tensor([0.3679, 2.0])
        odds = log_odds_of_candidates(self.logits, self.answers, self.rivals)
        assert torch.allclose(odds, (inside / outside).log(), atol=1e-3)

    def test_probability_difference(self) -> None:
        logits = self.logits[:1].expand(-1, 2, -1)  # one prompt, read twice at one place
        answers, rivals = torch.tensor([[1, 0]]), torch.tensor([[[2, -1], [-1, -1]]])
        shares = torch.tensor([1.0, 20.0855, 2.7183, 0.3679]) / 24.1717
        found = probability_difference(logits, answers, rivals)
        assert torch.allclose(found, shares[[1, 2]].sum() - shares[0], atol=1e-4)
        with pytest.raises(ValueError, match="give it two"):
            probability_difference(self.logits, self.answers, self.rivals)

    def test_loss_is_the_models_own(self, tiny: Tiny) -> None:
        model = transformers.AutoModelForCausalLM.from_pretrained(tiny("gpt2")).eval()
        with torch.no_grad():
            output = model(TOKENS, labels=TOKENS)
        losses = loss_per_position(output.logits, TOKENS)
        assert losses.shape == (3, 19)
        assert torch.allclose(losses.mean(), output.loss)

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
    def test_what_is_not_a_number_is_not_a_result(self, number: float) -> None:
        broken = self.logits.clone()
        broken[0, 0, 3] = number
        for behaviour in (
            accuracy,
            accuracy_among_rivals,
            predicted_candidate,
            log_odds_of_candidates,
            log_probability,
            logit_difference,
            probability,
        ):
            with pytest.raises(HeadatlasError, match="NaN or infinite"):
                behaviour(broken, self.answers, self.rivals)
        with pytest.raises(HeadatlasError, match="NaN or infinite"):
            loss_per_position(broken.transpose(0, 1), torch.tensor([[1, 2]]))

    def test_shapes_that_do_not_fit(self) -> None:
        with pytest.raises(ValueError, match="two tokens or more"):
            loss_per_position(self.logits, torch.tensor([[1], [1]]))


def test_infinite_numbers_are_found_among_any_sizes() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        fine = torch.full((3, 1000), 3e38, dtype=dtype)  # whose sum is not finite
        assert all_finite(fine) and all_finite(-fine) and all_finite(torch.zeros(0, dtype=dtype))
        for bad in (float("nan"), float("inf"), float("-inf")):
            spoilt = torch.randn(3, 1000).to(dtype)
            spoilt[1, 7] = bad
            assert not all_finite(spoilt)
        both = torch.zeros(10, dtype=dtype)
        both[0], both[1] = float("inf"), float("-inf")
        assert not all_finite(both)
