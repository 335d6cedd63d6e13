"""Makes the attention of a model hookable, and restores the model."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import transformers

from headatlas.lab.anatomy import families
from headatlas.lab.anatomy.anatomy import UnsafeModelError
from headatlas.lab.anatomy.discovery import no_route
from headatlas.lab.hooks.attention_interface import IMPLEMENTATIONS
from headatlas.lab.loading import multimodal
from headatlas.quiet import quiet


def install(name: str, model: Any, restore: ExitStack) -> str:
    """Make attention hookable, undone by `restore`; returns the model's own implementation."""
    config = multimodal.decoder(model).config
    implementation: str = config._attn_implementation
    if (route := families.route_of(model)) is not None:
        if problem := families.install_route(model, route, restore):
            raise UnsafeModelError("registry", f"{name} ({type(model).__name__}) {problem}")
        return implementation
    plain = {ours: theirs for theirs, ours in IMPLEMENTATIONS.items()}.get(implementation)
    if plain is not None:
        return plain  # already opened
    if implementation not in IMPLEMENTATIONS:
        raise UnsafeModelError(
            "registry", f"{name} runs {implementation} attention; load it with attn_implementation='sdpa' or 'eager'"
        )
    parts = [part for part in model.modules() if isinstance(part, transformers.PreTrainedModel)]
    restore.callback(_give_back, [(part.config, part.config._attn_implementation) for part in parts])
    _route(model, IMPLEMENTATIONS[implementation])
    if config._attn_implementation != IMPLEMENTATIONS[implementation]:
        raise UnsafeModelError("registry", no_route(name, model))
    return implementation


def _give_back(implementations: list[tuple[Any, str]]) -> None:
    for config, implementation in implementations:
        config._attn_implementation = implementation


def _route(model: Any, implementation: str) -> None:
    with quiet():
        model.set_attn_implementation(implementation)


@contextmanager
def unrouted(model: Any, implementation: str) -> Iterator[None]:
    """While active, attention runs as in plain transformers, with the model's own implementation."""
    if (route := families.route_of(model)) is not None:
        with families.without_hooks(model, route):
            yield
        return
    _route(model, implementation)
    try:
        yield
    finally:
        _route(model, IMPLEMENTATIONS[implementation])
