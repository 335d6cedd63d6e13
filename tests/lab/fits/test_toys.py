"""Toy models learn what their documents mark as known, the same from the same seed, and are trained once."""

import itertools
import random
from pathlib import Path

import pytest
import torch

import headatlas
from headatlas.lab import OpenModel, accuracy, metric_per_prompt
from headatlas.lab.fits import toys
from headatlas.lab.fits.toys import Toy
from headatlas.progress import RunProgress
from headatlas.protocol import run_many
from headatlas.protocol.model_options import ModelOptions
from headatlas.protocol.script import load_script
from headatlas.stimuli import Prompt, Readout, triggers
from headatlas.stimuli.cases import Segment

CATALOG = headatlas.load()
WORDS = [f" {letter}" for letter in "abcdef"]
SMALL = {"n_embd": 32, "n_positions": 32}


def again(rng: random.Random) -> list[Segment]:
    """A word, and the same word: the second can be known."""
    word = rng.choice(WORDS)
    return [Segment("Say"), Segment(word), Segment(":"), Segment(word, known=True), Segment(".")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def train(toy: Toy, seed: int = 0, told: list[int] | None = None) -> OpenModel:
    return toys.trained(
        "again", toy, seed, "v1", lambda what, done, total: told.append(done) if told is not None else None
    )


def test_learns_what_is_marked_as_known() -> None:
    model = train(Toy(again, steps=120, batch=32, rate=3e-3, shape=SMALL))
    prompts = []
    for word in WORDS:
        tokens = model.vocabulary.bos + model.vocabulary.encode(f"Say{word}:")
        prompts.append(Prompt(tokens, tokens, readouts=(Readout(len(tokens) - 1, model.vocabulary.encode(word)[0]),)))
    assert metric_per_prompt(model, prompts, accuracy).mean() == 1.0
    assert model.name == "toy"


def test_one_seed_gives_one_model_and_another_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy(again, steps=3, batch=4, shape=SMALL)
    made = []
    for number, seed in enumerate((0, 0, 1)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(number)))  # nothing is kept from one to the next
        made.append(train(toy, seed).model.state_dict())
    one, two, other = made
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_is_trained_once() -> None:
    told: list[int] = []
    toy = Toy(again, steps=3, batch=4, shape=SMALL)
    first, second = train(toy, told=told), train(toy, told=told)
    assert told == [1, 2, 3] and first.sha256 == second.sha256


def test_an_entry_without_one_says_so_and_the_others_run(tmp_path: Path) -> None:
    job = run_many.RunRequest("toy", ModelOptions(), (0,), tmp_path)
    (outcome,) = run_many.run_all(CATALOG, [CATALOG.heads["induction"]], job, False, 1, RunProgress())
    assert outcome.record is None and "trains no model of its own" in (outcome.error or "")


@pytest.mark.parametrize("id", ["iteration", "associative-memory"])
def test_the_scripts_tell_their_toy_what_their_prompts_say(id: str) -> None:
    toy = load_script(id).toy
    assert toy is not None
    known = [segment for seed in range(20) for segment in toy.draw(random.Random(seed)) if segment.known]
    assert len(known) >= 40


def test_a_successor_is_known_only_where_its_trigger_came_before() -> None:
    for seed in range(20):
        seen: dict[str, str] = {}
        texts = triggers.document(random.Random(seed))
        for before, after in itertools.pairwise(texts):
            if after.known:
                assert seen[before.text] == after.text
            seen[before.text] = after.text
        assert len({segment.text for segment in texts}) > 10
