"""Path patching: what one head does through another head's query, key or value, or straight to the logits.

The convention is that of Wang et al. 2023 (Interpretability in the Wild, section 3.1 and appendix B). In a run on the
clean prompts, every head's output z is held at its clean value, in all layers and positions, but for the senders,
which give what they gave on the corrupted prompts. So the change travels along the residual stream, and through MLPs
(which are recomputed, as in the paper, or frozen on request), but through no other head. What then reaches the
receivers' queries, keys or values is put into a second clean run, in which all else is computed as usual, and the
metric is read. Where the receiver is the logits, it is read from the first run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.clean_run import CleanRun, run_clean
from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.activations.edits import patch
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.activations.recording import Tokens, batch_of, record
from headatlas.lab.activations.sites import Positions, Recording, Site, located
from headatlas.lab.hooks.module_hooks import copied
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.few_logits import only_logits_of
from headatlas.lab.running.forward import forward
from headatlas.notation import Head

PathMetric = Callable[[Tensor], Tensor]  # logits [batch kept vocabulary] -> one value per prompt, [batch]


class Receiver(NamedTuple):
    """What a path ends in: the query, key or value of a head."""

    head: Head
    input: Literal["q", "k", "v"]


@dataclass(frozen=True)
class PathRuns:
    """What path patching needs of the clean and the corrupted run; one serves any number of paths.

    Attributes:
        model: that ran.
        tokens: the clean prompts, [batch position].
        clean, corrupted: z of every head.
        trace: what the clean run left for runs that start in the middle.
        mlps: what the MLP of each layer with attention wrote in the clean run, where MLPs are frozen.
        logits: clean, [batch kept vocabulary].
        kept: the positions whose logits are kept, [kept].
        vocabulary: the tokens whose logits are kept; None for all.
    """

    model: OpenModel
    tokens: Tensor
    clean: Recording
    corrupted: Recording
    trace: CleanRun
    mlps: Mapping[int, Any] | None
    logits: Tensor
    kept: Tensor
    vocabulary: Tensor | None

    def logits_now(self) -> Tensor:
        """The kept logits of the clean prompts with whatever edits are in force, [batch kept vocabulary]."""
        with only_logits_of(self.model, self.vocabulary):
            return forward(self.model, self.tokens, positions=self.kept)


def path_runs(
    model: OpenModel,
    clean: Tokens,
    corrupted: Tokens,
    positions: Sequence[int] | None = None,
    *,
    mlps: Literal["recomputed", "frozen"] = "recomputed",
    vocabulary: Sequence[int] | None = None,
) -> PathRuns:
    """Run the clean and the corrupted prompts once.

    Args:
        model: to run.
        clean, corrupted: [batch position], aligned.
        positions: whose logits the metric sees; the last by default.
        mlps: whether MLPs pass on what reaches them, or write what they wrote in the clean run.
        vocabulary: the tokens whose logits the metric sees, in this order; all by default. Over many heads and
            prompts, most of the time goes into logits that nobody reads.

    Raises:
        HeadatlasError: where the prompts do not align, or for tokens that the model does not have.
    """
    tokens, others = batch_of(model, clean), batch_of(model, corrupted)
    if tokens.shape != others.shape:
        raise HeadatlasError(
            f"the clean prompts are {list(tokens.shape)} [batch position] and the corrupted {list(others.shape)}; "
            "path patching needs pairs of one length"
        )
    kept = located([tokens.shape[1] - 1] if positions is None else positions, 1, tokens.shape[1])[0]
    chosen = None if vocabulary is None else torch.as_tensor(vocabulary)
    written: dict[int, Any] = {}
    with ExitStack() as stack:
        if mlps == "frozen":
            for layer, each in find_blocks(model, tokens).items():
                stack.callback(each.mlp.register_forward_hook(_keep(written, layer)).remove)
        stack.enter_context(only_logits_of(model, chosen))
        first = run_clean(model, tokens, kept)
    frozen = written if mlps == "frozen" else None
    z: dict[tuple[Site, int], Tensor] = {("z", layer): found.z for layer, found in first.layers.items()}
    second = record(model, others, ["z"])
    return PathRuns(model, tokens, Recording(z), second, first, frozen, first.logits, kept, chosen)


def path_patch(
    runs: PathRuns,
    senders: Iterable[Head],
    receivers: Iterable[Receiver] | Literal["logits"],
    metric: PathMetric,
    *,
    sender_positions: Positions = None,
    receiver_positions: Positions = None,
) -> Tensor:
    """How much the path from the senders to the receivers changes a metric.

    Args:
        runs: of `path_runs`.
        senders: heads, patched together.
        receivers: inputs of heads, patched together, or "logits".
        metric: read from the kept logits.
        sender_positions: where the senders are patched; everywhere by default.
        receiver_positions: where the receivers' queries, keys or values are; everywhere by default.

    Returns:
        [batch]: the metric with the path patched, minus the clean metric. Zero where no path leads from the senders to
        the receivers.

    Raises:
        ValueError: for no senders or no receivers, or heads the model does not have.
    """
    return metric(patched_logits(runs, senders, receivers, sender_positions, receiver_positions)) - metric(runs.logits)


def patched_logits(
    runs: PathRuns,
    senders: Iterable[Head],
    receivers: Iterable[Receiver] | Literal["logits"],
    sender_positions: Positions = None,
    receiver_positions: Positions = None,
) -> Tensor:
    """The kept logits with the path patched, [batch kept vocabulary]. Arguments and errors as in `path_patch`."""
    model, everyone = runs.model, runs.model.anatomy.all_heads
    sending = [patch("z", everyone, runs.clean), patch("z", senders, runs.corrupted, sender_positions)]
    if receivers == "logits":
        with _held(runs), intervene(model, sending):
            return runs.logits_now()
    ends = by_input(receivers)
    model.anatomy.require(head for each in ends.values() for head in each)
    reading = sorted({head.layer for each in ends.values() for head in each})
    with _held(runs), intervene(model, sending):
        found = record(model, runs.tokens, list(ends), layers=reading)
    with intervene(model, [patch(site, heads, found, receiver_positions) for site, heads in ends.items()]):
        return runs.logits_now()


def by_input(receivers: Iterable[Receiver]) -> dict[Literal["q", "k", "v"], list[Head]]:
    """The heads that receive at each input.

    Raises:
        ValueError: for no receivers.
    """
    ends: dict[Literal["q", "k", "v"], list[Head]] = {}
    for head, site in receivers:
        ends.setdefault(site, []).append(head)
    if not ends:
        raise ValueError("no receivers; give at least one, or the word logits")
    return ends


def _keep(written: dict[int, Any], layer: int) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        written[layer] = copied(output)  # Falcon adds to it where it lies

    return hook


def _held(runs: PathRuns) -> ExitStack:
    """While active, MLPs write what they wrote in the clean run, where they are frozen."""
    stack = ExitStack()
    for layer, output in (runs.mlps or {}).items():
        module = find_blocks(runs.model, runs.tokens)[layer].mlp
        stack.callback(module.register_forward_hook(lambda *_, output=output: copied(output)).remove)
    return stack
