"""The map from the last residual stream to logits: final norm, unembedding, and a logit scale or softcap."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.lab.anatomy.trial_pass import TrialPass, gap, precision

_SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap")  # the latter is RecurrentGemma's


@dataclass(frozen=True)
class Unembed:
    """The modules between the last residual stream and the logits.

    Attributes:
        chain: modules before the unembedding, in order: the final norm, and in some models a projection.
        unembedding: the last linear map; its weight is [vocabulary d_model].
        scale: factor on the logits.
        softcap: the logits are squashed into (-softcap, softcap) by tanh; None without a softcap.
    """

    chain: tuple[nn.Module, ...]
    unembedding: nn.Module
    scale: float = 1.0
    softcap: float | None = None

    @property
    def norm(self) -> nn.Module | None:
        """The final norm, or None."""
        return self.chain[0] if self.chain else None

    def logits(self, states: Tensor) -> Tensor:
        """Map residual-stream states [... d_model] to logits [... vocabulary]."""
        for module in (*self.chain, self.unembedding):
            weight = next(module.parameters(), states)
            states = module(states.to(weight))
        logits = states * self.scale
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


@torch.no_grad()
def find_unembed(model: Any, probe: TrialPass) -> Unembed | None:
    """Find a model's final norm and unembedding, or None if they do not reproduce the logits of the trial pass."""
    unembedding = model.get_output_embeddings()
    last = next((step for step in reversed(probe.outside) if step.module is unembedding), None)
    if last is None:
        return None
    chain: list[nn.Module] = []
    states = last.read
    for step in reversed(probe.outside):
        if step.module is not unembedding and step.wrote.shape == states.shape and torch.equal(step.wrote, states):
            chain.insert(0, step.module)
            states = step.read
    if probe.stream is None or gap(states, probe.stream) > 0:
        return None  # an operation between the last layer and the logits is not a module
    plain = last.wrote.float()
    scale = (plain * probe.logits.to(plain.device).float()).sum() / plain.square().sum().clamp_min(1e-30)
    config = model.config.get_text_config()
    softcap = next((cap for each in _SOFTCAPS if (cap := getattr(config, each, None)) is not None), None)
    tolerance = precision(last.wrote.dtype)
    for cap, factor in product(dict.fromkeys((softcap, None)), (1.0, scale.item())):
        unembed = Unembed(tuple(chain), unembedding, factor, cap)
        if gap(unembed.logits(states), probe.logits) <= tolerance:
            return unembed
    return None
