"""Direct logit attribution to heads, MLPs and source tokens, and the logit lens."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.attention_edits import rows_of_heads
from headatlas.lab.activations.blocks import Block, find_blocks
from headatlas.lab.activations.recording import TokensLike, batch_of, record
from headatlas.lab.activations.sites import Positions, located
from headatlas.lab.anatomy.gates import gate
from headatlas.lab.anatomy.trial_pass import precision
from headatlas.lab.attribution.frozen_norms import before_unembed, freeze_norm, logit_direction
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks
from headatlas.lab.loading.opened_model import OpenModel


@dataclass(frozen=True)
class Attribution:
    """Direct contribution of each part of the model to a logit difference, in nats; the parts sum to the difference.

    The final norm is linearised at its scale in this run, as are norms between attention and the stream. A softcap on
    the logits is left out: the parts sum to the difference before it.

    Attributes:
        heads: [batch layer head], NaN for heads that do not exist.
        mlps: [batch layer], including biases; for a layer without attention, everything its block adds.
        embedding: [batch], of tokens and any learned positions.
        biases: [batch], of output projections, norms and the unembedding.
        sources: [batch layer head key], each head's part by source token, if requested.
    """

    heads: Tensor
    mlps: Tensor
    embedding: Tensor
    biases: Tensor
    sources: Tensor | None = None

    @property
    def total(self) -> Tensor:
        """The logit difference before any softcap, [batch]."""
        return self.heads.nansum((1, 2)) + self.mlps.sum(1) + self.embedding + self.biases


def direct_logit_attribution(
    model: OpenModel,
    tokens: TokensLike,
    answers: Sequence[int] | Tensor,
    rivals: Sequence[Sequence[int]] | Tensor | None = None,
    position: int | Tensor | None = None,
    sources: bool = False,
) -> Attribution:
    """Split the logit of an answer, minus the mean logit of its rivals, into direct contributions of the model's parts.

    Sources: elhage2021mathematical, wang2023interpretability.

    Args:
        model: to run.
        tokens: [batch position].
        answers: [batch], token ids.
        rivals: [batch rival], padded with -1; without rivals, the answer's logit is split.
        position: where the logits are read, one for all prompts or [batch]; the last by default.
        sources: whether to split each head's part by source token too.

    Raises:
        HeadatlasError: if the parts do not sum to the logit difference, e.g. because the stream or results are edited.
    """
    prompts = batch_of(model, tokens)
    at = _position(position, prompts)  # [batch 1]
    kept, passed = _Kept(model, at, sources), find_blocks(model, prompts)
    with kept.watching(passed):
        seen = record(model, prompts, ["z", "attn_out", "resid"], at)
    layers = model.anatomy.layers
    unembedded, bias = logit_direction(model, prompts, answers, rivals)  # [batch d_model], [batch]
    direction, constant, final = before_unembed(model, seen["resid", layers][:, 0].float(), unembedded)
    exact = (final * unembedded).sum(-1) + bias
    bias = bias + constant
    heads, parts = dict[int, Tensor](), dict[int, Tensor]()
    mlps = []
    for layer in range(layers):
        if layer not in passed:
            added = seen["resid", layer + 1][:, 0].float() - seen["resid", layer][:, 0].float()
            mlps.append((added * direction).sum(-1))
            continue
        each = passed[layer]
        reads, constant = head_reads(model, each, layer, seen["attn_out", layer][:, 0].float(), direction)
        bias = bias + constant
        heads[layer] = (seen["z", layer][:, 0].float() * reads).sum(-1)
        mlps.append((kept.mlps[layer].float() * direction).sum(-1))
        if sources:
            parts[layer] = kept.by_source(layer, reads)
    embedding = (seen["resid", 0][:, 0].float() * direction).sum(-1)
    split = model.anatomy.stack(parts, 1) if sources else None
    found = Attribution(model.anatomy.stack(heads, 1), torch.stack(mlps, 1), embedding, bias, split)
    _require_sum(model, found, exact)
    return found


@torch.no_grad()
def head_reads(
    model: OpenModel, passed: Block, layer: int, attn_out: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor]:
    """Pull a direction in the residual stream back to z of each head of a layer.

    Args:
        model: to run.
        passed: the `Block` of the layer.
        layer: the layer.
        attn_out: [batch d_model], output of its attention, at which a norm between it and the stream is frozen.
        direction: [batch d_model].

    Returns:
        Directions in z, [batch head d_head], whose dot product with z is the head's effect; and the contribution of the
        layer's biases, [batch].
    """
    constant = torch.zeros(len(direction), device=direction.device)
    if passed.norm is not None:
        direction, constant = freeze_norm(passed.norm, attn_out).before(direction)
    b_o = model.anatomy.b_o(layer)
    constant = constant if b_o is None else constant + direction @ b_o.float()
    return torch.einsum("hdm,bm->bhd", model.anatomy.w_o(layer).float(), direction), constant


def logit_lens(
    model: OpenModel, tokens: TokensLike, layers: Sequence[int] | None = None, positions: Positions = None
) -> Tensor:
    """Logits of the residual stream before each layer, through the final norm, unembedding and softcap.

    Source: nostalgebraist2020interpreting.

    Args:
        model: to run.
        tokens: [batch position].
        layers: all by default; the number of layers means the stream after the last block, which gives the model's own
            logits.
        positions: all by default.

    Returns:
        [layer batch position vocabulary]; choose positions, as the vocabulary is large.

    Raises:
        HeadatlasError: if the final norm and unembedding are unconfirmed.
    """
    chosen = range(model.anatomy.layers + 1) if layers is None else layers
    seen = record(model, tokens, ["resid"], positions, chosen)
    with torch.no_grad():
        return torch.stack([model.anatomy.logits(seen["resid", layer]).float() for layer in chosen])


class _Kept:
    """Activations needed in addition to the recorded sites, at one position of each prompt."""

    def __init__(self, model: OpenModel, at: Tensor, sources: bool) -> None:
        self._model, self._at, self._sources = model, at, sources
        self.mlps: dict[int, Tensor] = {}  # [batch d_model]
        # [batch head key], values [batch kv_head key d_head], and gates [batch head d_head], if any
        self._rows: dict[int, tuple[Tensor, Tensor, Tensor | None]] = {}

    def watching(self, passed: Mapping[int, Block]) -> ExitStack:
        stack = ExitStack()
        for layer, each in passed.items():
            stack.callback(each.mlp.register_forward_hook(self._written(layer)).remove)
        if self._sources:
            attention = self._model.anatomy.attention
            stack.enter_context(attention_hooks({module: self._attended(layer) for layer, module in attention.items()}))
        return stack

    def _written(self, layer: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            wrote: Tensor = output[0] if isinstance(output, tuple) else output
            batch = len(self._at)
            each = wrote.reshape(batch, -1, wrote.shape[-1])  # some MLPs see all tokens in one row
            self.mlps[layer] = each[torch.arange(batch), self._at[:, 0]]

        return hook

    def _attended(self, layer: int) -> AttentionHook:
        def hook(call: AttentionCall, z: Tensor) -> None:
            rows = torch.unique(self._at)
            heads = torch.arange(z.shape[2])
            pattern = rows_of_heads(call, heads, rows)  # [batch row head key]
            own = torch.searchsorted(rows, self._at[:, 0].contiguous())
            each, scale = torch.arange(len(z)), gate(call, z)
            gates = None if scale is None else scale[each, self._at[:, 0]]
            self._rows[layer] = (pattern[each, own], call.value, gates)

        return hook

    def by_source(self, layer: int, reads: Tensor) -> Tensor:
        """[batch head key]: weight on each token times the dot product of its value with reads [batch head d_head]."""
        pattern, value, gates = self._rows[layer]
        reads = reads if gates is None else reads * gates
        grouped = reads.unflatten(1, (value.shape[1], -1))  # type: ignore[no-untyped-call]
        given = torch.einsum("bgnd,bgkd->bgnk", grouped, value.float()).flatten(1, 2)
        return pattern * given


def _position(position: int | Tensor | None, prompts: Tensor) -> Tensor:
    """Check the position; returns [batch 1]."""
    if position is None:
        position = prompts.shape[1] - 1
    index = torch.as_tensor(position)
    if index.ndim > 1 or (index.ndim and len(index) != len(prompts)):
        raise ValueError("position is one number, or one for each prompt")
    return located(index.reshape(-1, 1), *prompts.shape)


def _require_sum(model: OpenModel, found: Attribution, exact: Tensor) -> None:
    size = torch.stack([found.heads.abs().nansum((1, 2)), found.mlps.abs().sum(1), found.embedding.abs()]).amax(0)
    if not ((found.total - exact).abs() <= 10 * precision(model.dtype) * size.clamp_min(1e-3)).all():
        raise HeadatlasError(
            f"{model.name}: heads, MLPs, embedding and biases do not add up to the logit difference; attribute without "
            "edits of result, attn_out or resid, and in float32"
        )
