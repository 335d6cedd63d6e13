"""The exact effect of every head on a behaviour: each head ablated, or patched from another run, one at a time.

There are three ways, which agree up to rounding. "naive" runs the whole model once per head. "layers" reruns it from
the head's layer on, all heads of a layer at once. "tokens" also skips the positions before the first edited one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headatlas.arrays import Array
from headatlas.lab.ablation.replacement import AblationKind, EditPositions, Patch, Replacement
from headatlas.lab.ablation.sweep_batches import run_sweep, run_together
from headatlas.lab.ablation.sweep_engine import reuse
from headatlas.lab.ablation.sweep_task import HeadSet, SweepResult, SweepTask, Way
from headatlas.lab.ablation.z_values import ZValues
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import OnDone
from headatlas.lab.running.metrics import Metric
from headatlas.notation import Head, HeadsLike
from headatlas.stimuli.prompts import Prompt


@dataclass(frozen=True)
class Sweep:
    """The behaviour with each head ablated alone.

    Attributes:
        clean: [prompt], without ablation.
        ablated: [layer head prompt]; NaN for heads that were not requested or do not exist.
        sources: [prompt], the behaviour of each prompt's source, read as the prompt is; NaN unless the ablation is
            'resample'.
        ways: how it was computed ("naive", "layers", "tokens"); several if prompts differ in length.
        notes: sentences on anything unusual, such as a slower way or a lack of memory.
    """

    clean: Array
    ablated: Array
    sources: Array
    ways: tuple[Way, ...]
    notes: tuple[str, ...]

    @property
    def effect(self) -> Array:
        """Ablated minus clean: [layer head prompt]."""
        return self.ablated - self.clean

    @property
    def effect_per_prompt(self) -> Array:
        """`effect` with the axes of scores: [prompt layer head]."""
        return self.effect.transpose(2, 0, 1)

    def normalized_effect(self, contrast: "Sweep | None" = None) -> Array:
        """How far each head alone moves the behaviour to that of a source: 0 not at all, 1 the whole way on average.

        The fall of the behaviour, divided by the mean distance between prompts and sources. The distance is taken
        without its sign, so that a model that does not tell prompts from sources, whose distances cancel out, does not
        divide by next to nothing. Where the behaviour is lower in every source, the mean over prompts is the
        normalized logit difference of zhang2023towards, counted from the clean run.

        Args:
            contrast: the sweep whose sources give the distance, where these sources are a control that should move
                nothing; this sweep by default.

        Returns:
            [prompt layer head]
        """
        whole = contrast or self
        normalized: Array = -self.effect_per_prompt / abs(whole.clean - whole.sources).mean()
        return normalized


def sweep(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    ablation: AblationKind | ZValues | Patch = "mean",
    positions: EditPositions = "all",
    *,
    heads: HeadsLike | None = None,
    minus_corrupted: bool = False,
    source: Sequence[tuple[int, ...]] | None = None,
    memory: int | None = None,
    progress: OnDone | None = None,
) -> Sweep:
    """Ablate every head in turn and measure the behaviour, computing only what the ablation can change.

    Mean ablation and resample ablation follow wang2023interpretability; see also zhang2023towards.

    Args:
        model: to run.
        prompts: with readouts.
        metric: of the behaviour.
        ablation: replacement for the head's z. 'mean': its mean over the sources, all positions but the first;
            'position mean': its mean over sources of equal length, at each position; 'resample': its z at the same
            position of the prompt's own source (activation patching); 'zero'; ZValues that fits every prompt; or a
            Patch, which makes one per batch of prompts.
        positions: where z is replaced: 'all', 'last', or positions; negative ones count from the end.
        heads: to ablate; all by default.
        minus_corrupted: measure the behaviour on prompt minus corrupted prompt, with the head ablated in both.
        source: one token sequence per prompt, of equal length; the corrupted prompts by default.
        memory: bytes for the activations of one rerun; by default 128 MiB on a CPU, half of the free memory on a GPU.
        progress: called with the number of (head, prompt) pairs done since the last call.

    Raises:
        HeadatlasError: if prompts have no readouts, a position or source does not fit, logits are not finite, or memory
            is too short for a single prompt.
        ValueError: for no prompts, no heads, or heads the model lacks.
    """
    sets = [HeadSet((head,)) for head in _chosen(model, heads)]
    task = SweepTask(model, metric, sets, [Replacement(model, prompts, ablation, source)], positions, progress)
    return _by_head(task, _swept(task, prompts, minus_corrupted, memory))[0]


def patch_sweeps(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    sources: Sequence[Sequence[tuple[int, ...]] | None],
    positions: EditPositions = "all",
    *,
    heads: HeadsLike | None = None,
    memory: int | None = None,
    progress: OnDone | None = None,
) -> list[Sweep]:
    """Activation patching of every head from several sources: `sweep` with 'resample' for each, in shared runs.

    Args:
        model, prompts, metric, positions, heads, memory, progress: as in `sweep`.
        sources: each as in `sweep`; None for the corrupted prompts.

    Returns:
        One for each source.

    Raises:
        HeadatlasError, ValueError: as in `sweep`.
    """
    if not sources:
        raise ValueError("no sources to patch from; give at least one")
    sets = [HeadSet((head,), number) for head in _chosen(model, heads) for number in range(len(sources))]
    replacements = [Replacement(model, prompts, "resample", source) for source in sources]
    task = SweepTask(model, metric, sets, replacements, positions, progress)
    return _by_head(task, run_together(task, prompts, memory))


def ablate_sets(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    sets: Sequence[HeadsLike],
    ablation: AblationKind | ZValues | Patch = "mean",
    positions: EditPositions = "all",
    minus_corrupted: bool = False,
    *,
    source: Sequence[tuple[int, ...]] | None = None,
    memory: int | None = None,
    progress: OnDone | None = None,
) -> Array:
    """Measure the behaviour with each set of heads ablated together, computing only what the set can change.

    Arguments as in `sweep`; an empty set means the clean model.

    Returns:
        [set prompt]

    Raises:
        HeadatlasError, ValueError: as in `sweep`.
    """
    unique = [tuple(sorted(set(model.anatomy.require(heads)))) for heads in sets]
    order = sorted((number for number, heads in enumerate(unique) if heads), key=lambda number: unique[number][0])
    if not order:
        raise ValueError("no heads to ablate; give at least one set that is not empty")
    chosen = [HeadSet(unique[number]) for number in order]
    task = SweepTask(model, metric, chosen, [Replacement(model, prompts, ablation, source)], positions, progress)
    found = _swept(task, prompts, minus_corrupted, memory)
    values: Array = np.tile(found.clean, (len(sets), 1))
    values[order] = found.ablated
    return values


def _swept(task: SweepTask, prompts: Sequence[Prompt], minus_corrupted: bool, memory: int | None) -> SweepResult:
    if minus_corrupted:
        return run_sweep(task, prompts, minus_corrupted, lambda part: reuse(part, memory))
    return run_together(task, prompts, memory)


def _by_head(task: SweepTask, found: SweepResult) -> list[Sweep]:
    """The sweep of each replacement, from sets of one head."""
    anatomy, ablated = task.model.anatomy, []
    for _ in task.replacements:
        ablated.append(np.full((anatomy.layers, anatomy.heads, len(found.clean)), np.nan))
    for ((head,), number), values in zip(task.sets, found.ablated, strict=True):
        ablated[number][head] = values
    return [
        Sweep(found.clean, each, source, found.ways, found.notes)
        for each, source in zip(ablated, found.sources, strict=True)
    ]


def _chosen(model: OpenModel, heads: HeadsLike | None) -> list[Head]:
    """The heads to sweep, ascending; all heads of the model by default."""
    chosen = sorted(set(model.anatomy.require(model.anatomy.all_heads if heads is None else heads)))
    if not chosen:
        raise ValueError("no heads to sweep; give at least one")
    return chosen
