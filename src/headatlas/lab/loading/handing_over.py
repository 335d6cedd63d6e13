"""Hands an open model to other processes, so that all of them read one copy of the weights.

The model is written to a file that every process maps into its memory. The pages of the mapping are shared until a
process writes to one, which gives that process a page of its own: no process can change the weights of another.
"""

import ctypes
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path

import torch

from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.loading.opening import prepared
from headatlas.quiet import quiet

_MAPS = Path("/proc/self/maps")  # Linux only


def own_bytes(model: OpenModel) -> int:
    """Bytes of weights that this process holds for itself, in the memory of the machine.

    Weights in a file that is mapped into memory do not count: processes that map the same file share its pages already.
    If the system does not tell what is mapped, all weights count. Weights on an accelerator do not.
    """
    places, found = _mapped_files(), {}
    for each in (*model.model.parameters(), *model.model.buffers()):
        if each.device.type != "cpu":
            return 0
        found[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
    return sum(size for place, size in found.items() if not _inside(place, places))


def hand_over(model: OpenModel, path: str, remote_code: bool = False) -> tuple[OpenModel, bool]:
    """Write an open model to a file, from which `take_over` opens it; the model itself is closed.

    Returns:
        The same model, opened anew with its weights in that file, and True. If its code or the file do not allow it:
        opened anew as it was, and False.
    """
    model.close()
    parts = (model.name, model.model, model.tokenizer, model.opened, model.revision)
    checksums = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)  # the file never leaves this machine
    try:
        with quiet():
            torch.save(parts, path)
        return take_over(path, remote_code), True
    except Exception:  # code of any family, or a full disk; every process can still have a copy of its own
        return prepared(*parts), False
    finally:
        torch.serialization.set_crc32_options(checksums)


def take_over(path: str, remote_code: bool = False) -> OpenModel:
    """Open the model that another process handed over. It is examined like any other model.

    Args:
        path: where it was written.
        remote_code: whether its classes are code of its repository, which that process was allowed to run.
    """
    if remote_code:
        from transformers.dynamic_module_utils import init_hf_modules

        init_hf_modules()
    with quiet():
        parts = torch.load(path, map_location="cpu", mmap=True, weights_only=False)
    return prepared(*parts)


def give_memory_back() -> None:
    """Let the C library return freed memory to the system, where it can; it keeps hundreds of MB after loading."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _mapped_files() -> list[tuple[int, int]]:
    """First and last address of every file that is mapped, ascending; empty if the system does not tell."""
    try:
        rows = [line.split() for line in _MAPS.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for row in rows:
        if len(row) >= 6 and row[4] != "0":  # the inode of a file
            first, end = (int(each, 16) for each in row[0].split("-"))
            found.append((first, end))
    return sorted(found)


def _inside(place: int, places: list[tuple[int, int]]) -> bool:
    number = bisect_right(places, (place, 2**64)) - 1
    return number >= 0 and places[number][0] <= place < places[number][1]
