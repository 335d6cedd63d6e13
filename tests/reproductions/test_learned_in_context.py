"""Heads that find a rule in context, written into weights by hand: each script finds its own and no other."""

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import headatlas
from conftest import light, selected
from headatlas.evidence import statistics
from headatlas.lab import OpenModel, attention_scores, metric_per_prompt
from headatlas.lab.fits import toys
from headatlas.notation import Head
from headatlas.protocol import run
from headatlas.protocol.script import PromptSample, load_script
from headatlas.stimuli import facts
from headatlas.stimuli.labelled_examples import VERDICTS
from headatlas.stimuli.lagged_chains import LAGS, STATES, successor
from headatlas.stimuli.lexicon import THINGS
from headatlas.stimuli.mappings import LABELS
from planted import OUT, START, WORD, Architecture, Back, Copy, Decay, Marked, Note, Planter, Same

CATALOG = headatlas.load()
PROMPTS = 6  # per family
NAMES = [*dict.fromkeys([*LABELS, *(name for pair in VERDICTS for name in pair)])]
KINDS = {kind: things for kind, things in facts.KINDS.items() if len(things) > 4}
SYMBOLS = ("symbol-abstraction", "symbolic-induction", "symbol-retrieval")
ARCHITECTURES = [pytest.param("gpt2"), pytest.param("llama", marks=pytest.mark.slow)]


def drawn(id: str, model: OpenModel, families: tuple[str, ...] | None = None, count: int = PROMPTS) -> PromptSample:
    script = load_script(id)
    sample = script.draw("stimulus", model.vocabulary, "find", count, 0)
    kept = [number for number, family in enumerate(sample.families) if families is None or family in families]
    return sample.only(kept)


def found(id: str, model: OpenModel, sample: PromptSample) -> list[Head]:
    rule = CATALOG.heads[id].rule
    assert rule
    return selected(load_script(id), rule, model, sample)


# --- labels -------------------------------------------------------------------------------------------------------


def recognising(architecture: Architecture) -> tuple[OpenModel, Head]:
    """A head that looks at all labels alike and says them."""
    made = Planter(architecture, ["->", "Q", "A", *NAMES, *(each for things in KINDS.values() for each in things)],
                   marks={"start": [START], "label": NAMES}, apart=NAMES)  # fmt: skip
    head = made.plant(Head(3, 1), [Marked("label", 60), Marked("start", 30)], [Copy(WORD, OUT, 3.0)])
    return made.open(), head


def learning(architecture: Architecture) -> tuple[OpenModel, Head]:
    """A head that brings the kind of the latest thing, and one that looks at the labels of things of the same kind."""
    last = {kind: f"last {kind}" for kind in KINDS}
    things = [each for members in KINDS.values() for each in members]
    marks: dict[str, Any] = {"start": [START], "label": NAMES, "thing": things, **KINDS}
    marks |= {name: [] for name in last.values()}
    made = Planter(architecture, ["->", "Q", "A", *NAMES, *things], marks=marks, apart=NAMES)
    made.plant(Head(1, 2), [Marked("thing", 60), Decay(1.5)], [Note(kind, name) for kind, name in last.items()])
    same = [Marked(name, 60, seen_from=name) for name in last.values()]
    head = made.plant(Head(3, 1), [*same, Marked("label", 60), Marked("start", 30)], [Copy(WORD, OUT, 3.0)])
    return made.open(), head


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_head_that_says_all_labels_recognises_the_task_and_does_not_learn_it(architecture: Architecture) -> None:
    model, head = recognising(architecture)
    assert found("task-recognition", model, drawn("task-recognition", model)) == [head]
    assert found("task-learning", model, drawn("task-learning", model, count=20)) == []


def test_a_head_that_says_the_labels_of_similar_examples_learns_the_task() -> None:
    model, head = learning("gpt2")
    families = ("kinds", "kinds, asked for")
    assert found("task-learning", model, drawn("task-learning", model, families)) == [head]
    assert found("task-recognition", model, drawn("task-recognition", model, families)) == [head]
    script = load_script("task-learning")
    assert script.detect
    scores = script.detect(model, drawn("task-learning", model, families))
    score, null = (each[:, *head] for each in (scores.score, scores.null))
    assert score.min() > 0.6 and null.max() < -0.6, "it follows the examples when their labels are swapped"


def test_an_answer_is_a_label_whichever_it_is() -> None:
    is_label = load_script("task-recognition").module.is_label
    logits = torch.tensor([[[0.0, 3.0, 1.0, 2.0]], [[9.0, 3.0, 1.0, 2.0]], [[0.0, 3.0, 1.0, 4.0]]])
    answers, rivals = torch.tensor([[1], [1], [1]]), torch.tensor([[[3, -1]], [[3, -1]], [[3, -1]]])
    assert is_label(logits, answers, rivals).tolist() == [1, 0, 1]


# --- identity rules -----------------------------------------------------------------------------------------------


@dataclass
class Symbols:
    """A model that completes ABA and ABB, and the heads that do it."""

    model: OpenModel
    heads: dict[str, Head] = field(default_factory=dict)


def completing() -> Symbols:
    """First words are marked, but for the first triple; then second ones; then third words that repeat the second.

    The end is told of these. Last, a head looks from there at the latest second word, or else at the latest first one,
    and says it.
    """
    marks = {"start": [START], "thing": THINGS, "end": ["+\n", "+.", "+;"], "first": [], "second": []}
    made = Planter("gpt2", ["->", "+\n", *THINGS], marks=marks | {"is B": [], "wants B": []})
    made.plant(Head(0, 1), [Back(1, 300), Marked("start", 275)], [Note("end", "first")])
    made.plant(Head(1, 3), [Back(2, 300), Marked("start", 275)], [Note("first", "second")])
    repeats = [Same(WORD, WORD, 300), Back(2, 300), Marked("start", 575)]
    abstraction = made.plant(Head(2, 0), repeats, [Note("thing", "is B")])
    induction = made.plant(Head(3, 2), [Marked("is B", 60), Marked("start", 30)], [Note("is B", "wants B")])
    looks = [Marked("first", 40), Marked("second", 80, seen_from="wants B"), Decay(1.0)]
    retrieval = made.plant(Head(5, 1), looks, [Copy(WORD, OUT, 3.0)])
    return Symbols(made.open(), dict(zip(SYMBOLS, (abstraction, induction, retrieval), strict=True)))


@pytest.fixture(scope="module")
def symbols() -> Symbols:
    return completing()


def test_the_planted_model_completes_both_rules(symbols: Symbols) -> None:
    script = load_script("symbol-retrieval")
    prompts = drawn("symbol-retrieval", symbols.model).prompts
    assert metric_per_prompt(symbols.model, prompts, script.behaviour).min() == 1


@pytest.mark.parametrize("id", SYMBOLS)
def test_each_of_the_three_stages_is_found_by_its_own_script_alone(id: str, symbols: Symbols) -> None:
    assert found(id, symbols.model, drawn(id, symbols.model)) == [symbols.heads[id]]


@pytest.mark.parametrize("id", SYMBOLS)
def test_a_head_that_alone_decides_turns_the_lead_into_its_opposite(id: str, symbols: Symbols) -> None:
    detect = load_script(id).detect
    assert detect
    scores = detect(symbols.model, drawn(id, symbols.model, count=2))
    at = symbols.heads[id]
    assert np.allclose(scores.score[:, *at].mean(), 2, atol=0.2) and np.allclose(scores.null[:, *at], 0, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("id", SYMBOLS)
def test_what_was_planted_is_reproduced(id: str, symbols: Symbols) -> None:
    record = run.run(CATALOG, light(CATALOG.heads[id], 8), symbols.model)
    assert record.selected == [symbols.heads[id]] and record.cause
    assert record.cause.effect > 1


def test_the_abstraction_script_measures_the_heads_with_the_largest_estimates(
    symbols: Symbols, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load_script("symbol-abstraction")
    monkeypatch.setattr(script.module, "EXACT", 3)
    assert script.detect
    scores = script.detect(symbols.model, drawn("symbol-abstraction", symbols.model, count=1))
    assert np.isfinite(scores.score).all() and (abs(scores.score).max(0) > 0).sum() <= 3


# --- chains of an unknown lag -------------------------------------------------------------------------------------


def lag_of(tokens: tuple[int, ...], state: dict[int, int]) -> int:
    """The lag at which most states are the successor of an earlier one."""
    row = [state[token] for token in tokens if token in state]
    hits = {lag: sum(row[t] == successor(row[t - lag]) for t in range(max(LAGS), len(row))) for lag in LAGS}
    return max(LAGS, key=hits.__getitem__)


def test_a_head_that_follows_the_lag_is_found_and_those_that_look_a_fixed_distance_back_are_not() -> None:
    """The first is put together from the three others: on each text it does what that of the text's own lag does."""
    letters = [each.strip() for each in STATES]
    made = Planter("gpt2", letters, marks={"start": [START]})
    for lag in LAGS:
        made.plant(Head(lag - 1, 1), [Back(lag - 1, 300), Marked("start", 275)])
    model = made.open()
    sample, state = drawn("selective-induction", model), {made.ids[each]: place for place, each in enumerate(letters)}
    assert found("selective-induction", model, sample) == []

    scores = attention_scores(model, sample.prompts)
    selecting = np.zeros((2, len(sample.prompts)))
    for number, prompt in enumerate(sample.prompts):
        own, other = (lag_of(tokens, state) for tokens in (prompt.tokens, prompt.corrupted))
        assert own != other and scores.score[number, own - 1, 1] > 0.9
        selecting[:, number] = scores.score[number, own - 1, 1], scores.null[number, other - 1, 1]
    measured = zip((scores.score, scores.null), selecting, strict=True)
    score, null = (np.append(each[:, :3, 1], one[:, None], 1)[:, None] for each, one in measured)  # [prompt 1 head]
    rule = CATALOG.heads["selective-induction"].rule
    assert rule
    q = statistics.q_values(statistics.p_above_null(score, null))
    assert statistics.select(score.mean(0), q, rule.detection.threshold, rule.detection.fdr) == [Head(0, 3)]


def test_the_recipe_of_the_toy_trains_a_model_without_mlps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    toy, rng = load_script("selective-induction").toy, random.Random(0)
    assert toy and len({tuple(part.text for part in toy.draw(rng)) for _ in range(50)}) == 50
    model = toys.trained("selective-induction", replace(toy, steps=2, batch=2), 0, "two steps", lambda *_: None)
    assert (model.anatomy.layers, model.anatomy.heads) == (3, 1)
    assert model.model.config.n_inner == 1
    assert len(drawn("selective-induction", model, count=1).prompts) == 3
