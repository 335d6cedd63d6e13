"""The direct effect of every head over prompts of any lengths, whole or by what it was attending to."""

from collections.abc import Sequence

import numpy as np
import torch

from headatlas.lab.attribution import direct_logit_attribution
from headatlas.lab.measuring import Array, batches, stack_tokens
from headatlas.lab.opening import OpenModel
from headatlas.stimuli.prompts import Prompt


def direct_effects(
    model: OpenModel, prompts: Sequence[Prompt], keys: Sequence[Sequence[int]] | None = None, control: bool = False
) -> Array:
    """What each head writes directly into the logit difference of each prompt's last readout.

    Args:
        model: to run.
        prompts: with readouts; where the last has no rivals, the answer's own logit is split.
        keys: of each prompt, the positions from which what heads take is counted; by default all. Attention biases
            and what a head writes wherever it looks are in none of the parts.
        control: read the prompt's control instead, for the same answer and rivals at the same position.

    Returns:
        [prompt layer head], in nats: the logit of the answer minus the mean logit of the rivals, at the scale the
        final norm has in the prompt.

    Raises:
        HeadatlasError: as in `direct_logit_attribution`.
    """
    found = np.empty((len(prompts), model.anatomy.layers, model.anatomy.heads))
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts[-1].rivals)):
        last = [prompt.readouts[-1] for prompt in batch]
        rivals = [readout.rivals for readout in last] if last[0].rivals else None
        split = direct_logit_attribution(
            model,
            stack_tokens([prompt.control if control else prompt.tokens for prompt in batch]),
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
