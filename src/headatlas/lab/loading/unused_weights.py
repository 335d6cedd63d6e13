"""Decides which unused tensors in weight files are harmless, and why.

Any unused tensor that TABLE does not cover counts as a trained weight that the configured model ignores.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.loading import multimodal
from headatlas.lab.loading.file_headers import listed
from headatlas.lab.loading.weight_files import Tracked

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
# Names found only in layers that predict tokens further ahead.
_AHEAD = re.compile(r"\.(eh_proj|enorm|hnorm|shared_head)\.")
_QUANTISED = re.compile(
    r"(qweight|qzeros|g_idx|absmax|quant_map|quant_state\..*|weight_scale(_inv)?|weight_packed|weight_scale_2|SCB)$"
)


@dataclass(frozen=True)
class _Stage:
    """What a test may use besides the tensor itself."""

    model: Any
    text: Any  # the configuration of the language model
    names: frozenset[str]  # of all tensors in the files


Test = Callable[[Tracked, _Stage], bool]


def _always(tensor: Tracked, stage: _Stage) -> bool:
    return True


def _is_mask(tensor: Tracked, stage: _Stage) -> bool:
    """Whether it is a causal mask [... n n], ones on and below the diagonal, or the mask's single large negative."""
    if tensor.count == 1:
        return bool(tensor.whole().float().item() < -100)
    if len(tensor.shape) < 2 or tensor.shape[-1] != tensor.shape[-2] or tensor.count != tensor.shape[-1] ** 2:
        return False
    square = tensor.whole().reshape(tensor.shape[-2:])
    return torch.equal(square.bool(), torch.ones_like(square, dtype=torch.bool).tril())


def _counts(tensor: Tracked, stage: _Stage) -> bool:
    """Whether it holds 0, 1, 2 …"""
    numbers = tensor.whole().flatten()
    return torch.equal(numbers.long(), torch.arange(numbers.numel()))


def _turns_alike(tensor: Tracked, stage: _Stage) -> bool:
    """Whether rotary frequencies equal the configuration's, up to one common factor."""
    stored = tensor.whole().float()
    own = [buffer for name, buffer in stage.model.named_buffers() if name.endswith("inv_freq")]
    base = getattr(stage.text, "rope_theta", None) or (getattr(stage.text, "rope_parameters", None) or {}).get(
        "rope_theta"
    )
    if isinstance(base, (int, float)) and stored.ndim == 1:
        own.append(base ** -(torch.arange(stored.numel()) / stored.numel()))
    return any(_proportional(stored, each.detach().float().cpu()) for each in own if each.shape == stored.shape)


def _proportional(first: Tensor, second: Tensor) -> bool:
    factor = (first @ second) / (second @ second).clamp_min(1e-30)
    return bool(((first - factor * second).abs() <= 0.02 * first.abs() + 1e-9).all())  # tolerance for bfloat16 files


def _is_own_buffer(tensor: Tracked, stage: _Stage) -> bool:
    """Whether the model computes a buffer of this name itself, with the same values."""
    own = next((each for name, each in stage.model.named_buffers() if _same_name(name, tensor.name)), None)
    return own is not None and own.shape == torch.Size(tensor.shape) and _close(own, tensor.whole())


def _same_name(ours: str, theirs: str) -> bool:
    return ours == theirs or ours.endswith(f".{theirs}") or theirs.endswith(f".{ours}")


def _close(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours.detach().float().cpu(), theirs.float(), rtol=1e-2, atol=1e-4)


def _is_embedding(tensor: Tracked, stage: _Stage) -> bool:
    """Whether an unembedding equals the embedding that the model uses in its place."""
    own = stage.model.get_input_embeddings().weight
    return own.shape == torch.Size(tensor.shape) and torch.equal(own.detach().cpu(), tensor.whole().to(own.dtype))


def _predicts_ahead(tensor: Tracked, stage: _Stage) -> bool:
    """Whether it belongs to a layer past the last one that predicts tokens further ahead."""
    found = _LAYER.search(tensor.name)
    layers = getattr(stage.text, "num_hidden_layers", None)
    if found is None or not isinstance(layers, int) or int(found.group(1)) < layers:
        return False
    before = tensor.name[: found.end()]
    return any(name.startswith(before) and _AHEAD.search(name) for name in stage.names)


def _shares_keys(tensor: Tracked, stage: _Stage) -> bool:
    """Whether its layer is one of the last layers that reuse keys and values of an earlier layer."""
    found = _LAYER.search(tensor.name)
    layers, shared = (getattr(stage.text, each, None) for each in ("num_hidden_layers", "num_kv_shared_layers"))
    if found is None or not isinstance(layers, int) or not isinstance(shared, int):
        return False
    return layers - shared <= int(found.group(1)) < layers


def _of_family(*families: str) -> Test:
    return lambda tensor, stage: getattr(stage.text, "model_type", None) in families


_OTHER_SENSES = (
    r"(^|\.)(visual|vision_tower|vision_model|vision_encoder|vision_embed_tokens|image_tower|image_newline|audio_tower|"
    r"audio_model|audio_encoder|speech_encoder|multi_modal_projector|mm_projector|vision_projection|embed_vision|"
    r"embed_audio|audio_projector|patch_merger|vision_language_adapter|img_processor|talker|token2wav|code2wav)(\.|$)"
)

# (name pattern, test, reason why the model is the same without these tensors); the first match is reported.
TABLE: tuple[tuple[str, Test, str], ...] = (
    (
        r"(^|\.)(attn|attention|self_attn)\.(bias|masked_bias|causal_mask)$",
        _is_mask,
        "the causal mask, which the model computes itself",
    ),
    (
        r"(^|\.)(rotary_emb|rotary_pos_emb|rotary|rope)\.(original_)?inv_freq$",
        _turns_alike,
        "rotary frequencies, which the model computes from its configuration, with the same values",
    ),
    (r"(^|\.)position_ids$", _counts, "position ids"),
    (r"", _is_own_buffer, "buffers that the model computes itself, with the same values"),
    (
        r"(^|\.)(lm_head|embed_out|output)\.weight$",
        _is_embedding,
        "a copy of the embedding, which the model uses as its unembedding",
    ),
    (
        r"(^|\.)(mtp|mtp_layers|mtp_block|mtp_emb_norm|mtp_hidden_norm|mtp_linear_proj)\.",
        _always,
        "layers that predict tokens further ahead, which take no part in predicting the next one",
    ),
    (
        r"",
        _predicts_ahead,
        "layers that predict tokens further ahead, which take no part in predicting the next one",
    ),
    (_OTHER_SENSES, _always, "vision and audio modules, which text does not use"),
    (
        r"self_attn\.(k_proj|v_proj|k_norm|v_norm)\.",
        _shares_keys,
        "keys and values of layers that reuse those of an earlier layer",
    ),
    (
        r"\.post_mlp_layernorm\.weight$",
        _of_family("axk1"),
        "norms that this family's dense layers have in the file and do not use",
    ),
    (
        r"^v_head\.",
        _always,
        "a value head of reinforcement learning, which does not affect the logits",
    ),
)  # fmt: skip


def sorted_out(
    unread: Sequence[Tracked], names: frozenset[str], model: Any
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Sort the unread tensors into harmless ones, by reason, and the rest.

    Args:
        unread: tensors that the model did not read.
        names: names of all tensors in the files.
        model: the model loaded without them.
    """
    stage = _Stage(model, multimodal.text_config(model.config), names)
    harmless: dict[str, list[str]] = {}
    rest = []
    for tensor in unread:
        why = next((why for pattern, test, why in TABLE if re.search(pattern, tensor.name) and test(tensor, stage)), "")
        if why:
            harmless.setdefault(why, []).append(tensor.name)
        else:
            rest.append(tensor.name)
    return {why: tuple(each) for why, each in harmless.items()}, rest


def refusal(name: str, unused: Sequence[str], model: Any) -> str:
    """The error message for weights that a model does not use."""
    some = f"{listed(unused)} in the files of {name}"
    if any(_QUANTISED.search(each) for each in unused):
        return f"{some} belong to a quantised model, which config.json does not say; open the full-precision model"
    why = _why(unused, multimodal.text_config(model.config))
    return (
        f"{some} are not used by the model that config.json describes{why}; restore its config.json, or open it "
        "without them with ignore_unused=True (--ignore-unused)"
    )


def _why(unused: Sequence[str], text: Any) -> str:
    layers = getattr(text, "num_hidden_layers", None)
    beyond = [int(found.group(1)) for name in unused if (found := _LAYER.search(name))]
    if isinstance(layers, int) and beyond and max(beyond) >= layers:
        return f": it has {layers} layers, and the files have {max(beyond) + 1}"
    if all(name.endswith("bias") for name in unused):
        said = next(
            (key for key in ("attention_bias", "mlp_bias", "qkv_bias") if getattr(text, key, None) is False), ""
        )
        return f": they are biases, and it says {said}: false" if said else ": they are biases"
    return ""


def as_lines(left_out: Mapping[str, Sequence[str]]) -> list[str]:
    """Describe the tensors left out, one line per reason."""
    return [f"{len(names)} tensors ({listed(names, 1)}): {why}" for why, names in left_out.items()]


def require_all(name: str, counts: tuple[int, int]) -> None:
    """Check that no more numbers were read than the model holds, which would mean that one tensor replaced another.

    Raises:
        HeadatlasError: if more were read.
    """
    read, held = counts
    if read > held:
        raise HeadatlasError(
            f"the files of {name} give {read:,} numbers to a model that holds {held:,}: some tensor is there under two "
            "names; save the model again with save_pretrained"
        )
