"""Identifies an open model as it is now: its weights, configuration, tokenizer, code, dtype and attention."""

import hashlib
import inspect
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.evidence.identity import Identity, digest
from headatlas.lab.loading import provenance

if TYPE_CHECKING:
    from headatlas.lab.loading.opened_model import OpenModel

# Configuration fields that say where a model came from, or that have their own part in the identity.
_ELSEWHERE = {
    "transformers_version", "_name_or_path", "name_or_path", "_commit_hash", "_from_model_config", "auto_map",
    "is_local", "dtype", "torch_dtype", "quantization_config", "attn_implementation", "_attn_implementation",
    "_attn_implementation_internal", "_experts_implementation_internal",
}  # fmt: skip
# A text with every kind of character; its tokens reveal tokenizer settings that no attribute shows.
_TEXT = " The cat, 'twas 1,234.50€ — naïve Ünïcode\ttabs\n\nand  spaces; def f(x): return x_1  漢字 🙂 <s></s>"
_LIBRARIES = {"torch", "transformers", "tokenizers", "headatlas", "builtins"}


def identity(model: "OpenModel") -> Identity:
    """Identify the open model part by part, including any changes made in memory since it was opened."""
    opened, inside = model.opened, model.model
    return Identity.of(
        opened.source,
        opened.pickle,
        opened.files,
        weights=provenance.of_weights(inside) if edited(model) else weights_read(opened),
        configuration=digest(_plain(inside.config)),
        tokenizer=_tokenizer(model.tokenizer),
        generation=_generation(model),
        code=_code(model),
        adapter=_adapter(opened),
        quantisation=_dequantised(opened) or _quantisation(inside.config),
        dtype=", ".join(sorted({str(each.dtype).removeprefix("torch.") for each in inside.parameters()})),
        attention=model.implementation,
    )


def weights_read(opened: provenance.Opened) -> str:
    """The sha256 of the weights as opened, and of the index files that map tensors to weight files."""
    ends = (".safetensors.index.json", ".bin.index.json")
    indices = {name: sha256 for name, sha256 in opened.files.items() if name.endswith(ends)}
    return digest([opened.weights, indices]) if indices else opened.weights


def edited(model: "OpenModel") -> bool:
    """Whether weights were changed in memory since the model was opened."""
    return model.opened.trace is not None and model.opened.trace != provenance.trace_of(model.model)


def _adapter(opened: provenance.Opened) -> str | None:
    """The sha256 of the files of the merged adapter, wherever they came from; None without one."""
    if opened.adapter is None:
        return None
    return digest({name: sha256 for name, sha256 in opened.files.items() if name.startswith("adapter/")})


def _plain(value: Any) -> Any:
    """Plain data without volatile fields; a setting that is None counts as absent."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        kept = {str(key): _plain(each) for key, each in value.items() if str(key) not in _ELSEWHERE}
        return {key: each for key, each in kept.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if value is None or isinstance(value, str | int | float | bool):
        return value
    text = str(value)
    return type(value).__name__ if " at 0x" in text else text


def _tokenizer(tokenizer: Any) -> str:
    """The sha256 of how text becomes tokens, leaving out padding and truncation, which each call sets."""
    found: dict[str, Any] = {"class": type(tokenizer).__name__}
    for name in ("bos_token_id", "eos_token_id", "unk_token_id", "pad_token_id", "all_special_ids", "add_bos_token",
                 "add_eos_token", "add_prefix_space", "split_special_tokens", "do_lower_case", "legacy"):  # fmt: skip
        found[name] = _plain(getattr(tokenizer, name, None))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        found["backend"] = _without_padding(backend)
    else:
        vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
        found["vocabulary"] = sorted((str(word), int(id)) for word, id in vocabulary.items())
        for name in ("bpe_ranks", "vocab_merges", "special_tokens_map", "added_tokens_decoder"):
            found[name] = str(getattr(tokenizer, name, None))
        pieces = getattr(getattr(tokenizer, "sp_model", None), "serialized_model_proto", None)
        found["pieces"] = hashlib.sha256(pieces()).hexdigest() if pieces else None
    try:
        found["text"] = list(map(int, tokenizer.encode(_TEXT, add_special_tokens=False)))
    except Exception as error:  # a tokenizer that cannot encode this text
        found["text"] = type(error).__name__
    return digest(found)


def _without_padding(backend: Any) -> str:
    """The sha256 of a tokenizer of the tokenizers library, without padding and truncation."""
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(backend.to_str())
    copy.no_padding()
    copy.no_truncation()
    return hashlib.sha256(copy.to_str().encode()).hexdigest()


def _generation(model: "OpenModel") -> str:
    settings = getattr(model.model, "generation_config", None)
    return digest(
        {"template": _plain(getattr(model.tokenizer, "chat_template", None)), "settings": _plain(settings or {})}
    )


def _dequantised(opened: provenance.Opened) -> str | None:
    """What the weights were dequantised from and to; None if they were not."""
    return None if opened.gguf is None else f"GGUF {opened.gguf.quantisation}, dequantised to {opened.gguf.dtype}"


def _quantisation(config: Any) -> str | None:
    """Method and settings, such as 'bitsandbytes: load_in_4bit=True, …'; None for plain weights."""
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return None
    plain = _plain(settings)
    if not isinstance(plain, dict):
        return str(plain)
    method = str(plain.pop("quant_method", "unknown method"))
    return f"{method}: {', '.join(f'{name}={plain[name]}' for name in sorted(plain))}" if plain else method


def _code(model: "OpenModel") -> str | None:
    """The sha256 of the model's code that belongs to no installed library; None if there is none."""
    classes = {type(each) for each in (*model.model.modules(), model.model.config, model.tokenizer)}
    whole = hashlib.sha256()
    found = sorted({each for kind in classes for each in _sources(kind)})
    for name, source in found:
        whole.update(f"{name}\n{source}\n".encode())
    return whole.hexdigest() if found else None


def _sources(kind: type) -> Iterable[tuple[str, str]]:
    if kind.__module__.partition(".")[0] in _LIBRARIES:
        return
    try:
        if kind.__module__ == "__main__":
            yield kind.__name__, inspect.getsource(kind)
            return
        file = Path(inspect.getfile(kind)).resolve()
    except (OSError, TypeError):
        return
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")]
    if any(file.is_relative_to(folder) for folder in installed):
        return
    beside = sorted(file.parent.glob("*.py")) if kind.__module__.startswith("transformers_modules.") else [file]
    for each in beside:
        yield each.name, each.read_text(encoding="utf-8", errors="replace")
