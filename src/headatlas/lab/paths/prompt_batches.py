"""Batches of prompts for path patching: the clean run, and a corrupted run for each source."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.paths.clean_and_corrupted import PathRuns, path_runs
from headatlas.lab.running.batches import Readouts, batches, stack_tokens
from headatlas.lab.running.metrics import Metric
from headatlas.lab.running.readouts import read_metric, readouts_among, tokens_read
from headatlas.stimuli.prompts import Prompt

Source = Sequence[tuple[int, ...]] | None  # one prompt of equal length per clean prompt; None for the corrupted ones


@dataclass(frozen=True)
class PathBatch:
    """A batch of prompts and its runs.

    Attributes:
        index: of the prompts.
        runs: one for each source.
        readouts: as columns of the kept logits.
        metric: of the behaviour.
    """

    index: list[int]
    runs: list[PathRuns]
    readouts: Readouts
    metric: Metric

    def read(self, logits: Tensor) -> Tensor:
        """The behaviour [sender batch], from logits [sender batch kept vocabulary]."""
        return torch.from_numpy(read_metric(self.metric, logits, self.readouts))

    @property
    def length(self) -> int:
        """Of the prompts, in tokens."""
        return self.runs[0].tokens.shape[1]

    @property
    def clean(self) -> Array:
        """The behaviour of the prompts, [prompt]."""
        found: Array = read_metric(self.metric, self.runs[0].logits[None], self.readouts)[0]
        return found

    @property
    def sources(self) -> Array:
        """The behaviour of their sources, [source prompt]."""
        return read_metric(self.metric, torch.stack([each.corrupted_logits for each in self.runs]), self.readouts)


def run_batches(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    sources: Sequence[Source],
    mlps: Literal["recomputed", "frozen"],
) -> Iterator[PathBatch]:
    """Run prompts and their sources, batch by batch.

    Args:
        model, prompts, metric, mlps: as in `path_effects`.
        sources: at least one.

    Raises:
        HeadatlasError: if sources and prompts do not align.
    """
    if not sources:
        raise ValueError("no sources to patch from; give at least one")
    others = [[prompt.corrupted for prompt in prompts] if source is None else list(source) for source in sources]
    if any([len(each) for each in source] != [len(prompt.tokens) for prompt in prompts] for source in others):
        raise HeadatlasError("sources and prompts differ in number or length; give each prompt one of equal length")
    vocabulary = tokens_read(model, metric, prompts)
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts)):
        readouts = readouts_among(vocabulary, batch)
        tokens = stack_tokens([prompt.tokens for prompt in batch])
        first, *rest = (stack_tokens([source[i] for i in index]) for source in others)
        runs = path_runs(model, tokens, first, readouts[0].tolist(), mlps=mlps, vocabulary=vocabulary)
        yield PathBatch(index, [runs, *(runs.from_source(each) for each in rest)], readouts, metric)
