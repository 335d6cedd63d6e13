"""The z that replaces an ablated head's, batch by batch, and the positions where it is replaced."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.z_values import ZValues, mean_z, record_z
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import stack_tokens
from headatlas.stimuli.prompts import Prompt

AblationKind = Literal["zero", "mean", "position mean", "resample"]
EditPositions = Literal["all", "last"] | Sequence[int]
# Prompts of equal length -> replacement z, [prompt position head d_head] per layer with attention.
Patch = Callable[[Sequence[Prompt]], ZValues]

_BATCH = 16  # sources recorded at once


class Replacement:
    """The replacement z for any batch of a set of prompts.

    Args:
        model: to run.
        prompts: all of them.
        ablation: 'zero'; 'mean' over the sources; 'position mean' over the sources of equal length, at each position;
            'resample' from the prompt's own source; ZValues that fits every prompt; or a Patch, which makes one per
            batch.
        source: one token sequence per prompt, of equal length; the corrupted prompts by default.

    Raises:
        HeadatlasError: if sources and prompts do not align, or prompts have no readouts.
    """

    def __init__(
        self,
        model: OpenModel,
        prompts: Sequence[Prompt],
        ablation: AblationKind | ZValues | Patch,
        source: Sequence[tuple[int, ...]] | None,
    ) -> None:
        if not prompts:
            raise ValueError("no prompts; give at least one")
        if isinstance(ablation, str) and ablation not in get_args(AblationKind):
            raise ValueError(f"{ablation!r} is no kind of ablation; choose from {', '.join(get_args(AblationKind))}")
        if not all(prompt.readouts for prompt in prompts):
            raise HeadatlasError("a prompt has no readout, so there is no behaviour to read; give each at least one")
        self._model, self._ablation, self._prompts = model, ablation, prompts
        self._source = [prompt.corrupted for prompt in prompts] if source is None else list(source)
        if [len(each) for each in self._source] != [len(prompt.tokens) for prompt in prompts]:
            raise HeadatlasError("sources and prompts differ in number or length; give each prompt one of equal length")
        self._by_length: dict[int, ZValues] = {}
        self._shared = mean_z(model, self._source) if ablation == "mean" else None

    @property
    def of_own_sources(self) -> bool:
        """Whether each prompt's replacement comes from a source of its own."""
        return self._ablation == "resample"

    def tokens(self, index: Sequence[int]) -> Tensor:
        """The sources of prompts of equal length, by index: [prompt position]."""
        return stack_tokens([self._source[number] for number in index])

    def of(self, index: Sequence[int]) -> ZValues:
        """Replacement for prompts of equal length, by index: broadcastable to [prompt position head d_head]."""
        if isinstance(self._ablation, ZValues):
            return self._ablation
        if not isinstance(self._ablation, str):
            return self._ablation([self._prompts[number] for number in index])
        if self._ablation == "zero":
            return ZValues.zero(self._model.anatomy)
        if self._ablation == "resample":
            return record_z(self._model, self.tokens(index))
        return self._shared or self._position_mean(len(self._source[index[0]]))

    def _position_mean(self, length: int) -> ZValues:
        """Mean over the sources of this length, at each position: [1 position head d_head]."""
        if length not in self._by_length:
            same = [each for each in self._source if len(each) == length]
            batches = [stack_tokens(same[start : start + _BATCH]) for start in range(0, len(same), _BATCH)]
            total: dict[int, Tensor] = {}
            for batch in batches:
                for layer, z in record_z(self._model, batch).z.items():
                    summed = z.sum(0, keepdim=True)
                    total[layer] = total[layer] + summed if layer in total else summed
            self._by_length[length] = ZValues({layer: each / len(same) for layer, each in total.items()})
        return self._by_length[length]


def edited_positions(positions: EditPositions, length: int) -> Tensor:
    """The edited positions in prompts of a given length: [edited], ascending; negative ones count from the end.

    Raises:
        HeadatlasError: for positions outside the prompts.
        ValueError: for no positions.
    """
    if positions == "all":
        return torch.arange(length)
    if positions == "last":
        return torch.tensor([length - 1])
    if isinstance(positions, str) or not len(positions):
        raise ValueError(f"{positions!r} are no positions; choose 'all', 'last', or a list of at least one")
    for position in positions:
        if not -length <= position < length:
            raise HeadatlasError(f"position {position} is outside a prompt of {length} tokens; positions count from 0")
    return torch.tensor(sorted({position % length for position in positions}))
