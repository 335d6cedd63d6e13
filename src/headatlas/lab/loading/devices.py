"""Checks the requested device before anything is loaded; a missing one is refused with a one-line error."""

import torch

from headatlas.errors import HeadatlasError


def device(name: str | None) -> str:
    """Check a device by allocating on it; None means the CPU.

    Raises:
        HeadatlasError: if the name is no device, or the device is not on this machine.
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
    except Exception as error:  # each device type raises its own exceptions
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
