"""Uncertainty-aware heads: stimuli, the choice of wrong objects, and planted heads."""

from collections.abc import Sequence

import pytest
import torch
import transformers

import headatlas
from conftest import selected
from headatlas import specimens
from headatlas.lab import OpenModel, forward, open_model
from headatlas.notation import Head
from headatlas.protocol.script import load_script
from headatlas.stimuli import Prompt, Vocabulary, facts
from planted import PAST, PREVIOUS, START, WORD, Architecture, Marked, Note, Planter, Same
from planted_circuits import known, spots

SCRIPT = load_script("uncertainty-aware")
REAL = [relation for relation in facts.RELATIONS if relation.real]


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    tokenizer = transformers.AutoTokenizer.from_pretrained(specimens.folder())
    return Vocabulary(tokenizer, len(tokenizer))


def said(words: Vocabulary, tokens: Sequence[int]) -> str:
    return str(words.tokenizer.decode(list(tokens)))


def test_the_object_belongs_to_the_subject_and_no_rival_does(words: Vocabulary) -> None:
    for prompt in SCRIPT.draw("task", words, "find", 10, 0).prompts:
        (readout,) = prompt.readouts
        right, *wrong = (said(words, [token]).strip() for token in (readout.answer, *readout.rivals))
        stated = said(words, prompt.tokens[len(words.bos) :])
        subjects = [each for relation in REAL for each in relation.pairs if f" {each}" in f" {stated}"]
        facts_of = [relation.pairs[each] for relation in REAL for each in subjects if each in relation.pairs]
        assert right in facts_of and right not in wrong and len(wrong) >= 3
        asked = [relation for relation in REAL if right in relation.objects and set(wrong) <= set(relation.objects)]
        assert asked and all(relation.pairs.get(each) not in wrong for relation in asked for each in subjects)


def test_the_statement_stands_before_the_object_in_a_chat_as_well(words: Vocabulary) -> None:
    for prompt in SCRIPT.draw("task", words, "find", 5, 0).prompts:
        stated = prompt.spans["stated"]
        assert list(stated) == list(range(stated[0], len(prompt.tokens)))
        assert prompt.readouts[0].position == stated[-1]


def test_the_wrong_objects_are_those_with_the_largest_logits(words: Vocabulary) -> None:
    model = open_model("specimen")
    prompts = SCRIPT.draw("task", words, "find", 2, 0).prompts
    first = SCRIPT.module.likeliest_wrong(model, prompts)
    less = [SCRIPT.module.without(prompt, token) for prompt, token in zip(prompts, first, strict=True)]
    second = SCRIPT.module.likeliest_wrong(model, less)
    for prompt, one, other in zip(prompts, first, second, strict=True):
        assert [one, other] == ranked(model, prompt)[:2]


def ranked(model: OpenModel, prompt: Prompt) -> list[int]:
    """The rivals of a prompt, those with the largest logits first."""
    logits = forward(model, torch.tensor([prompt.tokens]), {})[0, -1]
    return sorted(prompt.readouts[0].rivals, key=lambda token: -float(logits[token]))


@pytest.mark.parametrize("architecture, seed", [("gpt2", 0), ("llama", 1)])
def test_finds_the_head_that_looks_back_unless_the_object_is_wrong(architecture: Architecture, seed: int) -> None:
    """Not one that looks back from everywhere, nor the one that knows what fits."""
    judge, wary, previous = spots(seed, 3)
    partners = known()
    subjects = {each for relation in REAL for each in relation.pairs}
    objects = {each for relation in REAL for each in relation.objects}
    made = Planter(
        architecture,
        dict.fromkeys(["+\n", *partners]),
        marks={"start": [START], "subject": subjects, "object": objects, "fits": []},
        facts=partners,
        seed=seed,
    )
    made.plant(judge, [Same(WORD, PAST, 100), Marked("start", 70)], [Note("subject", "fits")])
    at_the_start = [Marked("start", 80, seen_from="object"), Marked("start", -80, seen_from="fits")]
    made.plant(wary, [*PREVIOUS, *at_the_start])
    made.plant(previous, PREVIOUS)
    model, rule = made.open(), headatlas.load().heads["uncertainty-aware"].rule
    assert rule is not None
    found: list[Head] = selected(SCRIPT, rule, model, SCRIPT.draw("task", model.vocabulary, "find", 6, 0))
    assert found == [wary]
