"""External context scores: how alike a token's final state is to those of the context tokens that each head looks at.

Source: sun2025redeep, equations 2 to 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.activations.interventions import on_stream
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.hooks.row_weights import attention_rows
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import BATCH, require_fit, stack_tokens
from headatlas.lab.running.forward import run_layers


@dataclass(frozen=True)
class ContextQuestion:
    """How alike are the tokens of a response to the context tokens that heads attend to?

    Attributes:
        tokens: the text.
        response: positions of the response.
        context: positions of the context, all before the response.
    """

    tokens: tuple[int, ...]
    response: tuple[int, ...]
    context: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of tokens, of positions of the response and of positions of the context."""
        return len(self.tokens), len(self.response), len(self.context)


def external_context_scores(model: OpenModel, questions: Sequence[ContextQuestion], share: float = 0.1) -> Array:
    """The external context score of every head, averaged over the response.

    For a token of the response, a head's attended tokens are the `share` of the context with the largest weights. The
    score is the cosine of the mean final state of the attended tokens with the final state of the token of the
    response. Final states are those after the last block and the final norm.

    Args:
        model: to run.
        questions: about texts of any lengths; all are run.
        share: of the context; rounded down, but at least one token is attended.

    Returns:
        [question layer head], -1 to 1.

    Raises:
        HeadatlasError: if the final norm is unconfirmed, a text does not fit the model, or a question has no response
            or no context.
    """
    found = model.anatomy.empty(len(questions))
    groups: dict[tuple[int, int, int], list[int]] = {}
    for number, question in enumerate(questions):
        require_fit(model, len(question.tokens), max(question.tokens, default=0))
        if not question.response or not question.context:
            raise HeadatlasError("a question has no response or no context, so nothing can be compared; give it both")
        groups.setdefault(question.shape, []).append(number)
    for (_, _, context), numbers in sorted(groups.items()):
        for start in range(0, len(numbers), BATCH):
            index = numbers[start : start + BATCH]
            found[index] = _similarities(model, [questions[number] for number in index], max(1, int(share * context)))
    return found


@torch.no_grad()
def _similarities(model: OpenModel, batch: Sequence[ContextQuestion], attended: int) -> Array:
    """Scores of questions of one shape, [question layer head], with `attended` tokens of the context."""
    response, context = (stack_tokens([getattr(each, part) for each in batch]) for part in ("response", "context"))
    looks: dict[int, Tensor] = {}
    final: list[Tensor] = []

    def hook(layer: int) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            rows = attention_rows(call, response.to(z.device))  # [question head response key]
            keys = context.to(z.device)[:, None, None].expand(*rows.shape[:3], -1)
            looks[layer] = keys.gather(-1, rows.gather(-1, keys).topk(attended).indices)

        return look

    handle = on_stream(model.anatomy, model.anatomy.layers, final.append)
    try:
        run_layers(model, stack_tokens([each.tokens for each in batch]), hook)
    finally:
        handle.remove()
    states = model.anatomy.confirmed_unembed.normed(final[0]).float()  # [question position d_model]
    question = torch.arange(len(batch), device=states.device)[:, None]
    said = normalize(states[question, response.to(states.device)], dim=-1)  # [question response d_model]
    scores: dict[int, Tensor] = {}
    for layer, places in looks.items():
        read = states[question[..., None, None], places].mean(-2)  # [question head response d_model]
        scores[layer] = torch.einsum("qhrd,qrd->qhr", normalize(read, dim=-1), said).mean(-1).double().cpu()
    every: Array = model.anatomy.stack(scores, 1).numpy()
    return every
