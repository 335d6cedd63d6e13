"""Path patching: the effect of one head through another head's query, key or value, or directly on the logits.

The convention is that of wang2023interpretability (section 3.1 and appendix B). In a first run on the clean prompts,
every head's z is held at its clean value, in all layers and positions, except that the senders get their z from the
corrupted prompts. So the change travels along the residual stream and through MLPs (recomputed, as in the paper, or
frozen on request), but through no other head. The receivers' queries, keys or values in this run are then patched into
a second clean run, in which all else is computed as usual, and the metric is read. If the receiver is the logits, the
metric is read from the first run.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Literal, NamedTuple

from torch import Tensor

from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.activations.edits import patch
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.activations.recording import record
from headatlas.lab.activations.sites import Positions
from headatlas.lab.hooks.module_hooks import copied
from headatlas.lab.paths.clean_and_corrupted import PathRuns
from headatlas.notation import Head, HeadLike, HeadsLike

PathMetric = Callable[[Tensor], Tensor]  # logits [batch kept vocabulary] -> one value per prompt, [batch]


class Receiver(NamedTuple):
    """The end of a path: the query, key or value input of a head, such as "L5H10"."""

    head: HeadLike
    input: Literal["q", "k", "v"]


def path_patch(
    runs: PathRuns,
    senders: HeadsLike,
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
    senders: HeadsLike,
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
        ends.setdefault(site, []).append(Head.parse(head))
    if not ends:
        raise ValueError('no receivers; give at least one, or "logits"')
    return ends


def _held(runs: PathRuns) -> ExitStack:
    """While active, keep frozen MLPs at their clean output."""
    stack = ExitStack()
    for layer, output in (runs.mlps or {}).items():
        module = find_blocks(runs.model, runs.tokens)[layer].mlp
        stack.callback(module.register_forward_hook(lambda *_, output=output: copied(output)).remove)
    return stack
