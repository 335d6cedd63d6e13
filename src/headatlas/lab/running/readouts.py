"""Reads a metric at the readouts of a batch, from no more logits than the metric reads."""

import torch
from torch import Tensor

from headatlas.arrays import Array
from headatlas.lab.anatomy.qkv_layout import columns
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import Readouts
from headatlas.lab.running.metrics import CANDIDATES_ONLY, Metric

_WORTH = 4  # a choice of more than one token in so many saves too little


def candidates_of(model: OpenModel, metric: Metric, readouts: Readouts) -> tuple[Tensor | None, Readouts]:
    """The tokens whose logits a metric reads at some readouts, and the readouts as columns of these logits.

    Args:
        model: to run.
        metric: of the behaviour.
        readouts: from `readout_tensors`.

    Returns:
        The answers and rivals, [token] ascending, for `only_logits_of`, and the readouts with the column of each among
        them; None and the same readouts where the metric or the model needs all tokens.
    """
    kept, where, answers, rivals = readouts
    tokens = torch.unique(torch.cat([answers.flatten(), rivals[rivals >= 0]]))
    unembed = model.anatomy.unembed
    if metric not in CANDIDATES_ONLY or unembed is None or _WORTH * len(tokens) > columns(unembed.unembedding).shape[1]:
        return None, readouts
    column = torch.searchsorted(tokens, rivals.clamp_min(0)).masked_fill(rivals < 0, -1)
    return tokens, (kept, where, torch.searchsorted(tokens, answers), column)


def read_metric(metric: Metric, logits: Tensor, readouts: Readouts) -> Array:
    """A metric [copy prompt], from logits [copy prompt kept vocabulary]."""
    _, where, answers, rivals = (each.to(logits.device) for each in readouts)
    copies, prompts = logits.shape[:2]
    rows = torch.arange(prompts, device=logits.device)[:, None]
    chosen = logits[:, rows, where].flatten(0, 1)  # [copy*prompt readout vocabulary]
    values = metric(chosen, answers.repeat(copies, 1), rivals.repeat(copies, 1, 1))
    found: Array = values.reshape(copies, prompts).double().cpu().numpy()
    return found
