"""Ranks of a token among the vocabulary: those of all logits sorted, from few products and little memory."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from headatlas.lab.weights.token_ranks import HELD, among_extremes
from operations import Work

ROWS, SIZE = 60, 16


def drawn(vocabulary: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States, of which some point along or against their own token, some are noise and one is zero; weights; tokens."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(vocabulary, SIZE, generator=generator)
    own = torch.randint(vocabulary, (ROWS,), generator=generator)
    towards = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0]).repeat(ROWS // 5)[:, None]
    states = towards * weight[own] + 0.8 * torch.randn(ROWS, SIZE, generator=generator)
    states[7] = 0.0
    return states, weight, own


def in_full(states: torch.Tensor, weight: torch.Tensor, own: torch.Tensor, k: int) -> torch.Tensor:
    logits = states.double() @ weight.double().T
    mine = logits.gather(1, own[:, None])
    return torch.stack([(logits >= mine - 1e-9).sum(1) <= k, (logits <= mine + 1e-9).sum(1) <= k])


@pytest.mark.parametrize("vocabulary", [50, 1500, 2048, 5000, 40_001])
@pytest.mark.parametrize("k", [1, 5, 45])
def test_ranks_are_those_of_all_logits(vocabulary: int, k: int) -> None:
    given = drawn(vocabulary)
    found = among_extremes(*given, k)
    assert torch.equal(found, in_full(*given, k))
    assert 0 < found[0].sum() < ROWS and 0 < found[1].sum() < ROWS


def test_a_tie_counts_against_the_token() -> None:
    states, weight, own = drawn(4000)
    doubled = torch.cat([weight, weight[own]])  # each token has another of equal weights, far behind it
    plain, tied = (among_extremes(states, each, own, 1) for each in (weight, doubled))
    assert plain.any() and not tied.any()


def test_tokens_that_are_far_from_the_extremes_cost_little_and_memory_does_not_grow_with_the_vocabulary() -> None:
    states, weight, own = drawn(200_000)
    states = torch.randn(states.shape, generator=torch.Generator().manual_seed(5)).repeat(60, 1)
    with Work() as work, FlopCounterMode(display=False) as flops:
        assert among_extremes(states, weight, own.repeat(60), 5).sum() < 20
    assert flops.get_total_flops() < 0.03 * 2 * len(states) * weight.numel()
    assert work.bytes <= 4 * HELD < 0.01 * 4 * len(states) * len(weight)
