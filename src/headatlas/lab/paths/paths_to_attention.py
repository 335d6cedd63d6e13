"""Path patching with a head's attention as the measured effect, instead of the logits."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from headatlas.arrays import Array
from headatlas.lab.activations.edits import Edit, patch
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.activations.recording import record
from headatlas.lab.activations.sites import Recording
from headatlas.lab.attention.layer_scores import LayerScore, read_scores
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import OnDone, batches, pair_tensors, stack_tokens
from headatlas.lab.running.forward import run_layers
from headatlas.notation import Head, HeadsLike
from headatlas.stimuli.prompts import Prompt


def attention_paths(
    model: OpenModel,
    prompts: Sequence[Prompt],
    senders: Sequence[HeadsLike],
    receivers: HeadsLike,
    into: Literal["q", "k"],
    progress: OnDone | None = None,
) -> Array:
    """Attention of receivers between a prompt's `pairs`, with the path from senders to their queries or keys patched.

    The convention is that of `path_patch` (wang2023interpretability): every head is held at its clean z, except that
    the senders get theirs from the corrupted prompt; MLPs are recomputed. Only the receivers' queries (or keys) are
    patched; their keys (or queries) are those of the clean run.

    Args:
        model: to run.
        prompts: with pairs, and corrupted prompts.
        senders: sets of heads, each patched together; an empty set gives the clean attention.
        receivers: heads whose attention is measured.
        into: which input of the receivers is patched.
        progress: called with 1 after each set on each batch of prompts.

    Returns:
        [set prompt receiver], the weight summed over each query's keys and averaged over queries.
    """
    ends, sets = model.anatomy.require(receivers), [model.anatomy.require(heads) for heads in senders]
    if not ends:
        raise ValueError("no receivers; give at least one")
    values = np.empty((len(sets), len(prompts), len(ends)))
    last = max(head.layer for head in ends)
    for index, batch in batches(model, prompts, lambda prompt: len({query for query, _ in prompt.pairs})):
        tokens, other = (stack_tokens([getattr(each, side) for each in batch]) for side in ("tokens", "corrupted"))
        clean = record(model, tokens, ["z", "q", "k"])
        corrupted = record(model, other, ["z"])
        watch = _Ends(model, clean, ends, into, pair_tensors([prompt.pairs for prompt in batch]))
        for number, heads in enumerate(sets):
            with intervene(model, _edits(model, heads, last, clean, corrupted)):
                values[number, index] = watch.attention(tokens)
            if progress:
                progress(1)
    return values


def _edits(model: OpenModel, senders: Sequence[Head], last: int, clean: Recording, corrupted: Recording) -> list[Edit]:
    """Edits that patch the senders from the corrupted prompt and hold all other heads before the receivers."""
    if not senders:
        return []
    first = min(head.layer for head in senders)
    held = [head for head in model.anatomy.all_heads if first < head.layer < last]
    return [*([patch("z", held, clean)] if held else []), patch("z", senders, corrupted)]


class _Ends:
    """The receivers, for one batch of prompts."""

    def __init__(
        self,
        model: OpenModel,
        clean: Recording,
        receivers: Sequence[Head],
        into: Literal["q", "k"],
        pairs: tuple[Tensor, Tensor],
    ) -> None:
        self._model, self._clean, self._receivers, self._into = model, clean, receivers, into
        self._reading = LayerScore("mass", *pairs)

    def attention(self, tokens: Tensor) -> Array:
        """Attention weights [prompt receiver], with the currently active edits."""
        found: dict[int, Tensor] = {}
        layers = {head.layer for head in self._receivers}
        run_layers(self._model, tokens, lambda layer: self._hook(layer, found), layers)
        each = [found[head.layer][:, head.head] for head in self._receivers]
        return np.asarray(torch.stack(each, 1).double())

    def _hook(self, layer: int, found: dict[int, Tensor]) -> AttentionHook:
        kept = self._clean["k" if self._into == "q" else "q", layer].transpose(1, 2)  # [batch head position d_head]

        def look(call: AttentionCall, z: Tensor) -> None:
            seen = replace(call, key=kept) if self._into == "q" else replace(call, query=kept)
            found[layer] = read_scores(seen, [self._reading])[0].mean(-1).cpu()  # [batch head]

        return look
