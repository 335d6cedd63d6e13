"""Families whose attention bypasses transformers' registry, and the routes by which it is hooked all the same.

A route names a family's attention class and replaces one method on each such module with one that passes queries, keys,
values and mask to `attend_with_hooks`. With no hook attached, the family's own code runs. The mask of the call includes
every score bias (ALiBi) and every hidden key (causal order, windows), so attention weights recomputed from the call
equal the model's.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from headatlas.lab.anatomy.families import bloom, falcon, inner, mpt
from headatlas.lab.anatomy.families.routes import Route
from headatlas.lab.anatomy.trial_pass import gap, precision, tokens_for
from headatlas.lab.hooks.attention_interface import attention_hooks, routed

_ROUTES = {each.family: each for each in (*inner.ROUTES, bloom.ROUTE, falcon.ROUTE, mpt.ROUTE)}


# Causal families of transformers that bypass the registry and have no route here, and why they are refused.
_WITHOUT = {
    "rwkv": "it is recurrent, and has no attention heads",
    "reformer": "its heads see hashed or local chunks of a prompt, not all keys",
    "xlm": "it is not causal unless it is told so, and gives its own kind of mask",
    "xlnet": "it predicts in permuted order, with two streams",
    "big_bird": "its heads see blocks of a prompt",
    "prophetnet": "it predicts several tokens at once, with a stream for each",
    "openai-gpt": "its blocks norm the stream itself, so that nothing is added to it that heads could be credited with",
    "cpmant": "it puts prompt vectors of its own before every text",
}


def without_route(model: Any) -> str:
    """Why a model's attention cannot be hooked, worded as the end of a sentence about the model."""
    family = str(getattr(model.config, "model_type", type(model).__name__))
    if family in _WITHOUT:
        return f"is of the family {family}, which is not supported: {_WITHOUT[family]}"
    return (
        f"has no layer whose attention passes transformers' registry, and headatlas has no other route into the family "
        f"{family}, so its heads cannot be measured"
    )


def route_of(model: Any) -> Route | None:
    """The route of a model's family, or None if the model uses the registry."""
    route = _ROUTES.get(getattr(model.config, "model_type", ""))
    return route if route and _modules(model, route) else None


def install_route(model: Any, route: Route, restore: ExitStack) -> str | None:
    """Hook a model's attention through a route, undone by `restore`; returns why that is impossible, or None."""
    if model.config._attn_implementation not in route.implementations:
        ours = " or ".join(map(repr, route.implementations))
        return f"runs {model.config._attn_implementation} attention; load it with attn_implementation={ours}"
    modules = _modules(model, route)
    if problem := next((found for module in modules if (found := route.problem(module))), None):
        return problem
    if all(module in routed for module in modules):
        return None  # opened already
    stack = restore.enter_context(ExitStack())
    for module in modules:
        own = vars(module).get(route.function)
        vars(module)[route.function] = route.replace(module, own or getattr(module, route.function))
        stack.callback(_give_back, module, route.function, own)
        routed.add(module)
    worst = _gap(model, modules)
    if not worst <= precision(model.dtype):
        return f"gives other logits when its attention is routed through headatlas (off by {worst:.1e})"
    return None


@contextmanager
def without_hooks(model: Any, route: Route) -> Iterator[None]:
    """While active, a routed model runs its own code."""
    with ExitStack() as stack:
        for module in _modules(model, route):
            ours = vars(module).pop(route.function)
            stack.callback(vars(module).__setitem__, route.function, ours)
        yield


def _modules(model: Any, route: Route) -> list[nn.Module]:
    return [module for module in model.modules() if type(module).__name__ == route.attention]


def _give_back(module: nn.Module, function: str, own: Any) -> None:
    routed.discard(module)
    del vars(module)[function]
    if own is not None:
        vars(module)[function] = own


@torch.no_grad()
def _gap(model: Any, modules: list[nn.Module]) -> float:
    """Gap between the logits of a run with hooks and the model's own."""
    tokens = tokens_for(model)
    plain = model(tokens, use_cache=False).logits  # nothing is attached yet
    with attention_hooks({module: lambda call, z: None for module in modules}):
        return gap(model(tokens, use_cache=False).logits, plain)
