"""Records the attention patterns of every head of a model on a dozen short texts, for the page "Try it".

    python tools/record_patterns.py MODEL [--out reproductions/patterns]

The texts are those below, written for this page. The patterns are those of `headatlas.lab.record`, at 8 bits a weight.
The file says which weights were read, as run records do.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import transformers

import headatlas
from headatlas.errors import HeadatlasError
from headatlas.evidence import files
from headatlas.lab import OpenModel, open_model, record
from headatlas.protocol.provenance import catalog_id, model_record
from pages.patterns import FOLDER, RecordedPatterns, RecordedText, packed

# id: what it is, and the text.
TEXTS: Mapping[str, tuple[str, str]] = {
    "sentence-twice": (
        "a sentence, twice",
        "The green kettle stood beside a wooden clock. The green kettle stood beside a wooden clock.",
    ),
    "words-twice": (
        "random words, repeated",
        "Words: lamp seven ocean ticket brave north lamp seven ocean ticket brave north lamp seven ocean",
    ),
    "names": (
        "two names",
        "Alice and Robert worked late in a small office. When Alice and Robert left it, Robert handed the keys to",
    ),
    "list": (
        "a list with a repeat",
        "To buy: apples, bread, milk, rice, candles, soap. Bought so far: apples, bread, milk, rice,",
    ),
    "code": (
        "code",
        "def area(width, height):\n    return width * height\n\ndef volume(width, height, depth):\n    return width *",
    ),
    "digits": ("even numbers", "2 4 6 8 10 12 14 16 18"),
    "days": ("days of the week", "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, Monday, Tuesday,"),
    "capitals": (
        "facts in a row",
        "The capital of France is Paris. The capital of Japan is Tokyo. The capital of Italy is",
    ),
    "years": ("two years", "The repair of the bridge lasted from the year 1732 to the year 17"),
    "brackets": ("open brackets", "f(a, [b, {c: (d + e) * 2"),
    "opposites": ("opposites", "hot: cold\nbig: small\nup: down\nopen: closed\nwet: dry\nlight:"),
    "needle": (
        "a fact among other sentences",
        "The code of the door is 4817. It rained all night. Birds sang at dawn. The code of the door is",
    ),
}


def recorded(model: OpenModel) -> RecordedPatterns:
    """The patterns of every head of a model on every text."""
    return RecordedPatterns(
        model=model_record(model, catalog_id(headatlas.load(), model)),
        torch=torch.__version__,
        transformers=transformers.__version__,
        dtype=str(model.dtype).removeprefix("torch."),
        texts=[_recorded(model, id, name, text) for id, (name, text) in TEXTS.items()],
    )


def _recorded(model: OpenModel, id: str, name: str, text: str) -> RecordedText:
    tokens = list(model.vocabulary.prompt(text))
    found = record(model, [tokens], ["pattern"])
    layers = [found["pattern", layer][0].float().cpu().numpy() for layer in sorted(model.anatomy.attention)]
    pieces = [model.vocabulary.pieces([token]) for token in tokens]
    return RecordedText(
        id=id, name=name, text=text, tokens=tokens, pieces=pieces, weights=packed(np.concatenate(layers))
    )


def main() -> None:
    """Read the command line, record, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    try:
        found = recorded(open_model(options.model))
        path = options.out / f"{found.model.catalog_id or found.model.id}.json"
        files.write(path, found.model_dump_json(indent=1) + "\n")
    except HeadatlasError as error:
        parser.exit(2, f"{error}\n")
    print(f"wrote {path}: {len(found.texts)} texts, {len(found.model.every_head)} heads, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
