"""How likely a composition score is by chance."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from conftest import save_tiny
from headatlas.lab import composition, open_model
from headatlas.lab.anatomy.low_rank import LowRank
from headatlas.lab.weights import composition_chance
from headatlas.lab.weights.composition_null import chance_of, spectrum
from headatlas.lab.weights.head_composition import composition_scores
from headatlas.notation import Head

DRAWN = torch.Generator().manual_seed(3)


def matrix(width: int, singular: list[float]) -> LowRank:
    """A matrix with these singular values, in random directions."""
    left, right = (torch.linalg.qr(torch.randn(width, len(singular), generator=DRAWN)).Q for _ in range(2))
    return LowRank(left * torch.tensor(singular), right.mT)


class TestChance:
    @pytest.mark.parametrize(
        "writes, reads", [([1.0] * 6, [1.0] * 6), ([3.0, 1.0, 0.2], [2.0, 1.0, 1.0, 0.5]), ([1.0], [1.0, 0.1])]
    )
    def test_p_is_uniform_between_heads_turned_at_random(self, writes: list[float], reads: list[float]) -> None:
        width, receiver = 24, matrix(24, reads)
        senders = [matrix(width, writes) for _ in range(4000)]
        many = LowRank(torch.stack([each.left for each in senders]), torch.stack([each.right for each in senders]))
        one = LowRank(receiver.left[None], receiver.right[None])
        squares = composition_scores(many, one).numpy() ** 2
        assert squares.mean() == pytest.approx(1 / width, rel=0.05)
        p = chance_of(squares, spectrum(many), spectrum(one), width)
        for level in (0.2, 0.05, 0.01, 0.003):
            assert (p <= level).mean() == pytest.approx(level, abs=4 * (level / 4000) ** 0.5 + 0.1 * level)

    def test_spectrum(self) -> None:
        assert spectrum(matrix(16, [2.0, 2.0, 1.0])) == pytest.approx(np.array([4, 4, 1]) / 9, rel=1e-5)

    def test_untrained_heads_compose_as_by_chance(self, tmp_path: Path) -> None:
        found = []
        for family in ("gpt2", "llama", "gpt_neox", "gemma"):
            for seed in range(5):
                model = open_model(str(save_tiny(family, tmp_path / f"{family}-{seed}", seed)))
                for kind in ("Q", "K", "V"):
                    _, p = composition_chance(model, composition(model, kind))  # type: ignore[arg-type]
                    assert np.isnan(p[1]).all() and np.isnan(p[:, :, 0]).all()
                    found.append(p[0, :, 1].ravel())
        for level in (0.5, 0.2, 0.05):
            assert (np.concatenate(found) <= level).mean() == pytest.approx(level, abs=0.3 * level)
        assert np.mean([stats.false_discovery_control(each).min() <= 0.05 for each in found]) <= 0.1

    def test_a_planted_pair_stands_out_and_no_other(self, planted_circuit: tuple[Path, Head, Head]) -> None:
        folder, previous, induction = planted_circuit
        model = open_model(str(folder))
        expected, p = composition_chance(model, found := composition(model, "K"))
        q = np.where(np.isnan(p), 1.0, p) * np.isfinite(p).sum()  # Bonferroni
        standing = {(Head(a, b), Head(c, d)) for a, b, c, d in np.argwhere(q < 0.01).tolist()}
        group = {induction} if "gpt2" in str(folder) else {induction, Head(5, 1)}  # its keys are shared
        assert (previous, induction) in standing and standing <= {(previous, each) for each in group}
        assert found.scores[(*previous, *induction)] > 2 * expected[induction.layer]
