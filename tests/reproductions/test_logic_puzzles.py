"""Fact-processing and decision heads: the puzzles, and planted heads that look at a fact or at its letter."""

import copy
import random
from dataclasses import replace

import pytest

import headatlas
from conftest import selected
from headatlas.lab import OpenModel
from headatlas.lab.attention import attention_shares
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, load_script
from headatlas.stimuli import Prompt, Vocabulary, logic_puzzles
from planted import HELD, OUT, PAST, PREVIOUS, START, WORD, Architecture, Back, Copy, Marked, Planter, Same
from planted_circuits import words_in

CATALOG = headatlas.load()
MOVER, BEFORE, FACT, LETTER = Head(0, 1), Head(1, 3), Head(3, 0), Head(4, 2)
WORDING = logic_puzzles.WORDINGS["implies"]


def planted(architecture: Architecture, *found: Head) -> OpenModel:
    """A model that answers with the letter three tokens before its end, by the heads that are given.

    One head brings that letter to the end. FACT finds the word "is" behind the letter, and LETTER the letter itself;
    each says the letter.
    """
    text = "".join(part.text for part in logic_puzzles.problem(logic_puzzles.draw(random.Random(0)), 0, WORDING))
    words = [word for word in words_in([text, "false"]) if len(word) > 1]
    made = Planter(architecture, [*words, *logic_puzzles.LETTERS, "+\n"], marks={"start": [START], "is": ["is"]})
    made.plant(MOVER, [Back(3, 300), Marked("start", 275)], [Copy(WORD, HELD)])
    made.plant(BEFORE, PREVIOUS, [Copy(WORD, PAST)])
    if FACT in found:
        made.plant(FACT, [Same(HELD, PAST, 60), Marked("is", 60), Marked("start", 60)], [Copy(PAST, OUT, 5.0)])
    if LETTER in found:
        made.plant(LETTER, [Same(HELD, WORD, 60), Marked("start", 30)], [Copy(WORD, OUT, 5.0)])
    return made.open()


def asked_directly(id: str, words: Vocabulary, seed: int) -> Prompt:
    """A prompt of a script, with the premise itself in the place of the conclusion that is asked for."""
    rng = random.Random(seed)
    made = logic_puzzles.puzzle_prompt(words, rng, WORDING, examples=1)
    (query,), (right,), (other,) = (made.spans[role] for role in ("query", "right letter", "other letter"))
    tokens, corrupted = list(made.tokens), list(made.corrupted)
    tokens[query], corrupted[query] = made.tokens[right], made.tokens[other]
    roles = ("right letter", "right rest") if id == "fact-processing" else ("right premise", "right letter")
    keys = [key for role in roles for key in made.spans[role]]
    pairs = tuple((len(tokens) - 1, key) for key in keys)
    return replace(made, tokens=tuple(tokens), corrupted=tuple(corrupted), pairs=pairs)


def found(id: str, model: OpenModel, swapped: bool = False) -> list[Head]:
    script, rule = load_script(id), CATALOG.heads[id].rule
    assert rule
    prompts = [asked_directly(id, model.vocabulary, seed) for seed in range(12)]
    if swapped:
        prompts = [replace(each, tokens=each.corrupted, corrupted=each.tokens) for each in prompts]
    return selected(script, rule, model, PromptSample(prompts, ["implies"] * len(prompts), "find"))


@pytest.mark.parametrize("architecture", ["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def test_the_head_that_looks_at_the_fact_is_found_and_not_those_that_serve_it(architecture: Architecture) -> None:
    model = planted(architecture, FACT)
    assert found("fact-processing", model) == [FACT]
    assert found("decision", model) == [], "it looks at the word behind the letter"
    assert found("fact-processing", model, swapped=True) == [], "the pairs lead to the wrong fact"


@pytest.mark.parametrize("architecture", ["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def test_the_head_that_looks_at_the_letter_is_found_and_not_those_that_serve_it(architecture: Architecture) -> None:
    model = planted(architecture, LETTER)
    assert found("decision", model) == [LETTER]
    assert found("fact-processing", model) == [LETTER], "the letter is a token of the fact"
    assert found("decision", model, swapped=True) == []


def test_heads_that_decide_nothing_are_not_found() -> None:
    model = planted("gpt2")
    assert found("decision", model) == found("fact-processing", model) == []


def test_attention_shares_leave_out_what_lies_elsewhere(specimen: OpenModel) -> None:
    prompt = Prompt(tuple(range(5, 17)), tuple(range(6, 18)), pairs=((11, 4), (11, 5)))
    plain, whole = Prompt(prompt.tokens, prompt.corrupted, ((11, 4),)), tuple((11, key) for key in range(4, 8))
    one = attention_shares(specimen, [replace(plain, pairs=((11, key),)) for key in range(4, 8)], lambda _: whole)
    assert one.score.sum(0) == pytest.approx(1) and one.null.sum(0) == pytest.approx(1)
    both = attention_shares(specimen, [prompt], lambda _: whole)
    assert both.score[0] == pytest.approx(one.score[0] + one.score[1])
    assert both.null[0] == pytest.approx(one.null[0] + one.null[1])


# --- the puzzles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", logic_puzzles.WORDINGS)
def test_the_question_alone_decides_between_two_true_facts(name: str, specimen: OpenModel) -> None:
    words, wording = specimen.vocabulary, logic_puzzles.WORDINGS[name]
    order, kinds = set(), set()
    for seed in range(30):
        made = logic_puzzles.puzzle_prompt(words, random.Random(seed), wording)
        differ = [place for place, (a, b) in enumerate(zip(made.tokens, made.corrupted, strict=True)) if a != b]
        assert tuple(differ) == made.spans["query"]
        (readout,) = made.readouts
        letter = {role: {made.tokens[place] for place in made.spans[role]} for role in made.spans if role != "rest"}
        assert letter["right letter"] == letter["right premise"] == {readout.answer}
        assert letter["other letter"] == letter["other premise"] == set(readout.rivals)
        text = specimen.tokenizer.decode(made.tokens).rpartition("Rules")[2]
        right, other = (words.pieces([token]).strip() for token in (readout.answer, *readout.rivals))
        assert f"{right} is true." in text and f"{other} is true." in text and text.count("is false.") == 1
        order.add(text.index(f"{right} is") < text.index(f"{other} is"))
        rules, asked = text.partition("Facts:")[0], words.pieces(made.tokens[at] for at in made.spans["query"]).strip()
        (rule,) = (each for each in rules.split(".") if asked in each.replace(":", " ").split())
        assert right in rule.split() and other not in rule.split()
        kinds.add(" or " in rule)
    assert order == kinds == {True, False}


def test_logic_puzzles_are_solved_rightly_and_half_of_them_have_two_premises() -> None:
    for seed in range(20):
        case = logic_puzzles.puzzle_case(random.Random(seed), WORDING)
        *shown, last = case.text.split("\n")
        assert len(shown) == 4 and last.endswith("Answer:")
        two = 0
        for each in shown:
            problem, answer = each.split(" Answer: ")
            asked = problem.rpartition(" ")[2].rstrip(".")
            fact, proof = answer.split(". ", 1)
            rule, concluded = proof.split("; ")
            assert f" {fact}." in problem and f" {rule}." in problem and concluded == f"{asked} is true."
            assert fact[0] in rule.split(" implies ")[0] and rule.endswith(f"implies {asked}")
            two += " or " in rule
        assert two == 2


def test_roles_cover_the_last_puzzle_and_nothing_before_it(specimen: OpenModel) -> None:
    for seed in range(20):
        made = logic_puzzles.puzzle_prompt(specimen.vocabulary, random.Random(seed), WORDING)
        problem = made.spans["problem"]
        assert problem == tuple(range(problem[0], len(made.tokens)))
        assert sum(len(places) for role, places in made.spans.items() if role != "problem") == len(problem)
        before, last = (
            specimen.tokenizer.decode(part) for part in (made.tokens[: problem[0]], made.tokens[problem[0] :])
        )
        assert last.startswith("Rules:") and before.endswith(" is true.\n") and last.count("Rules:") == 1


def test_as_many_puzzles_are_solved_before_as_the_tokenizer_leaves_room_for(specimen: OpenModel) -> None:
    short = specimen.vocabulary
    long = Vocabulary(copy.copy(specimen.tokenizer), short.size)
    long.tokenizer.model_max_length = 1000
    for name, wording in logic_puzzles.WORDINGS.items():
        shown = {}
        for words, room in ((short, 128), (long, 1000)):
            made = [logic_puzzles.puzzle_prompt(words, random.Random(seed), wording) for seed in range(20)]
            assert max(len(each.tokens) for each in made) <= room, name
            shown[room] = {specimen.tokenizer.decode(each.tokens).count("Rules:") - 1 for each in made}
        assert shown == {128: {1}, 1000: {4}}
