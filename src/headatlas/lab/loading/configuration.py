"""Reads the configuration and tokenizer in a model's folder; errors say how to repair them."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from headatlas.errors import HeadatlasError
from headatlas.lab.loading import gguf_tokenizer, multimodal
from headatlas.lab.loading.file_headers import explained, read_json
from headatlas.lab.loading.gguf_record import RECORD
from headatlas.quiet import quiet

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "spiece.model")


def read_config(name: str, folder: Path, trust_remote_code: bool) -> Any:
    """Read the configuration of a causal decoder, or of a multimodal model that contains one.

    Raises:
        HeadatlasError: if it describes another kind of model, or transformers cannot read it.
    """
    said = read_json(name, folder / "config.json")
    if not isinstance(said, dict):
        raise HeadatlasError(f"config.json of {name} is no JSON object; download or save it again")
    _require_known(name, said, trust_remote_code)
    if method := _quantised(said):
        raise HeadatlasError(_full_precision(name, method))
    with quiet(), explained(f"{name} has no readable config.json", "restore it"):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    architectures = multimodal.architectures(config)
    causal = any(each.endswith(("ForCausalLM", "LMHeadModel")) for each in architectures)
    if multimodal.encodes_and_decodes(config) or (
        architectures and not causal and multimodal.wrapper_class(config) is None
    ):
        bare = any(each.endswith("Model") for each in architectures)
        raise HeadatlasError(
            f"{name} is a {' / '.join(architectures) or config.model_type}, not a causal language model; "
            + (
                "it was saved without its unembedding: save it from AutoModelForCausalLM"
                if bare
                else "headatlas measures decoders that predict the next token"
            )
        )
    return config


def _require_known(name: str, said: Mapping[str, Any], trust_remote_code: bool) -> None:
    """Check that transformers knows the model type, or that the repository's own code may run."""
    kind, own = said.get("model_type"), "auto_map" in said
    if own and trust_remote_code:
        return
    known = set(transformers.CONFIG_MAPPING.keys())
    if isinstance(kind, str) and kind in known:
        return
    if own:
        raise HeadatlasError(
            f"{name} runs on code of its own, which is not trusted; trust_remote_code=True (--trust-remote-code) if "
            "you have read it"
        )
    if not isinstance(kind, str) or not kind:
        raise HeadatlasError(f"config.json of {name} names no model_type, so the architecture is unknown; restore it")
    close = difflib.get_close_matches(kind, known, n=1, cutoff=0.8)
    newer = said.get("transformers_version")
    by = f" (it was saved by {newer})" if isinstance(newer, str) and newer not in ("", transformers.__version__) else ""
    raise HeadatlasError(
        f"{name} is of type {kind!r}, which transformers {transformers.__version__} does not know{by}; "
        + (f"did you mean {close[0]!r}? Else " if close else "")
        + "upgrade: pip install --upgrade transformers"
    )


def _quantised(said: Mapping[str, Any]) -> str | None:
    """The quantisation method of a model, or None for plain weights."""
    inside = [each for each in (said, said.get("text_config"), said.get("llm_config")) if isinstance(each, dict)]
    for each in inside:
        found = each.get("quantization_config") or each.get("compression_config")
        if isinstance(found, dict) and found:
            bits = "load_in_8bit" in found or "load_in_4bit" in found
            return str(found.get("quant_method") or ("bitsandbytes" if bits else "an unknown method"))
        if found:
            return str(found)
        if isinstance(each.get("quantization"), dict):
            return "mlx"
    return None


def _full_precision(name: str, method: str) -> str:
    how = {
        "bitsandbytes": "load it and call .dequantize()",
        "mxfp4": "load it with quantization_config=Mxfp4Config(dequantize=True)",
        "fp8": "load it with quantization_config=FineGrainedFP8Config(dequantize=True)",
    }.get(method)
    advice = f", or {how}, and give open_model the loaded model" if how else ""
    return (
        f"{name} is quantised by {method}, and headatlas cannot read its matrices; open the model it was made from, "
        f"at full precision{advice}"
    )


def read_tokenizer(name: str, folder: Path, trust_remote_code: bool) -> Any:
    """Read the tokenizer of a folder.

    Raises:
        HeadatlasError: if there is none, or it cannot be read.
    """
    advice = "put its tokenizer.json beside config.json"
    if not any((folder / file).is_file() for file in _TOKENIZERS):
        raise HeadatlasError(f"{name} has no tokenizer; {advice}")
    with quiet(), explained(f"the tokenizer of {name} cannot be read", advice):
        if (folder / RECORD).is_file():
            return gguf_tokenizer.read(folder)
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
