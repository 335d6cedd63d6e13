"""Prompts whose rule must be found in context: labels of examples, identity rules, chains of an unknown lag."""

import random

import pytest

from headatlas.lab import OpenModel
from headatlas.stimuli import UntestableError, Vocabulary, facts
from headatlas.stimuli.identity_rules import Source, triples
from headatlas.stimuli.labelled_examples import OPINIONS, SHOTS, VERDICTS, labelled
from headatlas.stimuli.lagged_chains import LAGS, LENGTH, SEEN, STATES, chain, document, lagged, successor
from headatlas.stimuli.mappings import LABELS
from headatlas.stimuli.vocabulary import Vocabulary as Words

FORM = ("", " ->", ",")
SOURCES: tuple[Source, ...] = ("other rule", "other question", "other examples")


@pytest.fixture
def words(specimen: OpenModel) -> Vocabulary:
    return specimen.vocabulary


# --- labelled examples --------------------------------------------------------------------------------------------


def read(words: Words, tokens: tuple[int, ...]) -> tuple[list[tuple[str, str]], str]:
    """The examples and their labels, and the last one, from the text of 'a -> x, b -> y, c ->'."""
    text = words.tokenizer.decode(tokens[len(words.bos) :])
    *examples, last = text.split(",")
    pairs = [each.split("->") for each in examples]
    return [(one.strip(), other.strip()) for one, other in pairs], last.replace("->", "").strip()


def class_of(text: str, what: str) -> int:
    classes = list(facts.KINDS.values()) if what == "kinds" else list(OPINIONS)
    (found,) = [number for number, each in enumerate(classes) if text in each]
    return found


@pytest.mark.parametrize("what", ["kinds", "opinions"])
def test_the_answer_is_the_label_that_the_examples_give_its_class(words: Words, what: str) -> None:
    for seed in range(30):
        prompt = labelled(words, random.Random(seed), what, FORM, "swapped")  # type: ignore[arg-type]
        examples, last = read(words, prompt.tokens)
        given = {(class_of(text, what), label) for text, label in examples}
        assert len(examples) == SHOTS and len({text for text, _ in examples} | {last}) == SHOTS + 1
        assert len(given) == 2 and {number for number, _ in given} == {class_of(text, what) for text, _ in examples}
        counts = [sum(label == mine for _, label in examples) for _, mine in given]
        assert counts == [SHOTS // 2] * 2, "no label is more frequent"
        (read_out,) = prompt.readouts
        right, wrong = (words.tokenizer.decode([token]).strip() for token in (read_out.answer, *read_out.rivals))
        assert (class_of(last, what), right) in given and wrong in {label for _, label in given} - {right}
        assert read_out.position == len(prompt.tokens) - 1


@pytest.mark.parametrize("what", ["kinds", "opinions"])
def test_the_corrupted_prompt_differs_in_the_labels_alone(words: Words, what: str) -> None:
    for seed in range(30):
        for changed in ("swapped", "others"):
            prompt = labelled(words, random.Random(seed), what, FORM, changed)  # type: ignore[arg-type]
            places = prompt.spans["label"]
            differ = [
                place
                for place, pair in enumerate(zip(prompt.tokens, prompt.corrupted, strict=True))
                if len({*pair}) > 1
            ]
            assert tuple(differ) == places and len(places) == SHOTS
            mine, theirs = ([tokens[place] for place in places] for tokens in (prompt.tokens, prompt.corrupted))
            assert len(set(zip(mine, theirs, strict=True))) == 2 == len(set(theirs)), "each label becomes one other"
            assert (set(mine) == set(theirs)) if changed == "swapped" else set(mine).isdisjoint(theirs)


def test_opinions_hold_no_name_of_a_label() -> None:
    names = {name for pair in VERDICTS for name in pair} | set(LABELS)
    assert not [text for side in OPINIONS for text in side if names & set(text.split())]
    assert not set(OPINIONS[0]) & set(OPINIONS[1])


# --- identity rules -----------------------------------------------------------------------------------------------


def split(words: Words, tokens: tuple[int, ...], mark: int, end: int) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    rows: list[list[int]] = [[]]
    for token in tokens[len(words.bos) :]:
        if token == end:
            rows.append([])
        elif token != mark:
            rows[-1].append(token)
    *examples, question = (tuple(row) for row in rows)
    return examples, question


def rule_of(examples: list[tuple[int, ...]]) -> str:
    (found,) = {"ABA" if third == first else "ABB" if third == second else "" for first, second, third in examples}
    return found


@pytest.mark.parametrize("marks", [("^", "\n"), (",", "."), (" ->", ";")])
def test_role_and_word_of_the_answer_change_apart_from_each_other(words: Words, marks: tuple[str, str]) -> None:
    mark, end = (words.continuation(each)[0] for each in marks)
    seen = set()
    for seed in range(30):
        for corrupted in SOURCES:
            prompt = triples(words, random.Random(seed), marks, corrupted)
            texts = {corrupted: prompt.corrupted, **prompt.alternatives}
            assert set(texts) == set(SOURCES)
            (read_out,) = prompt.readouts
            examples, question = split(words, prompt.tokens, mark, end)
            rule, (other,) = rule_of(examples), read_out.rivals
            seen.add(rule)
            assert question[rule == "ABB"] == read_out.answer and set(question) == {read_out.answer, other}
            assert len({word for row in (*examples, question) for word in row}) == 2 * len(examples) + 2

            theirs, asked = split(words, texts["other rule"], mark, end)
            assert [row[2] for row in theirs] == [row[2] for row in examples], "the same third words"
            assert rule_of(theirs) != rule and asked == question[::-1]
            assert asked[rule_of(theirs) == "ABB"] == read_out.answer, "the same answer, in the other role"

            theirs, asked = split(words, texts["other question"], mark, end)
            assert theirs == examples and asked == question[::-1] and asked[rule == "ABB"] == other

            theirs, asked = split(words, texts["other examples"], mark, end)
            assert rule_of(theirs) == rule and asked == question
            assert all(mine[2] != row[2] and set(mine) == set(row) for mine, row in zip(examples, theirs, strict=True))
            length = len(prompt.tokens)
            assert [place - length for place in prompt.spans["third"]] == [-30, -24, -18, -12, -6]
    assert seen == {"ABA", "ABB"}


def test_marks_of_several_tokens_are_refused(words: Words) -> None:
    with pytest.raises(UntestableError, match="not a single token"):
        triples(words, random.Random(0), (" and then,", "."), "other rule")


# --- chains of an unknown lag --------------------------------------------------------------------------------------


def test_a_successor_is_another_state_and_each_state_has_one() -> None:
    assert sorted(successor(state) for state in range(len(STATES))) == list(range(len(STATES)))
    assert all(successor(state) != state for state in range(len(STATES)))


def share(sequences: list[list[int]], lag: int) -> float:
    """Of states that are the successor of the one `lag` steps back."""
    hits = [row[t] == successor(row[t - lag]) for row in sequences for t in range(max(LAGS), len(row))]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("lag", LAGS)
def test_states_depend_on_the_one_at_the_lag_and_on_no_other(lag: int) -> None:
    drawn = [chain(random.Random(seed), lag) for seed in range(300)]
    assert share(drawn, lag) == pytest.approx(0.7, abs=0.02)
    for other in set(LAGS) - {lag}:
        assert share(drawn, other) < 0.35
    assert all(len(row) == LENGTH for row in drawn)


@pytest.mark.parametrize("lag", LAGS)
def test_pairs_lead_to_what_decides_and_answers_follow_from_it(words: Words, lag: int) -> None:
    token = [words.continuation(state)[0] for state in STATES]
    state = {each: number for number, each in enumerate(token)}
    other = []
    for seed in range(60):
        prompt = lagged(words, random.Random(seed), lag)
        keys, start = dict(prompt.pairs), len(words.bos)
        assert set(keys) == set(range(start + SEEN, start + LENGTH)) and len(prompt.pairs) == len(keys)
        assert all(query - key == lag - 1 for query, key in prompt.pairs)
        assert len(prompt.readouts) >= 3
        for each in prompt.readouts:
            assert each.answer == token[successor(state[prompt.tokens[keys[each.position]]])]
            wrong = {token[successor(state[prompt.tokens[each.position + 1 - k]])] for k in LAGS if k != lag}
            assert set(each.rivals) == wrong and each.answer not in wrong and len(wrong) == len(LAGS) - 1
        other.append([state[each] for each in prompt.corrupted[start:]])
    assert share(other, lag) < 0.45, "the corrupted prompts have other lags"
    assert {max(LAGS, key=lambda k: share([row], k)) for row in other} == set(LAGS) - {lag}


def test_a_document_can_be_learned_behind_its_first_states_alone() -> None:
    made = document(random.Random(0))
    assert len(made) == LENGTH and [part.known for part in made] == [False] * max(LAGS) + [True] * (LENGTH - max(LAGS))
    assert {part.text for part in made} <= set(STATES)
