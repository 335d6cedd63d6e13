"""Families outside transformers' registry, and gated attention: measurements equal plain transformers with hooks."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from conftest import FAMILIES, GATED, GQA, ROUTED, roughen
from headatlas import HeadatlasError, specimens
from headatlas.lab import OpenModel, attention_scores, forward, open_model
from headatlas.lab.ablation.masked_keys import without_keys
from headatlas.lab.ablation.sweeps import ablate_sets, sweep
from headatlas.lab.activations.edits import knockout, zero
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.activations.recording import record
from headatlas.lab.anatomy import families as routes
from headatlas.lab.graphs.acdc import prune_edges
from headatlas.lab.graphs.edge_scores import edge_attribution
from headatlas.lab.hooks.attention_interface import attention_hooks, projection_reader
from headatlas.lab.loading.attention_route import unrouted
from headatlas.lab.running.metrics import logit_difference
from headatlas.lab.safety.doctor import doctor
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout

Config = Callable[[], transformers.PretrainedConfig]
TOKENS, OTHERS = torch.randint(1, 299, (2, 3, 40), generator=torch.Generator().manual_seed(3))  # past every window
HYBRID = GQA | {"num_hidden_layers": 4, "head_dim": 16}
LINEAR = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
}  # fmt: skip
WHOLE = {"vocab_size": 4096, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MORE: dict[str, Config] = {
    "falcon_alibi": lambda: transformers.FalconConfig(
        **WHOLE, multi_query=False, parallel_attn=False, alibi=True, bias=True, bos_token_id=0, eos_token_id=0
    ),
    "bloom_odd": lambda: transformers.BloomConfig(
        vocab_size=4096, hidden_size=36, n_layer=2, n_head=3, apply_residual_connection_post_layernorm=True,
        bos_token_id=0, eos_token_id=0,
    ),
    "gpt_neox_japanese": lambda: transformers.GPTNeoXJapaneseConfig(
        **WHOLE, intermediate_multiple_size=2, max_position_embeddings=128, bos_token_id=0, eos_token_id=0
    ),
    "mpt_clipped": lambda: transformers.MptConfig(
        vocab_size=4096, d_model=36, n_layers=2, n_heads=3, max_seq_len=128, expansion_ratio=2, bos_token_id=0,
        eos_token_id=0, attn_config={"clip_qkv": 0.4},
    ),
    "bitnet": lambda: transformers.BitNetConfig(**GQA),
    "hybrid": lambda: transformers.Qwen3_5TextConfig(
        **HYBRID, **LINEAR,
        layer_types=["linear_attention", "full_attention", "full_attention", "linear_attention"],
    ),
    "afmoe": lambda: transformers.AfmoeConfig(
        **GQA, head_dim=16, num_experts=2, num_experts_per_tok=1, num_dense_layers=1, moe_intermediate_size=32
    ),
}  # fmt: skip
ALL = {name: FAMILIES[name] for name in (*ROUTED, *GATED)} | MORE
LED = [*ROUTED, "falcon_alibi", "bloom_odd", "gpt_neox_japanese", "mpt_clipped"]
PROMPTS = [
    Prompt(tuple(a.tolist()), tuple(b.tolist()), readouts=(Readout(39, 5, (6, 7)),))
    for a, b in zip(TOKENS, OTHERS, strict=True)
]


def made(family: str, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(ALL[family](), **options).eval().requires_grad_(False)
    roughen(model)
    return model


@functools.cache
def words() -> Any:
    return transformers.AutoTokenizer.from_pretrained(specimens.folder())


def opened(model: Any, called: str = "made") -> OpenModel:
    return open_model(model, tokenizer=words(), called=called)


def logits_of(model: Any, tokens: Tensor = TOKENS, **options: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(tokens, use_cache=False, **options).logits
    return found


def projections(model: Any) -> dict[int, nn.Module]:
    """The output projections, by the names that the families give them."""
    names = ("out_proj", "dense", "o_proj")
    found: dict[int, nn.Module] = {}
    for path, module in model.named_modules():
        parts = path.split(".")
        if parts[-1] in names and "attn" in path.replace("attention", "attn") and "linear_attn" not in path:
            found[next(int(part) for part in parts if part.isdigit())] = module
    return found


def silenced(model: Any, heads: list[Head], total: int) -> Tensor:
    """Logits of a plain model with some heads zero where the output projection reads them."""
    handles = []
    for head in heads:

        def hook(_: nn.Module, read: tuple[Tensor, ...], number: int = head.head) -> tuple[Tensor, ...]:
            z = read[0].clone().unflatten(-1, (total, -1))
            z[..., number, :] = 0.0
            return (z.flatten(-2),)

        handles.append(projections(model)[head.layer].register_forward_pre_hook(hook))
    try:
        return logits_of(model)
    finally:
        for handle in handles:
            handle.remove()


def difference(logits: Tensor) -> Tensor:
    return logits[:, -1, 5] - logits[:, -1, [6, 7]].mean(-1)


@pytest.mark.parametrize("family", ALL)
class TestAgainstPlainHooks:
    def test_sweeps_and_sets(self, family: str) -> None:
        model = made(family)
        clean = difference(logits_of(model))
        heads = model.config.num_attention_heads
        layers = sorted(projections(model))
        chosen = [Head(layer, head) for layer in layers for head in range(heads)]
        plain = {head: difference(silenced(model, [head], heads)) - clean for head in chosen}
        together = difference(silenced(model, chosen[1:4], heads)) - clean
        with opened(model) as ours:
            assert list(ours.anatomy.attention) == layers and ours.anatomy.heads == heads
            everywhere = sweep(ours, PROMPTS, logit_difference, "zero")
            sets = ablate_sets(ours, PROMPTS, logit_difference, [chosen[1:4]], "zero")
        for head, expected in plain.items():
            found = torch.as_tensor(everywhere.effect[head.layer, head.head]).float()
            assert torch.allclose(found, expected, atol=2e-5), head
        assert not everywhere.notes
        assert torch.allclose(torch.as_tensor(sets[0]).float() - clean, together, atol=2e-5)

    def test_the_last_position_alone(self, family: str) -> None:
        """Positions before it are taken from the clean run, where a family allows that."""
        model = made(family)
        clean = difference(logits_of(model))
        layer = max(projections(model)) if family != "hybrid" else 2
        total = model.config.num_attention_heads

        def last(_: nn.Module, read: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            z = read[0].clone().unflatten(-1, (total, -1))
            z[:, -1, 1] = 0.0
            return (z.flatten(-2),)

        handle = projections(model)[min(projections(model))].register_forward_pre_hook(last)
        first = difference(logits_of(model)) - clean
        handle.remove()
        with opened(model) as ours:
            found = sweep(ours, PROMPTS, logit_difference, "zero", "last")
        assert layer in ours.anatomy.attention
        assert torch.allclose(torch.as_tensor(found.effect[min(projections(model)), 1]).float(), first, atol=2e-5)
        assert bool(found.notes) == (family == "hybrid")

    def test_recording_z_and_the_way_back(self, family: str) -> None:
        model = made(family)
        before, reads = logits_of(model), dict[int, Tensor]()
        for layer, module in projections(model).items():
            module.register_forward_pre_hook(lambda _, read, layer=layer: reads.__setitem__(layer, read[0]))
        logits_of(model)
        with opened(model) as ours:
            seen = record(ours, TOKENS, ["z", "pattern", "v"])
            for layer, expected in reads.items():
                assert torch.allclose(seen["z", layer].flatten(2), expected, atol=1e-6)
            with unrouted(ours.model, ours.implementation):
                assert torch.equal(logits_of(model), before)
            head = Head(min(reads), 1)
            with pytest.raises(RuntimeError, match="mine"), attention_hooks({ours.anatomy.attention[head.layer]: fail}):
                logits_of(model)
            assert torch.equal(logits_of(model), before)
            with intervene(ours, [zero("z", [head])]):
                assert not torch.equal(logits_of(model), before)
            assert torch.equal(logits_of(model), before)
        assert torch.equal(logits_of(model), before)
        assert not any("_attn" in vars(module) or "forward" in vars(module) for module in model.modules())

    def test_two_models_at_once(self, family: str) -> None:
        one, other = made(family), made(family, seed=1)
        clean, alone = logits_of(other), logits_of(one)
        with opened(one) as first, opened(other) as second:
            layer = first.anatomy.attention_layers[0]
            with intervene(first, [zero("z", [Head(layer, 0)])]):
                assert torch.equal(logits_of(other), clean) and not torch.equal(logits_of(one), alone)
                with intervene(second, [zero("z", [Head(layer, 1)])]):
                    both = logits_of(other)
                assert torch.equal(logits_of(other), clean) and not torch.equal(both, clean)
            assert torch.allclose(both, silenced(other, [Head(layer, 1)], second.anatomy.heads), atol=1e-5)


def fail(call: Any, z: Tensor) -> Tensor:
    raise RuntimeError("mine")


@pytest.mark.parametrize("family", LED)
class TestLedThroughTheSeam:
    def test_patterns_and_logits_are_those_of_the_plain_model(self, family: str) -> None:
        for implementation in ("eager", "sdpa") if family.startswith("falcon") else ("eager",):
            self.compare(family, implementation)

    @staticmethod
    def compare(family: str, implementation: str) -> None:
        model = made(family, attn_implementation=implementation)
        plain = logits_of(model)
        with torch.no_grad():  # with sdpa, Falcon shows weights that it does not use: the mask is added as 0 and 1
            shows = made(family, attn_implementation="eager")
            expected = shows(TOKENS, use_cache=False, output_attentions=True).attentions
        with opened(model) as ours:
            seen = record(ours, TOKENS, ["pattern", "v", "z"])
            with attention_hooks({module: lambda call, z: None for module in ours.anatomy.attention.values()}):
                assert torch.allclose(logits_of(model), plain, atol=2e-6)
        for layer, pattern in enumerate(expected):
            if (family, implementation) == ("falcon_alibi", "sdpa"):  # eager attention adds the bias twice
                assert not torch.allclose(seen["pattern", layer], pattern, atol=1e-3)
            else:
                assert torch.allclose(seen["pattern", layer], pattern, atol=1e-6)
            value = seen["v", layer].repeat_interleave(ours.anatomy.heads // seen["v", layer].shape[2], 2)
            given = torch.einsum("bhqk,bkhd->bqhd", seen["pattern", layer], value)
            assert torch.allclose(given, seen["z", layer], atol=1e-5)

    def test_it_goes_on_from_a_cache(self, family: str) -> None:
        model = made(family)
        whole = logits_of(model)
        with opened(model) as ours:
            nothing = {module: lambda call, z: None for module in ours.anatomy.attention.values()}
            with attention_hooks(nothing), torch.no_grad():
                first = model(TOKENS[:, :25], use_cache=True)
                second = model(TOKENS[:, 25:], past_key_values=first.past_key_values, use_cache=True)
        assert torch.allclose(torch.cat([first.logits, second.logits], 1), whole, atol=1e-5)

    def test_a_knockout_is_what_a_mask_would_do(self, family: str) -> None:
        """The second token hidden from all heads is a prompt in which nobody is told of it, but for itself."""
        model = made(family)
        with opened(model) as ours:
            heads = [Head(layer, head) for layer in (0, 1) for head in range(ours.anatomy.heads)]
            edges = torch.tensor([[query, 1] for query in range(2, 40)])
            with intervene(ours, [knockout(heads, edges)]):
                seen = record(ours, TOKENS, ["pattern"])
                one = forward(ours, TOKENS, {})
                changed = TOKENS.clone()
                changed[:, 1] = (TOKENS[:, 1] + 1) % 299
                other = forward(ours, changed, {})
        assert seen["pattern", 1][:, :, 2:, 1].abs().max() == 0
        assert torch.allclose(seen["pattern", 1].sum(-1), torch.ones(3, ours.anatomy.heads, 40), atol=1e-5)
        assert torch.allclose(one[:, 2:], other[:, 2:], atol=1e-5) and not torch.allclose(one[:, 1], other[:, 1])

    def test_another_shape_of_its_attention_is_refused(self, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
        model = made(family)
        route = routes.route_of(model)
        assert route is not None
        kind = type(next(module for module in model.modules() if type(module).__name__ == route.attention))
        monkeypatch.setattr(kind, route.function, lambda self, anything: anything)
        with pytest.raises(HeadatlasError, match="has another shape"):
            opened(model)

    def test_other_implementations_are_refused(self, family: str) -> None:
        model = made(family)
        model.config._attn_implementation_internal = "flash_attention_2"
        with pytest.raises(HeadatlasError, match=r"flash_attention_2.*load it with attn_implementation="):
            opened(model)


class TestDoctor:
    def test_eager_falcon_adds_its_bias_twice(self) -> None:
        with opened(made("falcon_alibi", attn_implementation="eager")) as model:
            found = {check.name: check for check in doctor(model).checks}
        assert "adds ALiBi twice" in found["peculiarities"].detail and found["recomputed"].verdict == "pass"

    def test_clipped_values(self) -> None:
        with opened(made("mpt_clipped")) as model:
            found = {check.name: check.detail for check in doctor(model).checks}
            assert model.context == 128
        assert "clipped at 0.4" in found["peculiarities"]

    def test_a_hybrid_with_a_gate(self) -> None:
        with opened(made("hybrid")) as model:
            diagnosis = doctor(model)
        found = {check.name: check.detail for check in diagnosis.checks}
        assert diagnosis.safe and "a hybrid of 4 layers, with attention in layers 1, 2" in found["layers"]
        assert "attention is gated in 2 layers: z is behind the gate" in found["peculiarities"]

    def test_bloom_that_slices_its_projection(self) -> None:
        model = made("bloom_odd")
        for block in model.transformer.h:
            block.self_attention.pretraining_tp, block.self_attention.slow_but_exact = 2, True
        with pytest.raises(HeadatlasError, match="slow_but_exact"):
            opened(model)


class Between(nn.Module):
    """Stands before an output projection; `kind` says what it does to z."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "gate":
            return x * torch.linspace(-1.0, 2.0, x.shape[-1]).sigmoid()
        heads = x.unflatten(-1, (4, -1)) if self.kind == "norm" else x
        normed = heads / (heads.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return normed.flatten(2) if self.kind == "norm" else normed


class TestWhatStandsBeforeTheProjection:
    @staticmethod
    def model(kind: str) -> Any:
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(FAMILIES["llama"]()).eval().requires_grad_(False)
        roughen(model)
        for block in model.model.layers:
            block.self_attn.o_proj = nn.Sequential(Between(kind), block.self_attn.o_proj)
        return model

    @pytest.mark.parametrize("kind", ["gate", "norm", "mixed"])
    def test_is_told_by_numbers(self, kind: str) -> None:
        model = self.model(kind)
        before = logits_of(model)
        with opened(model) as ours:
            assert [projection_reader(module).between for module in ours.anatomy.attention.values()] == [kind] * 2  # type: ignore[union-attr]
            assert ours.anatomy.projections[0] is model.model.layers[0].self_attn.o_proj[1]
            with intervene(ours, [zero("z", [Head(0, 2)])]):
                edited = logits_of(model)
            assert not model.model.layers[0].self_attn.o_proj[1]._forward_pre_hooks
            with opened(model, "again") as twice:  # what is known of the module is known still
                assert twice.anatomy.projections[0] is ours.anatomy.projections[0]

        def hook(_: nn.Module, read: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            z = read[0].clone()
            z[..., 2 * 8 : 3 * 8] = 0.0
            return (z,)

        handle = model.model.layers[0].self_attn.o_proj[1].register_forward_pre_hook(hook)
        assert torch.allclose(edited, logits_of(model), atol=1e-5)
        handle.remove()
        assert torch.equal(logits_of(model), before)

    @pytest.mark.parametrize("family", GATED)
    def test_edges_are_refused(self, family: str) -> None:
        with opened(made(family)) as model:
            for what in (
                lambda: edge_attribution(model, PROMPTS, logit_difference),
                lambda: prune_edges(model, PROMPTS, 0.1, [Head(0, 0), Head(1, 0)]),
            ):
                with pytest.raises(HeadatlasError, match="through a gate on their output"):
                    what()

    def test_hidden_keys_behind_a_norm_are_refused(self) -> None:
        with opened(made("bitnet")) as model, pytest.raises(HeadatlasError, match="stands a norm"):
            sweep(model, PROMPTS, logit_difference, without_keys(model, lambda prompt: [(39, 3)]))


SIZED = {"vocab_size": 4096, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
ENDS = {"bos_token_id": 0, "eos_token_id": 0}
# With room in a head for dimensions that position encoding leaves alone, or nearly.
ROOMY: dict[str, Config] = {
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        vocab_size=4096, hidden_size=64, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], **ENDS
    ),
    "gptj": lambda: transformers.GPTJConfig(vocab_size=4096, n_embd=64, n_layer=2, n_head=4, rotary_dim=4, **ENDS),
    "codegen": lambda: transformers.CodeGenConfig(
        vocab_size=4096, n_embd=64, n_layer=2, n_head=4, rotary_dim=4, **ENDS
    ),
    "falcon": lambda: transformers.FalconConfig(
        **SIZED, multi_query=False, rope_parameters={"rope_type": "default", "rope_theta": 1e9}, **ENDS
    ),
    "bloom": lambda: transformers.BloomConfig(vocab_size=4096, hidden_size=64, n_layer=2, n_head=4, **ENDS),
    "mpt": lambda: transformers.MptConfig(vocab_size=4096, d_model=64, n_layers=2, n_heads=4, **ENDS),
    "qwen3_next": lambda: transformers.Qwen3NextConfig(
        **SIZED, num_key_value_heads=4, intermediate_size=64, head_dim=16, layer_types=["full_attention"] * 2,
        num_experts=2, num_experts_per_tok=1, moe_intermediate_size=32, shared_expert_intermediate_size=32, **ENDS
    ),
}  # fmt: skip
FREE = {"falcon": [*range(3, 8), *range(11, 16)]}  # of 16 dimensions; in the others the first four may be turned


@pytest.mark.parametrize("family", ROOMY)
@torch.no_grad()
def test_a_planted_head_that_looks_at_copies_is_found(family: str) -> None:
    """It compares what it reads with itself, in its free dimensions. In pairs, each token of the first half comes again
    in the second, in another order; a head sees the copy and the token itself alike."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(ROOMY[family]()).eval().requires_grad_(False)
    if family == "gpt_neo":
        model.transformer.wpe.weight.zero_()
    for module in model.modules():
        if type(module).__name__ == "Qwen3NextAttention":  # which norms queries and keys
            module.q_norm.weight.fill_(3.0)
            module.k_norm.weight.fill_(3.0)
    planted = Head(0, 3)
    tokens, order = torch.randperm(4000)[:24] + 1, torch.randperm(24)
    pairs = tuple((24 + place, int(first)) for place, first in enumerate(order))
    prompts = [Prompt((*tokens.tolist(), *tokens[order].tolist()), tuple(torch.randperm(4000)[:48].tolist()), pairs)]
    with opened(model) as ours:
        free = FREE.get(family, list(range(4, 16)))
        before = attention_scores(ours, prompts).score[0]
        for weight in (ours.anatomy.w_q(0)[3], ours.anatomy.w_k(0)[3]):  # views of the model's own weights
            weight.zero_()
            weight[:, free] = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(1)))[0][
                :, : len(free)
            ]
        if family != "qwen3_next":
            ours.anatomy.w_q(0)[3].mul_(4.0 if family == "gpt_neo" else 16.0)
        found = attention_scores(ours, prompts)
    assert before.max() < 0.15
    others = found.score[0].copy()
    others[planted] = 0.0
    assert found.score[0][planted] > 0.4 and others.max() < 0.15
    assert found.null[0][planted] < 0.05
