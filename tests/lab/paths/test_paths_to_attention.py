"""How likely a composition score is by chance, and path patching that ends in a head's attention."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from conftest import EACH_FAMILY, roughen, save_tiny
from headatlas.lab import attention_scores, composition, intervene, logit_difference, open_model, record
from headatlas.lab.activations.edits import patch
from headatlas.lab.anatomy.low_rank import LowRank
from headatlas.lab.paths import Receiver, attention_paths, path_effects, set_path_effects
from headatlas.lab.weights import composition_chance
from headatlas.lab.weights.composition_null import chance_of, spectrum
from headatlas.lab.weights.head_composition import composition_scores
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout

Tiny = Callable[[str], Path]
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


def prompts(count: int = 3, length: int = 20) -> list[Prompt]:
    drawn = torch.Generator().manual_seed(1)
    clean, other = torch.randint(1, 299, (2, count, length), generator=drawn).tolist()
    return [
        Prompt(
            tuple(one), tuple(two), pairs=((12, 3), (15, 3), (15, 7)), readouts=(Readout(length - 1, 5 + number, (7,)),)
        )
        for number, (one, two) in enumerate(zip(clean, other, strict=True))
    ]


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_nothing_patched_is_the_clean_attention(tiny: Tiny, family: str) -> None:
    model = open_model(str(tiny(family)))
    roughen(model.model)
    receivers = [Head(1, 2), Head(0, 1)]
    clean = attention_scores(model, prompts()).score
    for into in ("q", "k"):
        none, same, moved = attention_paths(model, prompts(), [(), [Head(1, 1)], [Head(0, 3)]], receivers, into)
        assert np.allclose(none, np.stack([clean[:, 1, 2], clean[:, 0, 1]], 1), atol=1e-5)
        assert np.allclose(same, none, atol=1e-6), "no path leads from the same layer"
        assert np.allclose(moved[:, 1], none[:, 1], atol=1e-6) and abs(moved[:, 0] - none[:, 0]).max() > 1e-5


@pytest.mark.parametrize("into", ["q", "k"])
def test_the_path_is_that_of_path_patching(tiny: Tiny, into: str) -> None:
    """What reaches the receiver's queries, put into a clean run by hand, gives the same attention."""
    model = open_model(str(tiny("llama")))
    roughen(model.model)
    made, receiver, senders = prompts(), Head(1, 2), [Head(0, 1), Head(0, 3)]
    clean, corrupted = (
        record(model, torch.tensor([getattr(each, side) for each in made]), ["z"]) for side in ("tokens", "corrupted")
    )
    tokens = torch.tensor([each.tokens for each in made])
    everyone = [Head(layer, head) for layer in range(2) for head in range(4)]
    with intervene(model, [patch("z", everyone, clean), patch("z", senders, corrupted)]):
        reached = record(model, tokens, [into])  # type: ignore[list-item]
    with intervene(model, [patch(into, [receiver], reached)]):  # type: ignore[arg-type]
        pattern = record(model, tokens, ["pattern"])["pattern", 1][:, 2]
    expected = (pattern[:, 12, 3] + pattern[:, 15, 3] + pattern[:, 15, 7]) / 2
    found = attention_paths(model, made, [senders], [receiver], into)[0, :, 0]  # type: ignore[arg-type]
    assert np.allclose(found, expected, atol=1e-6)


def test_sets_of_one_head_have_the_effect_of_that_head(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    roughen(model.model)
    ends = [Receiver(Head(1, 2), "v"), Receiver(Head(1, 0), "v")]
    alone = path_effects(model, prompts(), logit_difference, ends)
    pair = [Head(0, 1), Head(0, 2)]
    sets = set_path_effects(model, prompts(), logit_difference, [[each] for each in pair] + [pair], ends)
    assert abs(sets[0] - alone[:, 0, 1]).max() < 1e-5 and abs(sets[1] - alone[:, 0, 2]).max() < 1e-5
    assert abs(sets[2]).max() > 1e-5 and abs(sets[2] - sets[0]).max() > 1e-5
