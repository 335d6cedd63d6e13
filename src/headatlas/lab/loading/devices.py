"""The device that a model is put on: refused in one line before anything is loaded, where it is not there."""

import torch

from headatlas.errors import HeadatlasError


def device(name: str | None) -> str:
    """The device of a name, tried; the CPU where none is given.

    Raises:
        HeadatlasError: where it is no device, or not on this machine.
    """
    if name is None:
        return "cpu"
    try:
        known = torch.device(name)
    except RuntimeError:
        raise HeadatlasError(f"{name!r} is no device; give cpu, cuda, cuda:1 or mps") from None
    if known.type == "meta":
        raise HeadatlasError("the device meta holds no numbers; give cpu, cuda, cuda:1 or mps")
    try:
        torch.empty(1, device=known)
    except Exception as error:  # each kind of device raises its own
        raise HeadatlasError(f"{_absent(known, error)}; leave --device out for the CPU") from None
    return str(known)


def _absent(known: torch.device, error: Exception) -> str:
    if known.type == "cuda" and torch.cuda.is_available():
        count = torch.cuda.device_count()
        if known.index is not None and known.index >= count:
            return f"there is no device {known} here: cuda has {count} (cuda:0 to cuda:{count - 1})"
    if known.type == "cuda":
        return f"there is no device {known} here: no GPU that this torch ({torch.__version__}) can use"
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
    return f"there is no device {known} here ({reason})"
