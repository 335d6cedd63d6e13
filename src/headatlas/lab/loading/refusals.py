"""Error messages for models that cannot be measured as given; each says what to give instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transformers

from headatlas.errors import HeadatlasError
from headatlas.lab.anatomy.anatomy import UnsafeModelError
from headatlas.lab.loading import multimodal
from headatlas.lab.loading.file_headers import first_line


def no_model(given: object) -> str:
    """The error message for an argument that is neither a name nor a module."""
    kind = type(given).__name__
    inner = getattr(given, "model", None)
    if isinstance(inner, transformers.PreTrainedModel):
        return f"a {kind} is no model; give what is in it: open_model(it.model, tokenizer=it.tokenizer)"
    return f"a {kind} is no model; give a folder, a hub id, or a model of transformers with its tokenizer"


def require_plain(name: str, model: Any) -> None:
    """Check that a loaded model is a plain causal language model of transformers: no wrapper, quantisation or adapter.

    Raises:
        HeadatlasError: if it is not; says what to give instead.
    """
    if advice := _wrapped(model):
        raise HeadatlasError(f"{name} is {advice}")
    if not isinstance(model, transformers.PreTrainedModel) or model.get_output_embeddings() is None:
        raise HeadatlasError(
            f"{name} is a {type(model).__name__}, not a causal language model of transformers; load it with "
            "AutoModelForCausalLM"
        )
    if multimodal.encodes_and_decodes(model.config):
        raise HeadatlasError(f"{name} is an encoder-decoder; headatlas measures decoders that predict the next token")
    if getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None) is not None:
        raise HeadatlasError(
            f"{name} is quantised, and headatlas cannot read its matrices; load it at full precision, or call "
            "model.dequantize() first"
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise HeadatlasError(
            f"{name} has an adapter beside its weights; open the model and give adapter=FOLDER, or merge it: "
            "peft.PeftModel.from_pretrained(model, FOLDER).merge_and_unload()"
        )


def _wrapped(model: Any) -> str | None:
    """What wraps a model and how to unwrap it, or None for a plain model."""
    if hasattr(model, "_orig_mod"):
        return (
            "compiled by torch.compile, which takes attention apart; open what was compiled: "
            "open_model(model._orig_mod, tokenizer=...)"
        )
    if getattr(model, "_compiled_call_impl", None) is not None:
        return "compiled in place by model.compile(), which takes attention apart; open it before you compile it"
    if hasattr(model, "peft_config") and hasattr(model, "merge_and_unload"):
        return "a model with an adapter around it; merge it: open_model(model.merge_and_unload(), tokenizer=...)"
    if isinstance(getattr(model, "module", None), transformers.PreTrainedModel):
        return f"a {type(model).__name__} around a model; open what is in it: open_model(model.module, tokenizer=...)"
    return None


def moved(name: str, model: Any, device: str) -> Any:
    """Move the model to a device.

    Raises:
        HeadatlasError: if the device does not exist or lacks memory.
    """
    try:
        return model.to(device)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        room = "memory" in str(error)
        raise HeadatlasError(
            f"{name} cannot be put on {device} ({first_line(error)}); "
            + ("give a lower dtype, or another device" if room else "give an available device, such as cpu or cuda:0")
        ) from None


@contextmanager
def runs(name: str) -> Iterator[None]:
    """Turn any exception of a model's first forward pass into a one-line error.

    Raises:
        UnsafeModelError: if the model raises an error of any kind.
    """
    try:
        yield
    except HeadatlasError:
        raise
    except Exception as error:
        raise UnsafeModelError(
            "runs",
            f"{name} does not run on a few tokens ({type(error).__name__}: {first_line(error)}); its configuration "
            "does not fit its weights, or transformers lacks something it needs",
        ) from None
