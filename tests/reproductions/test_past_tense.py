"""Past-tense heads: the sentences, and a planted head that writes past forms where the past is asked for."""

import random
from dataclasses import replace
from functools import cache

import pytest

import headatlas
from conftest import light, selected
from headatlas.lab import OpenModel
from headatlas.notation import Head
from headatlas.protocol import run
from headatlas.protocol.script import load_script
from headatlas.stimuli import past_forms
from planted import OUT, START, WORD, Architecture, Back, Copy, Marked, Note, Planter, Turn
from planted_circuits import words_in

CATALOG = headatlas.load()
RULE, SCRIPT = CATALOG.heads["past-tense"].rule, load_script("past-tense")
BEFORE, TWO_BEFORE, PAST, COPY = Head(0, 1), Head(1, 3), Head(3, 0), Head(4, 2)


@cache
def planted(architecture: Architecture) -> OpenModel:
    """Two heads note a word for the past, one and two tokens back; then PAST writes the past form of the verb.

    COPY writes the verb itself in every sentence, as the copy head beside it.
    """
    frames = past_forms.FRAMES.values()
    texts = [part for frame in frames for part in (frame.template, frame.past, frame.present)]
    verbs = past_forms.PAST_FORMS
    words = {*words_in(texts), *verbs, *verbs.values()} - {"verb", "time"}
    marks = {"start": [START], "then": ["yesterday"], "last": ["last"], "verb": verbs, "asked": []}
    made = Planter(architecture, sorted(words), marks=marks)
    made.plant(BEFORE, [Back(1, 300), Marked("start", 275)], [Note("then", "asked")])
    made.plant(TWO_BEFORE, [Back(2, 300), Marked("start", 275)], [Note("last", "asked")])
    made.plant(PAST, [Marked("verb", 60, seen_from="asked"), Marked("start", 30)], [Turn(verbs, OUT, 5.0)])
    made.plant(COPY, [Marked("verb", 60), Marked("start", 30)], [Copy(WORD, OUT, 2.0)])
    return made.open()


@pytest.mark.parametrize("architecture", ["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def test_the_head_that_writes_past_forms_is_found_and_not_the_one_that_copies(architecture: Architecture) -> None:
    model = planted(architecture)
    assert RULE
    drawn = SCRIPT.draw("stimulus", model.vocabulary, "find", 6, 0)
    assert selected(SCRIPT, RULE, model, drawn) == [PAST]
    present = [replace(prompt, tokens=prompt.corrupted) for prompt in drawn.prompts]
    assert selected(SCRIPT, RULE, model, replace(drawn, prompts=present)) == []


def test_without_it_the_verb_is_copied() -> None:
    record = run.run(CATALOG, light(CATALOG.heads["past-tense"], 8), planted("gpt2"))
    assert record.selected == [PAST] and record.behaviour and record.behaviour.value == 1
    assert record.cause and record.cause.effect > 5
    # The two heads that note the time undo as much, where both are in a random set; no other set does.
    assert sorted(record.cause.random_effects)[-3] < 1


@pytest.mark.parametrize("name", past_forms.FRAMES)
def test_one_word_decides_between_a_verb_and_its_past_form(name: str, specimen: OpenModel) -> None:
    words, frame, verbs = specimen.vocabulary, past_forms.FRAMES[name], set()
    family = next(family for family, frame in SCRIPT.module.FAMILIES.items() if frame == name)
    for seed in range(40):
        made = SCRIPT.module.stimulus(words, family, random.Random(seed))
        (differs,) = (place for place, (a, b) in enumerate(zip(made.tokens, made.corrupted, strict=True)) if a != b)
        assert words.pieces([made.tokens[differs], made.corrupted[differs]]) == f"{frame.past}|{frame.present}"
        (readout,) = made.readouts
        verb, past = (words.pieces([token]).strip() for token in (*readout.rivals, readout.answer))
        assert past_forms.PAST_FORMS[verb] == past != verb and readout.position == len(made.tokens) - 1
        (place,) = made.spans["verb"]
        assert made.tokens[place] == made.corrupted[place] == readout.rivals[0]
        verbs.add(verb)
    assert len(verbs) > 15
