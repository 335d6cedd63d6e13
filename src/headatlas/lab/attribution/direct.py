"""What every head writes directly, over prompts of any lengths.

To the logits, whole or by what it was attending to; while the stream that it reads is that of another prompt; and as
the logit lens would read it if nothing else had been written.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from headatlas.lab.ablation.sources import Reference, mean_z
from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.activations.edits import mean, patch
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.activations.recording import record
from headatlas.lab.activations.sites import Recording
from headatlas.lab.attribution.frozen_norms import before_unembed, logit_direction
from headatlas.lab.attribution.logit_attribution import direct_logit_attribution, head_reads
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.batches import Array, batches, stack_tokens
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt


@torch.no_grad()
def direct_effects(
    model: OpenModel,
    prompts: Sequence[Prompt],
    keys: Sequence[Sequence[int]] | None = None,
    corrupted: bool = False,
    ablated: Sequence[Head] = (),
) -> Array:
    """What each head writes directly into the logit difference of each prompt's last readout.

    Args:
        model: to run.
        prompts: with readouts; where the last has no rivals, the answer's own logit is split.
        keys: of each prompt, the positions from which what heads take is counted; by default all. Attention biases
            and what a head writes wherever it looks are in none of the parts.
        corrupted: read the corrupted prompt instead, for the same answer and rivals at the same position.
        ablated: heads that are knocked out at the last position, where they give their mean over the ends of the
            corrupted prompts: what do the others do then?

    Returns:
        [prompt layer head], in nats: the logit of the answer minus the mean logit of the rivals, at the scale the
        final norm has in the prompt (and with the heads knocked out, where some are).

    Raises:
        HeadatlasError: as in `direct_logit_attribution`.
    """
    found = model.anatomy.empty(len(prompts))
    means = mean_z(model, [prompt.corrupted for prompt in prompts], position=-1) if ablated else None
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts[-1].rivals)):
        last = [prompt.readouts[-1] for prompt in batch]
        rivals = [readout.rivals for readout in last] if last[0].rivals else None
        tokens = stack_tokens([prompt.corrupted if corrupted else prompt.tokens for prompt in batch])
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
    kept = Recording({("z", layer): z for layer, z in means.z.items()})
    return intervene(model, [mean("z", heads, kept, [position], since=0)])


def direct_effects_with_patched_input(model: OpenModel, prompts: Sequence[Prompt]) -> Array:
    """What each head writes directly while it reads, at the place of the last readout, the stream of the corrupted
    prompt.

    For each layer, what enters it at that place is replaced by what enters it there in the corrupted prompt; all before
    is the prompt's. So a head that finds its answer among the tokens before still finds that of the prompt, and one
    that goes by what is already there follows the corrupted prompt.

    Args:
        model: to run.
        prompts: with readouts.

    Returns:
        [prompt layer head], in nats: the logit of the answer minus the mean logit of the rivals, at the scale the
        final norm has in the prompt.

    Raises:
        HeadatlasError: where the final norm and unembedding could not be confirmed.
    """
    found = model.anatomy.empty(len(prompts))
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts[-1].rivals)):
        last = [prompt.readouts[-1] for prompt in batch]
        at = torch.tensor([[readout.position] for readout in last])
        tokens, corrupted = (
            stack_tokens(list(each)) for each in zip(*((p.tokens, p.corrupted) for p in batch), strict=True)
        )
        rivals = [readout.rivals for readout in last] if last[0].rivals else None
        passed, seen = find_blocks(model, tokens), record(model, tokens, ["attn_out", "resid"], at)
        other = record(model, corrupted, ["resid"], at)
        unembedded, _ = logit_direction(model, tokens, [readout.answer for readout in last], rivals)
        direction, _, _ = before_unembed(model, seen["resid", model.anatomy.layers][:, 0].float(), unembedded)
        for layer in model.anatomy.attention:
            reads, _ = head_reads(model, passed[layer], layer, seen["attn_out", layer][:, 0].float(), direction)
            with intervene(model, [patch("resid", [layer], other, at)]):
                z = record(model, tokens, ["z"], at, [layer])["z", layer][:, 0].float()  # [batch head d_head]
            found[index, layer, : z.shape[1]] = (z * reads).sum(-1).double().cpu().numpy()
    return found


@torch.no_grad()
def head_logit_lens(model: OpenModel, prompts: Sequence[Prompt], corrupted: bool = False) -> Array:
    """The probability that the logit lens gives the last readout's answer from what one head wrote, minus its rivals'.

    The head's output, W_O z without the bias, goes through the final norm and the unembedding alone.

    Args:
        model: to run.
        prompts: with readouts and rivals.
        corrupted: read the corrupted prompt instead, for the same answer and rivals at the same position.

    Returns:
        [prompt layer head]: the probability of the answer minus the mean probability of the rivals.

    Raises:
        HeadatlasError: where the final norm and unembedding could not be confirmed.
    """
    found = model.anatomy.empty(len(prompts))
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts[-1].rivals)):
        at = torch.tensor([[prompt.readouts[-1].position] for prompt in batch])
        seen = record(model, stack_tokens([p.corrupted if corrupted else p.tokens for p in batch]), ["z"], at)
        answers = torch.tensor([[prompt.readouts[-1].answer] for prompt in batch])
        rivals = torch.tensor([prompt.readouts[-1].rivals for prompt in batch])
        for layer in model.anatomy.attention:
            z, w_o = seen["z", layer][:, 0].float(), model.anatomy.w_o(layer).float()
            written = torch.einsum("bhd,hdm->bhm", z, w_o).to(model.dtype)
            likely = model.anatomy.logits(written).float().softmax(-1).cpu()  # [batch head vocabulary]
            right, wrong = (
                likely.gather(-1, each[:, None].expand(-1, likely.shape[1], -1)).mean(-1) for each in (answers, rivals)
            )
            found[index, layer, : z.shape[1]] = (right - wrong).double().numpy()
    return found
