"""Path patching: the effect of one head through another head's query, key or value, or directly on the logits.

The convention is that of wang2023interpretability (section 3.1 and appendix B). In a first run on the clean prompts,
every head's z is held at its clean value, in all layers and positions, except that the senders get their z from the
corrupted prompts. So the change travels along the residual stream and through MLPs (recomputed, as in the paper, or
frozen on request), but through no other head. The receivers' queries, keys or values in this run are then patched into
a second clean run, in which all else is computed as usual, and the metric is read. If the receiver is the logits, the
metric is read from the first run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.clean_run import CleanRun, run_clean
from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.activations.edits import patch
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.activations.recording import TokensLike, batch_of, record
from headatlas.lab.activations.sites import Positions, Recording, Site, located
from headatlas.lab.hooks.module_hooks import copied, states_of, with_states
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.few_logits import only_logits_of
from headatlas.lab.running.forward import forward
from headatlas.notation import Head

PathMetric = Callable[[Tensor], Tensor]  # logits [batch kept vocabulary] -> one value per prompt, [batch]


class Receiver(NamedTuple):
    """The end of a path: the query, key or value input of a head."""

    head: Head
    input: Literal["q", "k", "v"]


@dataclass(frozen=True)
class PathRuns:
    """Activations of the clean and the corrupted run, reusable for any number of paths.

    Attributes:
        model: the model.
        tokens: the clean prompts, [batch position].
        clean, corrupted: z of every head.
        trace: cache of the clean run, for reruns from the middle of the model.
        mlps: clean output of each MLP in layers with attention, if MLPs are frozen.
        logits: clean, [batch kept vocabulary].
        kept: positions whose logits are kept, [kept].
        vocabulary: tokens whose logits are kept; None for all.
    """

    model: OpenModel
    tokens: Tensor
    clean: Recording
    corrupted: Recording
    trace: CleanRun
    mlps: Mapping[int, Any] | None
    logits: Tensor
    kept: Tensor
    vocabulary: Tensor | None

    def from_source(self, corrupted: TokensLike) -> "PathRuns":
        """The same clean run with another corrupted one, [batch position].

        Raises:
            HeadatlasError: if the prompts do not align.
        """
        return replace(self, corrupted=record(self.model, _aligned(self.model, self.tokens, corrupted), ["z"]))

    def first(self, count: int) -> "PathRuns":
        """The runs of the first prompts alone."""
        clean, corrupted = (
            Recording({site: each[:count] for site, each in runs.activations.items()})
            for runs in (self.clean, self.corrupted)
        )
        mlps = self.mlps and {
            layer: with_states(each, self._first_rows(states_of(each), count)) for layer, each in self.mlps.items()
        }
        trace, tokens, logits = self.trace.first(count), self.tokens[:count], self.logits[:count]
        return replace(self, tokens=tokens, clean=clean, corrupted=corrupted, trace=trace, mlps=mlps, logits=logits)

    def _first_rows(self, states: Tensor, count: int) -> Tensor:
        """The part of an MLP's output that belongs to the first prompts; some MLPs see all tokens in one row."""
        batch, length = self.tokens.shape
        return states[:count] if len(states) == batch and states.ndim > 2 else states[: count * length]

    def logits_now(self) -> Tensor:
        """Run the clean prompts with the currently active edits; the kept logits [batch kept vocabulary]."""
        with only_logits_of(self.model, self.vocabulary):
            return forward(self.model, self.tokens, positions=self.kept)


def path_runs(
    model: OpenModel,
    clean: TokensLike,
    corrupted: TokensLike,
    positions: Sequence[int] | None = None,
    *,
    mlps: Literal["recomputed", "frozen"] = "recomputed",
    vocabulary: Sequence[int] | Tensor | None = None,
) -> PathRuns:
    """Run the clean and the corrupted prompts once, and keep what path patching needs.

    Args:
        model: to run.
        clean, corrupted: [batch position], aligned.
        positions: whose logits the metric uses; the last by default.
        mlps: whether MLPs are recomputed, or frozen at their clean output.
        vocabulary: tokens whose logits the metric uses, in this order; all by default. Choosing a few saves most of the
            time of sweeps over many heads and prompts.

    Raises:
        HeadatlasError: if the prompts do not align, or for tokens outside the vocabulary.
    """
    tokens = batch_of(model, clean)
    others = _aligned(model, tokens, corrupted)
    kept = located([tokens.shape[1] - 1] if positions is None else positions, 1, tokens.shape[1])[0]
    chosen = None if vocabulary is None else torch.as_tensor(vocabulary)
    written: dict[int, Any] = {}
    with ExitStack() as stack:
        if mlps == "frozen":
            for layer, each in find_blocks(model, tokens).items():
                stack.callback(each.mlp.register_forward_hook(_keep(written, layer)).remove)
        stack.enter_context(only_logits_of(model, chosen))
        first = replace(run_clean(model, tokens, kept, start=1), start=0)  # 1: with keys and values, to skip positions
    frozen = written if mlps == "frozen" else None
    z: dict[tuple[Site, int], Tensor] = {("z", layer): found.z for layer, found in first.layers.items()}
    second = record(model, others, ["z"])
    return PathRuns(model, tokens, Recording(z), second, first, frozen, first.logits, kept, chosen)


def _aligned(model: OpenModel, tokens: Tensor, corrupted: TokensLike) -> Tensor:
    """The corrupted prompts, [batch position], if they align with the clean ones."""
    others = batch_of(model, corrupted)
    if tokens.shape != others.shape:
        raise HeadatlasError(
            f"the clean prompts are {list(tokens.shape)} [batch position] and the corrupted {list(others.shape)}; "
            "path patching needs pairs of equal length"
        )
    return others


def path_patch(
    runs: PathRuns,
    senders: Iterable[Head],
    receivers: Iterable[Receiver] | Literal["logits"],
    metric: PathMetric,
    *,
    sender_positions: Positions = None,
    receiver_positions: Positions = None,
) -> Tensor:
    """Measure how much the path from the senders to the receivers changes a metric.

    Sources: wang2023interpretability, goldowskydill2023localizing.

    Args:
        runs: from `path_runs`.
        senders: heads, patched together.
        receivers: inputs of heads, patched together, or "logits".
        metric: computed from the kept logits.
        sender_positions: where the senders are patched; everywhere by default.
        receiver_positions: where the receivers' queries, keys or values are patched; everywhere by default.

    Returns:
        [batch]: metric with the path patched minus clean metric; zero if no path leads from the senders to the
        receivers.

    Raises:
        ValueError: for no senders or no receivers, or heads the model lacks.
    """
    return metric(patched_logits(runs, senders, receivers, sender_positions, receiver_positions)) - metric(runs.logits)


def patched_logits(
    runs: PathRuns,
    senders: Iterable[Head],
    receivers: Iterable[Receiver] | Literal["logits"],
    sender_positions: Positions = None,
    receiver_positions: Positions = None,
) -> Tensor:
    """The kept logits with the path patched, [batch kept vocabulary]. Arguments and errors as in `path_patch`."""
    model, everyone = runs.model, runs.model.anatomy.all_heads
    sending = [patch("z", everyone, runs.clean), patch("z", senders, runs.corrupted, sender_positions)]
    if receivers == "logits":
        with _held(runs), intervene(model, sending):
            return runs.logits_now()
    ends = by_input(receivers)
    model.anatomy.require(head for each in ends.values() for head in each)
    reading = sorted({head.layer for each in ends.values() for head in each})
    with _held(runs), intervene(model, sending):
        found = record(model, runs.tokens, list(ends), layers=reading)
    with intervene(model, [patch(site, heads, found, receiver_positions) for site, heads in ends.items()]):
        return runs.logits_now()


def by_input(receivers: Iterable[Receiver]) -> dict[Literal["q", "k", "v"], list[Head]]:
    """Group the receivers' heads by input.

    Raises:
        ValueError: for no receivers.
    """
    ends: dict[Literal["q", "k", "v"], list[Head]] = {}
    for head, site in receivers:
        ends.setdefault(site, []).append(head)
    if not ends:
        raise ValueError('no receivers; give at least one, or "logits"')
    return ends


def _keep(written: dict[int, Any], layer: int) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        written[layer] = copied(output)  # Falcon adds to it in place

    return hook


def _held(runs: PathRuns) -> ExitStack:
    """While active, keep frozen MLPs at their clean output."""
    stack = ExitStack()
    for layer, output in (runs.mlps or {}).items():
        module = find_blocks(runs.model, runs.tokens)[layer].mlp
        stack.callback(module.register_forward_hook(lambda *_, output=output: copied(output)).remove)
    return stack
