"""The models that ship with headatlas: the specimen and its siblings, each a folder with weights, tokenizer and card.

The siblings are the same recipe in a second architecture and from other seeds, for asking what carries over.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headatlas.errors import HeadatlasError

_HERE = Path(__file__).resolve().parent
SPECIMEN = "specimen"


def names() -> list[str]:
    """The models that are here: 'specimen' first, then its siblings."""
    found = sorted(config.parent.name for config in _HERE.glob("*/config.json"))
    return [name for name in (SPECIMEN,) if name in found] + [name for name in found if name != SPECIMEN]


def folder(name: str = SPECIMEN) -> Path:
    """The folder of one, in Hugging Face format.

    Raises:
        HeadatlasError: where there is none of that name.
    """
    if name not in (known := names()):
        has = f"there are: {', '.join(known)}" if known else "none is; run `python tools/train_specimen.py --install`"
        raise HeadatlasError(f"no model {name!r} ships with headatlas; {has}")
    return _HERE / name


def place(name: str) -> Path:
    """Where a model of this name would lie, whether or not it does."""
    return _HERE / name


def card(name: str = SPECIMEN) -> dict[str, Any]:
    """What its trainer measured: recipe, accuracy and carrying heads per family, textbook heads, limits, training log.

    Raises:
        HeadatlasError: where there is no such model, or its card cannot be read.
    """
    return _read(name, "card.json")


def training(name: str = SPECIMEN) -> dict[str, Any]:
    """Head scores and accuracy at some twenty steps of its training.

    Raises:
        HeadatlasError: where there is no such model, or no such file.
    """
    return _read(name, "training.json")


def retrained(found: Mapping[str, Any]) -> str:
    """In words, what the card notes of a second training of the same recipe and seed (one of `retrained`)."""
    kernels = f"held to {found['kernels']} kernels" if found["kernels"] else "with whatever kernels it prefers"
    where = f"on a processor {found['machine']}, {kernels}, torch {found['versions']['torch']}"
    if found["identical"]:
        return f"Trained again {where}: it came out the same, byte for byte"
    gaps = ", ".join(f"{family} {gap:+.2f}" for family, gap in found["largest_gaps"].items())
    return (
        f"Trained again {where}: it came out different, as from another seed: the likeliest token is the same at "
        f"{found['same_answers']:.1%} of what held-out documents ask, and accuracy differs by {found['mean_gap']:.3f} "
        f"in the mean of the families, most in: {gaps}"
    )


def _read(name: str, file: str) -> dict[str, Any]:
    path = folder(name) / file
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise HeadatlasError(f"{path} is missing or damaged; install headatlas again, or train {name} again") from None
    return found


def specimen(name: str = SPECIMEN) -> tuple[Any, Any]:
    """A shipped model and its tokenizer, ready for plain transformers.

    A tenth of a second, and in a fresh process the seconds that importing torch and transformers takes before.

    Args:
        name: 'specimen', or one of its siblings (`headatlas specimen --list`).

    Returns:
        (model, tokenizer): a transformers causal language model in float32 and evaluation mode, on the CPU.

    Raises:
        HeadatlasError: where there is no such model.
    """
    where = folder(name)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from headatlas.quiet import quiet

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32)
        return model.eval(), AutoTokenizer.from_pretrained(where)
