"""Attribution heads: the passages, and planted heads that find the words of the answer in one."""

import random
from dataclasses import replace

import numpy as np
import pytest

import headatlas
from conftest import selected
from headatlas.lab import OpenModel
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, load_script
from headatlas.stimuli import Prompt, extractive_questions
from headatlas.stimuli.lexicon import NAMES, PLACES
from planted import HELD, OUT, PAST, PREVIOUS, START, WORD, Architecture, Back, Copy, Marked, Planter, Same
from planted_circuits import words_in

CATALOG = headatlas.load()
RULE, SCRIPT = CATALOG.heads["attribution"].rule, load_script("attribution")
ASKED, TOLD, BEFORE, FIRST, SECOND = Head(0, 1), Head(1, 2), Head(2, 0), Head(4, 3), Head(5, 1)
TELLING = extractive_questions.TELLINGS["given"]


def planted(architecture: Architecture) -> OpenModel:
    """FIRST finds the name whose thing, two tokens before it, is the one that is asked about.

    SECOND finds the word after the name that was just said. The other heads bring things and previous words.
    """
    people = NAMES[:30]
    text = [TELLING.told, TELLING.asked, extractive_questions.OPENING]
    words = {*people, *extractive_questions.THINGS, *PLACES, *words_in(text)}
    words -= {"first", "last", "thing", "place"}
    marks = {"start": [START], "name": people, "thing": extractive_questions.THINGS, "asking": ["was"]}
    made = Planter(architecture, sorted(words), marks=marks)
    from_the_end = [Back(5, 300), Marked("thing", 60, seen_from="asking"), Marked("start", 330)]
    made.plant(ASKED, from_the_end, [Copy(WORD, HELD)])
    made.plant(TOLD, [Back(2, 300), Marked("start", 275)], [Copy(WORD, HELD)])
    made.plant(BEFORE, PREVIOUS, [Copy(WORD, PAST)])
    made.plant(FIRST, [Same(HELD, HELD, 60), Marked("name", 90), Marked("start", 105)], [Copy(WORD, OUT, 5.0)])
    made.plant(SECOND, [Same(WORD, PAST, 60), Marked("start", 30)], [Copy(WORD, OUT, 5.0)])
    return made.open()


def drawn(model: OpenModel) -> PromptSample:
    prompts = [
        extractive_questions.passage_question(model.vocabulary, random.Random(seed), TELLING) for seed in range(24)
    ]
    return PromptSample(prompts, ["given"] * len(prompts), "find")


@pytest.mark.parametrize("architecture", ["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def test_heads_that_point_at_the_answer_are_found_and_not_those_that_serve_them(architecture: Architecture) -> None:
    model = planted(architecture)
    assert RULE
    sample = drawn(model)
    assert sorted(selected(SCRIPT, RULE, model, sample)) == [FIRST, SECOND]
    wrong = [replace(each, spans=each.spans | {"answer": each.spans["other"]}) for each in sample.prompts]
    assert selected(SCRIPT, RULE, model, replace(sample, prompts=wrong)) == []


def test_a_hit_is_the_largest_weight_of_the_passage_whatever_lies_outside_it() -> None:
    asked = Prompt(
        tuple(range(10)),
        tuple(range(10)),
        pairs=((8, 3), (9, 3)),
        spans={"passage": (1, 2, 3, 4, 5), "answer": (3, 4), "other": (1, 2)},
    )
    pattern = np.zeros((1, 1, 10, 10))
    pattern[..., 8, [0, 4, 7]], pattern[..., 9, [0, 2, 3]] = (0.5, 0.2, 0.3), (0.5, 0.3, 0.2)
    assert SCRIPT.module.hits(asked, pattern).ravel().tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", extractive_questions.TELLINGS)
def test_the_answer_stands_once_in_the_passage_and_belongs_to_whom_is_asked_about(
    name: str, specimen: OpenModel
) -> None:
    words = specimen.vocabulary
    for seed in range(30):
        made = extractive_questions.passage_question(words, random.Random(seed), extractive_questions.TELLINGS[name])
        differs = [place for place, (a, b) in enumerate(zip(made.tokens, made.corrupted, strict=True)) if a != b]
        assert tuple(differs) == made.spans["answer"] and len(differs) == 2
        first, second = made.readouts
        answer = [made.tokens[place] for place in made.spans["answer"]]
        assert [first.answer, second.answer] == answer and made.tokens[second.position] == answer[0]
        assert [*first.rivals, *second.rivals] == [made.corrupted[place] for place in made.spans["answer"]]
        assert not {*first.rivals, *second.rivals} & {*made.tokens}
        assert (first.position, second.position) == (len(made.tokens) - 2, len(made.tokens) - 1)
        passage, question = specimen.tokenizer.decode(made.tokens[len(words.bos) :]).split(" Question:")
        thing = next(word for word in question.replace("?", "").split() if word in extractive_questions.THINGS)
        told = [sentence for sentence in passage.split(".") if f" {thing}" in sentence]
        assert len(told) == 1 and specimen.tokenizer.decode(answer) in told[0]
        assert specimen.tokenizer.decode([made.tokens[place] for place in made.spans["other"]]) in passage
        assert made.spans["passage"][-1] + 1 == len(words.bos) + len(words.encode(passage))
        assert {key for _, key in made.pairs} == set(made.spans["answer"])
        assert {key for _, key in made.null_pairs} == set(made.spans["other"])
