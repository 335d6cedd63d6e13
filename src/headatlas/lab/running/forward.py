"""Runs a model on a batch of prompts, with attention hooks, and returns logits at chosen positions."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.metrics import all_finite

Hooks = Mapping[nn.Module, AttentionHook]
_NO_HOOKS: Hooks = {}
FIRST = torch.tensor([0])  # positions, for runs whose logits are not used


def forward(model: OpenModel, tokens: Tensor, hooks: Hooks = _NO_HOOKS, positions: Tensor | None = None) -> Tensor:
    """Run a model on a batch of prompts.

    Args:
        model: to run.
        tokens: [batch position].
        hooks: by attention module; each gets the module's call and z, and may return a new z.
        positions: [kept], where to compute logits; all by default.

    Returns:
        The logits, [batch position vocabulary] or [batch kept vocabulary], float32.

    Raises:
        HeadatlasError: if a hook was not called, or the logits are not finite.
    """
    fired: set[nn.Module] = set()

    def watched(module: nn.Module, hook: AttentionHook) -> AttentionHook:
        def watch(call: AttentionCall, z: Tensor) -> Tensor | None:
            fired.add(module)
            return hook(call, z)

        return watch

    with attention_hooks({module: watched(module, hook) for module, hook in hooks.items()}), torch.no_grad():
        logits = logits_at(model, tokens, positions)
    if len(fired) != len(hooks):
        raise HeadatlasError(f"{model.name}: an attention layer was not reached, so a measurement would be empty")
    if not all_finite(logits):
        raise HeadatlasError(f"{model.name} gave NaN or infinite logits; try float32, or check its weights")
    return logits.float()


@cache
def _can_be_asked(forward: Callable[..., object]) -> bool:
    """Whether a model class can compute the logits of chosen positions only."""
    return "logits_to_keep" in inspect.signature(forward).parameters


def logits_at(model: OpenModel, tokens: Tensor, positions: Tensor | None) -> Tensor:
    """Run tokens [batch position] and return the logits at `positions` [kept] or at all: [batch kept vocabulary].

    Families that cannot restrict the positions (Whisper ignores the request) compute all of them.

    Raises:
        HeadatlasError: if a family returns a different number of logits than requested.
    """
    tokens = tokens.to(model.device)
    asked = _can_be_asked(type(model.model).forward)
    keep = {} if positions is None or not asked else {"logits_to_keep": positions.to(model.device)}
    logits: Tensor = model.model(tokens, use_cache=False, **keep).logits
    if positions is None or (asked and logits.shape[1] == len(positions)):
        return logits
    if logits.shape[1] != tokens.shape[1]:
        raise HeadatlasError(
            f"{model.name} gave the logits of {logits.shape[1]} positions where {len(positions)} were asked for; its "
            "family cannot be measured"
        )
    return logits[:, positions.to(logits.device)]


def run_layers(
    model: OpenModel, tokens: Tensor, hook: Callable[[int], AttentionHook], layers: Iterable[int] | None = None
) -> None:
    """Run a model for its attention hooks only, computing the logits of one position.

    Args:
        model: to run.
        tokens: [batch position].
        hook: layer number -> hook of that layer.
        layers: layers with attention; all by default.
    """
    attention = model.anatomy.attention
    hooks = {attention[layer]: hook(layer) for layer in (attention if layers is None else layers)}
    forward(model, tokens, hooks, FIRST)
