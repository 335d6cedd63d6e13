"""The models that ship with headatlas: the specimen and its siblings, each a folder with weights, tokenizer and card.

The siblings use the same recipe with other seeds and a second architecture, to test what carries over.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headatlas.errors import HeadatlasError

_HERE = Path(__file__).resolve().parent
SPECIMEN = "specimen"


def names() -> list[str]:
    """The names of the models that ship: 'specimen' first, then its siblings."""
    found = sorted(config.parent.name for config in _HERE.glob("*/config.json"))
    return [name for name in (SPECIMEN,) if name in found] + [name for name in found if name != SPECIMEN]


def folder(name: str = SPECIMEN) -> Path:
    """The folder of a shipped model, in Hugging Face format.

    Raises:
        HeadatlasError: if there is no model with this name.
    """
    if name not in (known := names()):
        has = f"these do: {', '.join(known)}" if known else "none does; run `python tools/train_specimen.py --install`"
        raise HeadatlasError(f"no model {name!r} ships with headatlas; {has}")
    return _HERE / name


def place(name: str) -> Path:
    """The path of a model with this name, existing or not."""
    return _HERE / name


def card(name: str = SPECIMEN) -> dict[str, Any]:
    """The card of a model: recipe, accuracy and necessary heads per family, textbook heads, limits, training log.

    Raises:
        HeadatlasError: if there is no such model, or its card cannot be read.
    """
    return _read(name, "card.json")


def training(name: str = SPECIMEN) -> dict[str, Any]:
    """Head scores and accuracy at about twenty steps of the model's training.

    Raises:
        HeadatlasError: if there is no such model, or the file cannot be read.
    """
    return _read(name, "training.json")


def retrained(found: Mapping[str, Any]) -> str:
    """A sentence about a second training with the same recipe and seed (an item of the card's `retrained`)."""
    kernels = f"limited to {found['kernels']} kernels" if found["kernels"] else "default kernels"
    where = f"on {found['machine']}, {kernels}, torch {found['versions']['torch']}"
    if found["identical"]:
        return f"Retrained {where}: byte-identical weights"
    gaps = ", ".join(f"{family} {gap:+.2f}" for family, gap in found["largest_gaps"].items())
    return (
        f"Retrained {where}: different weights, as if from another seed. The most likely token is the same in "
        f"{found['same_answers']:.1%} of held-out questions. Accuracy differs by {found['mean_gap']:.3f} on average "
        f"over the families, most in: {gaps}"
    )


def _read(name: str, file: str) -> dict[str, Any]:
    path = folder(name) / file
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise HeadatlasError(f"{path} is missing or damaged; reinstall headatlas, or train {name} again") from None
    return found


def specimen(name: str = SPECIMEN) -> tuple[Any, Any]:
    """A shipped model and its tokenizer, ready for plain transformers.

    Takes a tenth of a second, plus the import of torch and transformers in a fresh process.

    Args:
        name: 'specimen', or one of its siblings (`headatlas specimen --list`).

    Returns:
        (model, tokenizer): a transformers causal language model in float32 and evaluation mode, on the CPU.

    Raises:
        HeadatlasError: if there is no such model.
    """
    where = folder(name)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from headatlas.quiet import quiet

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32)
        return model.eval(), AutoTokenizer.from_pretrained(where)
