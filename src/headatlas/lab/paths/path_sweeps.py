"""Path patching of every head: what each one alone does along its paths, many senders in one run.

The convention is that of `path_patch`, and so are the numbers. With z of all heads held, no position looks at another:
what a sender changes at a position travels through the norms and MLPs of that position alone. So the first run is
begun in the sender's layer, with (corrupted z - clean z) W_O added to what attention wrote, and computes only the
positions where receivers read; with frozen MLPs it needs no layer at all. The second run, where the receivers are
heads, begins at the first of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.batched_copies import short_of_memory
from headatlas.lab.ablation.partial_rerun import in_force, outcome
from headatlas.lab.activations.sites import Positions
from headatlas.lab.paths.batched_paths import BatchedPathPatching
from headatlas.lab.paths.path_patching import PathMetric, PathRuns, Receiver

_SENDERS = 3  # tried together: with one, a mistake in telling senders apart would not show
_known: WeakKeyDictionary[nn.Module, dict[str, str | None]] = WeakKeyDictionary()


@dataclass(frozen=True)
class PathSweep:
    """What the path from each head to the receivers changes in a metric.

    Attributes:
        effect: [layer head batch], the metric with that head's path patched, minus the clean metric; NaN where no such
            head exists.
        notes: what was not as usual, in words.
    """

    effect: Tensor
    notes: tuple[str, ...] = ()


def path_sweep(
    runs: PathRuns,
    receivers: Iterable[Receiver] | Literal["logits"],
    metric: PathMetric,
    *,
    sender_positions: Positions = None,
    receiver_positions: Positions = None,
    memory: int | None = None,
) -> PathSweep:
    """Patch the path from every head to the receivers, each head alone.

    Args:
        runs: of `path_runs`. Prompts of another length need runs of their own.
        receivers: inputs of heads, patched together, or "logits".
        metric: read from the kept logits.
        sender_positions: where the senders are patched; everywhere by default.
        receiver_positions: where the receivers' queries, keys or values are; everywhere by default.
        memory: bytes that the activations of one run may take; by default as in `sweep`.

    Raises:
        HeadatlasError: for positions that the prompts do not have, or where memory is short for a single head.
        ValueError: for no receivers, or heads the model does not have.
    """
    ends = receivers if receivers == "logits" else tuple(receivers)
    reach = BatchedPathPatching(runs, ends, sender_positions, receiver_positions)
    problem = _obstacle(reach)
    notes = [] if problem is None else [f"every path of {runs.model.name} ran in full: {problem}"]
    clean, anatomy = metric(runs.logits), runs.model.anatomy
    # zero where no path leads to the receivers
    none = {layer: clean.new_zeros(shape.heads, len(clean)) for layer, shape in anatomy.shapes.items()}
    effect = anatomy.stack(none, 0)
    most = reach.copies(memory) if problem is None else 1
    for layer in anatomy.attention:
        if layer >= reach.layers:
            break
        waiting = list(torch.split(torch.arange(anatomy.heads_in(layer)), most))
        while waiting:
            heads = waiting.pop(0)
            try:
                found = reach.logits(layer, heads) if problem is None else reach.in_full(layer, int(heads))[None]
            except RuntimeError as error:
                most = max(1, len(heads) // 2)
                waiting[:0] = torch.split(heads, most)
                notes.append(_fewer(error, heads, len(clean)))
                continue
            effect[layer, heads] = torch.stack([metric(each) for each in found]) - clean
    return PathSweep(effect, tuple(dict.fromkeys(notes)))


def _fewer(error: RuntimeError, heads: Tensor, prompts: int) -> str:
    """What to say where memory is short for several heads at once; raises where it is short for one."""
    if not short_of_memory(error):
        raise error
    if len(heads) == 1:
        raise HeadatlasError(
            f"not enough memory for the paths of one head on {prompts} prompts; give path_runs fewer at once"
        ) from None
    return f"not enough memory for {len(heads)} heads at once; they ran in halves"


def _obstacle(reach: BatchedPathPatching) -> str | None:
    """Why a model's paths cannot be swept, or None where `path_patch` gives the same; tried once in each form."""
    runs = reach.runs
    if problem := in_force(runs.model):
        return problem
    if runs.model.anatomy.other_mixers:
        return "something beside attention carries information from one position to another"
    ends, mlps = "".join(sorted(reach.ends)) or "logits", "recomputed" if runs.mlps is None else "frozen"
    few = "one prompt" if len(runs.tokens) == 1 else "prompts"  # an axis of one hides mistakes
    kind = f"{ends}, MLPs {mlps}, {few} of {runs.tokens.shape[1]} tokens, {len(runs.kept)} kept, {reach.width} reached"
    known = _known.setdefault(runs.model.model, {})
    senders = [layer for layer in runs.model.anatomy.attention if layer < reach.layers]
    if kind not in known and senders:
        known[kind] = _try(reach, sorted({senders[0], senders[-1]}))
    return known.get(kind)


def _try(reach: BatchedPathPatching, layers: list[int]) -> str | None:
    senders = {layer: torch.arange(min(_SENDERS, reach.model.anatomy.heads_in(layer))) for layer in layers}
    full = {layer: reach.in_full(layer, int(heads[-1])) for layer, heads in senders.items()}
    tolerance = max(1e-5, 8 * torch.finfo(reach.model.dtype).eps) * reach.runs.logits.abs().max()

    def attempt() -> str | None:
        if not all(found.plain for found in reach.trace.layers.values()):
            return "its attention gives something else than its output projections write"
        for layer in layers:
            gap = (reach.logits(layer, senders[layer])[-1] - full[layer]).abs().max()
            if not gap <= tolerance:
                return f"a sender in layer {layer} does not give what path_patch gives (off by {gap:.1e})"
        return None

    return outcome(attempt)
