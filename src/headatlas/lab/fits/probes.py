"""Linear probes on the z of each head, their null on shuffled labels, and steering directions.

All heads are fitted at once, by L2-regularised logistic regression with Newton's method; the optimum is unique.
Accuracy is always measured on the half of the groups (such as questions) that was not used for fitting.

This module is long because the design of a probe, its split, its shuffles and its interval stand together.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.recording import record
from headatlas.lab.fits.logistic import fit_logistic, held_out_right, standardisation
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.notation import Head, HeadsLike, heads_of

_BATCH = 16  # prompts recorded at once
_RESAMPLES = 1000
DRAWS = 100  # shuffles of the labels


@dataclass(frozen=True)
class Probes:
    """Probe accuracies, head by head; everything is NaN for heads that do not exist.

    Attributes:
        accuracy: [layer head], share of prompts classified correctly when held out, each fold in turn.
        low, high: [layer head], its 95% bootstrap interval over groups, not corrected for selecting a best head.
        control: [draw layer head], the accuracy with labels shuffled within the design.
        fold: [prompt], the fold (0 or 1) in which each prompt was held out.
        right: [prompt layer head], whether the held-out prompt was classified correctly: 0 or 1.
        right_shuffled: [prompt layer head], share of draws with shuffled labels in which it was.
    """

    accuracy: Tensor
    low: Tensor
    high: Tensor
    control: Tensor
    fold: Tensor
    right: Tensor
    right_shuffled: Tensor

    @property
    def selectivity(self) -> Tensor:
        """Accuracy minus mean accuracy on shuffled labels: [layer head] (hewitt2019designing)."""
        return self.accuracy - self.control.mean(0)

    @property
    def p(self) -> Tensor:
        """Permutation p of each head against the best head on shuffled labels: [layer head].

        Corrected for the number of heads; at least 1 / (1 + draws).
        """
        best = self.control.flatten(1).nan_to_num(float("-inf")).amax(1)  # [draw]
        beaten = (best[:, None, None] >= self.accuracy - 1e-9).sum(0)
        p: Tensor = (1 + beaten) / (1 + len(best))
        return p.masked_fill(self.accuracy.isnan(), float("nan"))


@dataclass(frozen=True)
class HeadDirections:
    """One direction per head in the space of its z.

    Attributes:
        vectors: [layer head d_head], of length 1, pointing towards label 1.
        spread: [layer head], standard deviation of z along the direction over all prompts.
    """

    vectors: Tensor
    spread: Tensor

    def steps(self, heads: HeadsLike, strength: float = 1.0) -> dict[Head, Tensor]:
        """Steering vectors: `strength` standard deviations along each head's direction (li2023inferencetime)."""
        return {head: strength * self.spread[head] * self.vectors[head] for head in heads_of(heads)}


def collect_z(model: OpenModel, prompts: Sequence[Sequence[int]], position: int = -1) -> Tensor:
    """Record z of every head at one position of each prompt: [prompt layer head d_head], float32 on the CPU.

    Heads that do not exist are NaN; heads narrower than the widest are padded with zeros.

    Args:
        model: to run.
        prompts: token sequences, of any lengths.
        position: negative ones count from the end.

    Raises:
        HeadatlasError: for a prompt without that position, or that `record` refuses.
    """
    anatomy = model.anatomy
    found = torch.full((len(prompts), anatomy.layers, anatomy.heads, anatomy.d_head), float("nan"))
    by_length: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        if not -len(prompt) <= position < len(prompt):
            raise HeadatlasError(f"prompt {number} of {len(prompt)} tokens has no position {position}; choose another")
        by_length.setdefault(len(prompt), []).append(number)
    for length, numbers in sorted(by_length.items()):
        for batch in (numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH)):
            seen = record(model, [list(prompts[number]) for number in batch], ["z"], [position % length])
            for layer in anatomy.attention:
                z = seen["z", layer][:, 0].float().cpu()  # [prompt head d_head]
                found[batch, layer, : z.shape[1]] = pad(z, (0, anatomy.d_head - z.shape[2]))
    return found


def probe_heads(
    z: Tensor,
    labels: Sequence[int] | Tensor,
    groups: Sequence[Hashable],
    *,
    l2: float = 1.0,
    draws: int = DRAWS,
    seed: int = 0,
) -> Probes:
    """Fit a linear probe on every head, with two-fold cross-validation over groups.

    Sources: belinkov2022probing, hewitt2019designing. Labels are shuffled within the design: within groups that have
    both labels, and among groups of equal size that have one label. So shuffled tasks have the same structure and
    label counts as the real one.

    Args:
        z: [prompt layer head d_head], all NaN for heads that do not exist.
        labels: [prompt], 0 or 1.
        groups: [prompt], units that must not be split between folds, such as the question.
        l2: penalty; half of it times the squared weights is added to the summed loss. Features are standardised.
        draws: number of shuffles for the null and for `p`, which is at least 1 / (1 + draws).
        seed: of the split and the shuffles.

    Raises:
        HeadatlasError: if labels or groups do not fit, or a fold lacks one of the labels.
    """
    y, group = _design(z, labels, groups)
    if l2 <= 0 or draws < 1:
        raise ValueError(f"l2 is {l2} and draws {draws}; both must be positive")
    generator = torch.Generator().manual_seed(seed)
    fold = _split(y, group, generator)
    tasks = torch.stack([y, *(_shuffled(y, group, generator) for _ in range(draws))])
    there = ~_absent(z)
    flat = z[:, there].movedim(1, 0).double()  # [existing prompt d_head]
    right = held_out_right(flat, tasks, fold, l2)  # [task existing prompt]
    own = right[0].double()
    accuracy = _placed(right.double().mean(-1), there)
    low, high = (_placed(each, there) for each in _interval(own, group, generator))
    each, shuffled = (_placed(part.T, there) for part in (own, right[1:].double().mean(0)))
    return Probes(accuracy[0], low, high, accuracy[1:], fold, each, shuffled)


def _absent(z: Tensor) -> Tensor:
    """Heads that do not exist, i.e. whose z [prompt layer head d_head] is all NaN: [layer head]."""
    return z.isnan().all(3).all(0)


def _placed(values: Tensor, there: Tensor) -> Tensor:
    """Place values [... existing] of existing heads into [... layer head], NaN elsewhere."""
    whole = torch.full((*values.shape[:-1], *there.shape), float("nan"), dtype=values.dtype)
    whole[..., there] = values
    return whole


def mean_difference(z: Tensor, labels: Sequence[int] | Tensor) -> HeadDirections:
    """Mean z of label 1 minus mean z of label 0, per head.

    Args:
        z: [prompt layer head d_head].
        labels: [prompt], 0 or 1.

    Raises:
        HeadatlasError: if labels do not fit, or only one occurs.
    """
    y, _ = _design(z, labels, range(len(z)))
    return _directions(z, z[y == 1].float().mean(0) - z[y == 0].float().mean(0))


def probe_directions(z: Tensor, labels: Sequence[int] | Tensor, l2: float = 1.0) -> HeadDirections:
    """Weights of a probe fitted on all prompts, per head, in the coordinates of z; arguments as in `probe_heads`."""
    y, _ = _design(z, labels, range(len(z)))
    there = ~_absent(z)
    flat = z[:, there].movedim(1, 0).double()
    mean, scale = standardisation(flat)
    weights = fit_logistic((flat - mean) / scale, y[None], l2)[:, :-1, 0] / scale[:, 0]
    vectors = torch.full(z.shape[1:], float("nan"))
    vectors[there] = weights.float()
    return _directions(z, vectors)


def _directions(z: Tensor, vectors: Tensor) -> HeadDirections:
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    return HeadDirections(unit, torch.einsum("nlhd,lhd->nlh", z.float(), unit).std(0))


def _design(z: Tensor, labels: Sequence[int] | Tensor, groups: Sequence[Hashable]) -> tuple[Tensor, Tensor]:
    """Check and convert labels to float64 [prompt], and groups to integers from 0 [prompt]."""
    if z.ndim != 4:
        raise ValueError(f"z must be [prompt layer head d_head], got {list(z.shape)}")
    there = ~_absent(z)
    if not (there.any() and torch.isfinite(z[:, there]).all()):
        raise HeadatlasError("z has NaN or infinite numbers; run the model in float32")
    y = torch.as_tensor(labels).double().cpu()
    if not len(z) == len(y) == len(groups):
        raise HeadatlasError(f"{len(z)} prompts have {len(y)} labels and {len(groups)} groups; give one of each")
    if set(y.tolist()) != {0.0, 1.0}:
        raise HeadatlasError(f"labels must be 0 and 1, and both must occur; got {sorted(set(y.tolist()))[:5]}")
    numbers: dict[Hashable, int] = {}
    return y, torch.tensor([numbers.setdefault(group, len(numbers)) for group in groups])


def _split(y: Tensor, group: Tensor, generator: torch.Generator) -> Tensor:
    """Split the groups in halves, balanced by their share of ones; returns the fold of each prompt."""
    count = int(group.max()) + 1
    ones = torch.zeros(count, dtype=torch.float64).index_add_(0, group, y) / group.bincount()
    order = torch.randperm(count, generator=generator)
    order = order[ones[order].argsort(stable=True)]  # neighbours have similar shares and go to different folds
    fold_of = torch.empty(count, dtype=torch.long)
    fold_of[order] = torch.arange(count) % 2
    fold = fold_of[group]
    if any(len(set(y[fold == side].tolist())) < 2 for side in (0, 1)):
        raise HeadatlasError(
            f"{count} groups are too few: one half lacks one of the labels; give more groups of each label"
        )
    return fold


def _shuffled(y: Tensor, group: Tensor, generator: torch.Generator) -> Tensor:
    """Shuffle labels within groups that have both, and among groups of equal size that have one, keeping the counts.

    Groups whose size is unique are treated as if they had equal size.
    """
    sizes = group.bincount()
    ones = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, group, y)
    one_label = (ones == 0) | (ones == sizes)
    shuffled = y.clone()
    for each in (~one_label).nonzero()[:, 0]:
        members = (group == each).nonzero()[:, 0]
        shuffled[members] = y[members[torch.randperm(len(members), generator=generator)]]
    alike = torch.where(sizes[one_label].bincount(minlength=int(sizes.max()) + 1)[sizes] > 1, sizes, 0)
    label = (ones > 0).double()
    for size in set(alike[one_label].tolist()):
        dealt = (one_label & (alike == size)).nonzero()[:, 0]
        label[dealt] = label[dealt[torch.randperm(len(dealt), generator=generator)]]
    return torch.where(one_label[group], label[group], shuffled)


def _interval(right: Tensor, group: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """95% percentile bootstrap interval over groups of the mean of `right` [head prompt]: [head] each."""
    count = int(group.max()) + 1
    per_group = torch.zeros(len(right), count, dtype=torch.float64).index_add_(1, group, right)
    drawn = torch.randint(count, (_RESAMPLES, count), generator=generator)
    times = torch.zeros(_RESAMPLES, count, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn.double()))
    means = (per_group @ times.T) / (times @ group.bincount().double())  # [head resample]
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=means.dtype), dim=1)
    return low, high
