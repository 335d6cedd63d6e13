"""The map from the last residual stream to logits: final norm, unembedding, and a logit scale or softcap."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from headatlas.lab.anatomy.qkv_layout import columns
from headatlas.lab.anatomy.trial_pass import TrialPass, gap, precision

_SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap")  # the latter is RecurrentGemma's

_BLOCK, _HELD = 512, 1 << 18  # tokens of the vocabulary at once; logits at once: a processor's cache holds them


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
        states = self.normed(states)
        return self._scaled(self.unembedding(states.to(next(self.unembedding.parameters(), states))))

    def normed(self, states: Tensor) -> Tensor:
        """Map residual-stream states [... d_model] to what the unembedding reads, [... d_model]."""
        for module in self.chain:
            states = module(states.to(next(module.parameters(), states)))
        return states

    def logits_of(self, normed: Tensor, tokens: Tensor | slice) -> Tensor:
        """Logits of some tokens, computed in the dtype of `normed`: [... d_model] -> [... token].

        With a slice, the weights of the unembedding are not copied.
        """
        bias: Tensor | None = getattr(self.unembedding, "bias", None)
        weight = self.weight[tokens].to(normed)  # [token d_model]
        return self._scaled(linear(normed, weight, None if bias is None else bias[tokens].to(normed)))

    def log_partition(self, normed: Tensor) -> Tensor:
        """Log-sum-exp of all logits, a block of the vocabulary at a time: [row d_model] -> [row], float32."""
        found = []
        for rows in torch.split(normed, _HELD // _BLOCK):
            total = torch.full((len(rows),), float("-inf"), device=rows.device)
            for start in range(0, len(self.weight), _BLOCK):
                logits = self.logits_of(rows, slice(start, start + _BLOCK)).float()
                most = logits.amax(1)
                total = torch.logaddexp(total, most + logits.sub_(most[:, None]).exp_().sum(1).log())
            found.append(total)
        return torch.cat(found)

    @property
    def weight(self) -> Tensor:
        """The weight of the unembedding, [vocabulary d_model]."""
        return columns(self.unembedding).T

    def _scaled(self, logits: Tensor) -> Tensor:
        logits = logits if self.scale == 1 else logits * self.scale
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
