"""Folders that hold no sound causal language model: each is refused in one clear line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from conftest import EACH_FAMILY
from headatlas import HeadatlasError
from headatlas.lab import (
    open_model,
)

Tiny = Callable[[str], Path]


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_heads_add_up_to_what_attention_writes(family: str, tiny: Tiny) -> None:
    anatomy = open_model(str(tiny(family))).anatomy  # opening checks the identity, and refuses where it fails
    assert (anatomy.layers, anatomy.heads, anatomy.d_model) == (2, 4, 32)
    assert anatomy.w_o(0).shape == (4, anatomy.d_head, 32)


def test_a_projection_that_does_not_read_z_is_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "headatlas.lab.anatomy.anatomy.Anatomy.w_o",
        lambda self, layer: torch.randn(self.heads, self.d_head, self.d_model),
    )
    with pytest.raises(HeadatlasError, match="do not add up"):
        open_model(str(tiny("llama")))


def test_a_model_that_sees_the_future_is_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.masking_utils import AttentionMaskInterface

    def see_all(*_: object, **__: object) -> None:
        return None

    monkeypatch.setitem(AttentionMaskInterface._global_mapping, "headatlas_eager", see_all)
    with pytest.raises(HeadatlasError, match="not causal"):
        open_model(str(tiny("gemma2")))


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json of .* is not JSON"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"has no model\*.safetensors"),
        (lambda folder: truncate(folder / "model.safetensors"), "is cut short"),
        (lambda folder: drop_a_weight(folder / "model.safetensors"), "lacks weights its architecture needs"),
        (lambda folder: poison(folder / "model.safetensors"), "NaN"),
    ],
)
def test_damaged_folders(tiny: Tiny, tmp_path: Path, damage: Callable[[Path], None], complaint: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny("llama"), folder)
    damage(folder)
    with pytest.raises(HeadatlasError, match=complaint) as caught:
        open_model(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_folders_that_do_not_exist(name: str) -> None:
    with pytest.raises(HeadatlasError, match="is not a folder"):
        open_model(name)


def test_encoders(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    with pytest.raises(HeadatlasError, match="not a causal language model"):
        open_model(str(tmp_path))


def test_attention_outside_the_registry(tiny: Tiny, tmp_path: Path) -> None:
    config = transformers.XGLMConfig(vocab_size=300, d_model=32, num_layers=2, attention_heads=4, ffn_dim=64)
    transformers.XGLMForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny("llama") / name, tmp_path / name)
    with pytest.raises(HeadatlasError, match="registry"):
        open_model(str(tmp_path))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def drop_a_weight(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})


def poison(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    weights["model.layers.1.self_attn.q_proj.weight"][0, 0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
