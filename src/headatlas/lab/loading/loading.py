"""Loads the weights in a model's folder and checks that every one of them is used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from headatlas.errors import HeadatlasError
from headatlas.lab.anatomy.anatomy import UnsafeModelError
from headatlas.lab.loading import multimodal, unused_weights, weight_files
from headatlas.lab.loading.file_headers import explained, listed, require_whole
from headatlas.lab.loading.weight_files import Tracked
from headatlas.quiet import quiet

_BESIDE = ("*.json", "*.model", "*.txt", "*.tiktoken", "*.jinja", "additional_chat_templates/*.jinja", "*.py")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
ASKED = "asked for without them"


@dataclass
class Loaded:
    """A loaded model and its weight files.

    Attributes:
        model: the model, with every weight its architecture needs.
        files: the weight files.
        left_out: names of the tensors in the files that the model does not use, by reason.
    """

    model: Any
    files: list[Path]
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)


def dtype_of(dtype: torch.dtype | str | None) -> torch.dtype:
    """Parse a dtype for weights; None means float32.

    Raises:
        HeadatlasError: if it is not a floating-point dtype that headatlas supports.
    """
    found = _DTYPES.get(str(dtype).removeprefix("torch.")) if dtype is not None else torch.float32
    if found is None:
        raise HeadatlasError(f"{dtype} is no dtype to measure in; give {', '.join(_DTYPES)}")
    return found


def other_files(folder: Path) -> list[Path]:
    """The configuration, tokenizer and code files of a model: all that define it besides its weights."""
    return sorted(file for pattern in _BESIDE for file in folder.glob(pattern) if file.is_file())


def load_model(
    name: str,
    folder: Path,
    config: Any,
    *,
    dtype: torch.dtype,
    device_map: Any,
    allow_pickle: bool,
    trust_remote_code: bool,
    ignore_unused: bool,
) -> Loaded:
    """Load the causal language model of a folder, or the multimodal model that contains it.

    Checks that the files hold every weight the architecture needs, and that the model uses every tensor in the files
    except those in `Loaded.left_out`.

    Raises:
        HeadatlasError: if a check fails, or a file cannot be read.
    """
    files, others = weight_files.chosen(name, folder, config, allow_pickle)
    with quiet(), weight_files.opened(name, files) as tensors:
        empty = _empty(name, config, tensors, trust_remote_code)
        _require_sizes(name, empty, tensors)
        with explained(f"the weights of {name} cannot be read", "download or save them again"):
            # Passed as state_dict, not as a folder: transformers would look for adapters in a folder and apply them.
            model, info = type(empty).from_pretrained(
                None,
                config=empty.config,
                state_dict=dict(tensors),
                dtype=dtype,
                device_map=device_map,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        _require_filled(name, info)
        unread = [tensor for tensor in tensors.values() if not tensor.read]
        left_out, rest = unused_weights.sorted_out(unread, frozenset(tensors), model)
    rest += [] if unread else sorted(info["unexpected_keys"])
    for file in others:
        rest += [f"{tensor} ({file.name})" for tensor in require_whole(name, file)]
    if rest and not ignore_unused:
        raise UnsafeModelError("files", unused_weights.refusal(name, rest, model))
    if rest:
        left_out[ASKED] = tuple(rest)
    held = sum(tensor.numel() for tensor in model.state_dict().values())
    unused_weights.require_all(name, (sum(tensor.count for tensor in tensors.values() if tensor.read), held))
    model.config.name_or_path = str(folder)
    if (folder / "generation_config.json").is_file():
        with quiet(), explained(f"generation_config.json of {name} cannot be read", "restore or delete it"):
            model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    return Loaded(model.requires_grad_(False), files, left_out)


def _empty(name: str, config: Any, tensors: Mapping[str, Tracked], trust_remote_code: bool) -> Any:
    """Build the model that the configuration describes on the meta device, without memory for its weights."""
    layers = getattr(multimodal.text_config(config), "num_hidden_layers", 0)
    if isinstance(layers, int) and layers > len(tensors):
        raise HeadatlasError(
            f"config.json of {name} asks for {layers} layers, and its files have {len(tensors)} tensors in all; they "
            "belong to different models: restore one of them"
        )
    made = multimodal.wrapper_class(config) or multimodal.language_model_class(config)
    with explained(f"config.json of {name} describes no model that can be made", "restore it"), torch.device("meta"):
        if made is not None:
            return made._from_config(config)
        return transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def _require_sizes(name: str, empty: Any, tensors: Mapping[str, Tracked]) -> None:
    """Check that tensors have the sizes the model expects, and that the files hold enough numbers to fill it."""
    wanted = {key: tuple(tensor.shape) for key, tensor in empty.state_dict().items()}
    wrong = [
        (key, shape, tensors[key].shape)
        for key, shape in wanted.items()
        if key in tensors and shape != tensors[key].shape
    ]
    if wrong:
        raise HeadatlasError(_sizes(name, wrong, empty.config))
    asked, there = sum(_count(shape) for shape in wanted.values()), sum(each.count for each in tensors.values())
    if asked > 3 * there:  # embedding and unembedding may be tied
        raise HeadatlasError(
            f"config.json of {name} describes a model of {asked:,} parameters, and its files hold {there:,}; they "
            "belong to different models: restore one of them"
        )


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _sizes(name: str, wrong: list[tuple[str, tuple[int, ...], tuple[int, ...]]], config: Any) -> str:
    """The error message for sizes that differ: tensor, size in the configuration, size in the file."""
    key, asked, there = wrong[0]
    more = f", and {len(wrong) - 1} more tensors differ" if len(wrong) > 1 else ""
    cause = ""
    if len(asked) == len(there):
        one, other = next((pair for pair in zip(asked, there, strict=True) if pair[0] != pair[1]), (0, 0))
        said = {**_plain(config), **_plain(multimodal.text_config(config))}
        fields = [field for field, value in said.items() if value == one and type(value) is int]
        cause = f" ({fields[0]} is {one} in config.json, and {other} would fit)" if fields else ""
    return (
        f"{key} of {name} is {_by(there)} in the file, and config.json asks for {_by(asked)}{cause}{more}; they "
        "belong to different models: restore config.json or the weights"
    )


def _plain(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.to_dict().items() if not key.endswith("_id")}


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _require_filled(name: str, info: Mapping[str, Any]) -> None:
    """Check that every weight of the model came from the files."""
    if info.get("error_msgs"):
        raise HeadatlasError(f"the weights of {name} cannot be read ({info['error_msgs'][0][:160]}); save them again")
    if mismatched := sorted(info["mismatched_keys"], key=str):
        wrong = [(str(key), tuple(asked), tuple(there)) for key, there, asked in mismatched]
        raise HeadatlasError(_sizes(name, wrong, transformers.PreTrainedConfig()))
    if absent := sorted(info["missing_keys"]):
        raise HeadatlasError(
            f"{name} lacks weights its architecture needs ({listed(absent, 2)}); transformers would "
            "fill them with random numbers, so this model is refused: restore the weights, or the config.json that was "
            "saved with them"
        )
