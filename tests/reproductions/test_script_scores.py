"""Scores that scripts compute from patterns, on patterns one can draw: ideal ones, even ones, and near misses."""

import numpy as np
import pytest

from headatlas.protocol.script import load_script
from headatlas.stimuli import Prompt


def looking(targets: dict[int, int], length: int, weight: float = 1.0) -> np.ndarray:
    """One head [1 1 query key]: each query has so much weight on its target, the rest spread over all it sees."""
    pattern = np.tril(np.ones((length, length)))
    pattern /= pattern.sum(-1, keepdims=True)
    for query, key in targets.items():
        pattern[query] *= 1 - weight
        pattern[query, key] += weight
    return pattern[None, None]


def prompt(length: int, pairs: list[tuple[int, int]], others: list[tuple[int, int]] | None = None) -> Prompt:
    tokens = tuple(range(length))
    return Prompt(tokens, tokens, pairs=tuple(pairs), null_pairs=tuple(others or ()))


def test_a_rare_word_is_looked_at_from_all_later_tokens_whatever_rests_on_the_first_or_the_token_itself() -> None:
    share = load_script("rare-words").module.share
    asked = prompt(6, [(3, 2), (4, 2), (5, 2)])
    all_of_them, some = {3: 2, 4: 2, 5: 2}, {3: 2, 4: 1, 5: 3}
    assert share(asked, looking(all_of_them, 6)).item() == 1
    assert share(asked, looking(some, 6)).item() == pytest.approx(1 / 3)
    resting = 0.1 * looking(all_of_them, 6) + 0.5 * looking(dict.fromkeys(range(6), 0), 6) + 0.4 * np.eye(6)
    assert share(asked, resting).item() == 1
    assert share(asked, looking({}, 6)).item() == 0  # even weights: the first key of several equals


def test_delimiters_are_favoured_by_so_many_times_an_even_share() -> None:
    favour = load_script("delimiter").module.favour
    asked = prompt(10, [(query, key) for query in (8, 9) for key in (2, 5)])
    assert favour(asked, looking({}, 10)).item() == pytest.approx(1)
    assert favour(asked, looking({8: 2, 9: 5}, 10)).item() == pytest.approx((9 / 2 + 10 / 2) / 2)
    assert favour(asked, looking({8: 0, 9: 7}, 10)).item() == 0


def test_a_retrieval_hit_is_the_word_in_turn_and_not_another_word_of_the_needle() -> None:
    hits = load_script("retrieval").module.hits
    asked = prompt(9, [(6, 1), (7, 2), (8, 3)], [(6, 2), (7, 3), (8, 2)])
    right, other = hits(asked, looking({6: 1, 7: 2, 8: 2}, 9, 0.6))
    assert right.ravel().tolist() == [1, 1, 0] and other.ravel().tolist() == [0, 0, 1]
