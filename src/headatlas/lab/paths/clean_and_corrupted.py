"""The clean and the corrupted run of a batch of prompts, from which paths are patched."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.clean_run import CleanRun, run_clean
from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.activations.recording import TokensLike, batch_of
from headatlas.lab.activations.sites import Recording, Site, located
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.hooks.module_hooks import copied, states_of, with_states
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.few_logits import only_logits_of
from headatlas.lab.running.forward import forward


@dataclass(frozen=True)
class PathRuns:
    """Activations of the clean and the corrupted run, reusable for any number of paths.

    Attributes:
        model: the model.
        tokens: the clean prompts, [batch position].
        clean, corrupted: z of every head.
        trace: cache of the clean run, for reruns from the middle of the model.
        mlps: clean output of each MLP in layers with attention, if MLPs are frozen.
        logits: clean, [batch kept vocabulary].
        corrupted_logits: of the corrupted run, the same.
        kept: positions whose logits are kept, [kept].
        vocabulary: tokens whose logits are kept; None for all.
    """

    model: OpenModel
    tokens: Tensor
    clean: Recording
    corrupted: Recording
    trace: CleanRun
    mlps: Mapping[int, Any] | None
    logits: Tensor
    corrupted_logits: Tensor
    kept: Tensor
    vocabulary: Tensor | None

    def from_source(self, corrupted: TokensLike) -> "PathRuns":
        """The same clean run with another corrupted one, [batch position].

        Raises:
            HeadatlasError: if the prompts do not align.
        """
        others = _aligned(self.model, self.tokens, corrupted)
        with only_logits_of(self.model, self.vocabulary):
            z, logits = _z_and_logits(self.model, others, self.kept)
        return replace(self, corrupted=z, corrupted_logits=logits)

    def first(self, count: int) -> "PathRuns":
        """The runs of the first prompts alone."""
        clean, corrupted = (
            Recording({site: each[:count] for site, each in runs.activations.items()})
            for runs in (self.clean, self.corrupted)
        )
        mlps = self.mlps and {
            layer: with_states(each, self._first_rows(states_of(each), count)) for layer, each in self.mlps.items()
        }
        return replace(
            self,
            tokens=self.tokens[:count],
            clean=clean,
            corrupted=corrupted,
            trace=self.trace.first(count),
            mlps=mlps,
            logits=self.logits[:count],
            corrupted_logits=self.corrupted_logits[:count],
        )

    def _first_rows(self, states: Tensor, count: int) -> Tensor:
        """The part of an MLP's output that belongs to the first prompts; some MLPs see all tokens in one row."""
        batch, length = self.tokens.shape
        return states[:count] if len(states) == batch and states.ndim > 2 else states[: count * length]

    def logits_now(self) -> Tensor:
        """Run the clean prompts with the currently active edits; the kept logits [batch kept vocabulary]."""
        with only_logits_of(self.model, self.vocabulary):
            return forward(self.model, self.tokens, positions=self.kept)


def path_runs(
    model: OpenModel,
    clean: TokensLike,
    corrupted: TokensLike,
    positions: Sequence[int] | None = None,
    *,
    mlps: Literal["recomputed", "frozen"] = "recomputed",
    vocabulary: Sequence[int] | Tensor | None = None,
) -> PathRuns:
    """Run the clean and the corrupted prompts once, and keep what path patching needs.

    Args:
        model: to run.
        clean, corrupted: [batch position], aligned.
        positions: whose logits the metric uses; the last by default.
        mlps: whether MLPs are recomputed, or frozen at their clean output.
        vocabulary: tokens whose logits the metric uses, in this order; all by default. Choosing a few saves most of the
            time of sweeps over many heads and prompts.

    Raises:
        HeadatlasError: if the prompts do not align, or for tokens outside the vocabulary.
    """
    tokens = batch_of(model, clean)
    others = _aligned(model, tokens, corrupted)
    kept = located([tokens.shape[1] - 1] if positions is None else positions, 1, tokens.shape[1])[0]
    chosen = None if vocabulary is None else torch.as_tensor(vocabulary)
    written: dict[int, Any] = {}
    with ExitStack() as stack:
        if mlps == "frozen":
            for layer, each in find_blocks(model, tokens).items():
                stack.callback(each.mlp.register_forward_hook(_keep(written, layer)).remove)
        stack.enter_context(only_logits_of(model, chosen))
        first = replace(run_clean(model, tokens, kept, start=1), start=0)  # 1: with keys and values, to skip positions
    with only_logits_of(model, chosen):
        second, logits = _z_and_logits(model, others, kept)
    frozen = written if mlps == "frozen" else None
    z: dict[tuple[Site, int], Tensor] = {("z", layer): found.z for layer, found in first.layers.items()}
    return PathRuns(model, tokens, Recording(z), second, first, frozen, first.logits, logits, kept, chosen)


def _z_and_logits(model: OpenModel, tokens: Tensor, kept: Tensor) -> tuple[Recording, Tensor]:
    """z of every head, and the kept logits."""
    found: dict[tuple[Site, int], Tensor] = {}

    def hook(layer: int) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            found["z", layer] = z.detach().clone()

        return look

    logits = forward(model, tokens, {module: hook(layer) for layer, module in model.anatomy.attention.items()}, kept)
    return Recording(found), logits


def _aligned(model: OpenModel, tokens: Tensor, corrupted: TokensLike) -> Tensor:
    """The corrupted prompts, [batch position], if they align with the clean ones."""
    others = batch_of(model, corrupted)
    if tokens.shape != others.shape:
        raise HeadatlasError(
            f"the clean prompts are {list(tokens.shape)} [batch position] and the corrupted {list(others.shape)}; "
            "path patching needs pairs of equal length"
        )
    return others


def _keep(written: dict[int, Any], layer: int) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        written[layer] = copied(output)  # Falcon adds to it in place

    return hook
