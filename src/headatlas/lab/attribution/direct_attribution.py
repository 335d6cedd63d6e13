"""Direct effects of every head on the logits, over prompts of any lengths.

Variants: attribution of the whole head or of chosen source tokens, and the logit lens applied to a single head's
output. `edited_runs` has those that need edits.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from headatlas.arrays import Array
from headatlas.lab.activations.recording import record
from headatlas.lab.attribution.logit_attribution import Attribution, direct_logit_attribution
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import batches, stack_tokens
from headatlas.stimuli.prompts import Prompt, Readout


@torch.no_grad()
def direct_effects(
    model: OpenModel,
    prompts: Sequence[Prompt],
    keys: Sequence[Sequence[int]] | None = None,
    corrupted: bool = False,
) -> Array:
    """Direct logit attribution of each head, for the logit difference at each prompt's last readout.

    Sources: elhage2021mathematical, wang2023interpretability.

    Args:
        model: to run.
        prompts: with readouts; if the last one has no rivals, the answer's logit is attributed.
        keys: per prompt, the source positions to include; all by default. With `keys`, attention biases and other
            parts that do not come from a source token are left out.
        corrupted: use the corrupted prompt, with the same answer, rivals and position.

    Returns:
        [prompt layer head], in nats: logit of the answer minus mean logit of the rivals, with the final norm's scale
        frozen at its value in this run.

    Raises:
        HeadatlasError: as in `direct_logit_attribution`.
    """
    if keys is not None:
        of_keys: Array = direct_effects_of_keys(model, prompts, [keys], corrupted)[0]
        return of_keys
    found = model.anatomy.empty(len(prompts))
    for index, split in _attributed(model, prompts, corrupted, sources=False):
        found[index] = split.heads.double().cpu().numpy()
    return found


@torch.no_grad()
def direct_effects_of_keys(
    model: OpenModel, prompts: Sequence[Prompt], sets: Sequence[Sequence[Sequence[int]]], corrupted: bool = False
) -> Array:
    """`direct_effects` through several sets of source positions, in the same runs.

    Args:
        model, prompts, corrupted: as in `direct_effects`.
        sets: each the `keys` of `direct_effects`.

    Returns:
        [set prompt layer head].
    """
    found = np.stack([model.anatomy.empty(len(prompts)) for _ in sets])
    for index, split in _attributed(model, prompts, corrupted, sources=True):
        assert split.sources is not None
        for number, each in zip(index, split.sources, strict=True):  # [layer head key]
            for place, keys in enumerate(sets):
                found[place, number] = each[..., list(keys[number])].sum(-1).double().cpu().numpy()
    return found


def _attributed(
    model: OpenModel, prompts: Sequence[Prompt], corrupted: bool, sources: bool
) -> Iterator[tuple[list[int], Attribution]]:
    """Split the logit difference at the last readouts, batch by batch, given as indices of prompts."""
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts[-1].rivals)):
        last = [prompt.readouts[-1] for prompt in batch]
        split = direct_logit_attribution(
            model,
            stack_tokens([prompt.corrupted if corrupted else prompt.tokens for prompt in batch]),
            [readout.answer for readout in last],
            [readout.rivals for readout in last] if last[0].rivals else None,
            torch.tensor([readout.position for readout in last]),
            sources,
        )
        yield index, split


@torch.no_grad()
def head_logit_lens(model: OpenModel, prompts: Sequence[Prompt], corrupted: bool = False) -> Array:
    """Apply the logit lens to each head's output: probability of the last readout's answer minus that of its rivals.

    The output W_O z, without bias, goes through the final norm and the unembedding alone. Source of the lens, there
    applied to the residual stream: nostalgebraist2020interpreting.

    Args:
        model: to run.
        prompts: with readouts and rivals.
        corrupted: use the corrupted prompt, with the same answer, rivals and position.

    Returns:
        [prompt layer head]: probability of the answer minus mean probability of the rivals.

    Raises:
        HeadatlasError: if the final norm and unembedding are unconfirmed.
    """
    found = model.anatomy.empty(len(prompts))
    last = [prompt.readouts[-1] for prompt in prompts]
    by_layer: dict[int, list[torch.Tensor]] = {layer: [] for layer in model.anatomy.attention}
    order: list[int] = []
    for index, batch in batches(model, prompts, lambda prompt: 1):
        order += index
        at = torch.tensor([[last[number].position] for number in index])
        seen = record(model, stack_tokens([p.corrupted if corrupted else p.tokens for p in batch]), ["z"], at)
        for layer, each in by_layer.items():
            each.append(seen["z", layer][:, 0])
    for layer, parts in by_layer.items():  # of all prompts at once, as reading the unembedding takes long
        z, w_o = (
            torch.cat(parts).float(),
            model.anatomy.w_o(layer).float(),
        )  # [prompt head d_head], [head d_head d_model]
        found[order, layer, : z.shape[1]] = _preferences(
            model, torch.einsum("phd,hdm->phm", z, w_o), [last[n] for n in order]
        )
    return found


def _preferences(model: OpenModel, written: torch.Tensor, readouts: Sequence[Readout]) -> Array:
    """Probability of the answer minus mean probability of the rivals: states [prompt head d_model] -> [prompt head]."""
    unembed = model.anatomy.confirmed_unembed
    normed = unembed.normed(written.to(model.dtype))
    total = unembed.log_partition(normed.flatten(0, 1)).view(normed.shape[:2])
    found = np.empty(total.shape)
    for number, (states, readout) in enumerate(zip(normed, readouts, strict=True)):
        tokens = torch.tensor([readout.answer, *readout.rivals], device=normed.device)
        likely = (unembed.logits_of(states, tokens).float() - total[number, :, None]).exp()  # [head token]
        found[number] = (likely[:, 0] - likely[:, 1:].mean(1)).double().cpu().numpy()
    return found
