"""Tiny GGUF files, written from the folders of tiny models as llama.cpp's converter would write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, quants

CONTROL = gguf.TokenType.CONTROL
NORMAL = gguf.TokenType.NORMAL
FILE_TYPES = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": LlamaFileType.MOSTLY_Q4_1,
}
Change = Callable[[GGUFWriter], object]


def write(
    path: Path,
    folder: Path,
    kind: str = "Q8_0",
    *,
    architecture: str = "llama",
    change: Change = lambda writer: None,
    leave_out: tuple[str, ...] = (),
    name: str | None = "Tiny",
) -> Path:
    """Write the model of a folder as a GGUF file.

    Args:
        path: the file to write.
        folder: a model in Hugging Face format, with a byte-level tokenizer.
        kind: how matrices are stored; vectors are stored as they are.
        architecture: llama.cpp's name of it.
        change: called with the writer before tensors are added, to add keys.
        leave_out: keys that are not written, by their name or its beginning.
        name: general.name.
    """
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    writer = GGUFWriter(path, architecture)
    if name is not None:
        writer.add_name(name)
    writer.add_file_type(int(FILE_TYPES[kind]))
    _settings(writer, model.config)
    _vocabulary(writer, transformers.AutoTokenizer.from_pretrained(folder))
    change(writer)
    for data in writer.kv_data:
        for key in [key for key in data if key.startswith(leave_out)] if leave_out else []:
            del data[key]
    for key, values in _tensors(model, architecture).items():
        stored = GGMLQuantizationType[kind] if values.ndim > 1 else GGMLQuantizationType.F32
        writer.add_tensor(key, quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def requantised(weight: torch.Tensor, kind: str) -> torch.Tensor:
    """What is left of a weight in a file: quantised and dequantised, row by row."""
    stored = GGMLQuantizationType[kind] if weight.ndim > 1 else GGMLQuantizationType.F32
    return torch.from_numpy(quants.dequantize(quants.quantize(weight.numpy(), stored), stored).reshape(weight.shape))


def _settings(writer: GGUFWriter, config: Any) -> None:
    rope = config.rope_parameters
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if config.model_type.startswith("gemma"):
        writer.add_key_length(width)
        writer.add_sliding_window(config.sliding_window)
    else:
        writer.add_rope_dimension_count(width)


def _vocabulary(writer: GGUFWriter, tokenizer: Any) -> None:
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda each: each[1])]
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if token in special else NORMAL for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in _merges(tokenizer)])
    for add, id in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
    ):
        if id is not None:
            add(id)
    writer.add_add_bos_token(False)


def _merges(tokenizer: Any) -> list[list[str]]:
    import json

    merges: list[list[str]] = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return merges


def _tensors(model: Any, architecture: str) -> dict[str, np.ndarray[Any, Any]]:
    """The weights under llama.cpp's names, changed as its converter changes them."""
    config = model.config
    arch = next(each for each, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    found = {}
    for name, weight in model.named_parameters():
        values = weight.detach().numpy()
        for part, heads in ((".q_proj.", config.num_attention_heads), (".k_proj.", config.num_key_value_heads)):
            if architecture == "llama" and part in name:
                # The two halves of a rotated head become pairs of neighbours.
                values = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        if architecture.startswith("gemma") and "norm" in name:
            values = values + 1
        key = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert key is not None, name
        found[key] = np.ascontiguousarray(values, dtype=np.float32)
    return found
