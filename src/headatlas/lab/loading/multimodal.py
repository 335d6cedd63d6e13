"""Finds language models inside multimodal wrappers, and removes the parts that text does not use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.models.auto import modeling_auto

from headatlas.errors import HeadatlasError
from headatlas.lab.anatomy.trial_pass import tokens_for
from headatlas.lab.loading.file_headers import first_line

NOT_READ = "vision and audio modules, which text does not use"


def architectures(config: Any) -> list[str]:
    """The class names that a configuration lists under `architectures`."""
    named = getattr(config, "architectures", None)
    return [each for each in named if isinstance(each, str)] if isinstance(named, (list, tuple)) else []


def wrapper_class(config: Any) -> Any:
    """The class of a multimodal wrapper that contains a decoder, or None if the configuration is not of one."""
    names = architectures(config)
    known = _wrappers()
    found = next((name for name in names if name in known), None) if names else None
    if found is None and not names and type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        found = known_by_type().get(str(getattr(config, "model_type", "")))
    if found is None or encodes_and_decodes(config):
        return None
    made = getattr(transformers, found, None)
    return made if isinstance(made, type) and issubclass(made, transformers.PreTrainedModel) else None


def language_model_class(config: Any) -> Any:
    """The class of a language model that AutoModelForCausalLM does not find by its configuration, or None."""
    if type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        return None
    for name in architectures(config):
        made = getattr(transformers, name, None)
        if isinstance(made, type) and issubclass(made, transformers.PreTrainedModel) and name.endswith("ForCausalLM"):
            return made if getattr(made, "config_class", None) is type(config) else None
    return None


def known_by_type() -> dict[str, str]:
    """The wrapper class of each model type that has one."""
    found: dict[str, str] = {}
    for table in ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES"):
        for kind, name in dict(getattr(modeling_auto, table, {})).items():
            found.setdefault(kind, name if isinstance(name, str) else name[0])
    return found


def _wrappers() -> set[str]:
    plain = set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    return {name for name in known_by_type().values() if name not in plain or not name.endswith("ForCausalLM")}


def encodes_and_decodes(config: Any) -> bool:
    """Whether a configuration, or the language model's configuration inside it, is of an encoder-decoder."""
    inside = [getattr(config, each, None) for each in ("text_config", "decoder", "llm_config")]
    return any(bool(getattr(each, "is_encoder_decoder", False)) for each in (config, *inside))


def text_config(config: Any) -> Any:
    """The configuration of the language model: the model's own, or the decoder's inside a wrapper."""
    try:
        return config.get_text_config(decoder=True)
    except (AttributeError, ValueError, TypeError):
        return getattr(config, "text_config", None) or config


def is_wrapper(model: nn.Module) -> bool:
    """Whether a model contains a language model among other modules, and is not one itself."""
    config = getattr(model, "config", None)
    return config is not None and (text_config(config) is not config or type(model).__name__ in _wrappers())


def decoder(model: Any) -> Any:
    """The language model inside a wrapper (its attention implementation is set separately), or the model itself."""
    inside = model.get_decoder() if is_wrapper(model) else model
    return inside if isinstance(inside, transformers.PreTrainedModel) else model


def reduce_to_text(name: str, model: Any) -> dict[str, tuple[str, ...]]:
    """Remove from a wrapper the modules that text does not use, keeping its logits on text bit-identical.

    Args:
        name: name of the model, for error messages.
        model: the wrapper, which is changed in place.

    Returns:
        The names of the removed tensors, by reason.

    Raises:
        HeadatlasError: if the wrapper does not run on text alone.
    """
    tokens = tokens_for(model)
    with _ran(model) as ran:
        before = _logits(name, model, tokens)
    kept = [model.get_decoder(), model.get_output_embeddings(), model.get_input_embeddings()]
    gone: list[str] = []
    for path, module in list(_outermost(model, ran, kept)):
        owner, _, child = path.rpartition(".")
        parent = model.get_submodule(owner) if owner else model
        setattr(parent, child, None)
        try:
            same = torch.equal(_logits(name, model, tokens), before)
        except HeadatlasError:
            same = False
        if same:
            gone += [f"{path}.{tensor}" for tensor in module.state_dict()]
        else:
            setattr(parent, child, module)
    return {NOT_READ: tuple(gone)} if gone else {}


@torch.no_grad()
def _logits(name: str, model: Any, tokens: Tensor) -> Tensor:
    try:
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    except Exception as error:
        inner = getattr(model, "language_model", None)
        whole = isinstance(inner, transformers.PreTrainedModel) and inner.get_output_embeddings() is not None
        raise HeadatlasError(
            f"{name} ({type(model).__name__}) does not run on text alone ({first_line(error)}); "
            + (
                "load it, and open what is inside: open_model(model.language_model, tokenizer=...)"
                if whole
                else "give a language model, or a model of pictures and text that runs without pictures"
            )
        ) from None
    return logits


@contextmanager
def _ran(model: nn.Module) -> Iterator[set[nn.Module]]:
    """Collect the modules that run while active."""
    found: set[nn.Module] = set()
    hooks = [module.register_forward_pre_hook(lambda module, _: found.add(module)) for module in model.modules()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _outermost(model: nn.Module, ran: set[nn.Module], kept: list[Any]) -> Iterator[tuple[str, nn.Module]]:
    """The largest modules with weights in which nothing ran, except those that contain a kept module."""
    needed = ran | {module for each in kept if isinstance(each, nn.Module) for module in each.modules()}
    found: list[str] = []
    for path, module in model.named_modules():
        if not path or any(path.startswith(f"{above}.") for above in found):
            continue
        if needed.isdisjoint(module.modules()) and next(module.parameters(), None) is not None:
            found.append(path)
            yield path, module
