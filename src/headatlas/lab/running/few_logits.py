"""Restricts the unembedding to a few tokens, because most logits are never used."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor
from torch.nn.functional import linear

from headatlas.errors import HeadatlasError
from headatlas.lab.anatomy.qkv_layout import columns
from headatlas.lab.hooks.module_hooks import acting
from headatlas.lab.loading.opened_model import OpenModel


@contextmanager
def only_logits_of(model: OpenModel, vocabulary: Tensor | None) -> Iterator[None]:
    """While active, the model computes logits of `vocabulary` only, [... token]; None means all tokens.

    Raises:
        HeadatlasError: for tokens outside the vocabulary, or if the unembedding is unconfirmed.
    """
    if vocabulary is None:
        yield
        return
    unembed = model.anatomy.unembed
    if unembed is None:
        raise HeadatlasError(f"{model.name}: its unembedding could not be confirmed; read the logits of all tokens")
    weight = columns(unembed.unembedding).T  # [vocabulary d_model]
    outside = vocabulary[(vocabulary < 0) | (vocabulary >= len(weight))]
    if len(outside):
        raise HeadatlasError(
            f"token {int(outside[0])} lies outside the vocabulary of {model.name} (0 to {len(weight) - 1})"
        )
    chosen = vocabulary.to(weight.device)
    bias: Tensor | None = getattr(unembed.unembedding, "bias", None)
    few = partial(linear, weight=weight[chosen], bias=None if bias is None else bias[chosen])
    with acting(unembed.unembedding, few):
        yield
