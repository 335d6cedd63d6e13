"""Slow computations that tests hold the fast ones to."""

from collections.abc import Sequence

import numpy as np
import torch

from headatlas.arrays import Array
from headatlas.lab import OpenModel, forward
from headatlas.lab.ablation import AblationKind, Patch, Sweep, ZValues, ablate, mean_z
from headatlas.lab.ablation.replacement import EditPositions, Replacement
from headatlas.lab.ablation.sweep_batches import run_sweep
from headatlas.lab.ablation.sweep_engine import naive
from headatlas.lab.ablation.sweep_task import HeadSet, SweepTask
from headatlas.lab.ablation.z_values import record_z
from headatlas.lab.running import Metric
from headatlas.notation import Head
from headatlas.stimuli import Prompt


def ablated_metric(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    head_sets: Sequence[Sequence[Head]],
    ablation: str = "mean",
    minus_corrupted: bool = False,
) -> Array:
    """The metric of each prompt with each set of heads ablated, [set prompt], in one whole run for each."""
    mean = mean_z(model, [prompt.corrupted for prompt in prompts])

    def read(prompt: Prompt, tokens: tuple[int, ...], heads: Sequence[Head]) -> float:
        source = {
            "mean": mean,
            "zero": ZValues.zero(model.anatomy),
            "resample": record_z(model, torch.tensor([prompt.corrupted])),
        }[ablation]
        hooks = ablate(model.anatomy, heads, source) if heads else {}
        logits = forward(model, torch.tensor([tokens]), hooks)[0]
        most = max((len(readout.rivals) for readout in prompt.readouts), default=0)
        return float(
            metric(
                logits[None, [readout.position for readout in prompt.readouts]].cpu(),
                torch.tensor([[readout.answer for readout in prompt.readouts]]),
                torch.tensor([[[*r.rivals, *[-1] * (most - len(r.rivals))] for r in prompt.readouts]]).long(),
            )
        )

    return np.array(
        [
            [
                read(each, each.tokens, heads) - (read(each, each.corrupted, heads) if minus_corrupted else 0.0)
                for each in prompts
            ]
            for heads in head_sets
        ]
    )


def naive_sweep(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    ablation: AblationKind | ZValues | Patch = "mean",
    positions: EditPositions = "all",
    minus_corrupted: bool = False,
    source: Sequence[tuple[int, ...]] | None = None,
) -> Sweep:
    """What `sweep` computes, by one whole run of the model for each head."""
    replacement = Replacement(model, prompts, ablation, source)
    sets = [HeadSet((head,)) for head in model.anatomy.all_heads]
    found = run_sweep(SweepTask(model, metric, sets, [replacement], positions, None), prompts, minus_corrupted, naive)
    ablated = np.full((model.anatomy.layers, model.anatomy.heads, len(prompts)), np.nan)
    for ((head,), _), values in zip(sets, found.ablated, strict=True):
        ablated[head] = values
    return Sweep(found.clean, ablated, found.sources[0], found.ways, found.notes)
