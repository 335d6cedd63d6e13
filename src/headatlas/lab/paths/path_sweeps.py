"""Path patching of every head, each alone, with many senders in one run.

Convention and results are those of `path_patch`. With z of all heads held, no position affects another: a sender's
change at a position travels through the norms and MLPs of that position only. So the first run starts in the sender's
layer, with (corrupted z - clean z) W_O added to the attention output, and computes only the receivers' positions; with
frozen MLPs it needs no layer at all. The second run, needed if the receivers are heads, starts at the first receiver.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.batched_copies import short_of_memory
from headatlas.lab.ablation.partial_rerun import active_hooks, failure_of
from headatlas.lab.activations.sites import Positions
from headatlas.lab.paths.batched_paths import BatchedPathPatching
from headatlas.lab.paths.path_patching import PathMetric, PathRuns, Receiver

_SENDERS = 3  # senders of a trial; with only one, mixing up senders could go unnoticed
_known: WeakKeyDictionary[nn.Module, dict[str, str | None]] = WeakKeyDictionary()


@dataclass(frozen=True)
class PathSweep:
    """The effect of the path from each head to the receivers on a metric.

    Attributes:
        effect: [layer head batch], metric with the head's path patched minus clean metric; NaN for heads that do not
            exist.
        notes: sentences on anything unusual.
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

    Sources: wang2023interpretability, goldowskydill2023localizing.

    Args:
        runs: from `path_runs`; prompts of other lengths need their own.
        receivers: inputs of heads, patched together, or "logits".
        metric: computed from the kept logits.
        sender_positions: where the senders are patched; everywhere by default.
        receiver_positions: where the receivers' queries, keys or values are patched; everywhere by default.
        memory: bytes for the activations of one run; by default as in `sweep`.

    Raises:
        HeadatlasError: for positions outside the prompts, or if memory is too short for a single head.
        ValueError: for no receivers, or heads the model lacks.
    """
    ends = receivers if receivers == "logits" else tuple(receivers)
    paths = BatchedPathPatching(runs, ends, sender_positions, receiver_positions)
    problem = _obstacle(paths)
    notes = [] if problem is None else [f"every path of {runs.model.name} ran in full: {problem}"]
    clean, anatomy = metric(runs.logits), runs.model.anatomy
    # zero where no path leads to the receivers
    none = {layer: clean.new_zeros(shape.heads, len(clean)) for layer, shape in anatomy.shapes.items()}
    effect = anatomy.stack(none, 0)
    most = paths.copies(memory) if problem is None else 1
    for layer in anatomy.attention:
        if layer >= paths.layers:
            break
        waiting = list(torch.split(torch.arange(anatomy.heads_in(layer)), most))
        while waiting:
            heads = waiting.pop(0)
            try:
                found = paths.logits(layer, heads) if problem is None else paths.in_full(layer, int(heads))[None]
            except RuntimeError as error:
                most = max(1, len(heads) // 2)
                waiting[:0] = torch.split(heads, most)
                notes.append(_fewer(error, heads, len(clean)))
                continue
            effect[layer, heads] = torch.stack([metric(each) for each in found]) - clean
    return PathSweep(effect, tuple(dict.fromkeys(notes)))


def _fewer(error: RuntimeError, heads: Tensor, prompts: int) -> str:
    """The note that memory was short for several heads at once; raises an error if it was short for one."""
    if not short_of_memory(error):
        raise error
    if len(heads) == 1:
        raise HeadatlasError(
            f"not enough memory for the paths of one head on {prompts} prompts; give path_runs fewer at once"
        ) from None
    return f"not enough memory for {len(heads)} heads at once; they ran in halves"


def _obstacle(paths: BatchedPathPatching) -> str | None:
    """Why a model's paths cannot be swept, or None if results match `path_patch`; each form is tried once."""
    runs = paths.runs
    if problem := active_hooks(runs.model):
        return problem
    if runs.model.anatomy.other_mixers:
        return "something besides attention moves information between positions"
    ends, mlps = "".join(sorted(paths.ends)) or "logits", "recomputed" if runs.mlps is None else "frozen"
    few = "one prompt" if len(runs.tokens) == 1 else "prompts"  # an axis of length 1 can hide errors
    kind = f"{ends}, MLPs {mlps}, {few} of {runs.tokens.shape[1]} tokens, {len(runs.kept)} kept, {paths.width} reached"
    known = _known.setdefault(runs.model.model, {})
    senders = [layer for layer in runs.model.anatomy.attention if layer < paths.layers]
    if kind not in known and senders:
        known[kind] = _try(paths, sorted({senders[0], senders[-1]}))
    return known.get(kind)


def _try(paths: BatchedPathPatching, layers: list[int]) -> str | None:
    senders = {layer: torch.arange(min(_SENDERS, paths.model.anatomy.heads_in(layer))) for layer in layers}
    full = {layer: paths.in_full(layer, int(heads[-1])) for layer, heads in senders.items()}
    tolerance = max(1e-5, 8 * torch.finfo(paths.model.dtype).eps) * paths.runs.logits.abs().max()

    def attempt() -> str | None:
        if not all(found.plain for found in paths.trace.layers.values()):
            return "its attention output is not the output of its output projection"
        for layer in layers:
            gap = (paths.logits(layer, senders[layer])[-1] - full[layer]).abs().max()
            if not gap <= tolerance:
                return f"a sender in layer {layer} does not match path_patch (off by {gap:.1e})"
        return None

    return failure_of(attempt)
