"""Hooks on module inputs and outputs that work for every family's calling convention; removable."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

StreamChange = Callable[[Tensor], Tensor | None]  # None keeps the states


def on_input(module: nn.Module, change: StreamChange) -> RemovableHandle:
    """Read, or replace, the hidden states [batch position d_model] at a module's input."""

    def entering(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        changed = change(args[0] if args else kwargs["hidden_states"])
        if changed is None:
            return None
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

    return module.register_forward_pre_hook(entering, with_kwargs=True)


def on_output(module: nn.Module, change: StreamChange) -> RemovableHandle:
    """Read, or replace, the hidden states at a module's output (the first element, if the output is a tuple)."""

    def leaving(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        changed = change(states_of(output))
        return None if changed is None else with_states(output, changed)

    return module.register_forward_hook(leaving)


def hooked(module: nn.Module) -> bool:
    """Whether a module has forward hooks or forward pre-hooks."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def states_of(output: Any) -> Tensor:
    """The hidden states in a module's output: the output itself, or the first element of a tuple."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states


def copied(output: Any) -> Any:
    """A module's output with its hidden states cloned."""
    return with_states(output, states_of(output).clone())


def with_states(output: Any, states: Tensor) -> Any:
    """A module's output with its hidden states replaced by `states`."""
    return (states, *output[1:]) if isinstance(output, tuple) else states


@contextmanager
def gives(module: nn.Module, output: Any) -> Iterator[None]:
    """Make a module return `output` without computing anything; restored on exit."""
    with acting(module, lambda *_args, **_kwargs: output):
        yield


@contextmanager
def acting(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace a module's forward method; its hooks still run. Restored on exit."""
    own = vars(module)
    before = own.get("forward")  # set on the instance by accelerate when a model is spread over devices
    own["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del own["forward"]
        else:
            own["forward"] = before


@contextmanager
def telling(module: nn.Module, **inputs: Any) -> Iterator[None]:
    """While active, set these keyword arguments of a module's forward method."""

    def tell(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**kwargs, **inputs}

    handle = module.register_forward_pre_hook(tell, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
