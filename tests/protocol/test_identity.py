"""What identifies a model: each part of it changes the identity, and what was measured before is measured again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import headatlas
from conftest import FAMILIES, save_tiny
from headatlas import HeadatlasError, census, locations
from headatlas.catalog.schema import HeadType
from headatlas.census import reading
from headatlas.census.schema import Census
from headatlas.cli.program import main
from headatlas.collaboration import found, schema
from headatlas.evidence import record_files, record_parts, records
from headatlas.evidence.identity import PARTS, Identity
from headatlas.lab import OpenModel, forward, open_model
from headatlas.lab.loading.identifying import identity
from headatlas.progress import RunProgress
from headatlas.protocol import freshness, results, run, run_many
from headatlas.protocol.model_options import ModelOptions
from headatlas.protocol.provenance import catalog_id, model_record
from places import ROOT

CATALOG = headatlas.load()
ENTRY = CATALOG.heads["previous-token"]
Capture = pytest.CaptureFixture[str]
Change = Callable[[Path], object]


def edit(file: str, change: Callable[[Any], object]) -> Change:
    """Change the JSON of a file of the folder, in place."""

    def apply(folder: Path) -> None:
        data = json.loads((folder / file).read_text())
        change(data)
        (folder / file).write_text(json.dumps(data))

    return apply


def weight(folder: Path) -> None:
    """Change one bit of one weight."""
    tensors = load_file(folder / "model.safetensors")
    first = tensors["model.layers.1.self_attn.q_proj.weight"]
    first.view(torch.int32)[0, 0] ^= 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0}
ADDED = {
    "id": 4000, "content": "zebra", "single_word": False, "lstrip": False, "rstrip": False, "normalized": True,
    "special": False,
}  # fmt: skip
# The part that changes, and a change of the folder that changes it.
CHANGES: dict[str, tuple[str, Change]] = {
    "one bit of a weight": ("weights", weight),
    "position scaling": ("configuration", edit("config.json", lambda c: c.update(rope_parameters=YARN))),
    "window": ("configuration", edit("config.json", lambda c: c.update(sliding_window=5))),
    "norm": ("configuration", edit("config.json", lambda c: c.update(rms_norm_eps=1e-3))),
    "merges": ("tokenizer", edit("tokenizer.json", lambda t: t["model"]["merges"].pop())),
    "normaliser": ("tokenizer", edit("tokenizer.json", lambda t: t.update(normalizer={"type": "Lowercase"}))),
    "added token": ("tokenizer", edit("tokenizer.json", lambda t: t["added_tokens"].append(ADDED))),
    "BOS": ("tokenizer", edit("tokenizer_config.json", lambda t: t.update(bos_token="the"))),
    "chat template": ("generation", lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}")),
    "generation settings": ("generation", edit("generation_config.json", lambda g: g.update(temperature=0.3))),
}
# Changes of files that change no number.
HARMLESS: dict[str, Change] = {
    "layout": lambda folder: (folder / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()), indent=7, sort_keys=True)
    ),
    "version": edit("config.json", lambda c: c.update(transformers_version="4.0.0", _name_or_path="/elsewhere")),
    "default": edit("config.json", lambda c: c.pop("attention_dropout")),
    "note": lambda folder: (folder / "trainer_state.json").write_text('{"step": 100}'),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("mistral", tmp_path_factory.mktemp("plain") / "model")


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    """A model folder of the test's own."""
    return Path(shutil.copytree(plain, tmp_path / "model"))


def of(folder: Path, **options: Any) -> Identity:
    with open_model(folder, **options) as model:
        return identity(model)


class TestParts:
    @pytest.mark.parametrize("change", CHANGES)
    def test_a_change_of_the_folder_changes_its_part_and_no_other(self, change: str, folder: Path) -> None:
        part, apply = CHANGES[change]
        before = of(folder)
        apply(folder)
        after = of(folder)
        assert before.differs(after) == [part] and before.sha256 != after.sha256

    @pytest.mark.parametrize("change", HARMLESS)
    def test_what_changes_no_number_changes_nothing(self, change: str, folder: Path) -> None:
        before = of(folder)
        HARMLESS[change](folder)
        after = of(folder)
        assert before.differs(after) == [] and before.sha256 == after.sha256

    def test_where_it_lies_and_how_often_it_is_opened_changes_nothing(self, plain: Path, folder: Path) -> None:
        assert of(plain).sha256 == of(folder).sha256 == of(folder).sha256

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_the_dtype(self, dtype: torch.dtype, plain: Path) -> None:
        after = of(plain, dtype=dtype)
        assert of(plain).differs(after) == ["dtype"] and after.dtype == str(dtype).removeprefix("torch.")

    def test_how_weights_lie_in_several_files(self, plain: Path, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        transformers.AutoModelForCausalLM.from_pretrained(plain).save_pretrained(folder, max_shard_size="50KB")
        before = of(folder)
        (index,) = folder.glob("*.index.json")
        edit(index.name, lambda data: data["metadata"].update(note="another order"))(folder)
        assert before.differs(of(folder)) == ["weights"]

    def test_code_of_its_own(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
        code = (
            "from transformers import LlamaConfig, LlamaForCausalLM\n"
            "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
            "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
        )
        own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
        about = {"model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": own}
        edit("config.json", lambda c: c.update(about))(folder)
        (folder / "own.py").write_text(code)
        before, again = of(folder, trust_remote_code=True), of(folder, trust_remote_code=True)
        (folder / "own.py").write_text(f"{code}    factor = 2\n")
        after = of(folder, trust_remote_code=True)
        assert before.code and before.differs(again) == [] and before.differs(after) == ["code"]

    def test_an_adapter(self, plain: Path) -> None:
        with open_model(plain) as model:

            def merged(sha256: str) -> OpenModel:
                files = model.opened.files | {"adapter/adapter_model.safetensors": sha256}
                return replace(model, opened=replace(model.opened, adapter="some adapter", files=files))

            one, other = (identity(merged(digit * 64)) for digit in "01")
            assert identity(model).differs(one) == one.differs(other) == ["adapter"]

    def test_there_are_no_others(self) -> None:
        named = {"weights", "configuration", "tokenizer", "generation", "code", "adapter", "quantisation", "dtype"}
        assert set(PARTS) == named | {"attention"}
        page = (ROOT / "site" / "identity.md").read_text()
        for part in PARTS:
            assert f"| {part} |" in page, f"site/identity.md does not say what {part} is"


class TestInMemory:
    """A model that is already loaded, or was changed since it was opened."""

    @pytest.fixture
    def model(self, plain: Path) -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32)

    @pytest.fixture
    def words(self, plain: Path) -> Any:
        return transformers.AutoTokenizer.from_pretrained(plain)

    @pytest.mark.parametrize(
        "part, change",
        [
            ("configuration", lambda model, words: setattr(model.config, "sliding_window", 5)),
            ("configuration", lambda model, words: model.config.rope_parameters.update(rope_theta=500.0)),
            ("weights", lambda model, words: model.model.rotary_emb.inv_freq.mul_(2.0)),
            ("weights", lambda model, words: model.model.norm.weight.data.mul_(2.0)),
            ("tokenizer", lambda model, words: words.add_tokens(["zebra"])),
            ("tokenizer", lambda model, words: setattr(words, "bos_token", "the")),
            ("generation", lambda model, words: setattr(words, "chat_template", "{{ messages }}")),
            ("generation", lambda model, words: setattr(model.generation_config, "temperature", 0.3)),
            ("attention", lambda model, words: model.set_attn_implementation("eager")),
            (
                "quantisation",
                lambda model, words: setattr(
                    model.config, "quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}
                ),
            ),
        ],
    )
    def test_a_change_before_it_is_opened(self, part: str, change: Any, model: Any, words: Any) -> None:
        with open_model(model, tokenizer=words, called="mine") as opened:
            before = identity(opened)
        with torch.no_grad():
            change(model, words)
        with open_model(model, tokenizer=words, called="mine") as opened:
            assert before.differs(identity(opened)) == [part]

    @pytest.mark.parametrize(
        "change",
        [
            lambda weight: weight.mul_(1.5),
            lambda weight: weight.data.mul_(1.5),
            lambda weight: weight.copy_(weight.flip(0)),  # rows in another order
            lambda weight: weight.copy_(weight.flip(1)),
        ],
    )
    def test_a_change_after_it_was_opened(self, change: Any, plain: Path) -> None:
        with open_model(plain) as opened, torch.no_grad():
            before = model_record(opened, None)
            change(opened.model.model.layers[1].self_attn.q_proj.weight)
            after = model_record(opened, None)
        assert before.differs(after) == ["weights"] and before.sha256 != after.sha256

    @pytest.mark.parametrize("kind", ["dynamic", "yarn"])
    def test_running_it_changes_nothing(self, kind: str, plain: Path, tmp_path: Path) -> None:
        config = FAMILIES["llama"]()
        config.rope_parameters = {"rope_type": kind, "factor": 2.0, "rope_theta": 10000.0}
        config.max_position_embeddings = 16
        transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(plain / name, tmp_path)
        with open_model(tmp_path) as opened:
            before = identity(opened)
            opened.tokenizer("a longer prompt", max_length=3, truncation=True)
            forward(opened, torch.arange(1, 25)[None], {})  # longer than its context
            assert before.differs(identity(opened)) == []

    def test_a_model_with_other_weights_is_none_that_papers_speak_of(self, specimen: OpenModel) -> None:
        assert catalog_id(CATALOG, specimen) == "specimen"
        merged = replace(specimen, opened=replace(specimen.opened, adapter="0" * 64))
        assert catalog_id(CATALOG, merged) is None
        assert catalog_id(CATALOG, replace(specimen, opened=replace(specimen.opened, trace="before"))) is None


# --- what was measured before ---------------------------------------------------------------------------------------


class Measured:
    """Runs, takes a census, and reads records as `collaborate` does, and says which of them measured anew."""

    def __init__(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out, self.ran = out, 0
        shipped = record_files.read(locations.records() / "specimen" / "previous-token.json")

        def instead(catalog: object, entry: HeadType, model: OpenModel, *_: object) -> records.Record:
            self.ran += 1
            now = freshness.entry_of(entry.id, entry.rule.version, self._script())  # type: ignore[union-attr]
            stability = records.Stability(families={}, seeds={"0": "partly"})
            about = model_record(model, None)
            return shipped.model_copy(
                update={"model": about, "entry": now, "stability": stability, "detection": self._detection(about)}
            )

        monkeypatch.setattr(run, "run", instead)

    def _detection(self, model: record_parts.ModelRecord) -> records.Detection:
        rows = [[0.5] * count for count in model.by_layer]
        shipped = record_files.read(locations.records() / "specimen" / "previous-token.json").detection
        assert shipped
        grids = ("find", "find_control", "q", "score", "low", "high", "control", "sink_normalised")
        return shipped.model_copy(update=dict.fromkeys(grids, rows) | {"selected": ["L0H0"]})

    def _script(self) -> Path:
        return locations.reproductions() / f"{ENTRY.id}.py"

    def anew(self, folder: Path, options: ModelOptions) -> tuple[bool, bool, bool]:
        """Whether the run, the census and the collaboration measure anew or refuse what was measured before."""
        ran, measured = self.ran, self.measured()
        with open_model(folder, **options.keywords()) as model:
            about = model_record(model, None)
            try:
                refused = bool(self.ran) and not found.found_in(self.out / "records", about, 5)
            except HeadatlasError as error:
                refused = "run it again" in str(error)
        job = run_many.RunRequest(str(folder), options, (0,), self.out / "records")
        (outcome,) = run_many.run_all(CATALOG, [ENTRY], job, False, 1, RunProgress())
        assert (
            outcome.error is None and outcome.path and record_files.read(outcome.path).model.identity == about.identity
        )
        words = ["census", str(folder), "--types", ENTRY.id, "--prompts", "2", "--no-cause", "--jobs", "1"]
        assert main([*words, "--dtype", options.dtype, "--out", str(self.out / "census")]) == 0
        taken = reading.read(self.out / "census" / "model" / "census.json")
        assert taken.model.identity and taken.model.differs(about) == []
        return self.ran > ran, bool(self.measured() - measured), refused

    def measured(self) -> set[tuple[str, int]]:
        """The parts of censuses that were written: by which file, and when."""
        return {(each.name, each.stat().st_mtime_ns) for each in self.out.glob("census/*/parts*/*.json")}


# One change of each part; that the others change their part too is tested above.
OF_EACH_PART = ("one bit of a weight", "window", "merges", "chat template", "dtype")


@pytest.mark.parametrize("change", OF_EACH_PART)
def test_each_part_that_changes_is_measured_again_and_nothing_is_lost(
    change: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    measured, options = Measured(tmp_path, monkeypatch), ModelOptions()
    assert measured.anew(folder, options) == (True, True, False)
    assert measured.anew(folder, options) == (False, False, False), "what has not changed is kept"
    before = of(folder)
    kept = {path.name: path.read_text() for path in tmp_path.glob("*/model/*.*")}
    if change == "dtype":
        part, options = "dtype", ModelOptions(dtype="bfloat16")
    else:
        part, apply = CHANGES[change]
        apply(folder)
    capsys.readouterr()
    assert measured.anew(folder, options) == (True, True, True)
    said = capsys.readouterr().err
    aside = f"model-{before.sha256[:8]}"
    assert f"different {part}); its results are now in {tmp_path / 'census' / aside}" in said
    assert measured.anew(folder, options) == (False, False, False)
    assert {path.name: path.read_text() for path in tmp_path.glob(f"*/{aside}/*.*")} == kept, "the older is kept"


def test_records_and_censuses_go_stale_by_each_part_of_the_identity(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(pattern: str, part: str) -> None:
        (path,) = tmp_path.glob(pattern)
        data = json.loads(path.read_text())
        data["model"]["identity"][part] = "another"
        path.write_text(json.dumps(data))

    record, census_part = "records/model/*.json", "census/model/parts/*.json"
    measured = Measured(tmp_path, monkeypatch)
    measured.anew(folder, ModelOptions())
    for part in PARTS:
        spoil(record, part)
        spoil(census_part, part)
        assert measured.anew(folder, ModelOptions())[:2] == (True, True), part
        for aside in tmp_path.glob("*/model-*"):  # the older ones, which would be found again
            shutil.rmtree(aside)
    for pattern, anew in ((record, (True, False)), (census_part, (False, True))):
        spoil(pattern, "adapter")
        assert measured.anew(folder, ModelOptions())[:2] == anew, "each alone"


def test_what_does_not_say_what_it_is_of_is_measured_again_in_its_place(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    measured = Measured(tmp_path, monkeypatch)
    measured.anew(folder, ModelOptions())
    for path in (*tmp_path.glob("records/model/*.json"), *tmp_path.glob("census/model/parts/*.json")):
        data = json.loads(path.read_text())
        del data["model"]["identity"]
        path.write_text(json.dumps(data))
    assert main(["results", "--out", str(tmp_path / "records")]) == 0
    said = "".join(capsys.readouterr())  # rows, and notes beside them
    assert said.count("not say all") == 1 and "partly*" not in said and "reproduced*" not in said
    assert measured.anew(folder, ModelOptions()) == (True, True, True)
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["model"]


class TestOneName:
    """Two models in folders of one name, recorded in one place."""

    @pytest.fixture
    def two(self, plain: Path, tmp_path: Path) -> tuple[Path, Path]:
        one, other = tmp_path / "a" / "model", tmp_path / "b" / "model"
        shutil.copytree(plain, one)
        save_tiny("gpt2", other)
        return one, other

    def test_records_and_censuses_of_both_are_kept_and_told_apart(
        self, two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        measured = Measured(tmp_path, monkeypatch)
        for folder in two:
            assert measured.anew(folder, ModelOptions())[:2] == (True, True)
        for folder in (*two, two[0]):
            assert measured.anew(folder, ModelOptions())[:2] == (False, False), "each finds its own"
        shown, damaged = results.collect(CATALOG, tmp_path / "records")
        ids = {each.record.model.id: each.record.model.architecture for each in shown}
        assert damaged == [] and ids["model"] == "MistralForCausalLM" and len(ids) == 2
        assert ids[f"model-{of(two[1]).sha256[:8]}"] == "GPT2LMHeadModel"
        assert len(list(tmp_path.glob("census/*/census.json"))) == 2
        capsys.readouterr()
        assert main(["results", "--out", str(tmp_path / "records")]) == 0
        assert "two models called model" in (said := capsys.readouterr().err) and "model-" in said
        assert main(["report", str(tmp_path / "r.html"), "--out", str(tmp_path / "records")]) == 0
        page = (tmp_path / "r.html").read_text()
        assert all(f"<h3>{id}</h3>" in page for id in ids) and "two models called model" in page

    def test_what_cannot_be_read_is_not_written_over(
        self, two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        measured = Measured(tmp_path, monkeypatch)
        place = tmp_path / "records" / "model" / "previous-token.json"
        place.parent.mkdir(parents=True)
        place.write_text('{"schema_version": 9}')
        old = place.with_name("induction.json")
        shutil.copy(locations.records() / "specimen" / "induction.json", old)  # of other weights
        before = old.read_text()
        measured.anew(two[0], ModelOptions())
        contents = {path.read_text() for path in (tmp_path / "records").rglob("*.json*")}
        assert {before, '{"schema_version": 9}'} < contents and len(contents) == 3
        place.write_text("{")
        assert measured.anew(two[0], ModelOptions())[0]
        assert place.with_name("previous-token.json.unreadable").read_text() == "{" and record_files.read(place)

    def test_collaborations_of_both_are_kept(self, two: tuple[Path, Path], tmp_path: Path) -> None:
        like = schema.read(locations.collaborations() / "specimen.json")
        written = []
        for folder in (*two, two[0]):
            with open_model(folder) as model:
                about = model_record(model, None)
                written.append(schema.write(like.model_copy(update={"model": about}), tmp_path / "together"))
        assert {path.name for path in written} == {"model.json"}
        (other,) = (tmp_path / "together").glob("model-*.json")
        assert schema.read(other).model.architecture == "GPT2LMHeadModel"
        assert schema.read(written[-1]).model.architecture == "MistralForCausalLM"

    def test_a_census_by_hand_keeps_the_parts_of_both(self, two: tuple[Path, Path], tmp_path: Path) -> None:
        for folder in (*two, two[0]):
            census.take(folder, ["previous-token"], prompts=2, cause=False, folder=tmp_path / "mine")
        assert len(list((tmp_path / "mine").glob("parts*/previous-token.json"))) == 2

    def test_a_census_does_not_go_where_that_of_another_model_is(
        self, two: tuple[Path, Path], tmp_path: Path, capsys: Capture
    ) -> None:
        words = ["--types", ENTRY.id, "--prompts", "2", "--no-cause", "--jobs", "1", "--out"]
        for folder in two:
            assert main(["census", str(folder), *words, str(tmp_path / folder.parent.name / "out")]) == 0
        one, other = (str(tmp_path / name / "out") for name in "ab")
        capsys.readouterr()
        assert main(["merge", one, "--out", str(Path(other) / "model")]) == 2
        said = capsys.readouterr().err
        assert "belongs to another model" in said and said.count("\n") == 1


class TestAtHand:
    """`heads` and `compare` read a census taken before, if it is of the model at hand."""

    @pytest.fixture
    def words(self, folder: Path, tmp_path: Path) -> list[str]:
        few = ["--types", ENTRY.id, "--prompts", "2", "--no-cause", "--jobs", "1"]
        assert main(["census", str(folder), *few, "--out", str(tmp_path / "c")]) == 0
        return ["heads", str(folder), "--type", ENTRY.id, "--census", str(tmp_path / "c"), "--format", "headkv"]

    @pytest.fixture
    def retaken(self, monkeypatch: pytest.MonkeyPatch) -> list[ModelOptions]:
        """The options of the censuses that are taken anew; they are not taken."""
        from headatlas.census import parallel

        orders: list[ModelOptions] = []

        def instead(catalog: object, order: parallel.CensusRequest, *_: object) -> None:
            orders.append(order.options)
            raise HeadatlasError("taken anew")

        monkeypatch.setattr(parallel, "run_census", instead)
        return orders

    def test_the_same_files_are_not_opened(
        self, words: list[str], retaken: list[ModelOptions], monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        monkeypatch.setattr("headatlas.lab.open_model", None)
        capsys.readouterr()
        assert main(words) == 0 and retaken == []
        assert len(json.loads(capsys.readouterr().out)) == 8

    def test_files_that_differ_in_nothing_that_counts(
        self, words: list[str], folder: Path, retaken: list[ModelOptions]
    ) -> None:
        for change in HARMLESS.values():
            change(folder)
        assert main(words) == 0 and retaken == []

    @pytest.mark.parametrize("change", [each for each in OF_EACH_PART if each in CHANGES])
    def test_a_changed_model_is_said_and_measured(
        self, change: str, words: list[str], folder: Path, retaken: list[ModelOptions], capsys: Capture
    ) -> None:
        part, apply = CHANGES[change]
        apply(folder)
        capsys.readouterr()
        assert main(words) == 2 and retaken == [ModelOptions()]
        said = capsys.readouterr().err
        assert f"as it is now (other {part}); another census is taken" in said

    def test_another_dtype_is_another_model(self, words: list[str], retaken: list[ModelOptions]) -> None:
        assert main([*words, "--dtype", "bfloat16"]) == 2
        assert retaken == [ModelOptions(dtype="bfloat16")]

    def test_the_file_of_a_census_is_read_as_it_is(
        self, words: list[str], folder: Path, tmp_path: Path, retaken: list[ModelOptions]
    ) -> None:
        weight(folder)
        for given in (tmp_path / "c" / "model" / "census.json", tmp_path / "c" / "model"):
            assert main(["heads", str(given), *words[2:]]) == 0
        assert retaken == []

    def test_two_models_of_one_name_are_compared_by_names_that_tell_them_apart(
        self, words: list[str], folder: Path, tmp_path: Path, capsys: Capture
    ) -> None:
        before = tmp_path / "before.json"
        shutil.copy(tmp_path / "c" / "model" / "census.json", before)
        weight(folder)
        few = ["--types", ENTRY.id, "--prompts", "2", "--no-cause", "--jobs", "1"]
        assert main(["census", str(folder), *few, "--out", str(tmp_path / "c")]) == 0
        after = reading.read(tmp_path / "c" / "model" / "census.json")
        capsys.readouterr()
        assert main(["compare", str(before), str(tmp_path / "c" / "model" / "census.json")]) == 0
        said = "".join(capsys.readouterr().out.split())
        one, other = Census.model_validate_json(before.read_text()).model.identity, after.model.identity
        assert one and other and f"model({one.sha256[:8]})" in said and f"model({other.sha256[:8]})" in said


# --- how a model is opened, by options ------------------------------------------------------------------------------


class TestOptions:
    @pytest.mark.parametrize(
        "words, complaint",
        [
            (["--device", "nonsense"], "'nonsense' is no device; give cpu, cuda"),
            (["--device", "meta"], "the device meta holds no numbers"),
            (["--device", "cuda:99"], "there is no device cuda:99 here"),
            (["--revision", "main"], "ships with headatlas and has no revision 'main'"),
        ],
    )
    @pytest.mark.parametrize(
        "command",
        [
            ["run", "successor", "--model", "specimen"],
            ["census", "specimen", "--jobs", "1"],
            ["collaborate", "specimen"],
            ["method", "logit-lens", "--model", "specimen"],
            ["doctor", "specimen"],
        ],
    )
    def test_mistakes_are_one_line(
        self, words: list[str], complaint: str, command: list[str], tmp_path: Path, monkeypatch: Any, capsys: Capture
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main([*command, *words]) == 2
        said = capsys.readouterr().err
        assert complaint in said and said.count("\n") == 1 and "Traceback" not in said

    @pytest.mark.slow
    def test_mistakes_are_one_line_from_several_processes_too(self, tmp_path: Path, capsys: Capture) -> None:
        words = ["census", "specimen", "--jobs", "2", "--device", "nonsense", "--out", str(tmp_path)]
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "'nonsense' is no device" in said and said.count("\n") == 1

    def test_a_folder_has_no_revision(self, plain: Path, tmp_path: Path, capsys: Capture) -> None:
        assert main(["run", "successor", "--model", str(plain), "--revision", "v1", "--out", str(tmp_path)]) == 2
        assert "is a folder and has no revision 'v1'" in capsys.readouterr().err

    def test_compare_gives_a_revision_to_models_of_the_hub_alone(self, plain: Path, capsys: Capture) -> None:
        assert main(["compare", str(plain), "specimen", "--revision", "v1"]) == 2
        assert "neither model is one" in capsys.readouterr().err

    def test_a_toy_takes_none(self, tmp_path: Path, capsys: Capture) -> None:
        words = ["run", "iteration", "--model", "toy", "--dtype", "bfloat16", "--out", str(tmp_path)]
        assert main(words) == 2
        assert "takes no option" in capsys.readouterr().err

    def test_they_reach_every_process_and_the_records(self, folder: Path, tmp_path: Path) -> None:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        how = ["--dtype", "bfloat16", "--allow-pickle", "--device", "cpu"]
        runs = ["run", "previous-token", "duplicate-token", "--model", str(folder), "--jobs", "2"]
        main([*runs, *how, "--out", str(tmp_path / "r")])
        for path in (tmp_path / "r" / "model").glob("*.json"):
            record = record_files.read(path)
            assert record.environment.dtype == "bfloat16" and record.environment.device == "cpu"
            assert record.model.identity and record.model.identity.pickle and record.model.identity.dtype == "bfloat16"
        assert len(list((tmp_path / "r" / "model").glob("*.json"))) == 2
        few = ["--types", "previous-token,duplicate-token", "--prompts", "2", "--no-cause", "--jobs", "1"]
        assert main(["census", str(folder), *few, *how, "--out", str(tmp_path / "c")]) == 0
        taken = reading.read(tmp_path / "c" / "model" / "census.json")
        assert taken.environment.dtype == "bfloat16" and taken.model.identity and taken.model.identity.pickle
