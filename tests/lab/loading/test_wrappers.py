"""The language model inside a multimodal model: opened from a folder and loaded, with the wrapper's own numbers."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from conftest import GQA, louden
from headatlas import HeadatlasError, load, specimens
from headatlas.lab import open_model, record
from headatlas.lab.safety.doctor import doctor
from headatlas.protocol.provenance import model_record

TOKENS = torch.randint(1, 299, (2, 24), generator=torch.Generator().manual_seed(1))
t = transformers
VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
QWEN = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "patch_size": 14}


def inside(vision: type, text: transformers.PretrainedConfig, wrapper: type, **more: Any) -> Any:
    """A wrapper's configuration around a small vision tower and a small language model."""
    return wrapper(text_config=text.to_dict(), vision_config=vision(**VISION).to_dict(), **more)


# A wrapper's class, and a small configuration of it. The context of each language model is 128, of each vision tower
# another number or none.
WRAPPERS: dict[str, tuple[str, Callable[[], Any]]] = {
    "gemma 3": (
        "Gemma3ForConditionalGeneration",
        lambda: inside(
            t.SiglipVisionConfig,
            t.Gemma3TextConfig(**GQA, head_dim=16, sliding_window=16),
            t.Gemma3Config,
            mm_tokens_per_image=4,
            image_token_index=4000,
            boi_token_index=4001,
            eoi_token_index=4002,
        ),
    ),
    "mistral small 3": (
        "Mistral3ForConditionalGeneration",
        lambda: inside(t.PixtralVisionConfig, t.MistralConfig(**GQA), t.Mistral3Config, image_token_index=4000),
    ),
    "llama 4": (
        "Llama4ForConditionalGeneration",
        lambda: t.Llama4Config(
            text_config=t.Llama4TextConfig(
                **GQA, head_dim=8, num_local_experts=2, intermediate_size_mlp=64, attention_chunk_size=64
            ).to_dict(),
            vision_config=t.Llama4VisionConfig(
                **VISION,
                vision_output_dim=32,
                projector_input_dim=32,
                projector_output_dim=32,
            ).to_dict(),
        ),
    ),
    "llava": (
        "LlavaForConditionalGeneration",
        lambda: inside(t.CLIPVisionConfig, t.LlamaConfig(**GQA), t.LlavaConfig, image_token_index=4000),
    ),
    "qwen 2.5": (
        "Qwen2_5_VLForConditionalGeneration",
        lambda: t.Qwen2_5_VLConfig(
            text_config=t.Qwen2_5_VLTextConfig(**GQA, rope_parameters=MROPE).to_dict(),
            vision_config=QWEN | {"out_hidden_size": 32, "fullatt_block_indexes": [0]},
        ),
    ),
    "qwen 3": (
        "Qwen3VLForConditionalGeneration",
        lambda: t.Qwen3VLConfig(
            text_config=t.Qwen3VLTextConfig(**GQA, head_dim=8, rope_parameters=MROPE).to_dict(),
            vision_config=QWEN
            | {"out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        ),
    ),
    "qwen 3.5": (
        "Qwen3_5ForConditionalGeneration",
        lambda: t.Qwen3_5Config(
            text_config=t.Qwen3_5TextConfig(
                **GQA,
                head_dim=16,
                layer_types=["linear_attention", "full_attention"],
                linear_num_key_heads=2,
                linear_num_value_heads=4,
                linear_key_head_dim=8,
                linear_value_head_dim=8,
                rope_parameters=MROPE | {"partial_rotary_factor": 0.5},
            ).to_dict(),
            vision_config=QWEN | {"out_hidden_size": 32, "num_position_embeddings": 16},
        ),
    ),
    "granite speech": (
        "GraniteSpeechForConditionalGeneration",
        lambda: t.GraniteSpeechConfig(
            text_config=t.GraniteConfig(**GQA).to_dict(),
            encoder_config={"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "dim_head": 16, "output_dim": 8},
            projector_config={
                "model_type": "blip_2_qformer",
                "hidden_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "encoder_hidden_size": 32,
            },
            audio_token_index=4000,
        ),
    ),
    "smolvlm": (
        "SmolVLMForConditionalGeneration",
        lambda: inside(t.SmolVLMVisionConfig, t.LlamaConfig(**GQA), t.SmolVLMConfig, image_token_id=4000),
    ),
    "internvl": (
        "InternVLForConditionalGeneration",
        lambda: t.InternVLConfig(
            text_config=t.Qwen2Config(**GQA).to_dict(),
            vision_config=VISION | {"image_size": [28, 28], "patch_size": [14, 14]},
            image_token_id=4000,
        ),
    ),
}


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """The folder of an untrained wrapper whose heads matter, and the wrapper itself as transformers runs it."""
    made: dict[str, tuple[Path, Any]] = {}

    def of(kind: str) -> tuple[Path, Any]:
        if kind not in made:
            torch.manual_seed(0)
            name, config = WRAPPERS[kind]
            folder = tmp_path_factory.mktemp(kind.replace(" ", "-"))
            model = getattr(transformers, name)(config()).eval()
            louden(model)
            model.save_pretrained(folder)
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(specimens.folder() / file, folder / file)
            made[kind] = folder, model
        return made[kind]

    return of


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=TOKENS, use_cache=False).logits
        return found


Wrapped = Callable[[str], tuple[Path, Any]]


@pytest.mark.parametrize("kind", WRAPPERS)
class TestFromItsFolder:
    def test_the_language_model_is_opened_with_the_numbers_of_the_wrapper(self, kind: str, wrapped: Wrapped) -> None:
        folder, plain = wrapped(kind)
        with open_model(folder) as model:
            assert torch.equal(logits(model.model), logits(plain))
            assert model.context == 128
            assert model.architecture == f"language model of {WRAPPERS[kind][0]}"
            assert model_record(model, None).architecture == model.architecture
            assert model.anatomy.d_model == 32

    def test_what_text_does_not_pass_is_gone_and_named(self, kind: str, wrapped: Wrapped) -> None:
        folder, plain = wrapped(kind)
        with open_model(folder) as model:
            ((why, names),) = model.opened.left_out.items()
            assert "vision and audio" in why and not any("language_model" in name for name in names)
            kept = set(model.model.state_dict())
            whole = set(plain.state_dict())
            assert kept | set(names) == whole and kept.isdisjoint(names) and names
            assert any("lm_head" in name or "embed_tokens" in name for name in kept)

    def test_it_is_safe_and_the_doctor_says_what_it_is(self, kind: str, wrapped: Wrapped) -> None:
        diagnosis = doctor(wrapped(kind)[0])
        found = {check.name: check for check in diagnosis.checks}
        assert diagnosis.safe, diagnosis.conclusion
        assert diagnosis.architecture == f"language model of {WRAPPERS[kind][0]}"
        assert found["pass-through"].figure == 0.0
        assert found["files"].verdict == "note" and "vision and audio" in found["files"].detail


@pytest.mark.parametrize("kind", WRAPPERS)
class TestLoaded:
    def test_it_is_measured_as_from_its_folder(self, kind: str, wrapped: Wrapped) -> None:
        folder, plain = wrapped(kind)
        mine = copy.deepcopy(plain)
        words = transformers.AutoTokenizer.from_pretrained(folder)
        with open_model(mine, tokenizer=words, called="mine") as loaded, open_model(folder) as model:
            assert torch.equal(logits(loaded.model), logits(plain))
            assert (loaded.context, loaded.architecture) == (model.context, model.architecture)
            for layer in model.anatomy.attention_layers:
                ours, theirs = (record(each, TOKENS, ["pattern"])["pattern", layer] for each in (loaded, model))
                assert torch.equal(ours, theirs)
        assert set(mine.state_dict()) == set(plain.state_dict())  # nothing was taken out of what is the user's


def test_patterns_are_those_of_plain_transformers(wrapped: Wrapped) -> None:
    folder, _ = wrapped("gemma 3")
    plain = transformers.Gemma3ForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = plain(TOKENS, output_attentions=True, use_cache=False).attentions
    with open_model(folder) as model:
        found = record(model, TOKENS, ["pattern"])
        assert max((found["pattern", at] - expected[at]).abs().max().item() for at in range(2)) < 1e-6


def test_prompts_longer_than_the_context_are_refused(wrapped: Wrapped) -> None:
    with open_model(wrapped("gemma 3")[0]) as model, pytest.raises(HeadatlasError, match="context"):
        record(model, torch.randint(1, 299, (1, 129)), ["z"])


def test_a_wrapper_saved_by_an_older_transformers(wrapped: Wrapped, tmp_path: Path) -> None:
    """Its tensors go by other names there: language_model.model.layers… instead of model.language_model.layers…"""
    from safetensors.torch import load_file, save_file

    folder, plain = wrapped("llava")
    shutil.copytree(folder, tmp_path / "old")
    weights = load_file(tmp_path / "old" / "model.safetensors")
    renamed = {
        key.replace("model.language_model.", "language_model.model.").replace("model.vision", "vision"): tensor
        for key, tensor in weights.items()
    }
    save_file(renamed, tmp_path / "old" / "model.safetensors", metadata={"format": "pt"})
    with open_model(tmp_path / "old") as model:
        assert torch.equal(logits(model.model), logits(plain))


class TestStayRefused:
    def refused(self, folder: Path, config: Any, name: str, *said: str) -> None:
        torch.manual_seed(0)
        getattr(transformers, name)(config).save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(specimens.folder() / file, folder / file)
        with pytest.raises(HeadatlasError) as caught:
            open_model(folder)
        assert "\n" not in str(caught.value)
        for each in said:
            assert each in str(caught.value), str(caught.value)

    def test_encoder_decoders(self, tmp_path: Path) -> None:
        sizes = {"vocab_size": 4096, "d_model": 32, "d_ff": 32, "num_layers": 1, "num_heads": 2, "d_kv": 16}
        self.refused(tmp_path, t.T5Config(**sizes), "T5ForConditionalGeneration", "not a causal language model")

    def test_speech_recognisers(self, tmp_path: Path) -> None:
        config = t.WhisperConfig(
            vocab_size=4096, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, pad_token_id=0, bos_token_id=0,
            eos_token_id=0, decoder_start_token_id=0, suppress_tokens=None, begin_suppress_tokens=None,
        )  # fmt: skip
        self.refused(tmp_path, config, "WhisperForConditionalGeneration", "not a causal language model")

    def test_wrappers_that_need_a_picture(self, tmp_path: Path) -> None:
        config = t.Blip2Config(
            text_config=t.OPTConfig(
                vocab_size=4096, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, ffn_dim=32,
                word_embed_proj_dim=32, max_position_embeddings=128, bos_token_id=0, eos_token_id=0, pad_token_id=0,
            ).to_dict(),
            vision_config=VISION,
            qformer_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64,
                            "intermediate_size": 32, "encoder_hidden_size": 32},
        )  # fmt: skip
        self.refused(tmp_path, config, "Blip2ForConditionalGeneration", "text alone", "open_model(model.language_model")

    def test_loaded_encoder_decoders(self) -> None:
        sizes = {"vocab_size": 4096, "d_model": 32, "d_ff": 32, "num_layers": 1, "num_heads": 2, "d_kv": 16}
        model = t.T5ForConditionalGeneration(t.T5Config(**sizes))
        with pytest.raises(HeadatlasError, match="encoder-decoder"):
            open_model(model, tokenizer=t.AutoTokenizer.from_pretrained(specimens.folder()), called="it")


def test_the_catalog_is_not_asked_of_it(wrapped: Wrapped) -> None:
    """A wrapper has no entry of its own: it is recorded under its name."""
    with open_model(wrapped("llava")[0]) as model:
        from headatlas.protocol.provenance import catalog_id

        assert catalog_id(load(), model) is None
