"""Changes what a module reads or gives for a while, however its family passes it on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Change = Callable[[Tensor], Tensor | None]  # None leaves it as it is


def on_input(module: nn.Module, change: Change) -> RemovableHandle:
    """Look at, or change, the states a module reads, [batch position d_model]."""

    def entering(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        changed = change(args[0] if args else kwargs["hidden_states"])
        if changed is None:
            return None
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

    return module.register_forward_pre_hook(entering, with_kwargs=True)


def on_output(module: nn.Module, change: Change) -> RemovableHandle:
    """Look at, or change, the states a module gives: its output, or the first of several."""

    def leaving(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        changed = change(states_of(output))
        return None if changed is None else with_states(output, changed)

    return module.register_forward_hook(leaving)


def hooked(module: nn.Module) -> bool:
    """Whether a hook may change what a module reads or gives."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def states_of(output: Any) -> Tensor:
    """The states in what a module gives: the whole of it, or the first of several."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states


def copied(output: Any) -> Any:
    """What a module gives, with states of its own."""
    return with_states(output, states_of(output).clone())


def with_states(output: Any, states: Tensor) -> Any:
    """What a module gives, with other states in it."""
    return (states, *output[1:]) if isinstance(output, tuple) else states


@contextmanager
def gives(module: nn.Module, output: Any) -> Iterator[None]:
    """While active, the module does nothing but give `output`."""
    with acting(module, lambda *_args, **_kwargs: output):
        yield


@contextmanager
def acting(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """While active, the module does this instead of its own work; its hooks still see it."""
    own = vars(module)
    before = own.get("forward")  # set on the object where a model is spread over devices
    own["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del own["forward"]
        else:
            own["forward"] = before
