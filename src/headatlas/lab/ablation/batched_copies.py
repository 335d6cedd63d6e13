"""Runs many copies of the same prompts in one forward pass, each with its own edits of z."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.loading.opened_model import OpenModel

_ROOM = 1 << 27  # bytes for the activations of one rerun on a CPU; larger buffers take longer to allocate than to fill


def copies_per_run(
    model: OpenModel, prompts: int, length: int, width: int, logits: int, memory: int | None = None
) -> int:
    """How many copies of a batch of prompts fit into one run; at least one.

    Args:
        model: to run.
        prompts, length: number of prompts in a copy, and their length in tokens.
        width: number of positions computed per prompt.
        logits: number of logits kept per prompt (positions times tokens).
        memory: bytes for activations; by default 128 MiB on a CPU, half of the free memory on a GPU.
    """
    if memory is None:
        memory = torch.cuda.mem_get_info(model.device)[0] // 2 if model.device.type == "cuda" else _ROOM
    # Per token: stream, norms, q, k, v and hidden layer of the MLP (generously), and rows of scores and weights.
    numbers = prompts * width * (24 * model.anatomy.d_model + 3 * model.anatomy.heads * length)
    numbers += 2 * prompts * logits
    return max(1, memory // (numbers * model.dtype.itemsize))


def short_of_memory(error: RuntimeError) -> bool:
    """Whether an error is torch's out-of-memory error, which has no class of its own on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


@dataclass(frozen=True)
class CopyEdit:
    """An edit of z in one layer: in given copies, one head's z is replaced at given positions.

    Attributes:
        pairs: (copy, head) pairs to edit.
        at: [edited], positions counted from the beginning of the prompts.
        new: the new z, broadcastable to [prompt position head d_head].
        added: whether `new` is added to z instead of replacing it.
        origin: the first position that `new` holds, if it holds more than one.
    """

    pairs: Sequence[tuple[int, int]]
    at: Tensor
    new: Tensor
    added: bool = False
    origin: int = 0

    def put(self, z: Tensor, start: int) -> None:
        """Edit z [copy prompt position head d_head] in place; its positions start at `start`."""
        at, new = self._chosen(z[0], start)
        for copy, head in self.pairs:
            of_head = z[copy, :, :, head]
            of_head[:, at] = of_head[:, at] + new[:, :, head] if self.added else new[:, :, head]

    def write(self, attn_out: Tensor, z: Tensor, projection: nn.Module, start: int) -> None:
        """Edit attn_out in place, in the edited copies and at the edited positions.

        attn_out is projected anew from the edited z. Adding the projected difference instead would leave rounding
        errors where a whole layer is ablated, which a norm after attention (Gemma 2, OLMo 2) would amplify.

        Args:
            attn_out: clean in each copy, [copy prompt position d_model].
            z: clean, [prompt position head d_head].
            projection: maps the z of all heads to attn_out.
            start: the first position of `attn_out` and `z`.
        """
        at, new = self._chosen(z, start)
        copies = sorted({copy for copy, _ in self.pairs})
        place = {copy: number for number, copy in enumerate(copies)}
        edited = z[:, at].expand(len(copies), *z[:, at].shape).clone()  # [edited copy prompt edited head d_head]
        for copy, head in self.pairs:
            of_head = edited[place[copy], :, :, head]
            of_head.copy_(of_head + new[:, :, head] if self.added else new[:, :, head])
        written = projection(edited.flatten(-2).flatten(0, 1)).unflatten(0, edited.shape[:2])
        for copy, each in zip(copies, written, strict=True):
            attn_out[copy][:, at] = each

    def _chosen(self, z: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """The edited positions [edited], counted from `start`, and the new z there: [prompt edited head d_head]."""
        at = self.at.to(z.device)
        new = self.new.to(z)
        new = new[:, at - self.origin] if new.shape[1] > 1 else new
        return at - start, new.expand(len(z), len(at), *z.shape[2:])


@dataclass(frozen=True)
class CopiesInBatch:
    """Layout with copies along the batch axis: [copy*prompt position ...]."""

    prompts: int
    copies: int

    def join(self, apart: Tensor) -> Tensor:
        """[copy prompt position ...] -> this layout."""
        return apart.reshape(-1, *apart.shape[2:])

    def split(self, joined: Tensor) -> Tensor:
        """This layout -> [copy prompt position ...], a view."""
        return joined.view(self.copies, self.prompts, *joined.shape[1:])

    def places(self, positions: Tensor, width: int) -> Tensor:
        """Indices of the given positions of every copy along the sequence axis."""
        return positions


@dataclass(frozen=True)
class CopiesInSequence:
    """Layout with copies along the sequence axis: [prompt copy*position ...]."""

    prompts: int
    copies: int

    def join(self, apart: Tensor) -> Tensor:
        """[copy prompt position ...] -> this layout."""
        return apart.transpose(0, 1).flatten(1, 2).contiguous()  # GPT-2 needs contiguous memory

    def split(self, joined: Tensor) -> Tensor:
        """This layout -> [copy prompt position ...], a view."""
        return joined.view(self.prompts, self.copies, -1, *joined.shape[2:]).transpose(0, 1)

    def places(self, positions: Tensor, width: int) -> Tensor:
        """Indices of the given positions of every copy along the sequence axis; a copy is `width` long."""
        return (positions + width * torch.arange(self.copies)[:, None]).flatten()


def copy_edit_hook(layout: CopiesInBatch | CopiesInSequence, edits: Sequence[CopyEdit], start: int) -> AttentionHook:
    """An attention hook that edits z of the copies, whose positions start at `start`."""

    def hook(call: AttentionCall, z: Tensor) -> Tensor:
        z = z.clone()
        for edit in edits:
            edit.put(layout.split(z), start)
        return z

    return hook
