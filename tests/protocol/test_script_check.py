"""What a reproduction script must supply is checked by reading it, before anything runs."""

import ast
import re
import shutil
from pathlib import Path

import pytest

import headatlas
from conftest import load_tool
from headatlas import lab, locations
from headatlas.cli.program import main
from headatlas.evidence import record_files
from headatlas.lab import fits, paths, weights
from headatlas.protocol import script_check
from headatlas.protocol.script import load_script

Capture = pytest.CaptureFixture[str]
CATALOG = headatlas.load()
IDS = list(CATALOG.find(reproduction=True))
SCRIPT = '''"""Made up.

Claim      It looks back.
Stimuli    Random tokens.
Score      Attention.
Control    Other attention.
Behaviour  Accuracy.
Cause      Ablation.
"""

import random

from headatlas.lab import OpenModel, Scores, accuracy, attention_scores
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary

FAMILIES = {"ten": 10, "twelve": 12, "fourteen": 14}
BEHAVIOUR, POSITIONS = accuracy, "last"
COST = "paths"
LENGTH = 5


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    tokens = vocab.draw(rng, FAMILIES[family] + LENGTH)
    return Prompt(tokens, tokens)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    return attention_scores(model, sample.prompts)
'''


def written(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in SCRIPT
    path = folder / "made-up.py"
    path.write_text(SCRIPT.replace(old, new) if old else SCRIPT)
    return path


@pytest.mark.parametrize("id", IDS)
def test_every_script_passes_and_fits_the_rule_of_its_entry(id: str) -> None:
    assert script_check.check(locations.reproductions() / f"{id}.py", CATALOG.heads[id].rule) == []


def test_the_made_up_script_passes(tmp_path: Path) -> None:
    assert script_check.check(written(tmp_path)) == [] and load_script("made-up", tmp_path).cost == "paths"


@pytest.mark.parametrize(
    "old, new, at, complaint",
    [
        ("POSITIONS = accuracy", "POSITION = accuracy", "BEHAVIOUR", "did you mean POSITIONS?"),
        ("def detect(", "def detects(", "def detects", "did you mean detect?"),
        ("LENGTH = 5", "LENGTH, Effect = 5, accuracy", "LENGTH = 5", "did you mean EFFECT?"),
        ("LENGTH = 5", "LENGTH, RATIO = 5, 2", "LENGTH = 5", "RATIO is no name of a script, and nothing here reads it"),
        ("LENGTH = 5", "LENGTH = EFFECTS = 5\nprint(EFFECTS)", "LENGTH = 5", "EFFECTS is too like EFFECT"),
        ("BEHAVIOUR, POSITIONS = accuracy,", "BEHAVIOR, POSITIONS = accuracy,", "BEHAV", "did you mean BEHAVIOUR?"),
        (', "fourteen": 14', "", "FAMILIES =", "FAMILIES has 2 different names; give at least 3"),
        ('"fourteen": 14', '"ten": 14', "FAMILIES =", "FAMILIES has 2 different names; give at least 3"),
        ('{"ten": 10, "twelve": 12, "fourteen": 14}', "dict(a=1, b=2, c=3)", "FAMILIES =", "must be written out"),
        ("def stimulus(", "def _stimulus(", "", "has neither stimulus nor task"),
        ('"last"', '"end"', "BEHAVIOUR,", "POSITIONS must be 'all', 'last', or whole numbers"),
        ('COST = "paths"', 'COST = "much"', "COST =", "COST must be one of 'training', 'paths' or"),
        ('COST = "paths"', "NEEDS_BEHAVIOUR = 1", "COST =", "NEEDS_BEHAVIOUR must be True or False"),
        (
            "vocab: Vocabulary, family: str, rng",
            "vocab: Vocabulary, rng",
            "def stimulus",
            "write stimulus(vocab, family",
        ),
        (
            "vocab: Vocabulary, family: str",
            "family: str, vocab: Vocabulary",
            "def stimulus",
            "write stimulus(vocab, fam",
        ),
        ("sample: PromptSample)", "drawn: PromptSample)", "def detect", "write detect(model, sample)"),
        ("Control    Other", "Other", "", "no line that begins with Control and two spaces"),
        ("def detect(model", "def detect(model,", "def detect", "is not Python"),
    ],
)
def test_names_the_line_and_what_to_write(tmp_path: Path, old: str, new: str, at: str, complaint: str) -> None:
    path = written(tmp_path, old, new)
    line = 1 + next(number for number, text in enumerate(SCRIPT.splitlines()) if text.startswith(at[:6]) or not at)
    assert any(complaint in fault.message and fault.line == line for fault in script_check.check(path))
    if "is not Python" not in complaint:
        with pytest.raises(headatlas.HeadatlasError, match=r"made-up\.py: line \d+: "):
            load_script("made-up", tmp_path)


def test_an_edit_and_the_intervention_of_the_rule_go_together(tmp_path: Path) -> None:
    ablates, steers = CATALOG.heads["induction"].rule, CATALOG.heads["truthfulness"].rule
    with_edit = "\n\ndef edit(model: OpenModel, sample: PromptSample) -> None: ...\n"
    path = written(tmp_path)
    assert script_check.check(path, ablates) == []
    assert [fault.message for fault in script_check.check(path, steers)] == [
        "has no edit, and the rule's intervention is steer; add edit(model, sample)"
    ]
    path.write_text(SCRIPT + with_edit)
    assert script_check.check(path, steers) == []
    (fault,) = script_check.check(path, ablates)
    assert "edit is never called: the rule's intervention is mean" in fault.message
    assert fault.line == SCRIPT.count("\n") + 3
    with pytest.raises(headatlas.HeadatlasError, match="edit is never called"):
        load_script("made-up", tmp_path, ablates)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the catalog and of the scripts, on which all commands work."""
    shutil.copytree(locations.catalog(), tmp_path / "catalog")
    (tmp_path / "reproductions").mkdir()
    for script in locations.reproductions().glob("*.py"):
        shutil.copy(script, tmp_path / "reproductions")
    monkeypatch.setattr(locations, "catalog", lambda: tmp_path / "catalog")
    monkeypatch.setattr(locations, "reproductions", lambda: tmp_path / "reproductions")
    return tmp_path


def test_validate_lists_the_problems_of_scripts(checkout: Path, capsys: Capture) -> None:
    script = checkout / "reproductions" / "induction.py"
    script.write_text(script.read_text().replace("SHORTER", "SMALLER", 1).replace("(vocab:", "(words:", 1))
    assert main(["validate"]) == 2
    shown = capsys.readouterr().err
    assert re.search(r"^reproductions/induction.py: line \d+: SMALLER is no name of a script", shown, re.MULTILINE)
    assert re.search(r"^reproductions/induction.py: line \d+: stimulus takes \(words: ", shown, re.MULTILINE)
    assert shown.startswith("headatlas: 2 problems")


# --- what a score needs is declared -------------------------------------------------------------------------------

# Functions of the lab that take many times more than a run of the model for every prompt.
COSTLY = {
    fits.learn_vectors: "training",
    fits.learn_each: "training",
    fits.learn_in_turn: "training",
    paths.path_effects: "paths",
    paths.path_effects_from: "paths",
    paths.indirect_effects: "paths",
    paths.find_copying_movers: "paths",
    lab.copying_scores: "vocabulary",
    weights.copying_in_prompts: "vocabulary",
}


def read_by_detect(id: str) -> set[str]:
    """The names that `detect` reads, itself or in the script's functions that it calls."""
    tree = ast.parse((locations.reproductions() / f"{id}.py").read_text())
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
    found: set[str] = set()
    left = [functions["detect"]] if "detect" in functions else []
    while left:
        nodes = list(ast.walk(left.pop()))
        names = {node.id for node in nodes if isinstance(node, ast.Name)} - found
        found |= names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        left += [functions[name] for name in names if name in functions]
    return found


@pytest.mark.parametrize("id", IDS)
def test_a_score_that_is_a_share_of_a_behaviour_says_so(id: str) -> None:
    read = read_by_detect(id)
    shares = bool({lab.metric_per_prompt.__name__, "clean", lab.ablation.Sweep.normalized_effect.__name__} & read)
    assert load_script(id).needs_behaviour == shares


@pytest.mark.parametrize("id", IDS)
def test_a_score_that_costs_much_says_why(id: str) -> None:
    read = read_by_detect(id)
    costs = [cost for function, cost in COSTLY.items() if function.__name__ in read]
    assert load_script(id).cost == (costs[0] if costs else None)


def test_some_scores_cost_much_and_some_are_shares_and_most_are_neither() -> None:
    scripts = [load_script(id) for id in IDS]
    assert {script.cost for script in scripts} == {None, *script_check.COSTS}
    assert 5 < sum(script.needs_behaviour for script in scripts) < len(IDS) / 2


# --- a new head type ----------------------------------------------------------------------------------------------


def test_adding_a_type_takes_three_files_and_three_commands(checkout: Path, capsys: Capture) -> None:
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    assert main(["new", "my-head"]) == 0
    entry, script = checkout / "catalog/heads/my-head.yaml", checkout / "reproductions/my-head.py"
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "  headatlas check my-head",
        "  headatlas run my-head",
        "  make readme check",
    ]
    assert main(["validate"]) == 2
    left = capsys.readouterr().err
    assert "catalog/heads/my-head.yaml: summary: still contains TODO" in left
    assert "reproductions/my-head.py: line 1: still contains TODO" in left and "has no rule for this script" in left

    text, _, judged = entry.read_text().partition("  # rule:\n")
    assert judged.count("\n  # ") == judged.count("\n") - 1, "every line of the rule and of what is expected"
    filled = text + "  rule:\n" + re.sub(r"^  # ", "  ", judged, flags=re.MULTILINE)
    filled = filled.replace("threshold: 0.4", "threshold: 0.99").replace(" 12\n", " 8\n")  # no head, so a short run
    entry.write_text(filled.replace("TODO", "Written").replace("todo2026source", "zzz2026source"))
    script.write_text(script.read_text().replace("TODO", "Written").replace("todo2026source", "zzz2026source"))
    source = "author = {Doe, Jane},\n  title = {Heads},\n  year = {2026},\n  url = {https://example.org},"
    with (checkout / "catalog/references.bib").open("a") as bibliography:
        bibliography.write(f"\n@misc{{zzz2026source,\n  {source}\n}}\n")
    assert main(["validate"]) == 0, capsys.readouterr().err
    changed = {path for path in checkout.rglob("*") if path.is_file() and path.read_bytes() != before.get(path)}
    assert changed == {entry, script, checkout / "catalog/references.bib"}

    assert main(["run", "my-head", "--out", str(checkout / "records")]) in (0, 1)
    record = record_files.read(checkout / "records/specimen/my-head.json")
    assert record.detection and record.behaviour and record.behaviour.passed
    counts = load_tool("readme_counts")
    numbers = counts.counts(headatlas.load(), record_files.read_all(locations.records()))
    readme = counts.counted(counts.README.read_text(), numbers)
    assert f"what is known: {len(CATALOG.heads) + 1} head types" in readme
    assert f"{len(IDS) + 1} of its {len(CATALOG.heads) + 1} head types can be rerun" in readme


def test_a_stub_runs_as_it_is(checkout: Path, specimen: lab.OpenModel) -> None:
    assert main(["new", "my-head"]) == 0
    script = load_script("my-head")
    sample = script.draw("stimulus", specimen.vocabulary, "find", 2, 0)
    scores = lab.attention_scores(specimen, sample.prompts)
    assert scores.score.max() > 0.4 and scores.score.max() > scores.null.max()
