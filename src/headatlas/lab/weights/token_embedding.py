"""Token embeddings as the first layer reads them, without positions."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from headatlas.lab.anatomy.trial_pass import run_trial_pass
from headatlas.lab.hooks.module_hooks import on_input
from headatlas.lab.loading.opened_model import OpenModel

_known: WeakKeyDictionary[nn.Module, tuple[nn.Module, ...]] = WeakKeyDictionary()


@torch.no_grad()
def embed_tokens(model: OpenModel, tokens: Sequence[int]) -> Tensor:
    """Embeddings after any norm between embedding and stream (BLOOM has one): [token d_model]."""
    states: Tensor = model.anatomy.embedding(torch.tensor(tokens, device=model.device))
    if model.model not in _known:
        _known[model.model] = _between(model)
    for module in _known[model.model]:
        states = module(states)
    return states


def _between(model: OpenModel) -> tuple[nn.Module, ...]:
    """The modules between embedding and stream; none if positions are added or anything else happens between."""
    entered: list[Tensor] = []
    handle = on_input(model.anatomy.blocks[0], lambda stream: entered.append(stream))
    try:
        seen = run_trial_pass(model.model)
    finally:
        handle.remove()
    states, chain = None, []
    for step in seen.outside:
        if step.module is model.anatomy.embedding and states is None:
            states = step.wrote
        elif states is not None and step.read.shape == states.shape and torch.equal(step.read, states):
            chain.append(step.module)
            states = step.wrote
    leads = states is not None and states.shape == entered[0].shape and torch.equal(states, entered[0])
    return tuple(chain) if leads else ()
