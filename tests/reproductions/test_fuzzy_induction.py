"""Fuzzy induction heads: one was planted beside a literal one, and the lists of words are what they should be."""

import random

import pytest

import headatlas
from conftest import selected
from headatlas import specimens
from headatlas.lab import open_model
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, load_script
from headatlas.stimuli import Vocabulary, related_words
from headatlas.stimuli.lexicon import THINGS
from planted import HELD, OUT, PAST, PREVIOUS, START, WORD, Architecture, Copy, Marked, Planter, Same
from planted_circuits import spots

SCRIPT = load_script("fuzzy-induction")
PLURALS = related_words.RELATED["plurals"]


def planted(architecture: Architecture) -> tuple[Planter, Head]:
    """An embedding that holds each word's relative, the induction circuit, and a head that asks for the relative."""
    previous, literal, fuzzy = spots(0, 3)
    words = dict.fromkeys([*PLURALS, *PLURALS.values(), *THINGS[:50]])
    partners = {one: [other] for pair in PLURALS.items() for one, other in (pair, pair[::-1])}
    made = Planter(architecture, words, marks={"start": [START]}, facts=partners, seed=0)
    made.plant(previous, PREVIOUS, [Copy(WORD, HELD)])
    made.plant(literal, [Same(WORD, HELD, 60), Marked("start", 30)], [Copy(WORD, OUT, 3.0)])
    made.plant(fuzzy, [Same(PAST, HELD, 60), Marked("start", 30)], [Copy(WORD, OUT, 3.0)])
    return made, fuzzy


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_finds_the_fuzzy_head_and_not_the_literal_one(architecture: Architecture) -> None:
    made, fuzzy = planted(architecture)
    model, rule = made.open(), headatlas.load().heads["fuzzy-induction"].rule
    assert rule
    prompts = [SCRIPT.module.stimulus(model.vocabulary, "plurals", random.Random(seed)) for seed in range(8)]
    sample = PromptSample(prompts, ["plurals"] * len(prompts), "find")
    assert selected(SCRIPT, rule, model, sample) == [fuzzy]


def specimen_words() -> Vocabulary:
    return open_model(specimens.folder()).vocabulary


@pytest.mark.parametrize("kind", related_words.RELATED)
def test_pairs_lead_to_the_follower_of_the_relative_and_the_control_has_none(kind: str) -> None:
    words = specimen_words()
    relatives = {(one, other) for pair in related_words.RELATED[kind].items() for one, other in (pair, pair[::-1])}

    def said(tokens: tuple[int, ...], place: int) -> str:
        return words.pieces(tokens[place : place + 1]).strip()

    for seed in range(30):
        prompt = related_words.again(words, kind, 5, random.Random(seed))
        assert len(prompt.pairs) == len(prompt.readouts) == 5
        told = {said(prompt.tokens, key - 1) for _, key in prompt.pairs}
        for (query, key), readout in zip(prompt.pairs, prompt.readouts, strict=True):
            assert (said(prompt.tokens, query), said(prompt.tokens, key - 1)) in relatives
            assert readout.position == query and readout.answer == prompt.tokens[key]
            assert len(readout.rivals) == 4 and readout.answer not in readout.rivals
            assert not {(said(prompt.corrupted, query), each) for each in told} & relatives
        cues = {query for query, _ in prompt.pairs}
        changed = {
            place
            for place, (one, other) in enumerate(zip(prompt.tokens, prompt.corrupted, strict=True))
            if one != other
        }
        assert changed == cues, "the control differs in the cues alone"
        assert not {said(prompt.tokens, query) for query in cues} & told, "no cue occurred before"
        order = [key for _, key in prompt.pairs]
        assert order != sorted(order), "a fixed distance does not lead there"
