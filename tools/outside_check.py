"""Measures, with another group's definitions, the scores that they publish for every head of a model.

    python tools/outside_check.py MODEL [--texts 68]

MODEL is one whose file in catalog/models has `published:` tables. Their texts cannot be had, so the scores are measured
on the prose of this catalog: the definition of a head type and what papers report of it, one text per type, cut to 512
tokens. The result goes to reproductions/outside/<model>.json; the site shows it beside what is published.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

import headatlas
from headatlas import locations
from headatlas.catalog.catalog import Catalog
from headatlas.lab import OpenModel, open_model, record
from headatlas.protocol.provenance import catalog_id, model_record

LONGEST = 512  # tokens of a text
_LEAST = 0.01  # weights below count as none, for induction
OUTSIDE = locations.reproductions() / "outside"

# A score takes the weights [head query key] of a text and its tokens [position], and gives a value for every query that
# counts: [head query].
Score = Callable[[Tensor, Tensor], Tensor]


def previous(weights: Tensor, tokens: Tensor) -> Tensor:
    """Attention to the token before: [head query], from the second query on."""
    before: Tensor = weights.diagonal(-1, 1, 2)
    return before


def itself(weights: Tensor, tokens: Tensor) -> Tensor:
    """Attention to the token itself: [head query]."""
    own: Tensor = weights.diagonal(0, 1, 2)
    return own


def entropy(weights: Tensor, tokens: Tensor) -> Tensor:
    """Entropy of the weights, in nats: [head query]."""
    found: Tensor = torch.special.entr(weights).sum(-1)
    return found


def distance(weights: Tensor, tokens: Tensor) -> Tensor:
    """Distance to the tokens attended to, weighted by attention: [head query]."""
    place = torch.arange(len(tokens), dtype=weights.dtype)
    return (weights * (place[:, None] - place).clamp_min(0)).sum(-1)


def induction(weights: Tensor, tokens: Tensor) -> Tensor:
    """Attention to all tokens after earlier occurrences of the query's token: [head query], where there are any."""
    same = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    same[:, 1:] = (tokens[:, None] == tokens[None, :-1]).tril(-1)  # at [q, k]: is token k - 1 < q the token q?
    some = same.any(-1)
    strong = torch.where(weights < _LEAST, 0.0, weights)
    return (strong * same).sum(-1)[:, some]


SCORES: dict[str, Score] = {
    "induction": induction,
    "previous-token": previous,
    "self-attention": itself,
    "entropy": entropy,
    "mean-distance": distance,
}


def texts(catalog: Catalog) -> list[str]:
    """The prose of every head type."""
    return [
        " ".join([head.summary, head.definition, head.qk, head.ov, *(finding.statement for finding in head.findings)])
        for head in catalog.heads.values()
    ]


def measured(model: OpenModel, prompts: Sequence[tuple[int, ...]]) -> dict[str, Tensor]:
    """The mean of every score over all queries of all texts: [layer head]."""
    shape = model.anatomy.layers, model.anatomy.heads
    sums = {name: torch.zeros(shape, dtype=torch.float64) for name in SCORES}
    counts = dict.fromkeys(SCORES, 0)
    for number, prompt in enumerate(prompts):
        tokens, found = torch.tensor(prompt), record(model, [prompt], ["pattern"])
        for layer in range(shape[0]):
            weights = found["pattern", layer][0].float()
            for name, score in SCORES.items():
                values = score(weights, tokens)
                sums[name][layer] += values.double().sum(-1)
                counts[name] += values.shape[-1] * (layer == 0)
        print(f"\r{number + 1} of {len(prompts)} texts", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {name: total / counts[name] for name, total in sums.items()}


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--texts", type=int, help="how many, from the first (default all)")
    options = parser.parse_args()
    catalog, model = headatlas.load(), open_model(options.model)
    words = model.vocabulary
    prompts = [(*words.bos, *words.encode(text))[:LONGEST] for text in texts(catalog)[: options.texts]]
    found = measured(model, prompts)
    about = model_record(model, catalog_id(catalog, model))
    made = {
        "model": about.model_dump(mode="json"),
        "texts": len(prompts),
        "tokens": sum(map(len, prompts)),
        "texts_sha256": hashlib.sha256(repr(prompts).encode()).hexdigest(),
        "scores": {name: [[round(x, 4) for x in row] for row in each.tolist()] for name, each in found.items()},
    }
    path: Path = OUTSIDE / f"{about.catalog_id or about.id}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
