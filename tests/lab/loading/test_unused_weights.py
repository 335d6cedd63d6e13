"""Every tensor of the weight files is used, or known to be harmless, or the model is refused with its name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from conftest import EACH_FAMILY, FAMILIES, GQA
from headatlas import HeadatlasError, specimens
from headatlas.cli.program import main
from headatlas.lab import open_model
from headatlas.lab.safety.doctor import doctor

Tiny = Callable[[str], Path]
TOKENS = torch.randint(1, 299, (2, 24), generator=torch.Generator().manual_seed(1))

# Families beside those of conftest whose weights are renamed, merged or split on their way into the model.
MORE: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "olmoe": lambda: transformers.OlmoeConfig(**GQA, num_experts=2, num_experts_per_tok=1),
    "granitemoe": lambda: transformers.GraniteMoeConfig(**GQA, num_local_experts=2, num_experts_per_tok=1),
    "qwen2_moe": lambda: transformers.Qwen2MoeConfig(
        **GQA,
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
    ),
    "cohere2": lambda: transformers.Cohere2Config(**GQA, sliding_window=16),
    "glm4": lambda: transformers.Glm4Config(**GQA, head_dim=8),
    "exaone4": lambda: transformers.Exaone4Config(**GQA, sliding_window=16),
    "bitnet-like tied llama": lambda: transformers.LlamaConfig(**GQA, tie_word_embeddings=True),
    "falcon, new": lambda: transformers.FalconConfig(
        vocab_size=4096, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, new_decoder_architecture=True
    ),
    "mamba": lambda: transformers.MambaConfig(vocab_size=4096, hidden_size=32, num_hidden_layers=2, state_size=4),
}


def saved(config: transformers.PretrainedConfig, folder: Path, **options: Any) -> Path:
    """An untrained model of a configuration, with the tokenizer of the specimen."""
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder, **options)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(specimens.folder() / name, folder / name)
    return folder


def copied(folder: Path, to: Path, **more: torch.Tensor) -> Path:
    """A copy of a model folder, with more tensors in its weight file."""
    shutil.copytree(folder, to)
    weights = load_file(to / "model.safetensors")
    save_file(weights | more, to / "model.safetensors", metadata={"format": "pt"})
    return to


def configured(folder: Path, **changes: Any) -> Path:
    """The folder, with other values in its configuration."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def logits(folder: Path, **options: Any) -> torch.Tensor:
    with open_model(folder, **options) as model, torch.no_grad():
        found: torch.Tensor = model.model(TOKENS, use_cache=False).logits
        return found


def left_out(folder: Path) -> dict[str, tuple[str, ...]]:
    with open_model(folder) as model:
        return model.opened.left_out


@pytest.mark.parametrize("family", [*EACH_FAMILY, *MORE])
def test_what_transformers_saves_is_loaded_whole(family: str, tmp_path: Path) -> None:
    """Against transformers' own loading of the folder: no tensor is left out, and every weight is the same."""
    from headatlas.lab.loading import configuration, loading

    folder = saved((FAMILIES | MORE)[family](), tmp_path)
    loaded = loading.load_model(
        "it",
        folder,
        configuration.read_config("it", folder, False),
        dtype=torch.float32,
        device_map=None,
        allow_pickle=False,
        trust_remote_code=False,
        ignore_unused=False,
    )
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours, theirs = loaded.model.state_dict(), plain.state_dict()
    assert type(loaded.model) is type(plain) and loaded.left_out == {}
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_weights_in_shards_are_loaded_whole(tiny: Tiny, tmp_path: Path) -> None:
    saved(FAMILIES["llama"](), tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert torch.equal(logits(tmp_path), logits(tiny("llama")))


class TestAreRefused:
    def refused(self, folder: Path, *said: str) -> None:
        with pytest.raises(HeadatlasError) as caught:
            open_model(folder)
        assert "\n" not in str(caught.value) and "--ignore-unused" in str(caught.value)
        for each in said:
            assert each in str(caught.value), str(caught.value)
        diagnosis = doctor(folder)
        assert [(check.name, check.verdict) for check in diagnosis.checks] == [("files", "fail")]

    def test_biases_that_the_configuration_denies(self, tmp_path: Path) -> None:
        saved(transformers.LlamaConfig(**GQA, attention_bias=True), tmp_path)
        configured(tmp_path, attention_bias=False)
        self.refused(tmp_path, "layers.0.self_attn.k_proj.bias", "and 5 more tensors", "attention_bias: false")

    def test_layers_beyond_those_that_are_asked_for(self, tiny: Tiny, tmp_path: Path) -> None:
        folder = configured(copied(tiny("llama"), tmp_path / "model"), num_hidden_layers=1)
        self.refused(folder, "model.layers.1.", "it has 1 layers, and the files have 2")

    def test_layers_that_transformers_ignores_by_their_number(self, tiny: Tiny, tmp_path: Path) -> None:
        """transformers drops layer 61 of DeepSeek V3 in silence, whatever is in it."""
        more = {f"model.layers.61.{name}.weight": torch.zeros(32) for name in ("input_layernorm", "extra")}
        folder = copied(_deepseek(tmp_path / "made"), tmp_path / "model", **more)
        self.refused(folder, "model.layers.61.extra.weight")

    def test_norms_on_queries_that_the_model_lacks(self, tiny: Tiny, tmp_path: Path) -> None:
        more = {"model.layers.0.self_attn.q_norm.weight": torch.ones(8)}
        self.refused(copied(tiny("llama"), tmp_path / "model", **more), "self_attn.q_norm.weight")

    def test_an_unembedding_bias(self, tiny: Tiny, tmp_path: Path) -> None:
        self.refused(copied(tiny("llama"), tmp_path / "model", **{"lm_head.bias": torch.ones(4096)}), "lm_head.bias")

    def test_a_mask_that_is_none(self, tiny: Tiny, tmp_path: Path) -> None:
        more = {"transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8)}  # it would let every token see all others
        self.refused(copied(tiny("gpt2"), tmp_path / "model", **more), "h.0.attn.bias")

    def test_rotary_frequencies_that_the_configuration_does_not_give(self, tiny: Tiny, tmp_path: Path) -> None:
        other = 500_000.0 ** -(torch.arange(4) / 4)
        more = {"model.layers.0.self_attn.rotary_emb.inv_freq": other}
        self.refused(copied(tiny("llama"), tmp_path / "model", **more), "rotary_emb.inv_freq")

    def test_shards_beside_a_whole_file(self, tiny: Tiny, tmp_path: Path) -> None:
        folder = saved(FAMILIES["llama"](), tmp_path, max_shard_size="50KB")
        shutil.copy(tiny("llama") / "model.safetensors", folder)
        self.refused(folder, "(model-00001-of-")

    def test_a_tensor_under_two_names(self, tiny: Tiny, tmp_path: Path) -> None:
        weights = load_file(tiny("llama") / "model.safetensors")
        name = "layers.0.self_attn.q_proj.weight"
        with pytest.raises(HeadatlasError, match="under two names"):
            open_model(copied(tiny("llama"), tmp_path / "model", **{name: weights[f"model.{name}"] + 1}))

    def test_unless_asked_for(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        saved(transformers.LlamaConfig(**GQA, attention_bias=True), tmp_path)
        configured(tmp_path, attention_bias=False)
        plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
        with torch.no_grad():
            expected = plain(TOKENS, use_cache=False).logits
        assert torch.equal(logits(tmp_path, ignore_unused=True), expected)
        capsys.readouterr()
        assert main(["doctor", str(tmp_path)]) == 2
        assert main(["doctor", str(tmp_path), "--ignore-unused", "--json"]) == 0
        text = capsys.readouterr().out
        check = json.loads(text[text.index("{") :])["checks"][-1]
        assert (check["name"], check["verdict"]) == ("files", "note") and "8 tensors" in check["detail"]


def _deepseek(folder: Path) -> Path:
    sizes = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}
    return saved(
        transformers.DeepseekV3Config(
            **GQA | {"num_key_value_heads": 4},
            **sizes,
            n_routed_experts=2,
            n_group=1,
            topk_group=1,
            num_experts_per_tok=1,
            moe_intermediate_size=16,
            first_k_dense_replace=1,
        ),
        folder,
    )


class TestKnownLeftovers:
    """Each is left out, is named with its reason, and changes nothing."""

    def harmless(self, folder: Path, to: Path, reason: str, **more: torch.Tensor) -> None:
        copied(folder, to, **more)
        ((why, names),) = left_out(to).items()
        assert reason in why and set(names) == set(more)
        assert torch.equal(logits(to), logits(folder))
        check = next(check for check in doctor(to).checks if check.name == "files")
        assert f"left out: {len(more)} tensors" in check.detail and why in check.detail and check.verdict == "pass"

    def test_masks_of_gpt2(self, tiny: Tiny, tmp_path: Path) -> None:
        mask = torch.ones(128, 128).tril().reshape(1, 1, 128, 128)
        more = {f"transformer.h.{layer}.attn.bias": mask.clone() for layer in range(2)}
        self.harmless(tiny("gpt2"), tmp_path / "model", "causal mask", **more)

    def test_masks_of_gpt_neox(self, tiny: Tiny, tmp_path: Path) -> None:
        more = {
            "gpt_neox.layers.0.attention.bias": torch.ones(16, 16).tril().bool().reshape(1, 1, 16, 16),
            "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
        }
        self.harmless(tiny("gpt_neox"), tmp_path / "model", "causal mask", **more)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_rotary_frequencies(self, dtype: torch.dtype, tiny: Tiny, tmp_path: Path) -> None:
        own = (10_000.0 ** -(torch.arange(4) / 4)).to(dtype)
        more = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": own.clone() for layer in range(2)}
        self.harmless(tiny("llama"), tmp_path / "model", "rotary frequencies", **more)

    def test_a_value_head(self, tiny: Tiny, tmp_path: Path) -> None:
        more = {"v_head.summary.weight": torch.ones(1, 32), "v_head.summary.bias": torch.ones(1)}
        self.harmless(tiny("llama"), tmp_path / "model", "value head", **more)

    @pytest.mark.parametrize("name", ["mtp.layers.0.input_layernorm.weight", "model.mtp.0.enorm.weight"])
    def test_layers_that_predict_ahead(self, name: str, tiny: Tiny, tmp_path: Path) -> None:
        self.harmless(tiny("llama"), tmp_path / "model", "further ahead", **{name: torch.ones(32)})

    def test_the_layer_of_deepseek_that_predicts_ahead(self, tmp_path: Path) -> None:
        names = ("eh_proj.weight", "enorm.weight", "hnorm.weight", "self_attn.o_proj.weight", "shared_head.norm.weight")
        more = {f"model.layers.2.{name}": torch.ones(32) for name in names}
        folder = _deepseek(tmp_path / "made")
        self.harmless(folder, tmp_path / "model", "further ahead", **more)

    def test_a_copy_of_the_embedding(self, tmp_path: Path) -> None:
        """transformers reads it, sees that it is the same, and ties the two."""
        folder = saved(transformers.LlamaConfig(**GQA, tie_word_embeddings=True), tmp_path / "made")
        same = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].clone()
        to = copied(folder, tmp_path / "model", **{"lm_head.weight": same})
        assert left_out(to) == {} and torch.equal(logits(to), logits(folder))

    def test_pictures_beside_a_language_model(self, tiny: Tiny, tmp_path: Path) -> None:
        more = {
            "model.vision_tower.patches.weight": torch.ones(4),
            "multi_modal_projector.linear.weight": torch.ones(4),
        }
        copied(tiny("llama"), tmp_path / "model", **more)
        check = next(check for check in doctor(tmp_path / "model").checks if check.name == "files")
        assert check.verdict == "note" and "vision and audio" in check.detail


class TestOtherFilesBeside:
    def test_a_variant_is_not_what_was_opened(self, tiny: Tiny, tmp_path: Path) -> None:
        folder = shutil.copytree(tiny("llama"), tmp_path / "model")
        shutil.copy(tiny("qwen2") / "model.safetensors", folder / "model.fp16.safetensors")
        with open_model(folder) as model, open_model(tiny("llama")) as plain:
            assert model.sha256 == plain.sha256 and "model.fp16.safetensors" not in model.opened.files


class TestMissing:
    def test_weights_are_named(self, tiny: Tiny, tmp_path: Path) -> None:
        folder = shutil.copytree(tiny("llama"), tmp_path / "model")
        weights = load_file(folder / "model.safetensors")
        del weights["model.layers.1.mlp.up_proj.weight"]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(HeadatlasError, match=r"lacks weights .*layers\.1\.mlp\.up_proj\.weight.*random numbers"):
            open_model(folder)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"vocab_size": 5000}, ("4096 x 32 in the file", "5000 x 32", "vocab_size is 5000", "4096 would fit")),
            ({"intermediate_size": 48}, ("intermediate_size is 48", "64 would fit")),
            ({"num_key_value_heads": 4}, ("16 x 32 in the file", "32 x 32")),
        ],
    )
    def test_sizes_are_told(self, changes: dict[str, int], said: tuple[str, ...], tiny: Tiny, tmp_path: Path) -> None:
        folder = configured(shutil.copytree(tiny("llama"), tmp_path / "model"), **changes)
        with pytest.raises(HeadatlasError) as caught:
            open_model(folder)
        for each in said:
            assert each in str(caught.value), str(caught.value)

    @pytest.mark.parametrize("changes", [{"num_hidden_layers": 10**9}, {"vocab_size": 10**9}, {"hidden_size": 10**6}])
    def test_a_configuration_of_a_giant_takes_no_memory(
        self, changes: dict[str, int], tiny: Tiny, tmp_path: Path
    ) -> None:
        folder = configured(shutil.copytree(tiny("llama"), tmp_path / "model"), **changes)
        with pytest.raises(HeadatlasError, match="different models"):
            open_model(folder)
