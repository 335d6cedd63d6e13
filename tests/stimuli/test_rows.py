"""Rows of words of several kinds, and texts cut before what is said again."""

import random

import pytest

from headatlas.lab import OpenModel
from headatlas.stimuli import Prompt, Vocabulary, categories, repeated_text

ROW = Prompt(*[(0, 11, 21, 12, 22, 11, 31)] * 2)
KIND = {11: 1, 12: 1, 21: 2, 22: 2, 31: 3}


@pytest.fixture
def words(specimen: OpenModel) -> Vocabulary:
    return specimen.vocabulary


def test_a_word_is_paired_with_its_like_but_not_with_its_copies() -> None:
    assert categories.paired(ROW, KIND, "like").pairs == ((3, 1), (4, 2), (5, 3))
    assert categories.paired(ROW, KIND, "itself").pairs == ((3, 3), (4, 4), (5, 1), (5, 5))


def test_a_word_is_paired_with_as_many_of_other_kinds() -> None:
    pairs = categories.paired(ROW, KIND, "unlike").pairs
    assert [query for query, _ in pairs] == [3, 4, 5]
    assert pairs[0] == (3, 2) and pairs[1][1] in (1, 3) and pairs[2][1] in (2, 4)


def test_rows_mix_four_kinds_and_repeat_one_word_of_each(words: Vocabulary) -> None:
    kind = {token: number for number, each in enumerate(categories.tokens(words)) for token in each}
    row = [token for token in categories.mixed(words, ",", random.Random(0)).tokens if token in kind]
    assert len(row) == 20 and len(set(row)) == 16
    assert sorted(len([t for t in set(row) if kind[t] == k]) for k in {kind[t] for t in row}) == [4, 4, 4, 4]


def test_a_row_of_one_kind_goes_on_with_that_kind_and_not_with_a_word_that_it_had(words: Vocabulary) -> None:
    kind = {token: number for number, each in enumerate(categories.tokens(words)) for token in each}
    for seed in range(20):
        prompt = categories.of_one(words, "", random.Random(seed))
        [readout], mine = prompt.readouts, {kind[token] for token in prompt.tokens[1:]}
        assert mine == {kind[readout.answer]} and readout.answer not in prompt.tokens
        assert not mine & {kind[token] for token in (*prompt.corrupted[1:], *readout.rivals)}


def test_a_text_begun_again_is_cut_before_a_token_that_stood_once(words: Vocabulary) -> None:
    first, fresh = (5, 6, 7, 5, 8, 9, 10, 11), (30, 31, 32, 33, 34, 35, 36, 37)
    for seed in range(20):
        prompt = repeated_text.begun_again(words, first, fresh, 4, random.Random(seed))
        [readout], [(end, place)], start = prompt.readouts, prompt.pairs, len(words.bos)
        assert end == readout.position == len(prompt.tokens) - 1
        assert first[place - start] == readout.answer and first[place - start - 1] == prompt.tokens[-1]
        assert prompt.tokens[start + 8 :] == prompt.corrupted[start + 8 :] == first[: place - start]
        assert prompt.corrupted[start : start + 8] == fresh
        assert all(prompt.tokens[key] != readout.answer for _, key in prompt.null_pairs)
        assert len(readout.rivals) == 4 and not set(readout.rivals) & set(prompt.tokens)
