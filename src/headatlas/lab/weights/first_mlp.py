"""The output of the first MLP on single tokens."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.z_values import ZValues, ablate
from headatlas.lab.hooks.module_hooks import on_input, on_output
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import stack_tokens
from headatlas.lab.running.forward import forward
from headatlas.lab.weights.token_embedding import embed_tokens
from headatlas.notation import Head


def first_mlp(model: OpenModel, tokens: Sequence[int]) -> Tensor:
    """MLP0(E(t)) of each token, with attention of layer 0 zero-ablated: [token 1 d_model]."""
    if 0 not in model.anatomy.attention:
        raise HeadatlasError(
            f"layer 0 of {model.name} has no attention, so its MLP's output on single tokens is not defined; use "
            "embeddings instead"
        )
    block, projection = model.anatomy.blocks[0], model.anatomy.projections[0]
    kept: dict[str, Tensor] = {}
    states = embed_tokens(model, tokens)[:, None]
    first = [Head(0, head) for head in range(model.anatomy.heads_in(0))]
    silence = ablate(model.anatomy, first, ZValues.zero(model.anatomy))
    with ExitStack() as stack:
        stack.enter_context(block_inputs(model, states, [0]))
        stack.callback(on_output(projection, partial(kept.__setitem__, "attention")).remove)
        stack.callback(on_output(block, partial(_stop, kept)).remove)
        stack.enter_context(suppress(_EndedError))  # nothing after the block is read: all logits of all tokens are many
        forward(model, stack_tokens([(t,) for t in tokens]), silence)
    written: Tensor = kept["block"] - states - kept["attention"]
    return written


class _EndedError(Exception):
    """Ends a forward pass at the last block that is needed."""


def _stop(kept: dict[str, Tensor], states: Tensor) -> None:
    kept["block"] = states
    raise _EndedError


@contextmanager
def block_inputs(model: OpenModel, states: Tensor, layers: Iterable[int]) -> Iterator[None]:
    """While active, the given blocks read `states` [token 1 d_model] instead of the residual stream."""

    with ExitStack() as stack:
        for layer in layers:
            handle = on_input(model.anatomy.blocks[layer], lambda stream: states.to(stream))
            stack.callback(handle.remove)
        yield
