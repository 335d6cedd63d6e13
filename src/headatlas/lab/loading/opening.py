"""Opens the specimen, a local folder, a hub id or a loaded model; refuses models that cannot be measured safely."""

from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from headatlas import specimens
from headatlas.errors import HeadatlasError
from headatlas.fetching import known, stored
from headatlas.lab.anatomy.anatomy import UnsafeModelError
from headatlas.lab.anatomy.discovery import infer_anatomy
from headatlas.lab.loading import (
    adapters,
    attention_route,
    configuration,
    devices,
    fetched,
    folders,
    gguf_record,
    loading,
    multimodal,
    provenance,
    refusals,
    tokenizer_fit,
)
from headatlas.lab.loading.gguf_record import Dequantised
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.loading.provenance import Opened
from headatlas.progress import Progress, no_progress


def open_model(
    name: str | Path | torch.nn.Module,
    revision: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: str | None = None,
    *,
    tokenizer: Any = None,
    called: str | None = None,
    device_map: Any = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    adapter: str | Path | None = None,
    ignore_unused: bool = False,
    progress: Progress = no_progress,
) -> OpenModel:
    """Open the specimen, a folder, a hub id, a GGUF file, a model that the catalog knows, or one already loaded.

    Reads only safetensors and GGUF, and runs no code of a repository, unless `allow_pickle` or `trust_remote_code` is
    set. A GGUF file is dequantised on first use. Of a multimodal model the language model inside is opened.

    Args:
        name: 'specimen', a folder in Hugging Face format, a hub id, a GGUF file, a folder or hub id that holds one
            (owner/name/file.gguf where it holds several), an id of the catalog, fetched on first use, or a model.
        revision: commit, tag or branch, for a hub id.
        dtype: of the weights, float32 by default; measurements are made in float32.
        device: where to put the model, the CPU by default.
        tokenizer: of a model that is already loaded.
        called: name for a model that is already loaded; by default, the name it was loaded from.
        device_map: how to spread the model over devices, as transformers takes it; instead of `device`.
        allow_pickle: read pytorch_model*.bin if there are no safetensors.
        trust_remote_code: run the repository's own code.
        adapter: folder or hub id of a peft adapter to merge into the weights, or "none" to ignore an adapter in the
            model's folder. If not given, a folder with both is refused.
        ignore_unused: open the model although its files hold weights that it does not use.
        progress: told how far weights are fetched or dequantised.

    Raises:
        HeadatlasError: if it cannot be opened, is not a causal decoder, or fails the checks of `anatomy.examine`.
        ValueError: for options that exclude each other.
    """
    if isinstance(name, torch.nn.Module):
        asked = (revision, dtype, device, device_map, adapter)
        if any(each is not None for each in asked) or allow_pickle or trust_remote_code or ignore_unused:
            raise ValueError("a loaded model stays as it is: open_model takes only its tokenizer and `called`")
        return _adopt(name, tokenizer, called or getattr(name, "name_or_path", "") or type(name).__name__)
    if not isinstance(name, (str, PathLike)):
        raise HeadatlasError(refusals.no_model(name))
    _require_fit(tokenizer, called, device, device_map)
    return _from_files(
        *known.hub_id(folders.expanded(str(name)), revision),
        loading.dtype_of(dtype),
        devices.device(device),
        device_map=device_map,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        adapter=adapter,
        ignore_unused=ignore_unused,
        progress=progress,
    )


def _require_fit(tokenizer: Any, called: str | None, device: str | None, device_map: Any) -> None:
    if tokenizer is not None or called is not None:
        raise ValueError("tokenizer and called are for a model that is already loaded")
    if device is not None and device_map is not None:
        raise ValueError("give device or device_map, not both")


def _from_files(
    name: str,
    revision: str | None,
    dtype: torch.dtype,
    device: str,
    *,
    device_map: Any,
    allow_pickle: bool,
    trust_remote_code: bool,
    adapter: str | Path | None,
    ignore_unused: bool,
    progress: Progress,
) -> OpenModel:
    """Open the model in a folder, in packages or on the hub."""
    wanted = None if adapter in (None, adapters.NONE) else adapters.find(str(adapter), allow_pickle)
    if known.packaged(name):
        (name, folder), commit = fetched.named_folder(name, revision, progress), None
    else:
        folder, commit = folders.find_folder(name, revision, allow_pickle, trust_remote_code, progress)
    if adapter is None:
        adapters.beside(name, Path(name) if Path(name).is_dir() else folder)
    config = configuration.read_config(name, folder, trust_remote_code)
    tokenizer = configuration.read_tokenizer(name, folder, trust_remote_code)
    loaded = loading.load_model(
        name,
        folder,
        config,
        dtype=dtype,
        device_map=device_map,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        ignore_unused=ignore_unused,
    )
    model = loaded.model if device_map is not None else refusals.moved(name, loaded.model, device)
    _require_finite(name, model)
    if wanted is not None:
        model = adapters.merge(wanted, name, model)
    if multimodal.is_wrapper(model):
        loaded.left_out |= multimodal.reduce_to_text(name, model)
    files, whole, made_of = _read(name, folder, loaded.files)
    if wanted is not None:
        more, whole = adapters.recorded(wanted, whole)
        files |= more
    opened = Opened(
        source="hub" if commit else "specimen" if name in specimens.names() else "folder",
        files=files,
        weights=whole,
        pickle=loaded.files[0].suffix == ".bin",
        remote_code=trust_remote_code,
        adapter=None if wanted is None else wanted.said,
        left_out=loaded.left_out,
        gguf=made_of,
    )
    return prepared(name, model, tokenizer, opened, commit)


def _read(name: str, folder: Path, weights: list[Path]) -> tuple[dict[str, str], str, Dequantised | None]:
    """The sha256 of each file that was read, that of the weights, and the GGUF file that they were converted from."""
    each, whole = provenance.of_files(weights)
    files = provenance.of_files(loading.other_files(folder))[0] | each
    stored.require_unchanged(folder, files)
    if made_of := gguf_record.dequantised(name, folder):
        gguf_record.require_unchanged(name, folder, made_of, whole)
        return {made_of.file: made_of.sha256}, made_of.sha256, made_of
    return files, whole, None


def _adopt(model: Any, tokenizer: Any, name: str) -> OpenModel:
    """Open a model that is already loaded."""
    refusals.require_plain(name, model)
    if tokenizer is None:
        raise HeadatlasError(f"{name} came without its tokenizer; give open_model(model, tokenizer=...)")
    _require_finite(name, model)
    return prepared(name, model, tokenizer, Opened("loaded", {}, provenance.of_weights(model)), None)


def prepared(name: str, model: Any, tokenizer: Any, opened: Opened, commit: str | None) -> OpenModel:
    """Make a loaded model's attention hookable and examine the model; on failure, restore it."""
    with ExitStack() as restore:
        restore.callback(_set_training, {module: module.training for module in model.modules()})
        model.eval()
        implementation = attention_route.install(name, model, restore)
        with refusals.runs(name):
            anatomy = infer_anatomy(name, model)
        tokenizer_fit.require(name, tokenizer, model)
        opened = replace(opened, trace=provenance.trace_of(model))
        return OpenModel(
            name, commit, opened.weights, implementation, model, tokenizer, anatomy, opened, restore.pop_all()
        )


def _set_training(modes: dict[torch.nn.Module, bool]) -> None:
    for module, mode in modes.items():
        module.training = mode


def _require_finite(name: str, model: torch.nn.Module) -> None:
    for parameter, weight in model.named_parameters():
        if weight.is_meta:
            raise HeadatlasError(
                f"{parameter} of {name} is not in memory (offloaded, or never loaded); load the whole model"
            )
        # Fused attention can absorb a NaN without a trace, so looking at the logits is not enough.
        if not torch.isfinite(weight).all():
            raise UnsafeModelError("finite", f"{name} has NaN or infinite numbers in {parameter}; it is broken")
