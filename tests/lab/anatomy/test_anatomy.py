"""Anatomy against plain transformers: the matrices of every head, where they lie, and what stands after the layers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from conftest import EACH_FAMILY, save_tiny
from headatlas import HeadatlasError
from headatlas.lab import OpenModel, forward, open_model
from headatlas.lab.anatomy.low_rank import LowRank
from headatlas.lab.anatomy.qkv_layout import find_qkv_layout
from headatlas.lab.anatomy.trial_pass import Step
from headatlas.lab.hooks.attention_interface import AttentionCall, attention_hooks
from headatlas.notation import Head

Tiny = Callable[[str], Path]
TOKENS = torch.randint(1, 299, (3, 24), generator=torch.Generator().manual_seed(1))  # not those of the probe
D, H, SIZE = 32, 4, 8


@pytest.fixture(scope="module")
def opened(tiny: Tiny) -> Callable[[str], OpenModel]:
    kept: dict[str, OpenModel] = {}
    return lambda family: kept.setdefault(family, open_model(tiny(family)))


def calls(model: OpenModel) -> list[tuple[AttentionCall, Tensor, Tensor]]:
    """Per layer: what reached the seam, z, and what the attention module read, of TOKENS."""
    seen: list[tuple[AttentionCall, Tensor]] = []
    read: list[Tensor] = []

    def look(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        read.append(args[0] if args else options["hidden_states"])

    hooks = [module.register_forward_pre_hook(look, with_kwargs=True) for module in model.anatomy.attention.values()]
    with attention_hooks(
        {module: lambda call, z: seen.append((call, z)) for module in model.anatomy.attention.values()}
    ):
        forward(model, TOKENS, {})
    for hook in hooks:
        hook.remove()
    return [(call, z, states) for (call, z), states in zip(seen, read, strict=True)]


def normed(norm: nn.Module | None, heads: Tensor) -> Tensor:
    """A query or key norm on [batch position head d_head], whichever layout it takes."""
    if norm is None:
        return heads
    parameters = next(norm.parameters())
    if parameters.shape[-1] == heads.shape[-1] * heads.shape[-2]:
        return norm(heads.flatten(2)).reshape(heads.shape)
    return norm(heads.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("family", EACH_FAMILY)
class TestEveryFamily:
    def test_value_matrices_give_the_values_of_every_position(
        self, family: str, opened: Callable[[str], OpenModel]
    ) -> None:
        model = opened(family)
        for layer, (call, _, states) in enumerate(calls(model)):
            value = torch.einsum("btm,kmd->bktd", states, model.anatomy.w_v(layer))
            bias = model.anatomy.b_v(layer)
            value = value if bias is None else value + bias[:, None]
            assert torch.allclose(value, call.value, atol=1e-6)

    def test_query_and_key_matrices_give_them_at_the_first_position(
        self, family: str, opened: Callable[[str], OpenModel]
    ) -> None:
        model = opened(family)
        anatomy = model.anatomy
        for layer, (call, _, states) in enumerate(calls(model)):
            layout = anatomy.layout(layer)
            parts = (
                (anatomy.w_q(layer), anatomy.b_q(layer), layout.query_norm, layout.query_gain, call.query),
                (anatomy.w_k(layer), anatomy.b_k(layer), layout.key_norm, layout.key_gain, call.key),
            )
            for weight, bias, norm, gain, seen in parts:
                made = torch.einsum("btm,hmd->bthd", states[:, :1], weight)
                made = normed(norm, made if bias is None else made + bias) * gain
                assert torch.allclose(made[:, 0], seen[:, :, 0], atol=2e-6)

    def test_shapes_and_sharing(self, family: str, opened: Callable[[str], OpenModel]) -> None:
        anatomy = opened(family).anatomy
        wide, few = anatomy.d_head, anatomy.kv_heads
        assert anatomy.w_q(1).shape == (H, D, wide) and anatomy.w_o(1).shape == (H, wide, D)
        assert anatomy.w_k(1).shape == anatomy.w_v(1).shape == (few, D, wide)
        assert [anatomy.kv_head(Head(1, head)) for head in range(H)] == [head // (H // few) for head in range(H)]

    def test_nothing_is_copied(self, family: str, opened: Callable[[str], OpenModel]) -> None:
        model = opened(family)
        anatomy = model.anatomy
        own = {parameter.untyped_storage().data_ptr() for parameter in model.model.parameters()}
        shared = [] if family == "falcon_new" else [anatomy.w_q(0)]  # its groups of several heads lie apart
        for weight in (*shared, anatomy.w_k(0), anatomy.w_v(0), anatomy.w_o(0)):
            assert weight.untyped_storage().data_ptr() in own

    def test_a_head_that_sees_one_token_writes_its_ov(self, family: str, opened: Callable[[str], OpenModel]) -> None:
        model = opened(family)
        anatomy = model.anatomy
        for layer, (call, z, states) in enumerate(calls(model)):
            if call.sinks is not None:
                continue  # some of the weight is the sink's
            bias = anatomy.b_v(layer)
            for head in range(H):
                given = z if call.attended is None else call.attended  # before a gate, which OV matrices leave out
                wrote = given[:, 0, head] @ anatomy.w_o(layer)[head]  # the first position sees itself only
                ov = anatomy.ov(layer, head).apply(states[:, 0])
                if bias is not None:
                    ov = ov + bias[anatomy.kv_head(Head(layer, head))] @ anatomy.w_o(layer)[head]
                assert torch.allclose(ov, wrote, atol=1e-6)

    def test_factors_of_one_head_are_those_of_all(self, family: str, opened: Callable[[str], OpenModel]) -> None:
        anatomy = opened(family).anatomy
        for of in (anatomy.qk, anatomy.ov):
            every = of(1)
            for head in range(H):
                one = of(1, head)
                assert torch.equal(one.left, every.left[head]) and torch.equal(one.right, every.right[head])

    def test_the_last_stream_gives_the_logits(self, family: str, opened: Callable[[str], OpenModel]) -> None:
        model = opened(family)
        wrote: list[Any] = []
        hook = model.anatomy.blocks[-1].register_forward_hook(lambda module, args, out: wrote.append(out))
        logits = forward(model, TOKENS, {})
        hook.remove()
        states = wrote[0][0] if isinstance(wrote[0], tuple) else wrote[0]
        with torch.no_grad():
            assert torch.allclose(model.anatomy.logits(states), logits, atol=1e-5)
            assert torch.allclose(model.anatomy.logits(states[:, -1]), logits[:, -1], atol=1e-5)
        assert model.anatomy.unembed is not None and model.anatomy.unembed.norm is not None
        assert model.anatomy.embedding is model.model.get_input_embeddings()


class TestAgainstTheFamiliesOwnCode:
    """Layouts written out by hand, as each family's modelling code splits its projections."""

    def test_gpt2_lays_q_k_and_v_end_to_end(self, opened: Callable[[str], OpenModel]) -> None:
        model = opened("gpt2")
        fused = model.model.transformer.h[1].attn.c_attn
        for head in range(H):
            for part, (weight, bias) in enumerate(
                (
                    (model.anatomy.w_q(1), model.anatomy.b_q(1)),
                    (model.anatomy.w_k(1), model.anatomy.b_k(1)),
                    (model.anatomy.w_v(1), model.anatomy.b_v(1)),
                )
            ):
                columns = slice(part * D + head * SIZE, part * D + (head + 1) * SIZE)
                assert bias is not None
                assert torch.equal(weight[head], fused.weight[:, columns])
                assert torch.equal(bias[head], fused.bias[columns])

    def test_gpt_neox_interleaves_by_head(self, opened: Callable[[str], OpenModel]) -> None:
        model = opened("gpt_neox")
        rows = model.model.gpt_neox.layers[1].attention.query_key_value.weight
        for head in range(H):
            start = head * 3 * SIZE
            for part, weight in enumerate((model.anatomy.w_q(1), model.anatomy.w_k(1), model.anatomy.w_v(1))):
                assert torch.equal(weight[head], rows[start + part * SIZE : start + (part + 1) * SIZE].T)

    def test_phi3_fuses_grouped_heads(self, opened: Callable[[str], OpenModel]) -> None:
        model = opened("phi3")
        rows = model.model.model.layers[0].self_attn.qkv_proj.weight  # 4 queries, 2 keys, 2 values
        assert torch.equal(model.anatomy.w_q(0)[3], rows[24:32].T)
        assert torch.equal(model.anatomy.w_k(0)[1], rows[40:48].T)
        assert torch.equal(model.anatomy.w_v(0)[0], rows[48:56].T)

    def test_gpt_bigcode_shares_one_key_and_value(self, opened: Callable[[str], OpenModel]) -> None:
        model = opened("gpt_bigcode")
        rows = model.model.transformer.h[0].attn.c_attn.weight
        assert torch.equal(model.anatomy.w_q(0)[1], rows[8:16].T)
        assert torch.equal(model.anatomy.w_k(0)[0], rows[32:40].T)
        assert torch.equal(model.anatomy.w_v(0)[0], rows[40:48].T)

    def test_llama_keeps_them_apart(self, opened: Callable[[str], OpenModel]) -> None:
        model = opened("llama")
        attention = model.model.model.layers[1].self_attn
        assert torch.equal(model.anatomy.w_q(1)[2], attention.q_proj.weight[16:24].T)
        assert torch.equal(model.anatomy.w_k(1)[1], attention.k_proj.weight[8:16].T)
        assert torch.equal(model.anatomy.w_v(1)[0], attention.v_proj.weight[0:8].T)

    @pytest.mark.parametrize("family", ["qwen3", "gemma3", "olmo2", "phi", "stablelm", "qwen3_moe"])
    def test_norms_on_queries_and_keys_are_reported(self, family: str, opened: Callable[[str], OpenModel]) -> None:
        anatomy = opened(family).anatomy
        own = dict(anatomy.attention[0].named_modules())
        layout = anatomy.layout(0)
        assert layout.query_norm in [own.get(name) for name in ("q_norm", "q_layernorm")]
        assert layout.key_norm in [own.get(name) for name in ("k_norm", "k_layernorm")]

    def test_gains_on_the_way_to_the_scores_are_reported(self, opened: Callable[[str], OpenModel]) -> None:
        opt, oss = opened("opt").anatomy.layout(0), opened("gpt_oss").anatomy.layout(0)
        assert opt.query_gain == pytest.approx(SIZE**-0.5) and opt.key_gain == 1.0
        yarn = pytest.approx(0.1 * torch.log(torch.tensor(32.0)).item() + 1)
        assert oss.query_gain == yarn and oss.key_gain == yarn

    def test_other_configurations(self, tmp_path: Path, tiny: Tiny) -> None:
        words = transformers.AutoTokenizer.from_pretrained(tiny("llama"))
        configurations = {
            "fused, interleaved by head": transformers.GPTBigCodeConfig(
                vocab_size=4096, n_positions=64, n_embd=D, n_layer=2, n_head=H, multi_query=False
            ),
            "separate q, k, v": transformers.CohereConfig(
                vocab_size=4096, hidden_size=D, num_hidden_layers=2, num_attention_heads=H, intermediate_size=64,
                logit_scale=0.25, use_qk_norm=True, pad_token_id=0, bos_token_id=0, eos_token_id=0,
            ),
        }  # fmt: skip
        for kind, config in configurations.items():
            model = open_model(transformers.AutoModelForCausalLM.from_config(config), tokenizer=words)
            assert model.anatomy.layout(1).kind == kind
            assert model.anatomy.unembed is not None
        assert model.anatomy.unembed.scale == pytest.approx(0.25)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["gpt_neox", "phi3", "gpt_oss", "qwen3"])
def test_layouts_are_confirmed_in_lower_precision(family: str, dtype: torch.dtype, tiny: Tiny) -> None:
    low, full = open_model(tiny(family), dtype=dtype).anatomy, open_model(tiny(family)).anatomy
    for layer in range(2):
        assert torch.equal(low.w_q(layer), full.w_q(layer).to(dtype))
        assert torch.equal(low.w_v(layer), full.w_v(layer).to(dtype))
    assert low.unembed is not None


class TestLayoutsByShape:
    """Projections no family here has, made by hand: 4 query heads, 2 keys and values, of width 8."""

    states = torch.randn(2, 5, D, generator=torch.Generator().manual_seed(2))

    def search(self, order: str, groups: int, encode: Callable[[Tensor], Tensor]) -> tuple[Any, dict[str, Tensor]]:
        """Split one matrix as `order` says, encode queries and keys, and look for the layout."""
        torch.manual_seed(3)
        fused = nn.Linear(D, 8 * SIZE)
        wrote = fused(self.states).detach()
        counts = {"q": 4 // groups, "k": 2 // groups, "v": 2 // groups}
        parts = wrote.reshape(2, 5, groups, 8 // groups, SIZE).split([counts[part] for part in order], dim=3)
        q, k, v = (parts[order.index(part)].flatten(2, 3).transpose(1, 2) for part in "qkv")
        call = AttentionCall(fused, encode(q), encode(k), v, None, 1.0, None, None)
        return find_qkv_layout([Step(fused, self.states, wrote)], call), {"q": q, "k": k, "v": v}

    @staticmethod
    def rotary(tensor: Tensor) -> Tensor:
        """Turns nothing at position 0, and everything after it."""
        angle = torch.arange(tensor.shape[2])[:, None] * torch.linspace(0.1, 1, SIZE // 2)
        cos, sin = angle.cos(), angle.sin()
        one, two = tensor.chunk(2, -1)
        return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)

    @pytest.mark.parametrize("order", ["qkv", "kvq", "vqk"])
    @pytest.mark.parametrize("groups", [1, 2])
    def test_any_order_end_to_end_or_by_group(self, order: str, groups: int) -> None:
        layout, made = self.search(order, groups, self.rotary)
        assert layout is not None
        for part, stretch in zip("qkv", (layout.query, layout.key, layout.value), strict=True):
            read = torch.einsum("btm,hmd->bhtd", self.states, stretch.weight) + stretch.bias[:, None]
            assert torch.allclose(read, made[part], atol=1e-6)

    def test_a_gain_on_part_of_the_dimensions(self) -> None:
        layout, _ = self.search("qkv", 1, lambda x: torch.cat([self.rotary(x)[..., :6] * 1.2, x[..., 6:]], -1))
        assert layout is not None and layout.query_gain == pytest.approx(1.2)

    @pytest.mark.parametrize(
        "encode", [torch.tanh, lambda x: x.flip(1), lambda x: x.roll(1, -1), lambda x: -x, lambda x: x + 0.1]
    )
    def test_anything_else_is_not_guessed(self, encode: Callable[[Tensor], Tensor]) -> None:
        assert self.search("qkv", 1, encode)[0] is None


class TestWhatCannotBeConfirmed:
    def squashed(self, tiny: Tiny) -> OpenModel:
        """A llama whose values are no linear function of what attention reads."""
        model = transformers.AutoModelForCausalLM.from_pretrained(tiny("llama"), dtype=torch.float32)
        attention = model.model.layers[1].self_attn
        attention.v_proj = nn.Sequential(attention.v_proj, nn.Tanh())
        with torch.no_grad():
            attention.v_proj[0].weight.mul_(20)
        return open_model(model, tokenizer=transformers.AutoTokenizer.from_pretrained(tiny("llama")))

    def test_weights_are_refused_by_name_and_z_is_still_measured(self, tiny: Tiny) -> None:
        model = self.squashed(tiny)
        anatomy = model.anatomy
        assert anatomy.layouts[0] is not None and anatomy.layouts[1] is None
        assert anatomy.w_v(0).shape == (2, D, SIZE)
        for read in (anatomy.w_q, anatomy.w_k, anatomy.w_v, anatomy.b_q, anatomy.b_k, anatomy.b_v):
            with pytest.raises(HeadatlasError, match=r"layer 1 .*family llama"):
                read(1)
        for factors in (anatomy.qk, anatomy.ov):
            with pytest.raises(HeadatlasError, match="family llama"):
                factors(1, 0)
        assert torch.isfinite(calls(model)[1][1]).all()
        assert anatomy.w_o(1).shape == (H, SIZE, D)

    def test_a_step_after_the_final_norm_that_is_no_module(self, tiny: Tiny) -> None:
        model = transformers.AutoModelForCausalLM.from_pretrained(tiny("llama"), dtype=torch.float32)

        def double(module: nn.Module, args: object, out: Any) -> None:
            out["last_hidden_state"] = out.last_hidden_state * 2

        model.model.register_forward_hook(double)
        words = transformers.AutoTokenizer.from_pretrained(tiny("llama"))
        with open_model(model, tokenizer=words) as opened, pytest.raises(HeadatlasError, match="model's own logits"):
            opened.anatomy.logits(torch.randn(1, D))

    def test_a_gate_between_z_and_the_output_matrix_is_refused(self, tiny: Tiny) -> None:
        model = transformers.AutoModelForCausalLM.from_pretrained(tiny("llama"), dtype=torch.float32)
        model.model.layers[0].self_attn.o_proj.register_forward_pre_hook(lambda module, args: (args[0].sigmoid(),))
        with pytest.raises(HeadatlasError, match="reads z"):
            open_model(model, tokenizer=transformers.AutoTokenizer.from_pretrained(tiny("llama")))


class TestFactored:
    left = torch.randn(3, D, SIZE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    right = torch.randn(3, SIZE, D, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def test_equals_the_whole_matrix(self) -> None:
        whole, factored = self.left @ self.right, LowRank(self.left, self.right)
        assert torch.allclose(factored.trace(), whole.diagonal(dim1=-2, dim2=-1).sum(-1))
        assert torch.allclose(factored.frobenius(), torch.linalg.matrix_norm(whole))
        states = torch.randn(3, 5, D, dtype=torch.float64)
        assert torch.allclose(factored.apply(states), states @ whole)
        assert torch.allclose(factored.T.apply(states), states @ whole.mT)

    def test_eigenvalues_are_those_of_the_whole_that_are_not_zero(self) -> None:
        whole = torch.linalg.eigvals(self.left[0] @ self.right[0])
        whole = whole[whole.abs().argsort(descending=True)]
        ours = LowRank(self.left[0], self.right[0]).eigenvalues()
        ours = ours[ours.abs().argsort(descending=True)]
        assert (whole[SIZE:].abs() < 1e-9).all()
        assert torch.allclose(ours.abs(), whole[:SIZE].abs()) and torch.allclose(ours.sum(), whole.sum())

    @pytest.mark.parametrize("rank", [4, 12])
    def test_products_keep_the_smaller_rank(self, rank: int) -> None:
        one = LowRank(self.left, self.right)
        two = LowRank(torch.randn(3, D, rank, dtype=torch.float64), torch.randn(3, rank, D, dtype=torch.float64))
        product = one @ two
        assert torch.allclose(product.left @ product.right, self.left @ self.right @ two.left @ two.right)
        assert product.left.shape[-1] == min(rank, SIZE)

    def test_low_precision_is_computed_in_float64(self) -> None:
        low = LowRank(self.left.bfloat16(), self.right.bfloat16())
        exact = low.left.double() @ low.right.double()
        assert torch.allclose(low.frobenius(), torch.linalg.matrix_norm(exact), rtol=1e-12)

    def test_factors_that_do_not_chain(self) -> None:
        with pytest.raises(ValueError, match="do not chain"):
            LowRank(self.left, self.left)
        with pytest.raises(ValueError, match="do not meet"):
            LowRank(self.left, self.right) @ LowRank(self.left[:, :5], self.right)


def test_a_hand_written_model_has_the_matrices_that_were_written(tmp_path: Path) -> None:
    """One layer of attention whose OV of head 2 is known: it doubles the first coordinate of what it reads."""
    folder = save_tiny("llama", tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    attention = model.model.layers[0].self_attn
    with torch.no_grad():
        attention.v_proj.weight[SIZE : 2 * SIZE] = 0  # heads 2 and 3 read the second value head
        attention.v_proj.weight[SIZE, 0] = 1.0
        attention.o_proj.weight[:, 2 * SIZE : 3 * SIZE] = 0
        attention.o_proj.weight[0, 2 * SIZE] = 2.0
    with open_model(model, tokenizer=transformers.AutoTokenizer.from_pretrained(folder)) as opened:
        ov = opened.anatomy.ov(0, 2)
        states = torch.randn(3, D)
        expected = torch.zeros(3, D)
        expected[:, 0] = 2 * states[:, 0]
        assert torch.equal(ov.apply(states), expected)
        assert ov.trace().item() == 2.0 and ov.frobenius().item() == pytest.approx(2.0)
