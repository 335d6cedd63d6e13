"""Models whose layers are not alike: hybrids, in which some have no attention, and layers of different shape.

Whatever is measured is compared with plain transformers and a hook of the test's own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from conftest import louden, save_config
from headatlas import HeadatlasError
from headatlas.lab import (
    OpenModel,
    ablate_sets,
    attention_scores,
    direct_logit_attribution,
    doctor,
    log_probability,
    logit_lens,
    metric_per_prompt,
    open_model,
    path_patch,
    path_sweep,
    probe_heads,
    record,
    score_heads,
    sweep,
)
from headatlas.lab.ablation import ZValues
from headatlas.lab.activations.edits import zero
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.attention.streaming import ArgmaxKey, SinkMass
from headatlas.lab.fits import collect_z, mean_difference
from headatlas.lab.paths import path_runs
from headatlas.lab.paths.path_patching import Receiver
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout
from oracles import ablated_metric

SIZE: dict[str, Any] = {
    "vocab_size": 4096, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256, "intermediate_size": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
MAMBA = {"mamba_d_state": 8, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_chunk_size": 8}
CONFIGS: dict[str, Callable[[], Any]] = {
    "jamba": lambda: transformers.JambaConfig(
        **SIZE, attn_layer_period=2, attn_layer_offset=0, num_experts=1, num_experts_per_tok=1, use_mamba_kernels=False,
        mamba_d_state=8, mamba_dt_rank=4,
    ),
    "lfm2": lambda: transformers.Lfm2Config(**SIZE, layer_types=["conv", "full_attention", "conv", "conv"]),
    "falcon_h1": lambda: transformers.FalconH1Config(**SIZE, **MAMBA, mamba_d_ssm=64),
    "gemma4": lambda: transformers.Gemma4TextConfig(
        **SIZE, head_dim=16, global_head_dim=32, sliding_window=16, hidden_size_per_layer_input=0,
        layer_types=["sliding_attention", "full_attention"] * 2,
    ),
    "mimo": lambda: transformers.MiMoV2FlashConfig(
        **SIZE, head_dim=24, v_head_dim=16, sliding_window=16, mlp_layer_types=["dense"] * 4,
        layer_types=["full_attention", "sliding_attention"] * 2,
    ),
}  # fmt: skip
ATTENTION = {"jamba": (0, 2), "lfm2": (1,), "falcon_h1": (0, 1, 2, 3), "gemma4": (0, 1, 2, 3), "mimo": (0, 1, 2, 3)}
HYBRIDS = ("jamba", "lfm2")
MIXED = ("jamba", "lfm2", "falcon_h1")  # something beside attention looks back
LENGTH = 32
EXACT = 1e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save_config(CONFIGS[name](), tmp_path_factory.mktemp(name), louden)
        return made[name]

    return folder


@pytest.fixture(params=list(CONFIGS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(name: str, folders: Callable[[str], Path]) -> OpenModel:
    return open_model(folders(name))


@pytest.fixture
def plain(name: str, folders: Callable[[str], Path]) -> Any:
    """The model as transformers has it, with attention that gives its patterns."""
    load = transformers.AutoModelForCausalLM.from_pretrained
    return load(folders(name), dtype=torch.float32, attn_implementation="eager").eval()


def prompts(count: int = 3) -> list[Prompt]:
    drawn = torch.Generator().manual_seed(1)
    tokens, others = torch.randint(300, 4000, (2, count, LENGTH), generator=drawn)
    pairs = ((LENGTH - 1, 3), (9, 2))
    return [
        Prompt(tuple(one.tolist()), tuple(other.tolist()), pairs, readouts=(Readout(LENGTH - 1, answer=5),))
        for one, other in zip(tokens, others, strict=True)
    ]


def tokens_of(batch: list[Prompt]) -> torch.Tensor:
    return torch.tensor([prompt.tokens for prompt in batch])


def projection(model: OpenModel, plain: Any, layer: int) -> Any:
    """The output projection of a layer in the plain model."""
    own = next(path for path, module in model.model.named_modules() if module is model.anatomy.projections[layer])
    return plain.get_submodule(own)


@torch.no_grad()
def silenced(model: OpenModel, plain: Any, heads: list[Head], batch: list[Prompt], positions: Any) -> Any:
    """The log-probability of the answer where a plain hook sets z of some heads to zero: [prompt]."""
    handles = []
    for head in heads:
        width = model.anatomy.d_head_in(head.layer)

        def silence(_: Any, read: tuple[torch.Tensor, ...], head: Head = head, width: int = width) -> Any:
            z = read[0].clone()
            z[:, positions, head.head * width : (head.head + 1) * width] = 0
            return (z, *read[1:])

        handles.append(projection(model, plain, head.layer).register_forward_pre_hook(silence))
    logits = plain(tokens_of(batch), use_cache=False).logits[:, -1]
    for handle in handles:
        handle.remove()
    return logits.log_softmax(-1)[:, 5].numpy()


class TestNumbers:
    def test_layers_carry_the_models_own_number(self, name: str, model: OpenModel) -> None:
        anatomy = model.anatomy
        assert anatomy.layers == len(anatomy.blocks) == 4 and anatomy.attention_layers == ATTENTION[name]
        for layer, module in anatomy.attention.items():
            path = next(path for path, each in model.model.named_modules() if each is module)
            assert f"layers.{layer}." in path
        assert [head.layer for head in anatomy.all_heads] == [layer for layer in ATTENTION[name] for _ in range(4)]
        assert [anatomy.heads_in(layer) for layer in range(4)] == [4 * (layer in ATTENTION[name]) for layer in range(4)]
        assert anatomy.hybrid == (name in HYBRIDS) and anatomy.other_mixers == (name in MIXED)

    @pytest.mark.parametrize("name", ["gemma4", "mimo"])
    def test_shapes_are_those_of_each_layer(self, name: str, model: OpenModel) -> None:
        widths = {"gemma4": [16, 32] * 2, "mimo": [16] * 4}[name]
        shared = {"gemma4": [2] * 4, "mimo": [2, 4] * 2}[name]
        assert [model.anatomy.d_head_in(layer) for layer in range(4)] == widths
        assert [model.anatomy.kv_heads_in(layer) for layer in range(4)] == shared
        assert [model.anatomy.kv_head(Head(1, head)) for head in range(4)] == [
            head * shared[1] // 4 for head in range(4)
        ]
        for layer in range(4):
            assert model.anatomy.w_o(layer).shape == (4, widths[layer], 64)

    def test_heads_that_do_not_exist_are_nan(self, name: str, model: OpenModel) -> None:
        batch = prompts()
        there = np.array([[layer in ATTENTION[name]] * 4 for layer in range(4)])
        scores = attention_scores(model, batch)
        found = score_heads(model, tokens_of(batch), {"sink": SinkMass(), "most": ArgmaxKey()})
        for each in (
            scores.score,
            scores.null,
            scores.sink,
            sweep(model, batch, log_probability).effect.transpose(2, 0, 1),
        ):
            assert each is not None and (np.isfinite(each) == there).all()
        assert (torch.isfinite(found["sink"]).all(0).all(-1).numpy() == there).all()
        assert ((found["most"] == -1).all(0).all(-1).numpy() == ~there).all()

    @pytest.mark.parametrize("name", ["jamba"])
    def test_a_head_of_a_layer_without_attention_is_refused(self, model: OpenModel) -> None:
        for layer in (1, 3, 4, -1):
            with pytest.raises(
                ValueError, match=f"L{layer}H0 is not in a model of 4 layers with attention in layers 0"
            ):
                ablate_sets(model, prompts(), log_probability, [[Head(layer, 0)]])
        with pytest.raises(ValueError, match="layer 1 has no attention in a model of 4 layers"):
            record(model, tokens_of(prompts()), ["z"], layers=[1])
        with pytest.raises(ValueError, match="layer 3 has no attention"):
            model.anatomy.w_o(3)

    @pytest.mark.parametrize("name", ["jamba", "gemma4"])
    def test_the_doctor_says_so(self, name: str, model: OpenModel) -> None:
        (check,) = (check for check in doctor(model).checks if check.name == "layers")
        said = {
            "jamba": ("attention in layers 0, 2; heads carry these numbers; the others hold JambaMambaMixer",),
            "gemma4": (
                "4 heads x 16, 2 key/value heads in layers 0, 2",
                "4 heads x 32, 2 key/value heads in layers 1, 3",
            ),
        }
        assert check.verdict == "note" and all(part in check.detail for part in said[name])


class TestAgainstPlainTransformers:
    @torch.no_grad()
    def test_patterns(self, name: str, model: OpenModel, plain: Any) -> None:
        tokens = tokens_of(prompts())
        found = record(model, tokens, ["pattern"])
        seen = [each for each in plain(tokens, output_attentions=True, use_cache=False).attentions if each is not None]
        assert len(seen) == len(ATTENTION[name])
        for layer, pattern in zip(ATTENTION[name], seen, strict=True):
            assert (found["pattern", layer] - pattern).abs().max() < EXACT

    @torch.no_grad()
    def test_the_lens_at_the_end_gives_the_models_logits(self, model: OpenModel, plain: Any) -> None:
        tokens = tokens_of(prompts())
        lens = logit_lens(model, tokens, [model.anatomy.layers])[0]
        assert (lens - plain(tokens, use_cache=False).logits).abs().max() < EXACT * 10
        states = plain(tokens, use_cache=False, output_hidden_states=True).hidden_states
        seen = record(model, tokens, ["resid"])
        for layer in range(4):
            assert (seen["resid", layer] - states[layer]).abs().max() < EXACT * states[layer].abs().max()

    @pytest.mark.parametrize("positions", ["all", "last", [LENGTH - 3, LENGTH - 1], [2, LENGTH - 5]])
    def test_sweep(self, positions: Any, model: OpenModel, plain: Any) -> None:
        batch = prompts()
        where = {"all": slice(None), "last": [LENGTH - 1]}.get(str(positions), positions)
        found = sweep(model, batch, log_probability, "zero", positions)
        for head in model.anatomy.all_heads:
            expected = silenced(model, plain, [head], batch, where)
            assert np.abs(found.ablated[head] - expected).max() < EXACT, (head, found.ways, found.notes)
        assert np.nanmax(np.abs(found.effect)) > 20 * EXACT

    def test_sets_over_layers(self, model: OpenModel, plain: Any) -> None:
        batch, heads = prompts(), model.anatomy.all_heads
        sets = [[heads[0]], [heads[1], heads[-1]], [heads[-2]], list(heads)]
        found = ablate_sets(model, batch, log_probability, sets, "zero")
        for each, values in zip(sets, found, strict=True):
            assert np.abs(values - silenced(model, plain, each, batch, slice(None))).max() < EXACT
        assert np.abs(ablated_metric(model, batch, log_probability, sets, "zero") - found).max() < EXACT

    @torch.no_grad()
    @pytest.mark.parametrize("name", ["jamba", "lfm2", "gemma4", "mimo"])
    def test_direct_attribution_adds_up(self, model: OpenModel, plain: Any) -> None:
        tokens = tokens_of(prompts())
        found = direct_logit_attribution(model, tokens, [5, 6, 7], [[8], [9], [10]])
        logits = plain(tokens, use_cache=False).logits[:, -1]
        difference = logits[range(3), [5, 6, 7]] - logits[range(3), [8, 9, 10]]
        assert (found.total - difference).abs().max() < 1e-4
        assert found.heads.shape == (3, 4, 4)

    @torch.no_grad()
    def test_direct_attribution_is_refused_where_blocks_do_more(self, folders: Callable[[str], Path]) -> None:
        with pytest.raises(HeadatlasError, match="not attribute its logits"):
            direct_logit_attribution(open_model(folders("falcon_h1")), tokens_of(prompts()), [5, 6, 7])

    @torch.no_grad()
    def test_paths(self, name: str, model: OpenModel) -> None:
        batch = prompts()
        runs = path_runs(model, tokens_of(batch), torch.tensor([prompt.corrupted for prompt in batch]))

        def metric(logits: torch.Tensor) -> torch.Tensor:
            return logits[:, -1].log_softmax(-1)[:, 5]

        receiver = Receiver(model.anatomy.all_heads[-1], "q")
        for ends in ("logits", [receiver]):
            found = path_sweep(runs, ends, metric).effect  # type: ignore[arg-type]
            assert found.shape == (4, 4, 3)
            for head in model.anatomy.all_heads:
                expected = path_patch(runs, [head], ends, metric)  # type: ignore[arg-type]
                assert (found[head] - expected).abs().max() < EXACT
            assert torch.isnan(found).any() == (name in HYBRIDS)


class TestAnalyses:
    def test_probes_and_steering_leave_out_heads_that_do_not_exist(self, name: str, model: OpenModel) -> None:
        batch = prompts(12)
        z = collect_z(model, [prompt.tokens for prompt in batch])
        assert z.shape == (12, 4, 4, model.anatomy.d_head)
        there = torch.tensor([[layer in ATTENTION[name]] * 4 for layer in range(4)])
        found = probe_heads(z, [0, 1] * 6, range(12), draws=5)
        for grid in (found.accuracy, found.low, found.right[0], found.p):
            assert (torch.isfinite(grid) == there).all()
        vectors = mean_difference(z, [0, 1] * 6).vectors
        steered = ZValues.of_heads(model.anatomy, vectors, added=True)
        assert set(steered.z) == set(ATTENTION[name])
        moved = ablate_sets(model, batch, log_probability, [list(model.anatomy.all_heads)], steered)
        assert (
            np.isfinite(moved).all() and np.abs(moved - metric_per_prompt(model, batch, log_probability)).max() > 1e-3
        )

    def test_edits_of_every_layer_with_attention(self, name: str, model: OpenModel, plain: Any) -> None:
        batch, heads = prompts(), [Head(layer, 1) for layer in ATTENTION[name]]
        with intervene(model, [zero("z", heads)]):
            found = metric_per_prompt(model, batch, log_probability)
        assert np.abs(found - silenced(model, plain, heads, batch, slice(None))).max() < EXACT
