"""Batches of prompts of several lengths, aligned at their ends, so that their last positions are rerun together.

Shorter prompts are padded on the left: padded keys are masked, and positions count from each prompt's own beginning.
Only the positions that are rerun keep their activations.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from headatlas.lab.ablation.clean_run import BlockPass, CleanRun
from headatlas.lab.ablation.kv_cache import causal
from headatlas.lab.ablation.sweep_task import SweepBatch
from headatlas.lab.ablation.z_values import ZValues
from headatlas.lab.hooks.module_hooks import states_of, with_states


def from_the_end(part: SweepBatch, start: int) -> tuple[tuple[int, ...], ...]:
    """What parts must share to be joined: the positions that are rerun, edited and read, counted from the end."""
    length = part.tokens.shape[1]
    return (start - length,), tuple((part.at - length).tolist()), tuple((part.readouts[0] - length).tolist())


def joined_runs(runs: Sequence[CleanRun]) -> CleanRun:
    """The clean runs as one, all with the positions that are rerun equally far from the end."""
    first, longest = runs[0], max(runs, key=lambda run: run.tokens.shape[1])
    length, start = longest.tokens.shape[1], longest.start
    missing = [length - run.tokens.shape[1] for run in runs]
    masks: dict[tuple[int, ...], Tensor] = {}  # layers share them

    def tails(each: Sequence[Tensor]) -> Tensor:
        return torch.cat([x[:, run.start - run.origin :] for x, run in zip(each, runs, strict=True)])

    def layer_of(passes: Sequence[BlockPass]) -> BlockPass:
        kept = [each.attended for each in passes]
        keys, values, own = zip(*(each for each in kept if each is not None), strict=True)
        place = tuple(id(mask) for mask in own)
        if place not in masks:
            masks[place] = _mask(own, runs, length)
        key, value = (
            torch.cat([pad(x, (0, 0, left, 0)) for x, left in zip(each, missing, strict=True)])
            for each in (keys, values)
        )
        stream, z = tails([each.stream for each in passes]), tails([each.z for each in passes])
        return replace(passes[0], stream=stream, z=z, attended=(key, value, masks[place]))

    outputs = zip(*(run.outputs for run in runs), strict=True)
    return replace(
        longest,
        tokens=torch.cat([pad(run.tokens, (left, 0)) for run, left in zip(runs, missing, strict=True)]),
        logits=torch.cat([run.logits for run in runs]),
        layers={layer: layer_of([run.layers[layer] for run in runs]) for layer in first.layers},
        outputs=tuple(with_states(each[0], tails([states_of(output) for output in each])) for each in outputs),
        origin=start,
        padding=torch.cat([torch.full((len(run.tokens),), left) for run, left in zip(runs, missing, strict=True)]),
    )


def _mask(masks: Sequence[Tensor | None], runs: Sequence[CleanRun], length: int) -> Tensor:
    """The masks [prompt head query key] of some runs as one, in which padded keys are hidden."""
    rows = []
    for mask, run in zip(masks, runs, strict=True):
        prompts, own = run.tokens.shape
        if mask is None:
            mask = causal(own, run.logits.device)
        rows.append(mask[:, :, run.start : own, :own].expand(prompts, -1, -1, -1))
    dtypes = {each.dtype for each in rows}
    if len(dtypes) > 1:  # some lengths need no mask
        [dtype] = dtypes - {torch.bool}
        rows = [_added(each, dtype) if each.dtype == torch.bool else each for each in rows]
    hidden = False if rows[0].dtype == torch.bool else torch.finfo(rows[0].dtype).min
    return torch.cat([pad(each, (length - each.shape[3], 0, length - each.shape[2], 0), value=hidden) for each in rows])


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of what may be seen as one that is added to the scores."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)


def joined_parts(parts: Sequence[SweepBatch], run: CleanRun) -> SweepBatch:
    """The parts of a sweep as one, given their joined clean run."""
    length, width = run.tokens.shape[1], run.tokens.shape[1] - run.start
    first = parts[0]
    most = max(part.readouts[3].shape[2] for part in parts)
    where, answers, rivals = (
        torch.cat(each)
        for each in zip(
            *(
                (
                    part.readouts[1],
                    part.readouts[2],
                    pad(part.readouts[3], (0, most - part.readouts[3].shape[2]), value=-1),
                )
                for part in parts
            ),
            strict=True,
        )
    )
    return replace(
        first,
        tokens=run.tokens,
        readouts=(run.keep, where, answers, rivals),
        references=[
            _joined_values([part.references[number] for part in parts], parts, width)
            for number in range(len(first.references))
        ],
        at=first.at + length - first.tokens.shape[1],
        origin=run.start,
    )


def _joined_values(values: Sequence[ZValues], parts: Sequence[SweepBatch], width: int) -> ZValues:
    """The replacement z at the last positions of all prompts."""
    if all(each is values[0] for each in values) and all(len(z) == z.shape[1] == 1 for z in values[0].z.values()):
        return values[0]  # the same everywhere

    def tail(z: Tensor, part: SweepBatch) -> Tensor:
        prompts, length = part.tokens.shape
        return z.expand(prompts, length, *z.shape[2:])[:, length - width :]

    layers = values[0].z
    return ZValues(
        {
            layer: torch.cat([tail(each.z[layer], part) for each, part in zip(values, parts, strict=True)])
            for layer in layers
        },
        values[0].added,
    )
