"""Finds and reads peft adapters, merges them into a model's weights, and checks that the merged model is equivalent."""

import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from headatlas.errors import HeadatlasError
from headatlas.lab.anatomy.anatomy import UnsafeModelError
from headatlas.lab.anatomy.trial_pass import gap, precision, tokens_for
from headatlas.lab.loading import provenance
from headatlas.lab.loading.file_headers import explained, first_line, listed, read_json
from headatlas.lab.loading.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_says, find_adapter
from headatlas.lab.loading.weight_files import opened
from headatlas.quiet import quiet

NONE = "none"  # value of --adapter: leave out the adapter in the model's folder
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """An adapter to be merged.

    Attributes:
        name: the name or path the user gave.
        folder: the folder it is in.
        weights: its weight file.
        kind: peft's name of its type, such as "LORA".
        base: the model it was trained on, according to its configuration; None if not stated.
    """

    name: str
    folder: Path
    weights: Path
    kind: str
    base: str | None

    @property
    def said(self) -> str:
        """A one-line description for records: 'my-adapter (LORA, trained on owner/base)'."""
        return f"{self.name} ({self.kind}{f', trained on {self.base}' if self.base else ''})"

    @property
    def files(self) -> tuple[Path, Path]:
        """The configuration file and the weight file."""
        return self.folder / ADAPTER_CONFIG, self.weights


def beside(name: str, folder: Path) -> None:
    """Check that no adapter lies in the folder of a model.

    Raises:
        HeadatlasError: if one does; the message gives both ways to say what is wanted.
    """
    there = [file for file in (ADAPTER_CONFIG, *ADAPTER_WEIGHTS) if (folder / file).is_file()]
    if there:
        raise UnsafeModelError(
            "adapter",
            f"{name} has an adapter ({there[0]}) beside its full weights; say whether it is meant: merge it with "
            f"--adapter {name} (in Python: adapter={name!r}), or leave it out with --adapter {NONE} (adapter={NONE!r})",
        )


def find(name: str, allow_pickle: bool) -> Adapter:
    """Find the adapter in a folder or in a repository of the hub.

    Raises:
        HeadatlasError: if there is none, or peft is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise HeadatlasError("--adapter needs peft; pip install 'headatlas[adapter]'")
    folder = find_adapter(name)
    said = read_json(name, folder / ADAPTER_CONFIG)
    kind = said.get("peft_type") if isinstance(said, dict) else None
    if not isinstance(kind, str):
        raise HeadatlasError(f"{ADAPTER_CONFIG} of {name} names no peft_type; save the adapter again with peft")
    safe, pickled = (folder / file for file in ADAPTER_WEIGHTS)
    if not safe.is_file() and not (pickled.is_file() and allow_pickle):
        advice = "allow_pickle=True (--allow-pickle) if you trust its author" if pickled.is_file() else "save it again"
        raise HeadatlasError(f"{name} has no {ADAPTER_WEIGHTS[0]}; {advice}")
    base = adapter_says(folder).get("base_model_name_or_path")
    return Adapter(
        name, folder, safe if safe.is_file() else pickled, kind, base if isinstance(base, str) and base else None
    )


@torch.no_grad()
def merge(adapter: Adapter, name: str, model: Any) -> Any:
    """Merge an adapter into a model's weights, and check that the logits stay the same.

    Args:
        adapter: the adapter.
        name: name of the model, for error messages.
        model: the model, which is changed in place.

    Raises:
        HeadatlasError: if the adapter does not belong to the model, or cannot be merged.
    """
    with opened(adapter.name, [adapter.weights]) as tensors:
        state = {key: tensor.whole() for key, tensor in tensors.items()}
    for key, tensor in state.items():
        if not torch.isfinite(tensor.float()).all():
            raise UnsafeModelError("finite", f"the adapter {adapter.name} has NaN or infinite numbers in {key}")
    with _silent():
        wrapped = _attached(adapter, name, model, state)
        tokens = tokens_for(model)
        with explained(f"{name} does not run with the adapter {adapter.name}", "give the model it was trained on"):
            before = wrapped(input_ids=tokens, use_cache=False).logits
        try:
            merged = wrapped.merge_and_unload(safe_merge=True)
        except Exception as error:
            raise HeadatlasError(
                f"the adapter {adapter.name} ({adapter.kind}) cannot be merged into weights ({first_line(error)}); "
                "headatlas measures merged adapters only"
            ) from None
    after = merged(input_ids=tokens, use_cache=False).logits
    if not (found := gap(after, before)) <= 10 * precision(merged.dtype):
        raise UnsafeModelError(
            "adapter",
            f"{name} gives other logits once {adapter.name} is merged into its weights (off by {found:.1e}); the "
            "adapter changes tied weights, or switches itself on and off: merge it where you trained it, and open "
            "the result",
        )
    return merged.requires_grad_(False)


def _attached(adapter: Adapter, name: str, model: Any, state: dict[str, torch.Tensor]) -> Any:
    """The model with the adapter attached but not merged, as peft runs it."""
    import peft

    try:
        config = peft.PeftConfig.from_pretrained(str(adapter.folder))
    except Exception as error:
        raise HeadatlasError(
            f"peft {peft.__version__} cannot read {ADAPTER_CONFIG} of {adapter.name} ({first_line(error)}); upgrade "
            "it, or save the adapter again"
        ) from None
    if config.is_prompt_learning or adapter.kind in ("ADAPTION_PROMPT", "XLORA", "POLY"):
        raise HeadatlasError(
            f"{adapter.name} is an adapter of kind {adapter.kind}, which cannot be merged into weights; headatlas "
            "measures merged adapters only, such as LoRA"
        )
    if getattr(config, "layer_replication", None) or getattr(config, "alora_invocation_tokens", None):
        raise HeadatlasError(
            f"{adapter.name} repeats layers or works on some tokens only, so it cannot be merged into weights; "
            "headatlas measures merged adapters only"
        )
    config.inference_mode = True
    wanted = f"; it was trained on {adapter.base}" if adapter.base else ""
    try:
        wrapped = peft.get_peft_model(model, config).eval()
        loaded = peft.set_peft_model_state_dict(wrapped, dict(state))
    except Exception as error:
        raise HeadatlasError(
            f"the adapter {adapter.name} does not fit {name} ({_shape(error)}); give the model it was "
            f"trained on{wanted}"
        ) from None
    if loaded.unexpected_keys:
        raise HeadatlasError(
            f"the adapter {adapter.name} has weights for what {name} lacks ({listed(sorted(loaded.unexpected_keys))}); "
            f"give the model it was trained on{wanted}"
        )
    own = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    if absent := sorted(own.keys() - state.keys()):
        raise HeadatlasError(
            f"the adapter {adapter.name} lacks weights that its configuration asks for ({listed(absent)}); give the "
            f"model it was trained on{wanted}, or save the adapter again"
        )
    return wrapped


def _shape(error: Exception) -> str:
    """The line of a peft error that names the sizes that do not match."""
    lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
    return lines[0][:200] if lines else first_line(error)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep peft's warnings off the terminal; this module checks what they warn about."""
    import warnings

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def recorded(adapter: Adapter, weights: str) -> tuple[dict[str, str], str]:
    """The sha256 of each file of an adapter, and of the model's weights and adapter files together.

    Args:
        adapter: the merged adapter.
        weights: sha256 of the model's own weights.
    """
    each, _ = provenance.of_files(adapter.files)
    whole = hashlib.sha256(
        "\n".join([weights, *(f"{file} {digest}" for file, digest in sorted(each.items()))]).encode()
    )
    return {f"adapter/{file}": digest for file, digest in each.items()}, whole.hexdigest()
