"""Many copies of the same prompts in one run: how they lie, and which head is edited in which."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.loading.opening import OpenModel

_ROOM = 1 << 27  # bytes for the activations of one rerun on a CPU; larger ones are slower to come by than to fill


def copies_per_run(
    model: OpenModel, prompts: int, length: int, width: int, logits: int, memory: int | None = None
) -> int:
    """How many copies of prompts of a length one run may hold, at least one.

    Args:
        model: that runs.
        prompts, length: of one copy.
        width: how many positions of each are computed.
        logits: how many of them are kept of each prompt: positions times tokens.
        memory: bytes for activations; by default 128 MiB on a CPU, half of what is free on an accelerator.
    """
    if memory is None:
        memory = torch.cuda.mem_get_info(model.device)[0] // 2 if model.device.type == "cuda" else _ROOM
    # Of a token: stream, norms, q, k, v and the MLP's hidden layer, generously, and rows of scores and weights.
    numbers = prompts * width * (24 * model.anatomy.d_model + 3 * model.anatomy.heads * length)
    numbers += 3 * prompts * logits
    return max(1, memory // (numbers * model.dtype.itemsize))


def short_of_memory(error: RuntimeError) -> bool:
    """Whether this is what torch says when memory is short; on a CPU it has no class of its own for it."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


@dataclass(frozen=True)
class CopyEdit:
    """What becomes of z in one layer: in each of some copies, a head's is replaced, at the same positions of all.

    Attributes:
        pairs: which copy, and which head in it.
        at: [edited], positions counted from the beginning of the prompts.
        new: z in its place, broadcastable to [prompt position head d_head].
        added: whether that is added to z instead.
    """

    pairs: Sequence[tuple[int, int]]
    at: Tensor
    new: Tensor
    added: bool = False

    def put(self, z: Tensor, start: int) -> None:
        """Replace z [copy prompt position head d_head] in place, its positions counted from `start`."""
        at, new = self._chosen(z[0], start)
        for copy, head in self.pairs:
            of_head = z[copy, :, :, head]
            of_head[:, at] = of_head[:, at] + new[:, :, head] if self.added else new[:, :, head]

    def write(self, attn_out: Tensor, z: Tensor, projection: nn.Module, start: int) -> None:
        """Put in place what attention writes in the edited copies, at the edited positions.

        It is projected anew, not shifted by what the edit changes: where all of a layer is silenced a difference would
        leave rounding, which a norm after attention (Gemma 2, OLMo 2) would blow up.

        Args:
            attn_out: in each copy, clean: [copy prompt position d_model].
            z: clean, [prompt position head d_head].
            projection: from the z of all heads to attn_out.
            start: from where positions are counted.
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
        """The edited positions [edited], counted from `start`, and z there: [prompt edited head d_head]."""
        at = self.at.to(z.device)
        new = self.new.to(z)
        new = new[:, at] if new.shape[1] > 1 else new
        return at - start, new.expand(len(z), len(at), *z.shape[2:])


@dataclass(frozen=True)
class CopiesInBatch:
    """Copies side by side in the batch: [copy*prompt position ...]."""

    prompts: int
    copies: int

    def join(self, apart: Tensor) -> Tensor:
        """[copy prompt position ...] -> as they lie."""
        return apart.reshape(-1, *apart.shape[2:])

    def split(self, joined: Tensor) -> Tensor:
        """As they lie -> [copy prompt position ...], a view."""
        return joined.view(self.copies, self.prompts, *joined.shape[1:])

    def places(self, positions: Tensor, width: int) -> Tensor:
        """Where positions of each copy stand in the sequence."""
        return positions


@dataclass(frozen=True)
class CopiesInSequence:
    """Copies one after the other in the sequence: [prompt copy*position ...]."""

    prompts: int
    copies: int

    def join(self, apart: Tensor) -> Tensor:
        """[copy prompt position ...] -> as they lie."""
        return apart.transpose(0, 1).flatten(1, 2).contiguous()  # GPT-2 asks for it

    def split(self, joined: Tensor) -> Tensor:
        """As they lie -> [copy prompt position ...], a view."""
        return joined.view(self.prompts, self.copies, -1, *joined.shape[2:]).transpose(0, 1)

    def places(self, positions: Tensor, width: int) -> Tensor:
        """Where positions of each copy stand in the sequence, each copy being `width` long."""
        return (positions + width * torch.arange(self.copies)[:, None]).flatten()


def copy_edit_hook(layout: CopiesInBatch | CopiesInSequence, edit: CopyEdit, start: int) -> AttentionHook:
    """A tap that edits z of the copies, whose positions begin at `start`."""

    def tap(call: AttentionCall, z: Tensor) -> Tensor:
        z = z.clone()
        edit.put(layout.split(z), start)
        return z

    return tap
