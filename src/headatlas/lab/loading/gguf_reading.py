"""Has transformers read a GGUF file: quietly, from a folder where nothing lies beside it, and parsed only once."""

import functools
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers

from headatlas.errors import HeadatlasError
from headatlas.lab.loading import gguf_support
from headatlas.lab.loading.file_headers import explained, listed
from headatlas.lab.loading.gguf_header import GgufHeader
from headatlas.progress import Progress
from headatlas.quiet import quiet

_NAME = "model.gguf"
_AGAIN = "download it again, or open the model's safetensors"


def read(file: Path, header: GgufHeader, progress: Progress) -> tuple[Any, Any]:
    """The model of a GGUF file, dequantised to float32, and its tokenizer.

    The model is on no device: it has the weights and can be saved, and nothing else.

    Raises:
        HeadatlasError: if transformers cannot read the file, or would read only a part of it.
    """
    name = file.name
    reader = f"transformers {transformers.__version__}"
    with _alone(file) as folder, quiet(), _once(progress, f"dequantising {name}"):
        progress(f"reading {name}", 0, 0)
        with explained(f"{reader} cannot read {name}", _AGAIN):
            config = transformers.AutoConfig.from_pretrained(folder, gguf_file=_NAME)
            gguf_support.require_all_read(header, config)
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                gguf_file=_NAME,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                **_whole(),
            )
            _require_filled(name, model, info)
            model = _plain(model)
        progress(f"building the tokenizer of {name}", 0, 0)
        with explained(f"{reader} cannot build the tokenizer of {name}", _AGAIN):
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=_NAME)
        return model, tokenizer


@contextmanager
def _alone(file: Path) -> Iterator[Path]:
    """A folder that holds nothing but the file: transformers would read a tokenizer or an adapter beside it."""
    with tempfile.TemporaryDirectory(prefix="headatlas-") as folder:
        link = Path(folder) / _NAME
        try:
            link.symlink_to(file.resolve())
        except OSError:  # Windows, without the right to make links
            shutil.copyfile(file, link)
        yield Path(folder)


class _Reader(gguf.GGUFReader):
    """gguf's reader on a plain array: slices of a memmap, of which it makes millions, cost five times as much."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, np.asarray(value) if name == "data" else value)


@contextmanager
def _once(progress: Progress, what: str) -> Iterator[None]:
    """While active, the file is parsed once, where transformers would do it three times; its bar reports to ours.

    A version of transformers that goes another way is slower, and no different.
    """
    from transformers import modeling_gguf_pytorch_utils as theirs

    def bar(items: Iterable[Any], *_: Any, **__: Any) -> Iterator[Any]:
        items = list(items)
        for done, item in enumerate(items):
            progress(what, done, len(items))
            yield item

    with ExitStack() as stack:
        for module, attribute, ours in (
            (gguf, "GGUFReader", functools.lru_cache(maxsize=1)(_Reader)),
            (theirs, "tqdm", bar),
        ):
            if hasattr(module, attribute):
                stack.callback(setattr, module, attribute, getattr(module, attribute))
                setattr(module, attribute, ours)
        yield


def _whole() -> dict[str, Any]:
    """Arguments by which the weights do not stay in their blocks, in versions of transformers that can keep them so."""
    if not hasattr(transformers, "GgufConfig"):
        return {}
    return {"quantization_config": transformers.GgufConfig(dequantize=True)}


def _require_filled(name: str, model: Any, info: Any) -> None:
    """Check that every weight came from the file, as plain numbers."""
    if wrong := sorted(map(str, {*info["missing_keys"], *info["mismatched_keys"]})):
        raise HeadatlasError(f"{name} lacks weights that its architecture needs ({listed(wrong, 2)}); {_AGAIN}")
    for key, weight in model.named_parameters():
        if weight.is_meta or type(weight) is not torch.nn.Parameter or weight.dtype != torch.float32:
            raise HeadatlasError(
                f"transformers {transformers.__version__} did not dequantise {key} of {name}; open the model's "
                "safetensors"
            )


def _plain(model: Any) -> Any:
    """The same model with a configuration that says nothing of quantisation, so that it can be saved."""
    config = model.config
    for said in ("quantization_config", "_model_name_or_path"):
        if hasattr(config, said):
            delattr(config, said)
    with torch.device("meta"):
        fresh = type(model)._from_config(config, dtype=torch.float32)
    fresh.load_state_dict(model.state_dict(), strict=True, assign=True)
    fresh.tie_weights()
    return fresh
