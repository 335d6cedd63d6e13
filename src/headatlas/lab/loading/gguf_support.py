"""Refuses GGUF files that are no causal language model, or of which transformers would read only a part.

transformers reads from a header what it has a name for, and is silent about the rest. A setting or a tensor that it
leaves out would change every number, so each must show in the model it makes.
"""

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np
import torch
import transformers
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from headatlas.errors import HeadatlasError
from headatlas.lab.loading.file_headers import explained, listed
from headatlas.lab.loading.gguf_header import Array, GgufHeader, unknown_kind

_ENCODERS = re.compile(r".*(bert|t5encoder).*|gemma-embedding|llama-embed")
_SENSES = re.compile(r"clip|.*mmproj.*|.*wavtokenizer.*")
_OTHERS = {
    "adapter": "an adapter, not a model; give the model it was trained on, in safetensors, and --adapter",
    "imatrix": "an importance matrix, not a model; give the model",
    "mmproj": "the image or audio part of a multimodal model; give the file of its language model",
}
_EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
# Settings that change what a model computes: fields of the configuration that carry them, and values that change
# nothing. Without one of these, a setting is one that transformers did not read.
_SETTINGS: dict[str, tuple[tuple[str, ...], tuple[object, ...]]] = {
    "rope.freq_base": (("rope_theta",), ()),
    "rope.freq_base_swa": (("rope_theta",), ()),
    "rope.scaling.type": (("rope_type",), ("none", "")),
    "rope.scaling.factor": (("factor",), (0, 1)),
    "attention.head_count": (("num_attention_heads", "n_head"), ()),
    "attention.head_count_kv": (("num_key_value_heads", "num_attention_heads", "n_head"), ()),
    "attention.key_length": (("head_dim", "global_head_dim"), ()),
    "attention.layer_norm_epsilon": (_EPSILONS, ()),
    "attention.layer_norm_rms_epsilon": (_EPSILONS, ()),
    "attention.scale": (("attention_multiplier",), (0,)),
    "attention.clamp_kqv": (("clip_qkv",), (0,)),
    "attention.max_alibi_bias": (("alibi_bias_max",), (0,)),
    "attn_logit_softcapping": (("attn_logit_softcapping",), (0,)),
    "final_logit_softcapping": (("final_logit_softcapping",), (0,)),
    "logit_scale": (("logit_scale", "logits_scaling"), (0, 1)),
    "residual_scale": (("residual_multiplier",), (0, 1)),
    "embedding_scale": (("embedding_multiplier",), (0, 1)),
    "expert_used_count": (("num_experts_per_tok",), (0,)),
    "expert_weights_scale": (("routed_scaling_factor",), (0, 1)),
}


def require_language_model(header: GgufHeader) -> None:
    """Check that a file holds a whole causal language model with its tokenizer, of an architecture transformers reads.

    Raises:
        HeadatlasError: if it does not.
    """
    name, kind, architecture = header.name, header.text("general.type"), header.architecture
    if kind in _OTHERS or _SENSES.fullmatch(architecture):
        raise HeadatlasError(f"{name} is {_OTHERS.get(kind or '', _OTHERS['mmproj'])}")
    parts = header.keys.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise HeadatlasError(
            f"{name} is one of {parts} parts of a GGUF file, and transformers reads whole ones; join them with "
            "llama.cpp: llama-gguf-split --merge FIRST-PART WHOLE.gguf"
        )
    if not architecture:
        raise HeadatlasError(f"{name} does not say its architecture (general.architecture), so no model; give another")
    if _ENCODERS.fullmatch(architecture) or header.keys.get(f"{architecture}.attention.causal") is False:
        raise HeadatlasError(
            f"{name} is an encoder ({architecture}), not a causal language model; headatlas measures decoders that "
            "predict the next token"
        )
    known = _architectures()
    if known and _plain(architecture) not in known:
        raise HeadatlasError(
            f"{name} is of architecture {architecture!r}, which transformers {transformers.__version__} does not read "
            "from GGUF files; open the model's safetensors, or upgrade: pip install --upgrade transformers"
        )
    tokens = header.keys.get("tokenizer.ggml.tokens")
    if not header.text("tokenizer.ggml.model") or not isinstance(tokens, Array) or not tokens.count:
        raise HeadatlasError(f"{name} has no tokenizer; take a file that was converted together with its tokenizer")
    for stored in {tensor.kind for tensor in header.tensors}:
        _require_readable(name, GGMLQuantizationType(stored))


def _architectures() -> set[str]:
    """The architectures that transformers reads from GGUF files; empty if this version does not say."""
    found: set[str] = set()
    for module, name in (
        ("transformers.modeling_gguf_pytorch_utils", "GGUF_SUPPORTED_ARCHITECTURES"),
        ("transformers.integrations.gguf", "GGUF_ARCHS"),
    ):
        with suppress(ImportError):
            found |= {_plain(each) for each in getattr(import_module(module), name, ())}
    return found - {"general", "tokenizer"}


def _plain(architecture: str) -> str:
    """Without the signs in which llama.cpp's names differ from those of transformers."""
    return re.sub(r"[-_]", "", architecture)


def _require_readable(name: str, kind: GGMLQuantizationType) -> None:
    _, size = GGML_QUANT_SIZES[kind]
    plain = {"F32": np.float32, "F16": np.float16}.get(kind.name)
    try:
        dequantize(np.zeros((1, 1), plain) if plain else np.zeros((1, size), np.uint8), kind)
    except NotImplementedError:
        raise unknown_kind(name, f"it has tensors of {kind.name}") from None


def unknown_split(header: GgufHeader) -> str | None:
    """The header's rule of how text is split into words (tokenizer.ggml.pre), if transformers does not know it."""
    rule = header.text("tokenizer.ggml.pre")
    if header.text("tokenizer.ggml.model") != "gpt2" or rule is None or rule in ("gpt2", "gpt-2"):
        return None
    with suppress(ImportError, AttributeError):
        theirs = import_module("transformers.integrations.gguf.gguf_tokenizer_mapping")
        return None if rule in theirs.GGUF_PRE_TOKENIZER_SPLITS else rule
    return None


def require_all_read(header: GgufHeader, config: Any) -> None:
    """Check that the configuration that transformers made of a file describes all that the file holds.

    Raises:
        HeadatlasError: if a setting or a tensor was left out, or if the two differ in size.
    """
    name, layers = header.name, getattr(config, "num_hidden_layers", 0)
    if not isinstance(layers, int) or layers > len(header.tensors):
        raise HeadatlasError(
            f"{name} has a header that lies: it asks for {layers} layers, and has {len(header.tensors)} tensors; "
            "download it again"
        )
    for key, value in _settings(header):
        if not _shows(key, value, config, header):
            raise HeadatlasError(
                f"{name} says {header.architecture}.{key} = {value}, which transformers {transformers.__version__} "
                "does not read, so its numbers would be wrong; open the model's safetensors, or upgrade transformers"
            )
    scalar, width = getattr(config, "query_pre_attn_scalar", None), getattr(config, "head_dim", None)
    if scalar != width and isinstance(scalar, int):
        raise HeadatlasError(
            f"{name} does not say by what attention is divided, and transformers takes {scalar} for heads of {width} "
            "numbers, which is not sure; open the model's safetensors"
        )
    _require_sizes(header, config)


def _settings(header: GgufHeader) -> Iterator[tuple[str, Any]]:
    """The settings that the header makes and that change numbers."""
    for key, (_, neutral) in _SETTINGS.items():
        value = header.keys.get(f"{header.architecture}.{key}")
        if value is not None and not isinstance(value, Array) and value not in neutral:
            yield key, value
    window, context = (
        header.keys.get(f"{header.architecture}.{key}") for key in ("attention.sliding_window", "context_length")
    )
    if isinstance(window, int) and window and not (isinstance(context, int) and window >= context):
        yield "attention.sliding_window", window
    if isinstance(turned := header.keys.get(f"{header.architecture}.rope.dimension_count"), int):
        yield "rope.dimension_count", turned


def _shows(key: str, value: Any, config: Any, header: GgufHeader) -> bool:
    """Whether a field of the configuration carries a setting."""
    ropes = getattr(config, "rope_parameters", None) or {}
    nested = [each for each in ropes.values() if isinstance(each, dict)] or [ropes]
    if key == "rope.dimension_count":
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        parts = [each.get("partial_rotary_factor") for each in nested]
        said = [part for part in (getattr(config, "partial_rotary_factor", None), *parts) if part is not None]
        return any(int(width * part) == value for part in said or (1.0,))
    fields = ("sliding_window",) if key == "attention.sliding_window" else _SETTINGS[key][0]
    for field in fields:
        found = [getattr(config, field, None), *(each.get(field) for each in nested)]
        if any(_equal(each, value) for each in found):
            return True
    return False


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, str) or isinstance(theirs, str) or ours is None:
        return bool(ours == theirs)
    return math.isclose(float(ours), float(theirs), rel_tol=1e-5)


def _require_sizes(header: GgufHeader, config: Any) -> None:
    """Check that the file holds as many numbers as the model that the configuration describes."""
    name = header.name
    with explained(f"{name} describes no model that can be made", "download it again"), torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config)
    empty.tie_weights()
    asked = sum(weight.numel() for weight in empty.parameters())
    named = {weight for weight, _ in empty.named_parameters(remove_duplicate=False)}
    asked += sum(buffer.numel() for key, buffer in empty.state_dict().items() if key not in named)
    tied = getattr(config, "tie_word_embeddings", False)
    ahead = rf"blk\.{config.num_hidden_layers}\."  # layers that predict tokens further ahead
    counted = [
        tensor
        for tensor in header.tensors
        if not re.match(ahead, tensor.name) and not (tied and tensor.name == "output.weight")
    ]
    there = sum(tensor.count for tensor in counted)
    if asked == there:
        return
    unread = [tensor.name for tensor in counted if re.match("rope_(freqs|factors)", tensor.name)]
    if unread:
        raise HeadatlasError(
            f"{listed(unread)} in {name} is not read by transformers {transformers.__version__}, so positions would be "
            "wrong; open the model's safetensors, or upgrade transformers"
        )
    raise HeadatlasError(
        f"{name} holds {there:,} numbers, and the model that transformers {transformers.__version__} makes of it has "
        f"{asked:,}; download it again, or open the model's safetensors"
    )
