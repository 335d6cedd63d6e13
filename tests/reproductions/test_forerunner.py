"""Forerunner token heads: the labelled texts, drawn patterns, and a planted head that looks back from labels alone."""

import random

import numpy as np
import pytest

import headatlas
from conftest import selected
from headatlas.lab import OpenModel, metric_per_prompt, record
from headatlas.lab.ablation import Patch
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, load_script
from headatlas.stimuli import Prompt, labelled_texts, opinions
from planted import PREVIOUS, START, Architecture, Back, Marked, Planter
from planted_circuits import words_in

CATALOG = headatlas.load()
RULE, SCRIPT = CATALOG.heads["forerunner"].rule, load_script("forerunner")
LABEL, BEFORE, SIGN = Head(1, 1), Head(2, 3), Head(3, 0)
TASK = labelled_texts.TASKS["topics"]


def planted(architecture: Architecture) -> OpenModel:
    """LABEL looks from labels at the colon before them, BEFORE one back everywhere, and SIGN at all colons."""
    texts = [TASK.text(random.Random(seed), seed % 2) for seed in range(200)]
    words = words_in([*texts, TASK.before, TASK.between, *TASK.labels])
    labels = [label.strip() for label in TASK.labels]
    marks = {"start": [START], "label": labels, "colon": ["+:"]}
    made = Planter(architecture, [*words, "+\n"], marks=marks)
    made.plant(LABEL, [Back(1, 300), Marked("colon", 60, seen_from="label"), Marked("start", 330)])
    made.plant(BEFORE, PREVIOUS)
    made.plant(SIGN, [Marked("colon", 60)])
    return made.open()


@pytest.mark.parametrize("architecture", ["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def test_a_head_that_looks_back_from_labels_is_found_and_one_that_does_so_everywhere_is_not(
    architecture: Architecture,
) -> None:
    model = planted(architecture)
    assert RULE
    prompts = [
        labelled_texts.with_its_label(labelled_texts.labelled(model.vocabulary, random.Random(seed), TASK))
        for seed in range(16)
    ]
    sample = PromptSample(prompts, ["topics"] * len(prompts), "find")
    found = selected(SCRIPT, RULE, model, sample)
    assert LABEL in found and BEFORE not in found and set(found) <= {LABEL, SIGN}, "SIGN looks there from labels too"
    assert SCRIPT.detect
    scores = SCRIPT.detect(model, sample)
    assert scores.score[:, *LABEL].mean() == 1 and scores.null[:, *LABEL].mean() == 0
    assert scores.score[:, *BEFORE].mean() == scores.null[:, *BEFORE].mean() == 1


def test_a_link_counts_from_five_even_shares_on() -> None:
    asked = Prompt(tuple(range(20)), tuple(range(20)), pairs=((19, 18),), null_pairs=((10, 9), (11, 10)))
    pattern = np.zeros((1, 3, 20, 20))
    pattern[0, :, 19, 18] = 0.24, 0.26, np.nan
    pattern[0, :, 11, 10] = 0.9, 0.1, np.nan
    score, null = SCRIPT.module.links(asked, pattern)
    assert score[0, :2].tolist() == [0, 1] and null[0, :2].tolist() == [0.5, 0]
    assert np.isnan([score[0, 2], null[0, 2]]).all(), "a head that the model does not have"


def test_the_edit_cuts_the_links_to_labels_and_nothing_else(specimen: OpenModel) -> None:
    drawn = SCRIPT.draw("task", specimen.vocabulary, "find", 1, 0)
    assert SCRIPT.edit
    patch = SCRIPT.edit(specimen, drawn)
    assert not isinstance(patch, dict) and callable(patch)
    check_cut(specimen, drawn.prompts[0], patch)
    assert len(metric_per_prompt(specimen, drawn.prompts, SCRIPT.behaviour)) == 3


def check_cut(model: OpenModel, prompt: Prompt, patch: Patch) -> None:
    """In the first layer, z differs from that of the plain run at the labels alone."""
    cut, plain = patch([prompt]).z[0], record(model, [prompt.tokens], ["z"])["z", 0]
    changed = (cut - plain).abs().amax((0, 2, 3)) > 1e-6
    assert changed.nonzero()[:, 0].tolist() == [query for query, _ in prompt.pairs]


@pytest.mark.parametrize("name", labelled_texts.TASKS)
def test_labels_follow_their_forerunner_and_are_right(name: str, specimen: OpenModel) -> None:
    words, task, asked = specimen.vocabulary, labelled_texts.TASKS[name], set()
    for seed in range(30):
        made = labelled_texts.labelled(words, random.Random(seed), task)
        firsts = [words.continuation(label)[0] for label in task.labels]
        *shown, last = specimen.tokenizer.decode(made.tokens).split("\n")
        labels = [made.tokens[query] for query, _ in made.pairs]
        assert len(shown) == 4 and sorted(labels) == sorted(firsts * 2), "two of each class"
        assert all(key == query - 1 for query, key in (*made.pairs, *made.null_pairs))
        assert {words.pieces([made.tokens[key]]) for _, key in made.pairs} == {":"} and last.endswith(":")
        (readout,) = made.readouts
        assert {readout.answer, *readout.rivals} == set(firsts) and readout.position == len(made.tokens) - 1
        texts = {each: text_of(each, task) for each in (*shown, last)}
        assert len(set(texts.values())) == 5, "no text comes twice"
        for line, label in zip([*shown, last], [*labels, readout.answer], strict=True):
            assert class_of(texts[line], name) == firsts.index(label)
        whole = labelled_texts.with_its_label(made)
        assert whole.tokens == (*made.tokens, readout.answer) and whole.pairs == ((len(made.tokens), readout.position),)
        assert specimen.tokenizer.decode([made.tokens[query] for query, _ in made.null_pairs]).strip() == texts[last]
        asked.add(readout.answer)
    assert len(asked) == 2


def text_of(line: str, task: labelled_texts.TextClasses) -> str:
    return line.split(task.before)[1].split(task.between)[0].strip()


def class_of(text: str, name: str) -> int:
    """The class of a text, by other means than the one that wrote it."""
    signs = {
        "reviews": lambda: int(any(f"was {word} " in text for word in opinions.BAD)),
        "topics": lambda: int("had" in text),
        "questions": lambda: int(text.startswith("where")),
    }
    return signs[name]()
