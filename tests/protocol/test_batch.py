"""Many findings at once: records are kept while they hold, failures stay alone, and reports say what is stale."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import headatlas
from headatlas import locations, specimens, stimuli
from headatlas.catalog.schema import HeadType
from headatlas.cli.program import main
from headatlas.cli.terminal import record_view
from headatlas.errors import HeadatlasError
from headatlas.evidence import record_files, records
from headatlas.evidence.outcome import Outcome
from headatlas.pages.report import report
from headatlas.progress import RunProgress, Task
from headatlas.protocol import code_hash, results, run, run_many, shared_model
from headatlas.protocol.model_options import ModelOptions

CATALOG = headatlas.load()
ENTRIES = [CATALOG.heads[id] for id in ("duplicate-token", "successor")]
Capture = pytest.CaptureFixture[str]


def outcomes(
    job: run_many.RunRequest, again: bool = False, jobs: int = 1, report: RunProgress | None = None
) -> dict[str, Outcome]:
    made = run_many.run_all(CATALOG, ENTRIES, job, again, jobs, report or RunProgress())
    return {outcome.entry: outcome for outcome in made}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of the specimen's weights: a model that is not called 'specimen'."""
    folder = tmp_path_factory.mktemp("models") / "mine"
    folder.mkdir()
    for path in specimens.folder().iterdir():
        if path.suffix in (".json", ".safetensors"):
            (folder / path.name).write_bytes(path.read_bytes())
    return str(folder)


@pytest.fixture(scope="module")
def recorded(model: str, tmp_path_factory: pytest.TempPathFactory) -> run_many.RunRequest:
    job = run_many.RunRequest(model, ModelOptions(), (0,), tmp_path_factory.mktemp("records"))
    assert not any(outcome.kept or outcome.error for outcome in outcomes(job).values())
    return job


@pytest.fixture
def job(recorded: run_many.RunRequest, tmp_path: Path) -> run_many.RunRequest:
    """The recorded runs in a folder of this test's own."""
    for path in recorded.out.glob("*/*.json"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).write_bytes(path.read_bytes())
    return run_many.RunRequest(recorded.model, ModelOptions(), (0,), tmp_path)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, recorded: run_many.RunRequest) -> list[str]:
    """What is run in the test; it takes no time, as the recorded run stands for it."""
    ids: list[str] = []
    kept = {path.stem: record_files.read(path) for path in recorded.out.glob("*/*.json")}

    def instead(catalog: object, entry: HeadType, *_: object) -> records.Record:
        ids.append(entry.id)
        return kept[entry.id]

    monkeypatch.setattr(run, "run", instead)
    return ids


class TestKeeping:
    def test_what_is_recorded_and_has_not_changed_is_not_run_again(
        self, job: run_many.RunRequest, ran: list[str]
    ) -> None:
        found = outcomes(job)
        assert ran == [] and all(outcome.kept for outcome in found.values()) and len(found) == 2
        assert outcomes(job, again=True) and ran == ["duplicate-token", "successor"]

    @pytest.mark.parametrize(
        "part, name, value",
        [
            ("entry", "rule_version", 99),
            ("entry", "script_sha256", "0" * 64),
            ("entry", "stimuli_sha256", "0" * 64),
            ("entry", "measurement", 1),
            ("model", "sha256", "0" * 64),
            ("stability", "seeds", {"1": "partly"}),
        ],
    )
    def test_what_has_changed_is_run_again(
        self, part: str, name: str, value: object, job: run_many.RunRequest, ran: list[str]
    ) -> None:
        (path,) = job.out.glob("*/successor.json")
        data = json.loads(path.read_text())
        data[part][name] = value
        path.write_text(json.dumps(data))
        assert outcomes(job)["successor"].kept is False
        assert ran == ["successor"]

    def test_only_the_seeds_that_are_missing_are_run(
        self, job: run_many.RunRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The record stays that of the first seed; a first seed that is missing is run, and all others with it."""
        before = outcomes(job)["successor"].record
        plain, asked = run._run_seed, []

        def counted(script, rule, model, findings, seed, *rest):  # type: ignore[no-untyped-def]
            asked.append((script.id, seed))
            return plain(script, rule, model, findings, seed, *rest)

        monkeypatch.setattr(run, "_run_seed", counted)
        heard = Heard()
        after = outcomes(replace(job, seeds=(0, 1)), report=heard)["successor"].record
        assert before and after and asked == [("duplicate-token", 1), ("successor", 1)]
        assert list(after.stability.seeds) == ["0", "1"] and after.environment.seconds > before.environment.seconds
        assert after.detection == before.detection and after.verdict == before.verdict
        assert {step.what.split(",")[0] for task in heard.tasks for step in task.steps} == {"seed 1"}
        asked.clear()
        outcomes(replace(job, seeds=(2, 0, 1)))
        assert [seed for _, seed in asked] == [2, 0, 1] * 2

    def test_a_damaged_record_is_run_again(self, job: run_many.RunRequest, ran: list[str]) -> None:
        (path,) = job.out.glob("*/successor.json")
        path.write_text(path.read_text()[:300])
        outcomes(job)
        assert ran == ["successor"] and record_files.read(path)


@pytest.mark.parametrize("error", [HeadatlasError("no room"), IndexError("list index out of range")])
def test_one_failure_stops_nothing(
    error: Exception, job: run_many.RunRequest, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: Callable[..., records.Record] = run.run

    def fail(catalog: object, entry: HeadType, *rest: object) -> records.Record:
        if entry.id == "duplicate-token":
            raise error
        return plain(catalog, entry, *rest)

    monkeypatch.setattr(run, "run", fail)
    found = outcomes(job, again=True)
    assert str(error) in (found["duplicate-token"].error or "") and found["duplicate-token"].record is None
    assert found["successor"].record and found["successor"].path and found["successor"].path.is_file()


def test_a_full_disk_ends_the_run_with_one_line(
    job: run_many.RunRequest, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Path:
        raise HeadatlasError("cannot write (No space left on device); free space")

    monkeypatch.setattr(record_files, "write", full)
    with pytest.raises(HeadatlasError, match="No space left"):
        outcomes(job, again=True)
    assert len(list(job.out.glob("*/*.json"))) == 2


def test_the_table_says_why_a_head_that_reaches_the_threshold_is_not_found(
    job: run_many.RunRequest, capsys: Capture
) -> None:
    (path,) = job.out.glob("*/successor.json")
    data = json.loads(path.read_text())
    assert not data["detection"]["selected"]
    best = max(max(row) for row in data["detection"]["find"])
    data["detection"]["q"] = [[1.0] * len(row) for row in data["detection"]["q"]]
    for threshold, said in ((best + 0.1, f"(needed {best + 0.1:g})"), (best - 0.1, "(not significant)")):
        data["detection"]["threshold"] = threshold
        record = records.Record.model_validate(data)
        record_view.print_verdicts(CATALOG, [Outcome("successor", path, record)])
        assert f"best score {best:.2g} {said}" in " ".join(capsys.readouterr().out.split())


class Heard(RunProgress):
    """What a run of many tells."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.steps: dict[str, list[str]] = {}
        self.ended: list[str] = []

    def plan(self, tasks: Sequence[Task], workers: int = 1, before: int = 0) -> None:
        self.tasks, self.workers, self.before = list(tasks), workers, before

    def step(self, id: str, what: str, done: int, total: int) -> None:
        self.steps.setdefault(id, []).append(what)

    def end(self, id: str) -> None:
        self.ended.append(id)


@pytest.mark.parametrize("least", [shared_model.LEAST, 0], ids=["each opens the model", "handed over"])
def test_two_processes_record_what_one_does(
    least: int, recorded: run_many.RunRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_model, "LEAST", least)
    heard = Heard()
    shared = outcomes(run_many.RunRequest(recorded.model, ModelOptions(), (0,), tmp_path), jobs=2, report=heard)
    assert sorted(shared) == ["duplicate-token", "successor"]
    assert [task.id for task in heard.tasks] == ["duplicate-token", "successor"] and heard.workers == 2
    assert heard.tasks[0].weight > heard.tasks[1].weight and sorted(set(heard.ended)) == sorted(shared)
    for task in heard.tasks:  # each process says what it does, by the names of the plan
        assert [step.what for step in task.steps[:3]] == list(dict.fromkeys(heard.steps[task.id]))[1:4]
    for path in recorded.out.glob("*/*.json"):
        one, two = record_files.read(path), record_files.read(tmp_path / path.parent.name / path.name)
        assert one.model_copy(update={"environment": two.environment}) == two


class TestFreshness:
    @pytest.fixture
    def script(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        for name, code in {"near": "from headatlas.stimuli.far import f\n", "far": "def f():\n    return 1\n"}.items():
            (tmp_path / f"{name}.py").write_text(code)
        (tmp_path / "other.py").write_text("x = 1\n")
        (tmp_path / "script.py").write_text("from headatlas.stimuli import near\n")
        monkeypatch.setattr(stimuli, "__file__", str(tmp_path / "__init__.py"))
        return tmp_path / "script.py"

    def edited(self, script: Path, name: str, code: str) -> bool:
        """Whether the hash changes where a module does."""
        before = code_hash.stimuli_sha256(script)
        (script.parent / f"{name}.py").write_text(code)
        return code_hash.stimuli_sha256(script) != before

    def test_code_that_a_script_leads_to_counts(self, script: Path) -> None:
        assert self.edited(script, "far", "def f():\n    return 2\n")

    def test_comments_docstrings_and_layout_do_not(self, script: Path) -> None:
        assert not self.edited(script, "far", '"""Far."""\n\ndef f():  # one\n    """One."""\n\n    return 1\n')

    def test_nor_does_a_module_it_does_not_lead_to(self, script: Path) -> None:
        assert not self.edited(script, "other", "x = 2\n")

    def test_every_script_leads_to_stimuli(self) -> None:
        for id in CATALOG.find(reproduction=True):
            assert "prompts" in code_hash.modules_reached(locations.reproductions() / f"{id}.py")


class TestResults:
    def test_says_what_has_changed_since(self, job: run_many.RunRequest) -> None:
        (path,) = job.out.glob("*/successor.json")
        data = json.loads(path.read_text())
        data["entry"]["script_sha256"] = "0" * 64
        path.write_text(json.dumps(data))
        found, damaged = results.collect(CATALOG, job.out)
        assert damaged == []
        assert {each.record.entry.id: each.changed for each in found} == {
            "duplicate-token": (),
            "successor": ("script",),
        }

    def test_a_damaged_record_is_one_line_and_the_others_are_shown(
        self, job: run_many.RunRequest, capsys: Capture
    ) -> None:
        (path,) = job.out.glob("*/successor.json")
        path.write_text("{")
        assert main(["results", "--out", str(job.out)]) == 2
        told = capsys.readouterr()
        assert "duplicate-token" in told.out and "run it again" in told.err and told.err.count("\n") == 1

    def test_as_json(self, job: run_many.RunRequest, capsys: Capture) -> None:
        assert main(["results", "--out", str(job.out), "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["entry"] for row in rows] == ["duplicate-token", "successor"]
        assert rows[0]["verdict"] == record_files.read(next(job.out.glob("*/duplicate-token.json"))).verdict.label

    def test_a_folder_without_records(self, tmp_path: Path, capsys: Capture) -> None:
        assert main(["results", "--out", str(tmp_path)]) == 0
        assert "no records in" in capsys.readouterr().out
        assert main(["report", str(tmp_path / "r.html"), "--out", str(tmp_path)]) == 2


class TestReport:
    def test_one_file_that_asks_for_nothing(self, job: run_many.RunRequest, tmp_path: Path) -> None:
        assert main(["report", str(tmp_path / "r.html"), "--out", str(job.out)]) == 0
        page = (tmp_path / "r.html").read_text()
        assert "src=" not in page and "@import" not in page and "<script" not in page and "<link" not in page
        for result in results.collect(CATALOG, job.out)[0]:
            for reason in result.record.verdict.reasons:
                assert reason in page

    def test_hostile_text_stays_text(self, job: run_many.RunRequest) -> None:
        (path,) = job.out.glob("*/successor.json")
        data = json.loads(path.read_text())
        data["verdict"]["reasons"] = ["<script>alert(1)</script>"]
        data["model"]["name"] = data["detection"]["metric"] = '"><script>alert(2)</script>'
        path.write_text(json.dumps(data))
        page = report(CATALOG, results.collect(CATALOG, job.out)[0])
        assert "<script" not in page and "&lt;script&gt;alert(1)" in page

    def test_a_file_that_cannot_be_written(self, job: run_many.RunRequest, capsys: Capture) -> None:
        assert main(["report", "/no/such/folder/r.html", "--out", str(job.out)]) == 2
        assert "cannot write" in capsys.readouterr().err
