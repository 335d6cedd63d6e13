"""Compares headatlas with TransformerLens head by head, on the same random weights.

The model has GPT-2's shape (12 layers, 12 heads, d_model 768, 50,257 tokens), in float32 on the CPU. The program
compares patterns, z and streamed scores of all heads; the effect of ablating and of patching every head, at all
positions and at the last; and the effect of patching q, k, v and the pattern of one head per layer. It prints one line
per quantity: the largest difference and the largest value. A difference above 1e-4 is a mismatch, and so is a quantity
too small to compare.

    make bench                                  this and tools/bench.py, in an environment with TransformerLens
    build/bench-venv/bin/python tools/cross_check.py [--small]      --small: 2 layers, to try the program

This module is long because it is one list of comparisons.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from headatlas import specimens
from headatlas.lab import OpenModel, forward, intervene, logit_difference, open_model, record, score_heads, sweep
from headatlas.lab.ablation.replacement import AblationKind, EditPositions
from headatlas.lab.activations import Recording, Site, edits
from headatlas.lab.attention import Entropy, PairWeight, SinkMass
from headatlas.lab.attention.streaming import HeadScore
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt, Readout

TOLERANCE = 1e-4
VISIBLE = 10 * TOLERANCE  # a quantity that is nowhere larger could be anything
CONTEXT = 1024
PROMPTS, LENGTH = 2, 16
PATCHED: tuple[Site, ...] = ("q", "k", "v", "pattern")


@dataclass(frozen=True)
class Shape:
    """The shape of a random model in GPT-2's family."""

    layers: int
    heads: int
    d_model: int
    vocabulary: int


GPT2 = Shape(layers=12, heads=12, d_model=768, vocabulary=50257)
SMALL = Shape(layers=2, heads=4, d_model=32, vocabulary=4096)  # as many as its tokenizer has, and more


def save_model(shape: Shape, folder: Path) -> None:
    """Write random weights in Hugging Face format, with the specimen's tokenizer."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=shape.layers,
        n_head=shape.heads,
        n_embd=shape.d_model,
        vocab_size=shape.vocabulary,
        n_positions=CONTEXT,
        # Scores then vary by about 2 within a row; at the usual 0.02 patterns would be flat, and all heads alike.
        initializer_range=1.4 * shape.d_model**-0.5,
        bos_token_id=0,
        eos_token_id=0,
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(specimens.folder() / name, folder / name)


def open_lens(folder: Path) -> Any:
    """The same model in TransformerLens."""
    # Here, not above: a process that measures something else should not hold it in memory.
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(str(folder), device="cpu", dtype=torch.float32)


def draw_prompts(vocabulary: int, count: int, length: int) -> list[Prompt]:
    """Prompts and corrupted prompts of random tokens, and two random tokens to compare at the last position."""
    rng = random.Random(count * length)

    def tokens() -> tuple[int, ...]:
        return tuple(rng.randrange(1, vocabulary) for _ in range(length))

    def readout() -> Readout:
        answer, rival = rng.sample(range(1, vocabulary), 2)
        return Readout(length - 1, answer, (rival,))

    return [Prompt(tokens(), tokens(), readouts=(readout(),)) for _ in range(count)]


def tokens_of(prompts: Sequence[Prompt]) -> Tensor:
    """[prompt position]"""
    return torch.tensor([prompt.tokens for prompt in prompts])


def difference_at_last(logits: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    """Answer minus rival at the last position, [prompt], of logits [prompt position vocabulary]."""
    readouts = [prompt.readouts[0] for prompt in prompts]
    return torch.stack([row[-1, r.answer] - row[-1, r.rivals[0]] for row, r in zip(logits, readouts, strict=True)])


def put(site: str, head: int, value: Tensor | float, last: bool = False) -> Callable[..., Tensor]:
    """A TransformerLens hook that replaces one head's activation by `value`: another run's, or a number."""
    at = slice(-1, None) if last else slice(None)
    # A pattern is [batch head query key], the other sites [batch position head feature].
    where = (slice(None), head, at) if site == "pattern" else (slice(None), at, head)

    def hook(activation: Tensor, hook: Any) -> Tensor:
        activation = activation.clone()
        activation[where] = value[where] if isinstance(value, Tensor) else value
        return activation

    return hook


@dataclass(frozen=True)
class Comparison:
    """One quantity, from headatlas and from TransformerLens."""

    name: str
    ours: Tensor
    theirs: Tensor

    @property
    def largest(self) -> float:
        """The largest value, by TransformerLens."""
        return float(self.theirs.abs().max())

    @property
    def difference(self) -> float:
        """The largest difference; infinite if the shapes differ."""
        same = self.ours.shape == self.theirs.shape
        return float((self.ours.double() - self.theirs.double()).abs().max()) if same else float("inf")

    @property
    def agrees(self) -> bool:
        """True if both are equal, and large enough for a comparison."""
        return self.difference <= TOLERANCE and self.largest >= VISIBLE


class Pair:
    """One model in headatlas and in TransformerLens, with the same prompts."""

    def __init__(self, ours: OpenModel, lens: Any, prompts: Sequence[Prompt]) -> None:
        self.ours, self.lens, self.prompts = ours, lens, prompts
        self.tokens = tokens_of(prompts)
        self.corrupted = torch.tensor([prompt.corrupted for prompt in prompts])
        self.layers, self.heads = ours.anatomy.layers, ours.anatomy.heads
        self.logits, self.cache = lens.run_with_cache(self.tokens)
        _, self.other = lens.run_with_cache(self.corrupted)

    def seen(self, site: str) -> Tensor:
        """TransformerLens' activations at a site: [layer ...]."""
        return torch.stack([self.cache[_hook(site, layer)] for layer in range(self.layers)])

    def recorded(self) -> Iterator[Comparison]:
        """Compare recorded activations."""
        yield Comparison("logits", forward(self.ours, self.tokens, {}), self.logits)
        recording = record(self.ours, self.tokens, ["pattern", "z"])
        for site in ("pattern", "z"):
            ours = torch.stack([recording[site, layer] for layer in range(self.layers)])
            yield Comparison(f"{site} of all heads", ours, self.seen(site))

    def streamed(self) -> Iterator[Comparison]:
        """Compare scores; headatlas streams them without storing patterns."""
        pairs = torch.tensor([[query, query - 1] for query in range(1, self.tokens.shape[1])])
        scores: dict[str, HeadScore] = {
            "previous-token weight": PairWeight(pairs),
            "sink mass": SinkMass(),
            "entropy": Entropy(),
        }
        ours = score_heads(self.ours, self.tokens, scores)
        pattern = self.seen("pattern").transpose(0, 1)  # [batch layer head query key]
        theirs = {
            "previous-token weight": pattern.diagonal(-1, dim1=-2, dim2=-1),
            "sink mass": pattern[..., 0],
            "entropy": torch.special.entr(pattern).sum(-1),
        }
        for name in scores:
            yield Comparison(f"{name}, streamed", ours[name], theirs[name])

    def swept(self) -> Iterator[Comparison]:
        """Compare the effect of ablating and patching every head on a logit difference."""
        kinds: tuple[tuple[str, AblationKind], ...] = (("ablation", "zero"), ("activation patching", "resample"))
        positions: tuple[EditPositions, ...] = ("all", "last")
        for (name, ablation), where in product(kinds, positions):
            found = sweep(self.ours, self.prompts, logit_difference, ablation, where)
            theirs = [
                self.effect(layer, put("z", head, self.source(ablation, layer), where == "last"))
                for layer in range(self.layers)
                for head in range(self.heads)
            ]
            ours = torch.from_numpy(found.effect)
            name = f"{name} of every head at {'the last position' if where == 'last' else 'all positions'}"
            yield Comparison(name, ours, torch.stack(theirs).reshape(ours.shape))

    def source(self, ablation: AblationKind, layer: int) -> Tensor | float:
        """The replacement of z in TransformerLens."""
        source: Tensor | float = 0.0 if ablation == "zero" else self.other[_hook("z", layer)]
        return source

    def effect(self, layer: int, change: Callable[..., Tensor], site: str = "z") -> Tensor:
        """The effect of a hook on the logit difference in TransformerLens: [prompt]."""
        logits = self.lens.run_with_hooks(self.tokens, fwd_hooks=[(_hook(site, layer), change)])
        return difference_at_last(logits, self.prompts) - difference_at_last(self.logits, self.prompts)

    def patched(self) -> Iterator[Comparison]:
        """Compare the effect of patching q, k, v and pattern of one head per layer."""
        recording = record(self.ours, self.corrupted, PATCHED)
        chosen = [Head(layer, layer % self.heads) for layer in range(self.layers)]
        for site in PATCHED:
            ours = [self.intervened(site, head, recording) for head in chosen]
            theirs = [
                self.effect(head.layer, put(site, head.head, self.other[_hook(site, head.layer)]), site)
                for head in chosen
            ]
            yield Comparison(f"patching {site} of a head per layer", torch.stack(ours), torch.stack(theirs))

    def intervened(self, site: Site, head: Head, recording: Recording) -> Tensor:
        """The effect of a patch on the logit difference in headatlas: [prompt]."""
        clean = forward(self.ours, self.tokens, {})
        with intervene(self.ours, [edits.patch(site, [head], recording)]):
            logits = forward(self.ours, self.tokens, {})
        return difference_at_last(logits, self.prompts) - difference_at_last(clean, self.prompts)


def _hook(site: str, layer: int) -> str:
    return f"blocks.{layer}.attn.hook_{site}"


def main(small: bool) -> int:
    """Print one line per quantity. Returns 1 if a quantity does not agree."""
    transformers.utils.logging.disable_progress_bar()
    shape = SMALL if small else GPT2
    agree = True
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        save_model(shape, Path(folder))
        prompts = draw_prompts(shape.vocabulary, PROMPTS, LENGTH)
        pair = Pair(open_model(folder), open_lens(Path(folder)), prompts)
        print(f"{'quantity':58}{'largest difference':>20}{'largest value':>16}", flush=True)
        for part in (pair.recorded, pair.streamed, pair.swept, pair.patched):
            for each in part():
                agree &= each.agrees
                verdict = "" if each.agrees else "   too small to tell" if each.largest < VISIBLE else "   MISMATCH"
                print(f"{each.name:58}{each.difference:20.1e}{each.largest:16.4f}{verdict}", flush=True)
    print(f"headatlas and TransformerLens {'agree' if agree else 'DO NOT agree'} to {TOLERANCE:.0e}")
    return int(not agree)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="2 layers of 4 heads, to try the program")
    sys.exit(main(parser.parse_args().small))
