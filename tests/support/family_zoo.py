"""Tiny untrained models of every causal family that transformers knows, made by one recipe and a table of exceptions.

The families are not listed here: they are read off the mappings of the transformers that is installed, causal models
first, then the language models inside wrappers for pictures and sound. A configuration starts from the defaults of its
class, and every size in it is made small by its name. Families whose layers are of several kinds get them all, and
those with blocks without attention come twice: with attention in the last block, and without.
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

LAYERS, WINDOW, CONTEXT, VOCABULARY = 4, 8, 256, 4096
LARGEST = 8_000_000  # parameters; a larger one means that the recipe has missed a size
_LOUDER = 4.0  # times their usual size, at which untrained weights hardly move a logit

# What a size becomes, by the name of its field; the first pattern that matches the whole name counts. None: as it is.
_SIZES: tuple[tuple[str, int | None], ...] = (
    (r"pretraining_tp|chunk_size_feed_forward|type_vocab_size|task_type_vocab_size", None),
    (r".*token_id|.*token_index|unk_index|mask_index|im_\w+_id|image_patch_id", 0),
    (r".*vocab_size(_per_layer_input)?", VOCABULARY),
    (r"(conf_)?(num_)?(hidden_|encoder_|decoder_)?layers|n_layers?|num_blocks|depth", LAYERS),
    (r"(num_|n_)?(key_value|kv)_(n_)?heads|.*num_key_value_heads", 2),
    (r"(conf_)?(num_)?(encoder_|decoder_)?(attention_)?heads|n_heads?|.*num_attention_heads", 4),
    (r"v_head_dim", 12),
    (r"qk_rope_head_dim|qk_nope_head_dim|rotary_dim", 8),
    (r"(.*_)?head_dim|dim_head|kv_channels|attention_head_size|d_kv", 16),
    (r"(.*_)?lora_rank|adapter_rank|laurel_rank|hc_lowrank|d_rel|gated_norm_rank", 16),
    (r".*experts_per_tok|moe_top_?k|moe_k|top_k_experts", 2),
    (r"(.*_)?(n|num)_shared_experts", 1),
    (r"(.*_)?num_(local_|routed_)?experts|n_routed_experts|moe_num_experts|zero_expert_num", 4),
    (r"n_group|topk_group|first_k_dense_replace|num_dense_layers", 1),
    (r"linear_num_key_heads", 2),
    (r"linear_num_value_heads|linear_num_heads|mamba_(n|num)_heads|n_mamba_heads", 4),
    (r"mamba_d_state|ssm_state_size|state_size", 8),
    (r"mamba_d_ssm", 64),
    (r"mamba_n_?groups|n_groups", 1),
    (r"(mamba_)?chunk_size|rel_extent", 16),
    (r".*intermediate_size.*|(.*_)?ffn_dim|(.*_)?ffn_hidden_size|d_ff|dff|d_inner|dim_ff", 48),
    (r"feed_forward_size|mlp_dim", 48),
    (r"hidden_size_per_layer_input", 8),
    (r"(.*_)?hidden_size|(.*_)?(embed|embedding)_(dim|size)|d_model|n_embd|emb_dim|router_hidden_size", 32),
    (r"max_(position_embeddings|seq_len|target_positions)|n_positions|n_ctx|context_length|original_max_.*", CONTEXT),
    (r"(sliding|attention)_window(_size)?|attention_chunk_size|local_attention|local_.*window_len", WINDOW),
    (r"index_n_heads", 2),
    (r"index_topk", 2 * WINDOW),
    (r"query_pre_attn_scalar", 16),
)


# Families that are not built, and why. This list is held by a test: whatever is not on it must be built.
_PICTURE = "does not run without a picture"
_OTHER_ENCODER = "is an encoder and a decoder"
_TIMM = "its picture tower needs the packages timm and pillow"
UNBUILT = {
    "blt": "reads bytes in patches that a second model inside it draws, and hashes of them",
    "gemma4_assistant": "drafts for another model, whose keys and values it reads",
    "gemma4_unified_assistant": "drafts for another model, whose keys and values it reads",
    "gemma3n": _TIMM,
    "evolla": "answers about proteins, which it needs",
    "fast_vlm": _TIMM,
    "perception_lm": _TIMM,
    "musicgen": "reads codes of sound from several books, not tokens",
    "musicgen_melody": "reads codes of sound from several books, not tokens",
    "blip": _PICTURE,
    "blip-2": _PICTURE,
    "florence2": _OTHER_ENCODER,
    "granite4_vision": _PICTURE,
    "idefics": _PICTURE,
    "instructblip": _PICTURE,
    "instructblipvideo": _PICTURE,
    "kosmos-2": _PICTURE,
    "nemotron_h_omni": "its picture tower has sizes that its defaults do not agree on",
    "pi0": "moves a robot",
    "pix2struct": _OTHER_ENCODER,
    "pp_formulanet": _OTHER_ENCODER,
    "t5gemma2": _OTHER_ENCODER,
    "udop": _OTHER_ENCODER,
    "vision-encoder-decoder": _OTHER_ENCODER,
}
# Families of every kind there is, which the suite always looks at; the others are among the slow tests. That the sample
# has every kind of refusal, route and shape that all members have is held by a slow test.
SAMPLE = frozenset((
    # Attention through transformers' registry: fused and single weights, grouped keys, windows, norms on queries and
    # keys, biases, capped scores, sinks, parallel blocks, latent and sparse attention, experts.
    "gpt2", "gpt_neox", "gpt_bigcode", "llama", "opt", "persimmon", "phi", "phi3", "cohere2", "olmo2", "gemma2",
    "gemma3n_text", "gemma4_text", "gpt_oss", "mimo_v2_flash", "dbrx", "deepseek_v3", "deepseek_v32", "deepseek_v4",
    "glm_moe_dsa", "longcat_flash", "llama4_text", "granite", "doge", "diffllama", "step3p7",
    # Outside it, led through it.
    "bloom", "falcon", "gpt_neo", "gptj", "gpt_neox_japanese", "mpt",
    # With a gate or a norm before the output projection.
    "afmoe", "bitnet", "qwen3_5_text",
    # Hybrids, of which some layers have no attention, and models without any.
    "bamba", "falcon_h1", "jamba", "kimi_linear", "lfm2", "minimax", "nemotron_h", "qwen3_next", "recurrent_gemma",
    "zamba2", "mamba", "rwkv", "xlstm",
    # Encoders, encoders with decoders, and other shapes; most are refused, each for a reason of its own.
    "bart", "bert", "bert-generation", "big_bird", "biogpt", "cpmant", "ctrl", "inkling2_text", "inkling_text",
    "minicpm3", "moshi", "openai-gpt", "prophetnet", "reformer", "whisper", "xglm", "xlm", "xlnet",
    # Language models inside multimodal ones.
    "chameleon", "diffusion_gemma", "gemma3", "glm5_next", "llava", "mllama", "molmo2", "paligemma", "qwen2_5_vl",
    "shieldgemma2",
))  # fmt: skip
_WITHOUT_ATTENTION = ("linear_attention", "conv", "mamba", "recurrent", "mlp", "moe")


@dataclass(frozen=True)
class Member:
    """One model of the zoo: a family, and which of its forms."""

    family: str
    form: str = ""
    changes: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.family}{'-' if self.form else ''}{self.form}"


def small(config_class: type) -> dict[str, Any]:
    """The sizes of a configuration class, small; those of its parts too."""
    found: dict[str, Any] = {}
    for each in dataclasses.fields(config_class):
        if type(each.default) is int and (size := _size(each.name)) is not None:
            found[each.name] = size
    names = {each.name for each in dataclasses.fields(config_class)}
    if "num_key_value_heads" in names:
        found["num_key_value_heads"] = 4 if "kv_lora_rank" in names else 2  # latent attention has as many as heads
    if "sliding_window" in names:
        found["sliding_window"] = WINDOW
    for name, value in (("use_sliding_window", True), ("is_decoder", True), ("use_mamba_kernels", False)):
        if name in names:
            found[name] = value
    return found


def _size(name: str) -> int | None:
    return next((size for pattern, size in _SIZES if re.fullmatch(pattern, name)), None)


# Kinds of layers that a family knows and its default configuration does not show.
_KINDS: dict[str, tuple[str, ...]] = {
    "lfm2": ("conv", "full_attention"),
    "lfm2_moe": ("conv", "full_attention"),
    "granitemoehybrid": ("linear_attention", "full_attention"),
}

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}


def _mrope(*sections: int) -> dict[str, Any]:
    return {"rope_parameters": {**_ROPE, "mrope_section": list(sections)}}


_MULTIPLIED = {"embedding_multiplier": 2.0, "residual_multiplier": 0.5, "logits_scaling": 2.0}
_EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1}

# What the recipe misses.
_CHANGES: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v2": _EXPERTS,
    "dots1": _EXPERTS,
    "dots3_note_text": {
        "swa_num_attention_heads": 2, "swa_num_key_value_heads": 2, "swa_q_lora_rank": 16, "swa_kv_lora_rank": 16,
        "swa_head_dim": 16, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 12,
    },
    "dots3_note_vision_encoder": {"pyramid_num_routed": [-1, -1, 4, 4], "adapter_in_dim": 32, "adapter_out_dim": 32},
    "dots3_note_audio_encoder": {"adapter_input_size": 32, "adapter_out_dim": 32},
    "falcon_h1": {"mamba_d_head": 16},
    "granite": _MULTIPLIED,
    "granite_docling_text": _MULTIPLIED,
    "granitemoe": _MULTIPLIED,
    "granitemoehybrid": _MULTIPLIED,
    "granitemoeshared": _MULTIPLIED,
    "helium": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "llama4_vision_model": {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32},
    "longcat_flash": {"head_dim": 8},
    "ministral": {"head_dim": 16},
    "qwen4_exp_text": {
        "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 16,
        "indexer_compress_ratio": 2,
    },
    "cosmos3_edge_text": _mrope(2, 3, 3),
    "deepseek_ocr2_text": {**_EXPERTS, "mlp_layer_types": ["dense", "sparse"] * 2},
    "unlimited_ocr_text": {  # transformers' eager attention of it knows no shared keys
        **_EXPERTS, "mlp_layer_types": ["dense", "sparse"] * 2, "num_key_value_heads": 4,
    },
    "diffusion_gemma_text": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32},
    "ernie4_5_vl_moe_text": _mrope(1, 1, 2),
    "glm4v_text": _mrope(1, 1, 2),
    "glm4v_moe_text": _mrope(1, 0, 1),
    "glm_ocr_text": _mrope(1, 1, 2),
    "glm5_next_text": {"qk_rope_head_dim": 0, "index_kpool": 2},
    "hunyuan_vl_text": {"head_dim": 16, **_mrope(2, 3, 3)},
    "paddleocr_vl_text": _mrope(2, 3, 3),
    "qwen2_vl_text": _mrope(1, 1, 2),
    "qwen2_5_vl_text": _mrope(1, 1, 2),
    "qwen2_5_omni_text": _mrope(1, 1, 2),
    "emu3_vqgan": {"base_channels": 32, "channel_multiplier": [1, 1]},
    "chameleon_vqgan": {"base_channels": 32, "channel_multiplier": [1, 1]},
    "janus_vqgan": {"base_channels": 32, "channel_multiplier": [1, 1], "projection_dim": 32, "num_embeddings": 64},
    "chameleon": {"vocabulary_map": {"<image>": 4000}},
    "muse_spark_audio": {"hidden_sizes": [32] * 4, "depths": [1] * 4, "out_hidden_size": 32},
    "inkling_vision": {"patch_size": 8, "projection_hidden_dim": 32},
    "inkling_audio": {"n_mel_bins": 8, "mel_vocab_size": 16},
    "janus_vision_model": {"projection_dim": 32},
    "molmo2_adapter": {"vision_feature_layer": [3, 2]},
    "emu3": {"vocabulary_map": {"<image>": 4000, "<|extra_200|>": 4001}},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"] * 2},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1, "sliding_window": None},
}  # fmt: skip

# Forms of a family that its layer types do not show.
_FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "bamba": {"attention-last": {"attn_layer_indices": [1, 3]}, "attention-not-last": {"attn_layer_indices": [0, 2]}},
    # No form with ALiBi: eager attention adds it twice there, so that eager weights are not those of the model.
    "falcon": {"": {}, "grouped": {"new_decoder_architecture": True, "num_kv_heads": 2}},
    "gpt_neo": {"": {"attention_types": [[["global", "local"], 2]], "window_size": WINDOW}},
    "mllama_text_model": {"": {"cross_attention_layers": [1], "num_hidden_layers": 5}},
    "jamba": {
        form: {"attn_layer_period": 2, "attn_layer_offset": offset, "mamba_dt_rank": 4}
        for form, offset in (("attention-last", 1), ("attention-not-last", 0))
    },
    "gemma3n_text": {
        form: {"layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": shared}
        for form, shared in (("", 0), ("shared-keys", 2))
    },
    "gemma4_text": {
        form: {"layer_types": ["sliding_attention", "full_attention"] * 2, **changes}
        for form, changes in (
            ("", {}),
            ("shared-keys", {"num_kv_shared_layers": 2}),
            ("wide-global", {"global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": True}),
            ("experts", {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32}),
        )
    },
}


def forms(family: str) -> Iterator[Member]:
    """The members of a family: one, or two where some of its blocks have no attention."""
    if family in _FORMS:
        yield from (Member(family, form, changes) for form, changes in _FORMS[family].items())
        return
    config_class = CONFIG_MAPPING[family]
    name, kinds = layer_kinds(family, config_class)
    blind = [kind for kind in kinds if kind in _WITHOUT_ATTENTION]
    seeing = [kind for kind in kinds if kind not in _WITHOUT_ATTENTION]
    if not name or not seeing:
        yield Member(family)
    elif not blind:
        yield Member(family, changes={name: [seeing[at % len(seeing)] for at in range(LAYERS)]})
    else:
        pairs = [kind for at in range(2) for kind in (blind[at % len(blind)], seeing[at % len(seeing)])]
        yield Member(family, "attention-last", {name: pairs})
        yield Member(family, "attention-not-last", {name: pairs[1::-1] + pairs[:1:-1]})


def layer_kinds(family: str, config_class: type) -> tuple[str | None, list[str]]:
    """The field that says what kind each layer is, and the kinds there are; kinds that see far come last."""
    names = {each.name for each in dataclasses.fields(config_class)}
    name = next((each for each in ("layer_types", "layers_block_type", "block_types") if each in names), None)
    if name is None:
        return None, []
    kinds = set(_KINDS.get(family) or getattr(config_class(), name) or ())
    if "full_attention" in kinds and "sliding_window" in names and not kinds & set(_WITHOUT_ATTENTION):
        kinds.add("sliding_attention")
    return name, sorted(kinds, reverse=True)


def config_of(member: Member) -> PreTrainedConfig:
    """The configuration of a member."""
    return _config(CONFIG_MAPPING[member.family], member.changes)


def _config(config_class: type, changes: dict[str, Any]) -> PreTrainedConfig:
    values = small(config_class) | _CHANGES.get(config_class.model_type, {}) | changes
    for name, part in config_class.sub_configs.items():
        if part.__name__ == "AutoConfig":
            part = CONFIG_MAPPING[config_class.sub_configs_defaults[name].model_type]
        own = next(forms(part.model_type)).changes if part.model_type in CONFIG_MAPPING else {}
        values[name] = _config(part, own | values.get(name, {}))
    return config_class(**values)


def model_of(member: Member) -> PreTrainedModel:
    """The model of a member, in inference mode; the same weights every time.

    Raises:
        ValueError: for one that did not become small.
    """
    config = config_of(member)
    wrapped = "text_config" in config.sub_configs or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING
    wrapped = wrapped and type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    model_class = (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING if wrapped else MODEL_FOR_CAUSAL_LM_MAPPING)[type(config)]
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in model_class(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{member} has {size} parameters; give it smaller sizes")
    torch.manual_seed(0)
    model = model_class(config).eval()
    louden(model)
    return model


def families() -> list[str]:
    """Every family that transformers maps to a causal model, or to a wrapper around one; aliases are left out."""
    return [
        family
        for family in dict.fromkeys([*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES])
        if CONFIG_MAPPING[family].model_type == family
    ]


def members() -> list[Member]:
    """All members of all families that can be built here."""
    return [member for family in families() if family not in UNBUILT for member in forms(family)]


def is_wrapper_of_a_family(family: str) -> bool:
    """Whether the language model inside is one of a causal family, which the zoo has too."""
    config_class = CONFIG_MAPPING[family]
    part = config_class.sub_configs_defaults.get("text_config")
    return part is not None and part.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


@torch.no_grad()
def louden(model: torch.nn.Module) -> None:
    """Make the heads of an untrained model matter, and give biases and norms numbers of their own."""
    drawn = torch.Generator().manual_seed(0)
    for name, parameter in sorted(model.named_parameters()):
        if re.search(r"\b[qk]_norm\b", name):
            parameter.mul_(0.5)  # where scores are not scaled down after such a norm, they are too sharp for rounding
        elif parameter.ndim > 1:
            parameter.mul_(_LOUDER)
        else:
            parameter.add_(torch.randn(parameter.shape, generator=drawn), alpha=0.1)
