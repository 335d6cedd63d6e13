"""Direct effects of every head in runs that are edited at one position, for any number of edits in one pass.

An edit at a position changes nothing before it. So the clean prompts run once, and all edited variants of that position
continue together from their keys and values. Models for which that does not hold are run in full for each edit.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from headatlas.arrays import Array
from headatlas.lab.ablation.batched_copies import CopiesInBatch, CopyEdit, copy_edit_hook
from headatlas.lab.ablation.clean_run import CleanRun, run_clean
from headatlas.lab.ablation.kv_cache import continue_from_cache
from headatlas.lab.ablation.partial_rerun import active_hooks, failure_of, within_rounding
from headatlas.lab.ablation.z_values import ZValues, mean_z
from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.activations.edits import mean, patch
from headatlas.lab.activations.interventions import intervene, on_stream
from headatlas.lab.activations.recording import record
from headatlas.lab.activations.sites import Recording, Site
from headatlas.lab.attribution.frozen_norms import before_unembed, logit_direction
from headatlas.lab.attribution.logit_attribution import direct_logit_attribution, head_reads
from headatlas.lab.hooks.attention_interface import attention_hooks
from headatlas.lab.hooks.module_hooks import states_of
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import batches, stack_tokens
from headatlas.lab.running.forward import FIRST, forward
from headatlas.notation import Head, HeadsLike
from headatlas.stimuli.prompts import Prompt, Readout


@torch.no_grad()
def direct_effects_without(model: OpenModel, prompts: Sequence[Prompt], sets: Sequence[HeadsLike]) -> Array:
    """`direct_effects` of each head while sets of heads are mean-ablated at the last position.

    Args:
        model: to run.
        prompts: with readouts.
        sets: heads that are ablated together, by their mean over the last positions of the corrupted prompts; nothing
            is ablated for an empty set.

    Returns:
        [set prompt layer head], in nats, with the final norm's scale frozen at its value with the ablation.

    Raises:
        HeadatlasError: as in `direct_logit_attribution`.
        ValueError: for heads the model lacks.
    """
    chosen = [model.anatomy.require(heads) for heads in sets]
    found = np.stack([model.anatomy.empty(len(prompts)) for _ in chosen])
    means = mean_z(model, [prompt.corrupted for prompt in prompts], position=-1)
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts[-1].rivals)):
        last = [prompt.readouts[-1] for prompt in batch]
        tokens = stack_tokens([prompt.tokens for prompt in batch])
        at_end = all(readout.position == tokens.shape[1] - 1 for readout in last)
        if at_end and (clean := clean_to_the_end(model, tokens)) is not None:
            effects = _at_end(model, clean, last, chosen, means)
        else:
            effects = torch.stack([_in_full(model, tokens, last, heads, means) for heads in chosen])
        found[:, index] = effects.double().cpu().numpy()
    return found


@torch.no_grad()
def direct_effects_with_patched_input(model: OpenModel, prompts: Sequence[Prompt]) -> Array:
    """Direct effect of each head at the last readout, with its layer's input patched from the corrupted prompt.

    For each layer, the residual stream before the layer is patched at the last readout's position only. A head that
    finds its answer by attending to earlier tokens then still finds the clean prompt's answer; a head that relies on
    the stream at its own position follows the corrupted prompt.

    Args:
        model: to run.
        prompts: with readouts.

    Returns:
        [prompt layer head], in nats: logit of the answer minus mean logit of the rivals, with the final norm's scale
        frozen at its value on the prompt.

    Raises:
        HeadatlasError: if the final norm and unembedding are unconfirmed.
    """
    found = model.anatomy.empty(len(prompts))

    def kind(prompt: Prompt) -> tuple[int, int]:
        return len(prompt.readouts[-1].rivals), prompt.readouts[-1].position

    for index, batch in batches(model, prompts, kind):
        last = [prompt.readouts[-1] for prompt in batch]
        end = last[0].position
        tokens, corrupted = (  # later positions change nothing
            stack_tokens([getattr(prompt, side)[: end + 1] for prompt in batch]) for side in ("tokens", "corrupted")
        )
        other = record(model, corrupted, ["resid"], [end])
        clean = clean_to_the_end(model, tokens)
        seen = record(model, tokens, ["attn_out", "resid"], [end]) if clean is None else _ends_of(model, clean)
        patched = _z_by_layer(model, tokens, other) if clean is None else _z_at_once(model, clean, other)
        unembedded, _ = logit_direction(model, tokens, *_asked(last))
        direction, _, _ = before_unembed(model, seen["resid", model.anatomy.layers][:, 0].float(), unembedded)
        passed = find_blocks(model, tokens)
        for layer in model.anatomy.attention:
            reads, _ = head_reads(model, passed[layer], layer, seen["attn_out", layer][:, 0].float(), direction)
            z = patched["z", layer][:, 0].float()  # [batch head d_head]
            found[index, layer, : z.shape[1]] = (z * reads).sum(-1).double().cpu().numpy()
    return found


def clean_to_the_end(model: OpenModel, tokens: Tensor) -> CleanRun | None:
    """The clean run of prompts [prompt position], from which their last positions can continue.

    None if the last positions, continued without an edit, do not give the clean logits, or if edits are in force.
    """
    end = tokens.shape[1] - 1
    if not end or active_hooks(model) or model.anatomy.other_mixers or model.anatomy.hybrid:
        return None
    found: list[CleanRun] = []

    def attempt() -> str | None:
        found.append(run_clean(model, tokens, torch.tensor([end]), end))
        with _continued(model, found[0], 1) as last:
            logits = forward(model, last, positions=FIRST)
        same = within_rounding(model, logits, found[0].logits) and all(each.plain for each in found[0].layers.values())
        return None if same else "it does not continue"

    return None if failure_of(attempt) else found[0]


@contextmanager
def _continued(model: OpenModel, clean: CleanRun, copies: int) -> Iterator[Tensor]:
    """While active, the model takes copies of the last positions, behind the keys and values before them.

    Yields:
        The tokens there, [copy*prompt 1].
    """
    with continue_from_cache(model, clean, 0, CopiesInBatch(len(clean.tokens), copies)):
        yield clean.tokens[:, clean.start :].repeat(copies, 1)


def _at_end(
    model: OpenModel, clean: CleanRun, last: Sequence[Readout], sets: Sequence[Sequence[Head]], means: ZValues
) -> Tensor:
    """[set prompt layer head] of prompts that are read at their last position, in one pass of that position."""
    layout = CopiesInBatch(len(clean.tokens), len(sets))
    pairs: dict[int, list[tuple[int, int]]] = {}
    for copy, heads in enumerate(sets):
        for head in set(heads):
            pairs.setdefault(head.layer, []).append((copy, head.head))
    hooks = {}
    for layer, chosen in pairs.items():
        edit = CopyEdit(chosen, torch.tensor([clean.start]), means.z[layer])
        hooks[model.anatomy.attention[layer]] = copy_edit_hook(layout, [edit], clean.start)
    answers, rivals = _asked([*last] * len(sets))
    with _continued(model, clean, len(sets)) as tokens, attention_hooks(hooks):
        split = direct_logit_attribution(model, tokens, answers, rivals, 0)
    return layout.split(split.heads)


def _in_full(
    model: OpenModel, tokens: Tensor, last: Sequence[Readout], heads: Sequence[Head], means: ZValues
) -> Tensor:
    """[prompt layer head] with one set of heads ablated."""
    kept = Recording({("z", layer): z for layer, z in means.z.items()})
    edits = [mean("z", heads, kept, [tokens.shape[1] - 1], since=0)] if heads else []
    with intervene(model, edits):
        at = torch.tensor([readout.position for readout in last])
        return direct_logit_attribution(model, tokens, *_asked(last), at).heads


def _asked(last: Sequence[Readout]) -> tuple[list[int], list[tuple[int, ...]] | None]:
    """The answers and the rivals of readouts, None without rivals."""
    return [each.answer for each in last], [each.rivals for each in last] if last[0].rivals else None


def _ends_of(model: OpenModel, clean: CleanRun) -> Recording:
    """The attention output of each layer, and the stream before each and after the last, at the last position."""
    found: dict[tuple[Site, int], Tensor] = {}
    for layer, each in clean.layers.items():
        found["attn_out", layer] = model.anatomy.projections[layer](each.z[:, -1:].flatten(2))
        found["resid", layer] = each.stream[:, -1:]
    found["resid", model.anatomy.layers] = states_of(clean.outputs[-1])[:, -1:]
    return Recording(found)


def _z_at_once(model: OpenModel, clean: CleanRun, other: Recording) -> Recording:
    """z of each layer at the last position, where the stream before the layer is another's: in one pass."""
    with ExitStack() as stack:
        tokens = stack.enter_context(_continued(model, clean, 1))
        for layer in model.anatomy.attention:
            stream = other["resid", layer]
            stack.callback(on_stream(model.anatomy, layer, partial(_given, stream)).remove)
        return record(model, tokens, ["z"])


def _given(stream: Tensor, _: Tensor) -> Tensor:
    return stream


def _z_by_layer(model: OpenModel, tokens: Tensor, other: Recording) -> Recording:
    """The same, in a run for each layer."""
    found: dict[tuple[Site, int], Tensor] = {}
    end = [tokens.shape[1] - 1]
    for layer in model.anatomy.attention:
        with intervene(model, [patch("resid", [layer], other, end)]):
            found |= record(model, tokens, ["z"], end, [layer]).activations
    return Recording(found)
