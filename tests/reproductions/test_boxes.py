"""The circuit that finds what is in a box, planted as its authors describe it, and the prompts that tell its heads."""

import functools
import random
from string import ascii_uppercase

import pytest

import headatlas
from conftest import selected
from headatlas import specimens
from headatlas.lab import metric_per_prompt, open_model
from headatlas.lab.running import accuracy_among_rivals
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, load_script
from headatlas.stimuli import Prompt, boxes
from headatlas.stimuli.lexicon import THINGS
from planted import HEADS, HELD, OUT, PAST, START, WORD, Back, Copy, Marked, Planter, Same
from planted_circuits import spots

FAMILY, PROMPTS = "numbered", 8
REST = [Marked("start", 275)]


@functools.cache
def planted() -> tuple[Planter, dict[str, Head]]:
    """In "First, the apple is in Box F. …", what stands where is known by counting tokens.

    Two heads note the ordinal at the thing, three back, and at the label, seven back. A position detector takes it from
    the earlier label, a transmitter takes it two tokens on to the end, and a fetcher looks for the thing with that
    ordinal. So the label is used to find its own earlier mention, and only the place is passed on.
    """
    early, detector, transmitter, fetcher = spots(0, 4)
    labels, things = ascii_uppercase[:12], THINGS[:20]
    words = ["+First", "Second", "Third", "+,", "+.", "the", "is", "in", "Box", "contains", *labels, *things]
    marks = {"start": [START], "label": labels, "thing": things}
    made = Planter("gpt2", words, marks=marks, seed=0)
    made.plant(early, [Back(3, 300), *REST], [Copy(WORD, PAST)])
    made.plant(Head(early.layer, (early.head + 2) % HEADS), [Back(7, 300), *REST], [Copy(WORD, HELD)])
    same_label = [Same(WORD, WORD, 200), Marked("label", 100, seen_from="label"), Back(0, -200), Marked("start", 255)]
    made.plant(detector, same_label, [Copy(HELD, HELD)])
    made.plant(transmitter, [Back(2, 300), *REST], [Copy(HELD, HELD)])
    looks = [Same(HELD, PAST, 60), Marked("thing", 60), Marked("start", 90)]
    made.plant(fetcher, looks, [Copy(WORD, OUT, 5.0)])
    return made, {"position-detector": detector, "position-transmitter": transmitter, "value-fetcher": fetcher}


@pytest.mark.parametrize("id", ["value-fetcher", "position-transmitter", "position-detector"])
def test_finds_exactly_the_head_of_its_type(id: str) -> None:
    made, heads = planted()
    model, rule, script = made.open(), headatlas.load().heads[id].rule, load_script(id)
    assert rule
    prompts = [script.module.stimulus(model.vocabulary, FAMILY, random.Random(seed)) for seed in range(PROMPTS)]
    assert metric_per_prompt(model, prompts, accuracy_among_rivals).mean() == 1.0, "the model can do it"
    sample = PromptSample(prompts, [FAMILY] * PROMPTS, "find")
    assert selected(script, rule, model, sample) == [heads[id]]


def drawn(count: int, numbered: bool) -> list[Prompt]:
    words = open_model(specimens.folder()).vocabulary
    return [boxes.contents(words, count, numbered, random.Random(seed)) for seed in range(30)]


def place_of(tokens: tuple[int, ...], prompt: Prompt, places: list[int]) -> int:
    """Which of the listed labels a question asks for; `places` are where the labels of the list stand."""
    [asked] = prompt.spans["asked"]
    return [tokens[place] for place in places].index(tokens[asked])


@pytest.mark.parametrize("count, numbered", [(3, False), (4, False), (3, True)])
def test_who_is_asked_and_what_the_other_prompts_change(count: int, numbered: bool) -> None:
    asked_places = set()
    for prompt in drawn(count, numbered):
        [asked], [label], [thing] = (prompt.spans[role] for role in ("asked", "label", "thing"))
        [readout] = prompt.readouts
        end = len(prompt.tokens) - 1
        assert readout.position == end and asked == end - 2, "scripts patch at the third token from the end"
        assert prompt.tokens[asked] == prompt.tokens[label] and label < asked
        assert prompt.tokens[thing] == readout.answer and thing < label
        changed = [at for at in range(end + 1) if prompt.tokens[at] != prompt.corrupted[at]]
        assert len(changed) == 2 * count + 1, "other things, other labels, another label asked for"
        listed = [at for at in changed if at != asked]
        things, labels = listed[::2], listed[1::2]
        assert thing in things and label in labels
        assert not {prompt.tokens[at] for at in changed} & {prompt.corrupted[at] for at in changed}
        assert {readout.answer, *readout.rivals} == {prompt.tokens[at] for at in things}
        same, other = prompt.alternatives["same place"], prompt.alternatives["other box"]
        place, another = (place_of(tokens, prompt, labels) for tokens in (prompt.tokens, prompt.corrupted))
        assert place != another and place_of(same, prompt, labels) == place
        assert readout.rivals[0] == prompt.tokens[things[another]]
        assert boxes.against_other_place(prompt).readouts[0].rivals == readout.rivals[:1]
        assert [at for at in range(end + 1) if same[at] != prompt.corrupted[at]] == [asked]
        assert [at for at in range(end + 1) if other[at] != prompt.tokens[at]] == [asked]
        assert place_of(other, prompt, labels) == another
        asked_places.add(place)
    assert asked_places == set(range(count))


def test_pairs_of_the_three_scripts() -> None:
    words = open_model(specimens.folder()).vocabulary
    for seed in range(10):
        for id, query, key in (
            ("value-fetcher", "end", "thing"),
            ("position-transmitter", "end", "asked"),
            ("position-detector", "asked", "label"),
        ):
            prompt = load_script(id).module.stimulus(words, "three boxes", random.Random(seed))
            places = {"end": len(prompt.tokens) - 1} | {role: at[0] for role, at in prompt.spans.items()}
            assert prompt.pairs == ((places[query], places[key]),)
