"""What a contributor types: stimuli of a script, and the check of one entry."""

import json
import shutil
from pathlib import Path

import pytest

from headatlas import locations, specimens
from headatlas.cli.program import main
from headatlas.errors import HeadatlasError
from headatlas.lab.loading.vocabulary_alone import open_vocabulary
from headatlas.protocol import entry_check
from headatlas.protocol.script import load_script
from headatlas.protocol.script_faults import failed
from places import ROOT

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def no_weights(tmp_path: Path) -> str:
    """The specimen's folder without its weights."""
    folder = tmp_path / "specimen"
    shutil.copytree(specimens.folder(), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return str(folder)


class TestStimuli:
    def drawn(self, capsys: Capture, *words: str) -> list[dict]:
        assert main(["stimuli", *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    def test_they_are_the_prompts_of_a_run_and_need_no_weights(self, no_weights: str, capsys: Capture) -> None:
        found = self.drawn(capsys, "name-mover", "--model", no_weights, "--seed", "7", "--number", "4")
        script, vocabulary = load_script("name-mover"), open_vocabulary("specimen")
        wanted = script.draw("stimulus", vocabulary, "find", 2, seed=7)
        order = [0, 2, 4, 1]  # the first prompt of each family, then the second of each
        assert [each["family"] for each in found] == [wanted.families[number] for number in order]
        assert [tuple(each["tokens"]) for each in found] == [wanted.prompts[number].tokens for number in order]
        assert [[tuple(pair) for pair in each["pairs"]] for each in found] == [
            list(wanted.prompts[number].pairs) for number in order
        ]
        assert vocabulary.encode("".join(found[0]["words"][1:])) == wanted.prompts[0].tokens[1:]

    def test_one_family_and_the_prompts_of_the_task(self, capsys: Capture) -> None:
        found = self.drawn(capsys, "induction", "--family", "eight times", "--number", "2")
        assert [each["family"] for each in found] == ["eight times"] * 2 and len(found[0]["tokens"]) == 97
        task = self.drawn(capsys, "induction", "--family", "eight times", "--number", "1", "--task")
        assert len(task[0]["tokens"]) == 1 + 8 * 4

    def test_what_a_person_sees(self, capsys: Capture) -> None:
        assert main(["stimuli", "name-mover", "--number", "1"]) == 0
        said = capsys.readouterr().out
        prompt = load_script("name-mover").draw("stimulus", open_vocabulary("specimen"), "find", 1, 0).prompts[0]
        (query, key), (readout,) = prompt.pairs[0], prompt.readouts
        assert f"({query}) → " in said and f"({key})" in said and f"({readout.position}): " in said
        for part in ("corrupted: ", "same names: ", "pairs: ", "answers: ", ", not ", "`detect` of the script"):
            assert part in said

    @pytest.mark.parametrize(
        "words, complaint",
        [
            (["induction", "--family", "thrice"], "has no family 'thrice'; it has 'twice'"),
            (["induction", "--number", "0"], "--number must be at least 1"),
            (["rebinding"], "has no reproduction script"),
            (["induction", "--model", "./nothing"], "is not a folder"),
            (["nobody"], "no head type is called"),
        ],
    )
    def test_mistakes(self, words: list[str], complaint: str, capsys: Capture) -> None:
        assert main(["stimuli", *words]) == 2
        said = capsys.readouterr().err
        assert complaint in said and said.strip().count("\n") == 0


class TestCheck:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A copy of the catalog with a few scripts."""
        shutil.copytree(locations.catalog(), tmp_path / "catalog")
        (tmp_path / "reproductions").mkdir()
        shutil.copy(locations.reproductions() / "induction.py", tmp_path / "reproductions")
        return tmp_path / "catalog"

    def check(self, folder: Path, capsys: Capture) -> tuple[int, list[dict]]:
        code = main(["check", "induction", "--catalog", str(folder), "--json"])
        return code, json.loads(capsys.readouterr().out)

    def test_every_step_is_told(self, folder: Path, capsys: Capture) -> None:
        assert main(["check", "induction", "--catalog", str(folder)]) == 0
        said = capsys.readouterr().out
        assert [line.split()[1] for line in said.splitlines() if line.startswith("✓")] == [
            "entry", "script", "stimuli", "run",
        ]  # fmt: skip
        assert "6 prompts of 3 families" in said and "no verdict" in said
        assert [line.split()[0] for line in said.splitlines()[-4:-1]] == ["✓", "score", "cause"]

    def test_a_fault_of_the_entry_ends_it_and_those_of_others_are_counted(self, folder: Path, capsys: Capture) -> None:
        for name in ("induction", "successor"):
            path = folder / "heads" / f"{name}.yaml"
            path.write_text(path.read_text() + "colour: blue\n")
        code, steps = self.check(folder, capsys)
        assert code == 2 and [each["name"] for each in steps] == ["entry"] and not steps[0]["passed"]
        assert "heads/induction.yaml: colour: unknown field" in steps[0]["said"][0]
        assert "in other files" in steps[0]["said"][-1] and "successor" not in " ".join(steps[0]["said"])

    def test_a_fault_of_the_script_names_file_and_line(self, folder: Path, capsys: Capture) -> None:
        path = folder.parent / "reproductions" / "induction.py"
        source = path.read_text()
        call = "    return repeats.written(vocab, *FAMILIES[family], rng)\n"
        line = source[: source.index(call)].count("\n") + 1
        path.write_text(source.replace(call, "    return repeats.writen(vocab, *FAMILIES[family], rng)\n"))
        code, steps = self.check(folder, capsys)
        assert code == 2 and [each["name"] for each in steps if not each["passed"]] == ["stimuli"]
        assert f"reproductions/induction.py: line {line}: AttributeError" in steps[-1]["said"][0]
        path.write_text(source.replace("BEHAVIOUR = accuracy\n", "BEHAVIOUR = accurate\n"))
        _, steps = self.check(folder, capsys)
        assert (
            steps[-1]["name"] == "script" and "NameError" in steps[-1]["said"][0] and ": line " in steps[-1]["said"][0]
        )

    def test_a_fault_while_it_runs_is_the_last_step(self, folder: Path, capsys: Capture) -> None:
        path = folder.parent / "reproductions" / "induction.py"
        path.write_text(path.read_text() + "\n\ndef detect(model, sample):\n    return model.no_such_thing\n")
        code, steps = self.check(folder, capsys)
        assert code == 2 and steps[-1]["name"] == "run" and "no_such_thing" in steps[-1]["said"][0]

    def test_an_entry_without_a_script_is_checked_as_far_as_it_goes(self, folder: Path) -> None:
        found = list(entry_check.steps("rebinding", folder=folder))
        assert [each.name for each in found] == ["entry", "script"] and all(each.passed for each in found)

    def test_an_unknown_entry(self, capsys: Capture) -> None:
        assert main(["check", "indcution"]) == 2
        assert "did you mean induction" in capsys.readouterr().err


def test_an_error_outside_the_script_is_a_fault_of_headatlas(tmp_path: Path) -> None:
    try:
        _ = {}["key"]
    except KeyError as error:
        assert "please report it" in failed(error, tmp_path / "script.py")
        assert f"{Path(__file__).name}: line " in failed(error, Path(__file__))
    assert failed(HeadatlasError("what to do"), tmp_path) == "what to do"


def test_make_check_covers_what_an_entry_needs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.split("\ncheck: setup\n")[1].split("\n\n")[0]
    for part in ("ruff check", "ruff format --check", "headatlas validate", "readme_counts.py --check", "$(CHECK)"):
        assert part in recipe
    variable = makefile.split("\nCHECK := ")[1].split("\ncheck:")[0]
    assert "catalog/test_" in variable and (ROOT / "tests/protocol/test_script_check.py").is_file()
    assert "protocol/test_script_check.py" in variable
