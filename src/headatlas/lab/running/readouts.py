"""Reads a metric at the readouts of a batch, from no more logits than the metric reads."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from headatlas.arrays import Array
from headatlas.lab.anatomy.qkv_layout import columns
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import Readouts, readout_tensors
from headatlas.lab.running.metrics import CANDIDATES_ONLY, Metric
from headatlas.stimuli.prompts import Prompt

_LOGITS = 2**22  # from which a metric is computed at once
_WORTH = 4  # a choice of more than a quarter of the vocabulary saves too little


def tokens_read(model: OpenModel, metric: Metric, prompts: Sequence[Prompt]) -> Tensor | None:
    """The tokens whose logits a metric reads, for `only_logits_of`.

    Args:
        model: to run.
        metric: of the behaviour.
        prompts: with readouts.

    Returns:
        All answers and rivals, [token] ascending; None if the metric or the model needs the logits of all tokens.
    """
    readouts = [readout for prompt in prompts for readout in prompt.readouts]
    tokens = sorted({token for each in readouts for token in (each.answer, *each.rivals)})
    unembed = model.anatomy.unembed
    if metric not in CANDIDATES_ONLY or unembed is None or _WORTH * len(tokens) > columns(unembed.unembedding).shape[1]:
        return None
    return torch.tensor(tokens)


def readouts_among(tokens: Tensor | None, batch: Sequence[Prompt]) -> Readouts:
    """The readouts of a batch, as in `readout_tensors`, with answers and rivals as indices into `tokens`, if any."""
    kept, where, answers, rivals = readout_tensors(batch)
    if tokens is None:
        return kept, where, answers, rivals
    column = torch.searchsorted(tokens, rivals.clamp_min(0)).masked_fill(rivals < 0, -1)
    return kept, where, torch.searchsorted(tokens, answers), column


def read_metric(metric: Metric, logits: Tensor, readouts: Readouts) -> Array:
    """A metric [copy prompt], from logits [copy prompt kept vocabulary].

    It is computed for a few copies at once, because a metric makes several copies of the logits that it reads.
    """
    _, where, answers, rivals = (each.to(logits.device) for each in readouts)
    rows = torch.arange(logits.shape[1], device=logits.device)[:, None]
    few = max(1, _LOGITS // (where.numel() * logits.shape[-1]))
    found = []
    for some in torch.split(logits, few):
        chosen = some[:, rows, where].flatten(0, 1)  # [copy*prompt readout vocabulary]
        values = metric(chosen, answers.repeat(len(some), 1), rivals.repeat(len(some), 1, 1))
        found.append(values.reshape(some.shape[:2]).double().cpu().numpy())
    return np.concatenate(found)
