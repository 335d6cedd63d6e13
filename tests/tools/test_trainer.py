"""The trainer of the specimen: what it resumes is what it would have done, and what it ships is what it measured."""

import hashlib
import json
import os
import random
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import load_tool
from headatlas import HeadatlasError, specimens
from headatlas.cli.program import main
from headatlas.lab import accuracy, open_model
from headatlas.lab.running import accuracy_among_rivals
from headatlas.notation import Head
from headatlas.pages.figures.training import HEADS, SKILLS, training_picture

rows_of = load_tool("specimen_rows")  # the two others import it by this name
cards = load_tool("specimen_card")
trainer = load_tool("train_specimen")
SMALL = rows_of.Schedule(
    lists=1, short=2, short_length=32, length=64, short_tokens=128, tokens=256, widen=(0, 2), spans=0.3
)


@pytest.fixture(scope="module")
def tokenizer() -> ModuleType:
    return rows_of.train_tokenizer()


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_an_interrupted_training_goes_on_to_the_same_weights(arch: str, tmp_path, monkeypatch, tokenizer) -> None:
    monkeypatch.setattr(trainer, "train_tokenizer", lambda: tokenizer)
    monkeypatch.setattr(cards, "held_out_accuracy", lambda *_: {})
    recipe = trainer.Recipe(arch=arch, steps=4, schedule=SMALL, layers=2, threads=torch.get_num_threads())
    whole = trainer.train(recipe, tmp_path / "whole", every=2)
    trainer.train(recipe, tmp_path / "halves", every=2, until=2)
    halves = trainer.train(recipe, tmp_path / "halves", every=2)
    assert [entry["loss"] for entry in whole] == [entry["loss"] for entry in halves] and len(whole) == 2
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "halves"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    changed = trainer.Recipe(**{**recipe.__dict__, "seed": 1})
    other = trainer.train(changed, tmp_path / "other", every=4)
    assert other[-1]["loss"] != whole[-1]["loss"]
    with pytest.raises(HeadatlasError, match="a training of another recipe; give another --out"):
        trainer.train(changed, tmp_path / "whole")


def test_a_full_disk_costs_nothing_that_was_written(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    trainer._save({"step": 1}, path)

    def full(_state: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file\nmore of it")

    monkeypatch.setattr(trainer.torch, "save", full)
    with pytest.raises(HeadatlasError, match=r"cannot write .*writing file\); free space, and repeat the command"):
        trainer._save({"step": 2}, path)
    assert torch.load(path) == {"step": 1} and [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_attention_in_training_is_the_models_own() -> None:
    for arch in ("llama", "gpt2"):
        torch.manual_seed(0)
        model = trainer.build(trainer.Recipe(arch=arch, layers=2), 300).eval()
        tokens = torch.randint(0, 300, (3, 40))
        plain = model(tokens).logits
        model.set_attn_implementation(trainer.ATTENTION)
        assert (model(tokens).logits - plain).abs().max() < 1e-4 * plain.abs().max()


def test_a_loss_falls_on_all_that_can_be_known_and_on_little_else(tokenizer) -> None:
    rows = rows_of.Rows(tokenizer, rows_of.Schedule(other_loss=0.0))
    tokens, mask = rows.batch(0, 5000)
    assert tokens.shape == mask.shape == (32, 128) and tokens.max() < tokenizer.get_vocab_size()
    again, comma = (tokenizer.encode(text).ids[0] for text in (" again", ","))
    marks = (tokens[:, :-1] == again) & (tokens[:, 1:] == comma)  # of lists; stories say it without the comma
    assert marks.sum() > 3 and mask[:, :-1][marks].all()
    assert 0.1 < mask.float().mean() < 0.5


def test_marks_in_a_list_of_random_tokens_are_right(tokenizer) -> None:
    rows = rows_of.Rows(tokenizer, SMALL)
    again, comma = (tokenizer.encode(text).ids for text in (" again,", ","))
    for seed in range(30):
        tokens, known = rows._listing(random.Random(seed), 14)
        place, items = 1 + len(tokenizer.encode("List:").ids), []
        while place < len(tokens):
            item = tokens[place]
            mark = again if item in items else comma
            assert tokens[place + 1 : place + 1 + len(mark)] == mark and not known[place]
            assert all(known[place + 1 : place + 1 + len(mark)])
            items.append(item)
            place += 1 + len(mark)
        assert len(set(items)) < 14


def test_accuracy_counts_what_the_model_says() -> None:
    class Parrot:
        device = "cpu"

        def __call__(self, tokens: torch.Tensor):
            logits = torch.nn.functional.one_hot(tokens, 10).float()
            return type("Output", (), {"logits": logits})()

    asked = [rows_of.Asked((1, 2, 2, 5), ((2, frozenset({2})), (3, frozenset({3, 5})))), rows_of.Asked((7, 7), ())]
    assert cards.share_right(Parrot(), asked) == 0.5


def test_a_name_mover_is_looked_for_between_the_end_and_the_right_name() -> None:
    words = open_model("specimen").vocabulary
    rng = random.Random(0)
    for _ in range(20):
        prompt = cards._names(words, rng)
        ((last, right),), others = prompt.pairs, [key for _, key in prompt.null_pairs]
        assert last == len(prompt.tokens) - 1 and len(others) == 2
        assert len({prompt.tokens[key] for key in others}) == 1 and prompt.tokens.count(prompt.tokens[right]) == 1


@pytest.mark.slow
def test_carrying_heads_are_those_whose_loss_costs_most(planted_circuit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "COALITIONS", 32)  # the planted models are wide, and slow
    monkeypatch.setattr(cards, "SETS", 20)
    monkeypatch.setattr(cards, "MOST", 8)
    folder, previous, induction = planted_circuit
    model = open_model(str(folder))
    ranked = cards.costs(model, "period 5", left_out=[])
    assert set(ranked[:2]) == {previous, induction}
    assert len(ranked) == len(set(ranked)) == model.anatomy.layers * model.anatomy.heads
    found = cards.carriers(model, "period 5", ranked, [], chance=0.0)
    assert found["heads"] == [str(ranked[0])], "each of the two is enough to break it"
    assert found["clean"] > 0.9 and found["without_them"] < 0.2 and found["without_random"] > 0.9
    whole = cards.carriers(model, "period 5", ranked[2:], [], chance=0.0)
    assert len(whole["heads"]) == cards.MOST and whole["without_them"] > 0.9
    assert previous not in cards.costs(model, "period 5", [previous])


def test_a_head_that_most_families_need_is_named_once(planted_circuit) -> None:
    folder, previous, induction = planted_circuit
    found = cards.needed_by_all(open_model(str(folder)), ["period 5", "period 8"])
    assert {previous, induction} <= set(found)


def test_heads_are_asked_about_documents_as_they_come() -> None:
    words = open_model("specimen").vocabulary
    for family in ("multiple choice", "few-shot", "period 5"):
        prompts, reading = cards.prompts_of(family, words, "held-out", 64)
        assert len(prompts) == 64 and reading is accuracy
        lengths = {len(each.tokens) for each in prompts}
        assert len(lengths) == 1 if family == "period 5" else len(lengths) > 5
    prompts, reading = cards.prompts_of("years", words, "train", 48)
    assert reading is accuracy_among_rivals and all(each.readouts[-1].rivals for each in prompts)
    with pytest.raises(ValueError, match="hardly anything in documents of 'stories'"):
        cards.prompts_of("stories", words, "train", 48)


def test_what_is_missed_is_said() -> None:
    measured = {"accuracy": 0.9, "chance": 0.1, "aim": 0.8}
    heads = {kind: {"L0H1": 0.2, "L1H0": 0.9} for kind in cards.LOOKED_FOR}
    assert cards.limits({"facts": measured}, heads) == []
    families = {"facts": measured | {"aim": 0.95}, "years": measured | {"chance": 1.0}, "sums": measured}
    families["moods"] = measured | {"accuracy": 0.7967}
    assert cards.limits(families, heads | {"induction": {"L0H1": 0.11, "L1H0": 0.29}}) == [
        "facts: 0.90 held out, below the aim of 0.95 (chance 0.10)",
        "years: 0.90 held out, which needs no reading (chance 1.00): it shows nothing",
        "moods: 0.7967 held out, below the aim of 0.80 (chance 0.10)",
        "induction heads: none; the best, L1H0, scores 0.29 (at least 0.30)",
    ]


class TestTrainedAgain:
    @pytest.fixture
    def again(self, tmp_path, monkeypatch: pytest.MonkeyPatch):
        """A second training of the specimen, as a copy of it; what ships is a copy, too."""
        shipped, again = tmp_path / "shipped" / "specimen", tmp_path / "again"
        for folder in (shipped, again):
            shutil.copytree(specimens.folder(), folder)
        monkeypatch.setattr(specimens, "_HERE", tmp_path / "shipped")
        card = specimens.card()
        card.pop("retrained", None)
        (shipped / "card.json").write_text(json.dumps(card))
        return again

    def test_the_same(self, again, capsys: pytest.CaptureFixture[str]) -> None:
        found = cards.compare("specimen", again)
        assert found["identical"] and "largest_difference" not in found
        assert specimens.card()["retrained"] == [found]
        assert specimens.card()["families"] == json.loads((again / "card.json").read_text())["families"]
        main(["specimen"])
        assert "byte-identical weights" in " ".join(capsys.readouterr().out.split())

    def test_what_came_out_the_same_stands_first(self, again) -> None:
        other = {"identical": False, "machine": "another", "kernels": ""}
        (specimens.folder() / "card.json").write_text(json.dumps({**specimens.card(), "retrained": [other]}))
        found = cards.compare("specimen", again)
        assert specimens.card()["retrained"] == [found, other]

    @pytest.mark.slow
    def test_another(self, again, monkeypatch: pytest.MonkeyPatch) -> None:
        weights = load_file(again / "model.safetensors")
        changed = weights["transformer.h.0.attn.c_attn.weight"]
        before = changed.clone()
        changed[3, 4] += 2
        save_file(weights, again / "model.safetensors", metadata={"format": "pt"})
        self._says(again, sha256=hashlib.sha256((again / "model.safetensors").read_bytes()).hexdigest())
        monkeypatch.setattr(cards, "WEIGHTS", {"facts": 1.0, "parity": 1.0})
        monkeypatch.setattr(cards, "PERIODS", (5,))
        found = cards.compare("specimen", again)
        assert not found["identical"]
        assert found["largest_difference"] == pytest.approx(float((changed.float() - before.float()).abs().max()))
        assert 0 < found["same_answers"] <= 1 and set(found["accuracy"]) == {"facts", "parity", "period 5"}
        shipped = specimens.card()["families"]
        gaps = {family: value - shipped[family]["accuracy"] for family, value in found["accuracy"].items()}
        assert found["largest_gaps"] == pytest.approx(gaps, abs=1e-4)
        assert found["mean_gap"] == pytest.approx(np.abs(list(gaps.values())).mean(), abs=1e-4)
        self._says(again, machine="another")
        cards.compare("specimen", again)
        cards.compare("specimen", again)
        assert [each["machine"] for each in specimens.card()["retrained"]] == [found["machine"], "another"]
        assert f"period 5 {gaps['period 5']:+.2f}" in specimens.retrained(found)

    def test_mistakes(self, again) -> None:
        self._says(again, recipe={**specimens.card()["recipe"], "seed": 5})
        with pytest.raises(HeadatlasError, match=r"another recipe than specimen \(seed 5 for 0\); give the options"):
            cards.compare("specimen", again)
        (again / "card.json").unlink()
        with pytest.raises(HeadatlasError, match="holds no finished training"):
            cards.compare("specimen", again)

    def test_a_mistake_is_told_before_an_hour_of_training(
        self, again, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = str(tmp_path / "out")
        for more, said in (
            (["--compare", "specimen", "--steps", "10"], "another recipe than specimen (steps 10 for 8000)"),
            (["--compare", "nothing"], "no model 'nothing' ships with headatlas"),
        ):
            monkeypatch.setattr(sys, "argv", ["train_specimen.py", "--out", out, *more])
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "")  # set by the trainer, for itself alone
            assert trainer.main() == 2
            assert said in capsys.readouterr().err
        assert not Path(out).exists()

    def test_it_is_trained_with_the_kernels_of_the_first(self, again, monkeypatch: pytest.MonkeyPatch) -> None:
        self._says(specimens.folder("specimen"), recipe={**specimens.card()["recipe"], "kernels": "AVX2"})
        used = []
        monkeypatch.setattr(trainer, "train", lambda recipe, *_args, **_more: used.append(recipe.kernels))
        for more in (["--compare", "specimen"], ["--compare", "specimen", "--kernels", "SSE41"], []):
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "")  # set by the trainer, for itself alone
            monkeypatch.setattr(sys, "argv", ["train_specimen.py", "--until", "1", *more])
            assert trainer.main() == 0
            used.append(os.environ["ONEDNN_MAX_CPU_ISA"])
        assert used == ["AVX2", "AVX2", "SSE41", "SSE41", trainer.Recipe.kernels, trainer.Recipe.kernels]
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        monkeypatch.setattr(sys, "argv", ["train_specimen.py", "--until", "1", "--kernels", ""])
        assert trainer.main() == 0 and "ONEDNN_MAX_CPU_ISA" not in os.environ

    @staticmethod
    def _says(folder, **changed) -> None:
        card = json.loads((folder / "card.json").read_text())
        (folder / "card.json").write_text(json.dumps(card | changed))


class TestShipped:
    @pytest.mark.parametrize("name", specimens.names())
    def test_the_card_tells_of_the_weights_that_ship(self, name: str) -> None:
        card = specimens.card(name)
        weights = (specimens.folder(name) / "model.safetensors").read_bytes()
        assert card["sha256"] == hashlib.sha256(weights).hexdigest() and len(weights) < 8_000_000
        assert card["training"][-1]["step"] == card["recipe"]["steps"]
        assert set(rows_of.WEIGHTS) - {"stories", "sentences"} <= set(card["families"])
        assert card["limits"] == cards.limits(card["families"], card["textbook"])

    @pytest.mark.parametrize(
        "name", [pytest.param(each, marks=() if each == "specimen" else pytest.mark.slow) for each in specimens.names()]
    )
    def test_the_accuracy_on_the_card_is_the_models(self, name: str) -> None:
        model, tokenizer = specimens.specimen(name)
        rows = rows_of.Rows(tokenizer.backend_tokenizer, rows_of.Schedule())
        for family in ("indirect object", "facts", "parity"):
            found = cards.share_right(model, rows_of.held_out(rows, family, cards.DOCUMENTS))
            assert abs(found - specimens.card(name)["families"][family]["accuracy"]) < 0.01

    @pytest.mark.parametrize("name", specimens.names())
    def test_the_course_of_training_ends_in_the_weights_that_ship(self, name: str) -> None:
        steps = specimens.training(name)["steps"]
        assert len(steps) >= 18 and [step["tokens"] for step in steps] == sorted(step["tokens"] for step in steps)
        last = np.array(steps[-1]["heads"]["induction"])
        ((best, score),) = list(specimens.card(name)["textbook"]["induction"].items())[:1]
        assert abs(last[Head.parse(best)] - score) < 0.05

    def test_all_together_stay_small(self) -> None:
        sizes = [path.stat().st_size for path in specimens.place("").rglob("*.safetensors")]
        assert sum(sizes) < 30_000_000

    @pytest.mark.parametrize("name", specimens.names())
    def test_loads_with_plain_transformers(self, name: str) -> None:
        model, tokenizer = specimens.specimen(name)
        assert model.dtype == torch.float32 and not model.training
        ids = tokenizer.encode(" Monday", add_special_tokens=False)
        assert len(ids) == 1 and tokenizer.decode(ids) == " Monday"
        assert len(tokenizer) == model.config.vocab_size

    def test_an_unknown_one(self) -> None:
        with pytest.raises(HeadatlasError, match="no model 'nothing' ships with headatlas; these do: specimen"):
            specimens.specimen("nothing")


class TestCommand:
    def test_the_card(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["specimen"]) == 0
        shown = capsys.readouterr().out
        card = specimens.card()
        assert card["sha256"] in shown and all(line.split(":")[0] in shown for line in card["limits"])
        assert all(family in shown for family in card["families"])

    def test_verdicts_are_signs_that_fit(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for width in (80, 160):
            monkeypatch.setenv("COLUMNS", str(width))
            main(["specimen"])
            shown = capsys.readouterr().out
            assert "…" not in shown and "specimen-llama-2" in shown
            rows = [line.split() for line in shown.splitlines() if line.startswith("induction ")]
            assert ["●"] * 6 in [row[1:7] for row in rows]

    def test_as_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["specimen", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == specimens.card()

    def test_the_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["specimen", "--list"]) == 0
        assert capsys.readouterr().out.split() == specimens.names()

    def test_an_unknown_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["specimen", "nothing"]) == 2
        assert capsys.readouterr().err.startswith("headatlas: no model 'nothing' ships")


def test_the_picture_of_training_draws_the_heads_that_rise() -> None:
    flat, risen = [[0.0, 0.1]], [[0.0, 0.9]]
    steps = [
        {
            "tokens": tokens,
            "accuracy": dict.fromkeys(SKILLS, share),
            "heads": dict.fromkeys(HEADS, flat) | {"induction": heads},
        }
        for tokens, share, heads in ((2e5, 0.0, flat), (2e6, 0.5, risen), (2e7, 1.0, risen))
    ]
    drawn = training_picture(steps, "t")
    assert "<title>induction L0H1</title>" in drawn and "L0H0" not in drawn
    assert drawn.count("<polyline") == 1 + len(SKILLS) and "10 million tokens" in drawn
