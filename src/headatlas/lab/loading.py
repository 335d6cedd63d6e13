"""Finds a model's files, on this machine or on the hub, and loads what is in them."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
import transformers

from headatlas import specimens
from headatlas.errors import HeadatlasError
from headatlas.quiet import quiet

_DOWNLOADED = ("*.json", "model*.safetensors", "*.model", "*.txt", "*.jinja")
_PICKLED = "pytorch_model*.bin"


def find_folder(name: str, revision: str | None, pickle: bool, code: bool) -> tuple[Path, str | None]:
    """The local folder that holds the model, and the hub's commit if it came from there."""
    if name == specimens.SPECIMEN or name in specimens.names():
        return specimens.folder(name), None
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise HeadatlasError(f"{name} is a folder without config.json, so no model; give a Hugging Face folder")
        return Path(name), None
    if Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise HeadatlasError(f"{name} is not a folder; give a model folder, a hub id, or the word specimen")
    return _download(name, revision, [*_DOWNLOADED, *[_PICKLED] * pickle, *["*.py"] * code])


def _download(name: str, revision: str | None, patterns: list[str]) -> tuple[Path, str | None]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except HFValidationError:
        raise HeadatlasError(f"{name!r} is neither a folder nor a hub id; write owner/model") from None
    except GatedRepoError:
        raise HeadatlasError(f"{name} is gated; accept its licence on the hub, then run `hf auth login`") from None
    except RevisionNotFoundError:
        raise HeadatlasError(f"{name} has no revision {revision!r}; give a commit, a tag or a branch") from None
    except RepositoryNotFoundError:
        raise HeadatlasError(
            f"the hub has no model {name!r} you may read; check the spelling, or `hf auth login`"
        ) from None
    except OSError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HeadatlasError(
            f"{name} could not be downloaded ({reason}); check the network and the disk, then run again: "
            "what has arrived is kept"
        ) from None
    except Exception as error:  # the hub client raises its transport's own errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HeadatlasError(f"{name} could not be downloaded ({reason}); check the network, then run again") from None
    return folder, folder.name


def weight_files(name: str, folder: Path, allow_pickle: bool) -> list[Path]:
    """The files of the weights, in order of their names."""
    if files := sorted(folder.glob("model*.safetensors")):
        return files
    pickled = sorted(folder.glob(_PICKLED))
    if pickled and allow_pickle:
        return pickled
    advice = "allow_pickle=True if you trust its author" if pickled else "save it with save_pretrained"
    raise HeadatlasError(f"{name} has no model*.safetensors; {advice}")


def other_files(folder: Path) -> list[Path]:
    """What makes the model what it is beside its weights: configuration, tokenizer and code."""
    return sorted(file for pattern in ("*.json", "*.model", "*.py") for file in folder.glob(pattern) if file.is_file())


def read_config(name: str, folder: Path, trust_remote_code: bool) -> Any:
    """The configuration of a causal decoder."""
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        if not trust_remote_code and '"auto_map"' in (folder / "config.json").read_text(errors="replace"):
            raise HeadatlasError(
                f"{name} runs on code of its own, which is not trusted; trust_remote_code=True if you have read it"
            ) from None
        raise HeadatlasError(f"{name} has no readable config.json ({_first_line(error)}); restore it") from None
    architectures = getattr(config, "architectures", None) or []
    causal = any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures)
    if getattr(config, "is_encoder_decoder", False) or (architectures and not causal):
        raise HeadatlasError(
            f"{name} is a {' / '.join(architectures) or config.model_type}, not a causal language model; "
            "headatlas measures decoders that predict the next token"
        )
    return config


def read_tokenizer(name: str, folder: Path, trust_remote_code: bool) -> Any:
    """The tokenizer of a folder."""
    advice = "put its tokenizer.json beside config.json"
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        raise HeadatlasError(f"{name} has no tokenizer; {advice}")
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise HeadatlasError(f"the tokenizer of {name} cannot be read ({_first_line(error)}); {advice}") from None


def load_model(
    name: str,
    folder: Path,
    config: Any,
    *,
    dtype: torch.dtype,
    device_map: Any,
    use_safetensors: bool,
    trust_remote_code: bool,
) -> Any:
    """The causal language model of a folder, with every weight its architecture needs."""
    if device_map is not None and importlib.util.find_spec("accelerate") is None:
        raise HeadatlasError("device_map needs the package accelerate; pip install accelerate, or give device instead")
    with quiet():
        try:
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                device_map=device_map,
                use_safetensors=use_safetensors,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
            )
        except Exception as error:
            raise HeadatlasError(
                f"the weights of {name} cannot be read ({_first_line(error)}); download or save them again"
            ) from None
    absent = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if absent:
        raise HeadatlasError(
            f"{name} lacks weights its architecture needs ({absent[0]}{' and others' if len(absent) > 1 else ''}); "
            "transformers would fill them with random numbers, so this model is refused"
        )
    return model.requires_grad_(False)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
