"""The direct effect of every head over prompts of any lengths, whole or by what it was attending to."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from headatlas.lab.attribution import direct_logit_attribution
from headatlas.lab.edits import mean
from headatlas.lab.interventions import Reference, intervene
from headatlas.lab.measuring import Array, batches, mean_z, stack_tokens
from headatlas.lab.opening import OpenModel
from headatlas.lab.sites import Recording
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt


def direct_effects(
    model: OpenModel,
    prompts: Sequence[Prompt],
    keys: Sequence[Sequence[int]] | None = None,
    control: bool = False,
    ablated: Sequence[Head] = (),
) -> Array:
    """What each head writes directly into the logit difference of each prompt's last readout.

    Args:
        model: to run.
        prompts: with readouts; where the last has no rivals, the answer's own logit is split.
        keys: of each prompt, the positions from which what heads take is counted; by default all. Attention biases
            and what a head writes wherever it looks are in none of the parts.
        control: read the prompt's control instead, for the same answer and rivals at the same position.
        ablated: heads that are knocked out at the last position, where they give their mean over the ends of the
            controls: what do the others do then?

    Returns:
        [prompt layer head], in nats: the logit of the answer minus the mean logit of the rivals, at the scale the
        final norm has in the prompt (and with the heads knocked out, where some are).

    Raises:
        HeadatlasError: as in `direct_logit_attribution`.
    """
    found = np.empty((len(prompts), model.anatomy.layers, model.anatomy.heads))
    means = mean_z(model, [prompt.control for prompt in prompts], position=-1) if ablated else None
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts[-1].rivals)):
        last = [prompt.readouts[-1] for prompt in batch]
        rivals = [readout.rivals for readout in last] if last[0].rivals else None
        tokens = stack_tokens([prompt.control if control else prompt.tokens for prompt in batch])
        with _without(model, ablated, means, tokens.shape[1] - 1):
            split = direct_logit_attribution(
                model,
                tokens,
                [readout.answer for readout in last],
                rivals,
                torch.tensor([readout.position for readout in last]),
                sources=keys is not None,
            )
        if keys is None or split.sources is None:
            found[index] = split.heads.double().cpu().numpy()
            continue
        for number, each in zip(index, split.sources, strict=True):  # [layer head key]
            found[number] = each[..., list(keys[number])].sum(-1).double().cpu().numpy()
    return found


def _without(
    model: OpenModel, heads: Sequence[Head], means: Reference | None, position: int
) -> AbstractContextManager[None]:
    """While active, the heads give their means at a position."""
    if means is None:
        return nullcontext()
    kept = Recording({("z", layer): z for layer, z in enumerate(means.z)})
    return intervene(model, [mean("z", heads, kept, [position], since=0)])
