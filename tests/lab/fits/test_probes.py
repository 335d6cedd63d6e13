"""Probes: a planted property is found where it stands, and nothing is found where there is nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize

from headatlas import HeadatlasError
from headatlas.lab import forward, open_model
from headatlas.lab.activations.edits import add
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.fits.logistic import fit_logistic
from headatlas.lab.fits.probes import collect_z, mean_difference, probe_directions, probe_heads
from headatlas.notation import Head
from operations import Work

PROMPTS, LAYERS, HEADS, SIZE = 80, 2, 3, 6
WHERE = Head(1, 2)


def drawn(seed: int = 0, planted: bool = True) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """z of noise, in one head shifted along its first axis by the label; questions with a true and a false answer."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(PROMPTS, LAYERS, HEADS, SIZE, generator=generator)
    labels = torch.arange(PROMPTS) % 2
    if planted:
        z[:, WHERE.layer, WHERE.head, 0] += 6.0 * labels - 3.0
    return z, labels, [number // 2 for number in range(PROMPTS)]


def test_finds_the_planted_head_and_no_other() -> None:
    found = probe_heads(*drawn(), draws=40)
    assert found.accuracy[WHERE] > 0.95
    assert found.low[WHERE] <= found.accuracy[WHERE] <= found.high[WHERE]
    assert found.low[WHERE] > 0.9
    assert (found.p <= 0.05).nonzero().tolist() == [list(WHERE)]
    assert found.selectivity[WHERE] > 0.4


def test_shuffled_labels_and_noise_give_chance() -> None:
    found = [probe_heads(*drawn(seed, planted=False), draws=20, seed=seed) for seed in range(5)]
    assert np.mean([each.accuracy.mean().item() for each in found]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([each.control.mean().item() for each in found]) == pytest.approx(0.5, abs=0.02)
    assert sum((each.p.min() <= 0.05).item() for each in found) <= 1


def test_p_is_against_the_best_head_of_each_shuffle() -> None:
    found = probe_heads(*drawn(planted=False), draws=9)
    best = found.control.flatten(1).amax(1)
    for at in np.ndindex(LAYERS, HEADS):
        as_large = sum(value >= found.accuracy[at] - 1e-9 for value in best)
        assert found.p[at].item() == pytest.approx((1 + int(as_large)) / 10)


def test_no_group_is_on_both_sides() -> None:
    z, labels, groups = drawn()
    for seed in range(20):
        fold = probe_heads(z, labels, groups, draws=1, seed=seed).fold
        for group in set(groups):
            assert len({int(fold[number]) for number in range(PROMPTS) if groups[number] == group}) == 1
        assert abs(int((fold == 0).sum()) - PROMPTS // 2) <= 2


def test_a_group_that_leaked_would_be_found_out() -> None:
    """Features that tell the question and nothing else: labels of the question are learned only where it leaks."""
    generator = torch.Generator().manual_seed(0)
    groups = [number // 4 for number in range(PROMPTS)]
    labels = torch.tensor([group % 2 for group in groups])
    z = torch.eye(PROMPTS // 4)[groups].view(PROMPTS, 1, 1, -1) + 0.01 * torch.randn(
        PROMPTS, 1, 1, PROMPTS // 4, generator=generator
    )
    assert probe_heads(z, labels, groups, draws=1).accuracy.item() < 0.6
    assert probe_heads(z, labels, range(PROMPTS), draws=1).accuracy.item() > 0.85


NOTHING = torch.zeros(24, 1, 1, 2)  # features that say nothing: a probe gives the label its training half has more of


def test_labels_are_shuffled_within_groups_that_have_both() -> None:
    """So both halves always have as many of each label, and such a probe is right on exactly half of its prompts."""
    labels, groups = torch.arange(24) % 2, torch.arange(24) // 2
    assert (probe_heads(NOTHING, labels, groups.tolist(), draws=30).control == 0.5).all()
    free = probe_heads(NOTHING, labels, range(24), draws=30, seed=1).control
    assert len({*free.flatten().tolist()}) > 1, "labels that are dealt freely are not so even"


def test_labels_are_shuffled_among_whole_groups_of_one_label() -> None:
    """A group keeps one label: what such a probe gets right comes in whole groups on each of two like halves."""
    labels, groups = torch.arange(24) // 2 % 2, torch.arange(24) // 2
    right = probe_heads(NOTHING, labels, groups.tolist(), draws=30).control.flatten() * 24
    assert (right % 4 == 0).all() and len({*right.tolist()}) > 1


def test_no_label_stays_where_it_was_for_want_of_another_group_of_its_size() -> None:
    """Groups of one to six, each size once, with one label each: a head that tells the label, and no shuffled one."""
    sizes = [1, 2, 3, 4, 5, 6]
    groups = [number for number, size in enumerate(sizes) for _ in range(size)]
    labels = torch.tensor([number % 2 for number in groups])
    noise = torch.randn(21, generator=torch.Generator().manual_seed(0))
    z = (6.0 * labels - 3.0 + 0.1 * noise).view(-1, 1, 1, 1)
    found = probe_heads(z, labels, groups, draws=60)
    assert found.accuracy.item() == 1.0 and found.control.mean() < 0.7 and found.control.min() < 0.3


def test_both_sides_of_a_split_have_both_labels() -> None:
    z = torch.randn(4, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    for seed in range(20):
        fold = probe_heads(z, [0, 0, 1, 1], range(4), draws=1, seed=seed).fold
        assert {tuple(sorted(fold[:2].tolist())), tuple(sorted(fold[2:].tolist()))} == {(0, 1)}


def test_the_fit_is_the_optimum() -> None:
    """The direction of a probe is that of the weights which minimise its loss, of features of very different size."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 0.2, 5.0, 1.0])
    y = (x[:, 0] + torch.randn(30, generator=generator) > 0.3).double()
    x = x.float().double()  # as a model gives it
    scale = x.std(0, correction=0)
    standard = ((x - x.mean(0)) / scale).numpy()

    def loss(w: np.ndarray) -> float:
        logits = standard @ w[:4] + w[4]
        return float((np.logaddexp(0, logits) - y.numpy() * logits).sum() + 0.35 * (w[:4] ** 2).sum())

    best = optimize.minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-8}).x[:4] / scale.numpy()
    found = probe_directions(x.float().view(30, 1, 1, 4), y, l2=0.7).vectors[0, 0]
    assert np.allclose(found.numpy(), best / np.linalg.norm(best), atol=1e-5)


def tasks_of_heads() -> tuple[torch.Tensor, torch.Tensor]:
    """Features of three heads, the last of which tells the first task nearly; labels of seven tasks."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(3, 40, 9, generator=generator, dtype=torch.float64)
    tasks = (torch.rand(7, 40, generator=generator) < 0.5).double()
    tasks[3] = (torch.arange(40) < 3).double()
    x[2, :, 0] += 8 * tasks[0]
    return x, tasks


@pytest.mark.parametrize("l2", [1.0, 1e-3])
def test_the_weights_of_every_task_are_its_optimum(l2: float) -> None:
    x, tasks = tasks_of_heads()
    weights = fit_logistic(x, tasks, l2)  # [head d+1 task]
    assert weights.shape == (3, 10, 7)
    for head, task in np.ndindex(3, 7):
        one, y = x[head], tasks[task]

        def gradient(w: torch.Tensor, one: torch.Tensor = one, y: torch.Tensor = y) -> torch.Tensor:
            wrong = (one @ w[:-1] + w[-1]).sigmoid() - y
            return torch.cat([one.T @ wrong + l2 * w[:-1], wrong.sum()[None]])

        assert gradient(weights[head, :, task]).abs().max() < 1e-6
        alone = fit_logistic(one[None], y[None], l2)[0, :, 0]
        assert torch.allclose(weights[head, :, task], alone, atol=1e-5 * alone.abs().max().item())


def test_more_shuffles_do_not_need_more_matrices() -> None:
    counts = []
    for draws in (1, 60):
        with Work() as work:
            probe_heads(*drawn(), draws=draws)
        counts.append(work.matrices["linalg_cholesky_ex"])
        assert not work.matrices["linalg_solve"] and not work.matrices["_linalg_solve_ex"]
    heads, folds = LAYERS * HEADS, 2
    assert heads * folds <= counts[0] and counts[1] <= 15 * heads * folds


@pytest.mark.parametrize("of", [mean_difference, probe_directions])
def test_directions_point_along_the_planted_axis(of: Callable[..., object]) -> None:
    z, labels, _ = drawn()
    found = of(z, labels)
    assert torch.allclose(found.vectors.norm(dim=-1), torch.ones(LAYERS, HEADS))  # type: ignore[attr-defined]
    assert found.vectors[WHERE][0] > 0.9  # type: ignore[attr-defined]
    along = (z[:, 1, 2] @ found.vectors[WHERE]).std()  # type: ignore[attr-defined]
    assert found.spread[WHERE].item() == pytest.approx(along.item(), rel=1e-5)  # type: ignore[attr-defined]
    step = found.steps([WHERE], strength=2.0)[WHERE]  # type: ignore[attr-defined]
    assert step.norm().item() == pytest.approx(2 * along.item(), rel=1e-5)


def test_z_is_collected_at_the_position_of_each_prompt(tiny: Callable[[str], Path]) -> None:
    model = open_model(str(tiny("llama")))
    prompts = [[5, 6, 7, 8], [9, 10, 11], [12, 13, 14, 15]]
    found = collect_z(model, prompts)
    assert found.shape == (3, 2, 4, 8)
    for number, prompt in enumerate(prompts):
        seen: dict[int, torch.Tensor] = {}

        def look(_, args, seen=seen):  # type: ignore[no-untyped-def]
            seen[0] = args[0]

        handle = model.anatomy.projections[1].register_forward_pre_hook(look)
        forward(model, torch.tensor([prompt]), {})
        handle.remove()
        assert torch.allclose(found[number, 1].flatten(), seen[0][0, -1], atol=1e-6)
    assert torch.allclose(collect_z(model, prompts, 1)[0], collect_z(model, [[5, 6]])[0], atol=1e-6)
    with pytest.raises(HeadatlasError, match="no position 3"):
        collect_z(model, prompts, 3)


def test_directions_steer(tiny: Callable[[str], Path]) -> None:
    model = open_model(str(tiny("gpt2")))
    z = collect_z(model, [[token, 7] for token in range(20, 40)])
    steps = mean_difference(z, [number % 2 for number in range(20)]).steps([Head(1, 0)], 5.0)
    tokens = torch.tensor([[3, 4, 5]])
    before = forward(model, tokens, {})
    with intervene(model, [add("z", [Head(1, 0)], steps)]):
        assert not torch.allclose(forward(model, tokens, {}), before, atol=1e-6)


class TestMistakes:
    def test_of_labels_and_groups(self) -> None:
        z, labels, groups = drawn()
        with pytest.raises(HeadatlasError, match="one of each"):
            probe_heads(z, labels[:-1], groups)
        with pytest.raises(HeadatlasError, match="0 and 1"):
            probe_heads(z, labels * 2, groups)
        with pytest.raises(HeadatlasError, match="too few"):
            probe_heads(z, labels, [0 if label else 1 for label in labels.tolist()])
        with pytest.raises(HeadatlasError, match="NaN"):
            probe_heads(z * float("nan"), labels, groups)
        with pytest.raises(ValueError, match="must be positive"):
            probe_heads(z, labels, groups, l2=0)
        with pytest.raises(ValueError, match="prompt layer head"):
            mean_difference(z[0], labels)
