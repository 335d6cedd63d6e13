"""What heads write into the space of the labels of a task: the span of their unembeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.activations.recording import record
from headatlas.lab.attribution.frozen_norms import before_unembed
from headatlas.lab.attribution.logit_attribution import head_reads
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import batches, stack_tokens
from headatlas.stimuli.prompts import Prompt


@dataclass(frozen=True)
class LabelSpace:
    """The parts of heads' outputs in the label space, in units of the residual stream.

    Attributes:
        length: [prompt layer head], length of the projection of what the head writes onto the space; NaN for heads that
            do not exist.
        toward: [prompt layer head], component of it along the answer's unembedding minus the mean one of the rivals,
            which lies in the space; at most `length` either way.
        stream: [prompt], length of the projection of the last residual stream.
    """

    length: Array
    toward: Array
    stream: Array


@torch.no_grad()
def label_space(model: OpenModel, prompts: Sequence[Prompt], corrupted: bool = False) -> LabelSpace:
    """Project what every head writes at the last readout onto the space of the labels: the answer and its rivals.

    Source: yang2025localizing. The space is spanned by the labels' unembeddings, pulled back through the final norm at
    its scale in this run. The mean unembedding of the vocabulary is subtracted from each first, as it changes no
    probability. Where a norm stands between attention and the stream, what a head writes is taken behind it, at its
    scale in this run. Biases are left out.

    Args:
        model: to run.
        prompts: with readouts; the last one needs rivals.
        corrupted: run the corrupted prompts, with the same labels and position.

    Raises:
        ValueError: if a prompt names no rivals.
        HeadatlasError: if the final norm and unembedding are unconfirmed, or labels have dependent unembeddings.
    """
    last = [prompt.readouts[-1] for prompt in prompts]
    if not all(readout.rivals for readout in last):
        raise ValueError("the label space needs the answer and at least one rival; a prompt names none")
    weight = model.anatomy.confirmed_unembed.weight  # [vocabulary d_model]
    mean = torch.stack([part.float().sum(0) for part in torch.split(weight, 8192)]).sum(0) / len(weight)
    length, toward = model.anatomy.empty(len(prompts)), model.anatomy.empty(len(prompts))
    stream = np.empty(len(prompts))
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts[-1].rivals)):
        tokens = stack_tokens([prompt.corrupted if corrupted else prompt.tokens for prompt in batch])
        labels = torch.tensor([[last[number].answer, *last[number].rivals] for number in index], device=weight.device)
        at = torch.tensor([[last[number].position] for number in index])
        rows = weight[labels].float() - mean  # [batch label d_model]
        found = _projected(model, tokens, at, rows)
        length[index], toward[index], stream[index] = (each.double().cpu().numpy() for each in found)
    return LabelSpace(length, toward, stream)


def _projected(model: OpenModel, tokens: Tensor, at: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`length` and `toward`, [batch layer head], and `stream`, [batch], of one batch.

    Args:
        model: to run.
        tokens: [batch position].
        at: [batch 1], the position.
        rows: [batch label d_model], centred unembeddings, the answer's first.
    """
    blocks, layers = find_blocks(model, tokens), model.anatomy.layers
    seen = record(model, tokens, ["z", "attn_out", "resid"], at)
    states = seen["resid", layers][:, 0].float()
    pulled = torch.stack([before_unembed(model, states, row)[0] for row in rows.unbind(1)], 1)  # [batch label d_model]
    axes, triangle = torch.linalg.qr(pulled.mT)  # [batch d_model axis]
    sizes = triangle.diagonal(dim1=1, dim2=2).abs()
    if not (sizes.amin(1) > 1e-4 * sizes.amax(1)).all():
        raise HeadatlasError(f"{model.name}: two labels have the same unembedding, or one follows from the others")
    better = torch.nn.functional.normalize(pulled[:, 0] - pulled[:, 1:].mean(1), dim=-1)
    along = torch.cat([axes, better[..., None]], -1)  # [batch d_model axis + 1]
    length, toward = dict[int, Tensor](), dict[int, Tensor]()
    for layer, block in blocks.items():
        z, wrote = seen["z", layer][:, 0].float(), seen["attn_out", layer][:, 0].float()
        parts = [(z * head_reads(model, block, layer, wrote, each)[0]).sum(-1) for each in along.unbind(-1)]
        each_axis = torch.stack(parts, -1)  # [batch head axis + 1]
        length[layer], toward[layer] = each_axis[..., :-1].norm(dim=-1), each_axis[..., -1]
    whole = torch.einsum("bd,bda->ba", states, axes).norm(dim=-1)
    return model.anatomy.stack(length, 1), model.anatomy.stack(toward, 1), whole
