"""GGUF files open as the models that they hold, dequantised; what cannot be read whole is refused in one line."""

import errno
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from gguf import GGUFWriter
from huggingface_hub import constants

import gguf_files
import hub
from conftest import FAMILIES, GQA, roughen, save_config
from headatlas import HeadatlasError, load, locations
from headatlas.evidence.identity import folder_id, title
from headatlas.evidence.record_parts import ModelRecord
from headatlas.lab import open_model
from headatlas.lab.loading import gguf, gguf_header, gguf_reading
from headatlas.lab.safety.doctor import doctor
from headatlas.protocol.provenance import catalog_id, model_record

Tiny = Callable[[str], Path]
# Everything that a file of the family `gemma3` does not say is as in the models that are published.
GEMMA = transformers.Gemma3TextConfig(**GQA, head_dim=256, sliding_window=16, query_pre_attn_scalar=256)
TEXT = " The cat, 'twas 1,234.50 — naïve\n\nand  spaces<|endoftext|>"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that all tests share: what one of them converted, the others find."""
    folder = tmp_path_factory.getbasetemp() / "gguf-cache"
    monkeypatch.setenv("HEADATLAS_CACHE", str(folder))
    return folder


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "empty-cache"
    monkeypatch.setenv("HEADATLAS_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Llama whose norms are not all one."""
    return save_config(FAMILIES["llama"](), tmp_path_factory.mktemp("rough") / "llama", roughen)


@pytest.fixture(scope="module")
def files(rough: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of that model's GGUF files, one for each kind of quantisation."""
    folder = tmp_path_factory.mktemp("several")
    for kind in ("F32", "Q8_0", "Q4_0"):
        gguf_files.write(folder / f"Tiny-Llama.{kind}.gguf", rough, kind)
    return folder


def record(path: Path | str, **options: Any) -> ModelRecord:
    with open_model(path, **options) as model:
        return model_record(model, None)


def said(path: Path | str, **options: Any) -> str:
    """What opening it says."""
    with pytest.raises(HeadatlasError) as caught:
        open_model(path, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 700
    return text


class TestNumbers:
    @pytest.mark.parametrize(("family", "architecture"), [("llama", "llama"), ("qwen2", "qwen2"), ("gemma3", "gemma3")])
    def test_of_an_unquantised_file_are_those_of_the_model(
        self, family: str, architecture: str, tmp_path: Path
    ) -> None:
        """Also in families whose rotations, biases or norms llama.cpp writes in another way."""
        config = GEMMA if family == "gemma3" else FAMILIES[family]()
        folder = save_config(config, tmp_path / "whole", roughen)
        path = gguf_files.write(tmp_path / "it.gguf", folder, "F32", architecture=architecture)
        tokens = torch.arange(40)[None]
        with open_model(path) as ours, open_model(folder) as theirs, torch.no_grad():
            assert torch.equal(ours.model(tokens).logits, theirs.model(tokens).logits)
            its = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="it.gguf")
            assert ours.tokenizer(TEXT).input_ids == its(TEXT).input_ids
            assert (ours.vocabulary.bos, ours.context) == (theirs.vocabulary.bos, theirs.context)
            assert ours.architecture == theirs.architecture

    @pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
    def test_of_a_quantised_file_are_its_quantised_numbers(self, kind: str, files: Path, rough: Path) -> None:
        with open_model(files / f"Tiny-Llama.{kind}.gguf") as model, open_model(rough) as whole:
            weights = model.model.state_dict()
            for name, weight in whole.model.state_dict().items():
                assert torch.equal(weights[name], gguf_files.requantised(weight, kind)), name
            assert not torch.equal(weights["lm_head.weight"], whole.model.state_dict()["lm_head.weight"])

    def test_are_those_that_transformers_gives_of_the_file(self, files: Path) -> None:
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            files, gguf_file="Tiny-Llama.Q4_0.gguf", dtype=torch.float32
        )
        tokens = torch.arange(40)[None]
        with open_model(files / "Tiny-Llama.Q4_0.gguf") as ours, torch.no_grad():
            assert torch.equal(ours.model(tokens).logits, theirs(tokens).logits)

    def test_are_safe_to_measure(self, files: Path) -> None:
        diagnosis = doctor(files / "Tiny-Llama.Q8_0.gguf")
        assert diagnosis.safe
        check = next(check for check in diagnosis.checks if check.name == "files")
        assert check.verdict == "pass" and "dequantised from Tiny-Llama.Q8_0.gguf (Q8_0)" in check.detail

    def test_are_cast_to_the_dtype_that_is_asked_for(self, files: Path) -> None:
        found = record(files / "Tiny-Llama.Q8_0.gguf", dtype="bfloat16")
        assert found.identity and found.identity.dtype == "bfloat16"
        assert found.dequantised and found.dequantised.dtype == "float32"

    def test_come_from_the_file_alone(self, files: Path, tmp_path: Path, empty_cache: Path) -> None:
        """What lies beside it, a tokenizer or an adapter, changes nothing."""
        path = Path(shutil.copy(files / "Tiny-Llama.Q8_0.gguf", tmp_path))
        (tmp_path / "tokenizer.json").write_text("{}")
        (tmp_path / "adapter_config.json").write_text("{}")
        (tmp_path / "generation_config.json").write_text('{"do_sample": true}')
        alone, beside = record(files / path.name), record(path)
        assert alone.identity == beside.identity

    def test_a_rule_of_splitting_text_that_transformers_does_not_know_is_noted(
        self, rough: Path, tmp_path: Path
    ) -> None:
        def other(writer: GGUFWriter) -> None:
            del writer.kv_data[0]["tokenizer.ggml.pre"]
            writer.add_tokenizer_pre("unheard-of")

        checks = doctor(gguf_files.write(tmp_path / "a.gguf", rough, change=other)).checks
        check = next(check for check in checks if check.name == "tokenizer")
        assert check.verdict == "note" and "'unheard-of'" in check.detail


class TestRecords:
    def test_say_what_was_dequantised(self, files: Path) -> None:
        path = files / "Tiny-Llama.Q4_0.gguf"
        found = record(path)
        sha256 = gguf._sha256(path)
        assert (found.name, found.id, found.sha256) == ("Tiny-Llama (Q4_0)", "Tiny-Llama-Q4_0", sha256)
        assert found.dequantised is not None
        assert found.dequantised.model_dump() == {
            "file": path.name,
            "sha256": sha256,
            "quantisation": "Q4_0",
            "name": "Tiny",
            "dtype": "float32",
            "transformers": transformers.__version__,
            "gguf": version("gguf"),
        }
        assert found.identity and found.identity.files == {path.name: sha256}
        assert found.identity.quantisation == "GGUF Q4_0, dequantised to float32"
        assert ModelRecord.model_validate_json(found.model_dump_json()) == found

    def test_of_other_models_say_nothing_of_it(self, rough: Path) -> None:
        assert record(rough).dequantised is None
        assert "dequantised" not in json.loads(record(rough).model_dump_json())

    def test_of_one_file_are_of_one_model(self, files: Path, tmp_path: Path, empty_cache: Path) -> None:
        path = files / "Tiny-Llama.Q8_0.gguf"
        first, second = record(path), record(path)
        assert first == second
        shutil.rmtree(empty_cache)
        assert record(path) == first  # converted again
        other = record(Path(shutil.copy(path, tmp_path / "other-Q8_0.gguf")))
        assert other.name == "other (Q8_0)" and not other.differs(first)

    def test_of_two_quantisations_are_of_two_models(self, files: Path, rough: Path) -> None:
        one, two = (record(files / f"Tiny-Llama.{kind}.gguf") for kind in ("F32", "Q8_0"))
        assert {"weights", "quantisation"} <= set(one.differs(two))
        assert {"weights", "quantisation"} <= set(one.differs(record(rough)))  # the same numbers, but not sure to be

    def test_a_model_of_the_catalog_is_known_by_the_file(self, files: Path) -> None:
        catalog = load()
        with open_model(files / "Tiny-Llama.Q8_0.gguf") as model:
            assert catalog_id(catalog, model) is None
            id, known = next(iter(catalog.models.items()))
            with_it = {**catalog.models, id: known.model_copy(update={"sha256": model.sha256})}
            assert catalog_id(replace(catalog, models=with_it), model) == id

    def test_weights_changed_in_memory_are_another_model(self, files: Path) -> None:
        with open_model(files / "Tiny-Llama.Q8_0.gguf") as model:
            before = model_record(model, None)
            with torch.no_grad():
                model.model.lm_head.weight[0, 0] += 1
            assert "weights" in before.differs(model_record(model, None))


@pytest.mark.parametrize(
    ("name", "quantisation", "shown", "folder"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1", "SmolLM2-135M-Instruct (Q4_1)", "SmolLM2-135M-Instruct-Q4_1"),
        ("gemma-3-270m-q4_k_m.gguf", "Q4_K_M", "gemma-3-270m (Q4_K_M)", "gemma-3-270m-Q4_K_M"),
        ("a/b/model.gguf", "Q8_0", "a/b (Q8_0)", "a--b-Q8_0"),
        ("a/b/deep/model.IQ2_XXS.gguf", "IQ2_XXS", "a/b (IQ2_XXS)", "a--b-IQ2_XXS"),
        ("./my models/x (1) bf16.GGUF", "BF16", "x (1) (BF16)", "x-1--BF16"),
        ("Q4_0.gguf", "Q4_0", "Q4_0 (Q4_0)", "Q4_0-Q4_0"),
        (".gguf", "F32", "gguf (F32)", "gguf-F32"),
        ("big-Q4_K_S-00001-of-00003.gguf", "Q4_K_S", "big (Q4_K_S)", "big-Q4_K_S"),
        ("SmolLM2-135M-Instruct (Q4_1)", "Q4_1", "SmolLM2-135M-Instruct (Q4_1)", "SmolLM2-135M-Instruct-Q4_1"),
        ("owner/model-Q4", None, "owner/model-Q4", "owner--model-Q4"),
        ("model (1)", None, "model (1)", "model-1-"),
    ],
)
def test_names_show_the_quantisation(
    name: str, quantisation: str | None, shown: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name.startswith("./"):
        Path(name).parent.mkdir(parents=True)
        Path(name).touch()
    assert title(name, quantisation) == shown
    assert folder_id(name, quantisation) == folder


class TestPlaces:
    def test_a_folder_that_holds_one(self, files: Path, tmp_path: Path) -> None:
        folder = tmp_path / "my-model"
        folder.mkdir()
        shutil.copy(files / "Tiny-Llama.Q8_0.gguf", folder / "weights.GGUF")
        (folder / "mmproj-model-f16.gguf").write_bytes(b"GGUF")
        (folder / "config.json").write_text('{"model_type": "llama"}')
        assert record(folder).name == "my-model (Q8_0)"
        assert (record(folder).revision, record(folder).id) == (None, "my-model-Q8_0")

    def test_a_folder_that_holds_several_lists_them(self, files: Path) -> None:
        text = said(files)
        assert "holds 3 GGUF files; name one of them" in text
        assert all(f"{files}/Tiny-Llama.{kind}.gguf" in text for kind in ("F32", "Q8_0", "Q4_0"))

    def test_a_folder_with_safetensors_is_opened_by_them(self, rough: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(rough, tmp_path / "both")
        (folder / "weights.gguf").write_bytes(b"GGUF")
        assert record(folder).dequantised is None

    def test_a_folder_that_was_converted(self, files: Path, tmp_path: Path) -> None:
        path = files / "Tiny-Llama.Q8_0.gguf"
        gguf.convert(path, tmp_path / "converted")
        assert record(tmp_path / "converted").model_dump(exclude={"identity"}) == record(path).model_dump(
            exclude={"identity"}
        )
        assert not record(tmp_path / "converted").differs(record(path))

    def test_the_home_folder(self, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(files))
        assert record("~/Tiny-Llama.Q8_0.gguf").name == "Tiny-Llama (Q8_0)"

    @pytest.mark.parametrize("name", ["{}/Tiny-Llama.Q8_1.gguf", "{}/../several0/Tiny-Lama.Q8_0.gguf"])
    def test_a_file_that_is_not_there(self, name: str, files: Path) -> None:
        text = said(name.format(files))
        assert "there is no file" in text and "did you mean" in text
        assert "there is no file nowhere.gguf" in said("nowhere.gguf")

    def test_a_file_has_no_revision(self, files: Path) -> None:
        assert "has no revision 'main'" in said(files / "Tiny-Llama.Q8_0.gguf", revision="main")

    def test_an_adapter_beside_it_is_asked_about(self, files: Path, tmp_path: Path) -> None:
        shutil.copy(files / "Tiny-Llama.Q8_0.gguf", tmp_path)
        (tmp_path / "adapter_config.json").write_text("{}")
        assert "--adapter none" in said(tmp_path)
        assert record(tmp_path, adapter="none").dequantised is not None


class TestHub:
    @pytest.fixture
    def serve(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
        """Serve a folder as the repository someone/tiny-GGUF of a hub on this machine."""
        with ExitStack() as stack:

            def serve(folder: Path) -> None:
                address = stack.enter_context(hub.serving(folder, "someone/tiny-GGUF"))
                files_at = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
                monkeypatch.setattr(constants, "ENDPOINT", address)
                monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files_at)

            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
            monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
            yield serve

    @pytest.fixture
    def one(self, files: Path, tmp_path: Path) -> Path:
        """A folder with one GGUF file, and the files that such repositories have beside it."""
        folder = tmp_path / "served"
        folder.mkdir()
        shutil.copy(files / "Tiny-Llama.Q8_0.gguf", folder)
        (folder / "config.json").write_text('{"model_type": "llama"}')
        return folder

    def test_a_repository_that_holds_one(self, one: Path, serve: Callable[[Path], None], tmp_path: Path) -> None:
        serve(one)
        found = record("someone/tiny-GGUF")
        assert (found.name, found.id) == ("someone/tiny-GGUF (Q8_0)", "someone--tiny-GGUF-Q8_0")
        assert (found.revision, found.sha256) == (hub.COMMIT, gguf._sha256(one / "Tiny-Llama.Q8_0.gguf"))
        assert found.dequantised and found.dequantised.file == "Tiny-Llama.Q8_0.gguf"
        assert found.identity and found.identity.source == "hub"

    def test_a_repository_that_holds_several(
        self, files: Path, serve: Callable[[Path], None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        serve(files)
        assert (
            "holds 3 GGUF files; name one of them: someone/tiny-GGUF/Tiny-Llama.F32.gguf, someone/tiny-GGUF/Tiny-Llama."
        ) in said("someone/tiny-GGUF")
        assert "has no file Tiny-Llama.Q9.gguf; it has someone/tiny-GGUF/Tiny-Llama.F32.gguf" in said(
            "someone/tiny-GGUF/Tiny-Llama.Q9.gguf"
        )
        assert capfd.readouterr().err == ""
        found = record("someone/tiny-GGUF/Tiny-Llama.Q4_0.gguf", revision=hub.COMMIT)
        assert (found.name, found.revision) == ("someone/tiny-GGUF (Q4_0)", hub.COMMIT)
        assert {path.name for path in (tmp_path / "hub").rglob("*.gguf")} == {"Tiny-Llama.Q4_0.gguf"}

    @pytest.mark.slow
    def test_without_network_what_is_here_is_opened(
        self, one: Path, serve: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serve(one)
        before = record("someone/tiny-GGUF")
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        assert record("someone/tiny-GGUF") == before

    @pytest.mark.slow
    def test_the_command_line_records_it(self, one: Path, tmp_path: Path) -> None:
        settings = {"HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-m", "headatlas", "run", "successor", "--json", "--out", str(tmp_path / "out")]
        with hub.serving(one, "someone/tiny-GGUF") as address:
            done = subprocess.run(
                [*command, "--model", "someone/tiny-GGUF"],
                capture_output=True,
                text=True,
                env={**os.environ, **settings, "HF_ENDPOINT": address},
                timeout=120,
            )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert json.loads(done.stdout)["model"]["name"] == "someone/tiny-GGUF (Q8_0)"
        assert (tmp_path / "out" / "someone--tiny-GGUF-Q8_0" / "successor.json").is_file()


class TestCache:
    def test_a_file_is_converted_once(
        self, files: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path, told = files / "Tiny-Llama.Q8_0.gguf", list[tuple[str, int, int]]()
        open_model(path, progress=lambda *each: told.append(each)).close()
        assert capfd.readouterr().err == ""  # no bar of transformers
        whats = list(dict.fromkeys(what for what, _, _ in told))
        assert [what.split()[0] for what in whats][-4:] == ["reading", "dequantising", "building", "writing"]
        assert ("dequantising Tiny-Llama.Q8_0.gguf", 5, 21) in told
        monkeypatch.setattr(gguf_reading, "read", None)
        open_model(path).close()
        folder = gguf.converted(path)
        assert folder.parent == empty_cache / "gguf" and [each.name for each in folder.parent.iterdir()] == [
            folder.name
        ]
        assert {"config.json", "tokenizer.json", "model.safetensors", "gguf.json"} <= {p.name for p in folder.iterdir()}
        assert "quantization_config" not in json.loads((folder / "config.json").read_text())
        assert json.loads((folder / "gguf.json").read_text())["size"] == path.stat().st_size

    def test_a_folder_that_was_cut_is_made_again(self, files: Path, empty_cache: Path) -> None:
        path = files / "Tiny-Llama.Q8_0.gguf"
        before = record(path)
        weights = gguf.converted(path) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        assert record(path) == before
        (gguf.converted(path) / "gguf.json").unlink()
        assert record(path) == before

    def test_weights_that_were_changed_there_are_not_taken_for_the_files(self, files: Path, empty_cache: Path) -> None:
        path = files / "Tiny-Llama.Q8_0.gguf"
        weights = gguf.converted(path) / "model.safetensors"
        raw = bytearray(weights.read_bytes())
        raw[-3] ^= 1
        weights.write_bytes(raw)
        assert "are not those that were dequantised from Tiny-Llama.Q8_0.gguf; delete" in said(path)

    @pytest.mark.parametrize("failure", [KeyboardInterrupt(), MemoryError(), OSError(errno.ENOSPC, "No space left")])
    @pytest.mark.parametrize("step", ["read", "model", "tokenizer"])
    def test_where_it_fails_nothing_is_left(
        self,
        step: str,
        failure: BaseException,
        files: Path,
        tmp_path: Path,
        empty_cache: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise failure

        if step == "read":
            monkeypatch.setattr(gguf_reading, "read", fail)
        elif step == "model":
            monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", fail)
        else:
            monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "save_pretrained", fail)
        expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else HeadatlasError
        with pytest.raises(expected) as caught:
            open_model(files / "Tiny-Llama.Q8_0.gguf")
        if isinstance(failure, OSError):
            assert "(No space left); make room on its disk" in str(caught.value)
        assert not list((empty_cache / "gguf").iterdir())

    def test_a_disk_that_is_too_small_is_known_before(
        self, files: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = shutil.disk_usage(files)._replace(free=10**6)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        monkeypatch.setattr(gguf_reading, "read", None)
        assert "and its disk has 1,000,000; make room" in said(files / "Tiny-Llama.Q8_0.gguf")
        assert not list((empty_cache / "gguf").iterdir())

    def test_what_a_killed_process_left_is_deleted(self, files: Path, empty_cache: Path) -> None:
        path = files / "Tiny-Llama.Q8_0.gguf"
        left = empty_cache / "gguf" / f".{gguf._sha256(path)}.abc.part"
        left.mkdir(parents=True)
        os.utime(left, (0, 0))
        gguf.converted(path)
        assert not left.exists()

    def test_a_folder_that_is_not_empty_stays_as_it_is(self, files: Path, tmp_path: Path) -> None:
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / "mine.txt").touch()
        with pytest.raises(HeadatlasError, match="is not empty; give another folder"):
            gguf.convert(files / "Tiny-Llama.Q8_0.gguf", tmp_path / "here")
        assert [path.name for path in (tmp_path / "here").iterdir()] == ["mine.txt"]

    def test_a_cache_that_cannot_be_written(self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("HEADATLAS_CACHE", str(tmp_path / "file"))
        assert "HEADATLAS_CACHE" in said(files / "Tiny-Llama.Q8_0.gguf")

    @pytest.mark.slow
    def test_processes_wait_for_one_another(self, files: Path, empty_cache: Path, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from headatlas.lab.loading import gguf, gguf_reading\n"
            "read = gguf_reading.read\n"
            "def once(*each):\n    print('converts', flush=True)\n    return read(*each)\n"
            "gguf_reading.read = once\n"
            "gguf.converted(Path(sys.argv[1]))"
        )
        path = files / "Tiny-Llama.Q8_0.gguf"
        both = [
            subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        assert sum(each.communicate(timeout=120)[0].count("converts") for each in both) == 1
        assert [each.returncode for each in both] == [0, 0]


class TestLocation:
    def test_of_the_cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        assert locations.cache() == Path(os.environ["HEADATLAS_CACHE"])
        monkeypatch.delenv("HEADATLAS_CACHE")
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert locations.cache() == tmp_path / "xdg" / "headatlas"
        for useless in ("", "relative"):
            monkeypatch.setenv("XDG_CACHE_HOME", useless)
            assert locations.cache() == tmp_path / ".cache" / "headatlas"
        monkeypatch.setattr(sys, "platform", "darwin")
        assert locations.cache() == tmp_path / "Library" / "Caches" / "headatlas"
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
        assert locations.cache() == tmp_path / "local" / "headatlas" / "Cache"


def key(name: str, value: Any) -> gguf_files.Change:
    """A change that sets a key, of whichever type it has."""

    def change(writer: GGUFWriter) -> None:
        for data in writer.kv_data:
            data.pop(name, None)
        kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        kinds[type(value)](name, value)

    return change


class TestRefusals:
    """Files that are sound, but are no language model that transformers reads whole."""

    SETTINGS: dict[str, tuple[gguf_files.Change, str]] = {  # noqa: RUF012 - a table
        "positions scaled": (key("llama.rope.scaling.type", "linear"), "llama.rope.scaling.type = linear"),
        "softcaps": (key("llama.attn_logit_softcapping", 30.0), "llama.attn_logit_softcapping = 30"),
        "a window": (key("llama.attention.sliding_window", 16), "llama.attention.sliding_window = 16"),
        "a scale": (key("llama.attention.scale", 0.5), "llama.attention.scale = 0.5"),
        "experts": (key("llama.expert_used_count", 2), "llama.expert_used_count = 2"),
        "an embedding": (key("general.architecture", "bert"), "is an encoder (bert)"),
        "an encoder of T5": (key("general.architecture", "t5encoder"), "is an encoder (t5encoder)"),
        "attention both ways": (key("llama.attention.causal", False), "is an encoder (llama)"),
        "T5": (key("general.architecture", "t5"), "t5"),
        "unknown": (key("general.architecture", "brandnew"), "architecture 'brandnew', which transformers"),
        "pictures": (key("general.architecture", "clip"), "part of a multimodal model"),
        "a projector": (key("general.type", "mmproj"), "part of a multimodal model"),
        "an adapter": (key("general.type", "adapter"), "is an adapter"),
        "a part": (key("split.count", 3), "is one of 3 parts of a GGUF file"),
        "layers that are not there": (key("llama.block_count", 10**9), "asks for 1000000000 layers"),
        "more layers": (key("llama.block_count", 3), "numbers, and the model that transformers"),
        "another width": (key("llama.embedding_length", 2**31), "describes no model|numbers, and the model"),
        "no heads": (key("llama.attention.head_count", 0), "cannot read"),
        "a vocabulary that is not there": (key("llama.vocab_size", 2**31), "numbers, and the model"),
    }  # fmt: skip

    @pytest.mark.parametrize("kind", SETTINGS)
    def test_by_what_the_header_says(self, kind: str, rough: Path, tmp_path: Path, empty_cache: Path) -> None:
        change, expected = self.SETTINGS[kind]
        text = said(gguf_files.write(tmp_path / "x.gguf", rough, change=change))
        assert text.startswith(("x.gguf ", "transformers")) and any(each in text for each in expected.split("|")), text
        assert not list(empty_cache.rglob("*"))[1:]

    @pytest.mark.parametrize(
        ("gone", "expected"),
        [
            ("tokenizer.", "has no tokenizer"),
            ("tokenizer.ggml.tokens", "has no tokenizer"),
            ("general.architecture", "does not say its architecture"),
            ("llama.", "asks for 32 layers"),  # transformers' defaults are those of another model
            ("llama.feed_forward_length", "numbers, and the model"),
        ],
    )
    def test_by_what_the_header_lacks(self, gone: str, expected: str, rough: Path, tmp_path: Path) -> None:
        text = said(gguf_files.write(tmp_path / "x.gguf", rough, leave_out=(gone,)))
        assert any(each in text for each in expected.split("|")), text

    def test_of_settings_that_change_nothing_there_are_none(self, rough: Path, tmp_path: Path) -> None:
        def change(writer: GGUFWriter) -> None:
            key("llama.rope.scaling.type", "none")(writer)
            key("llama.attention.sliding_window", 4096)(writer)  # more than the context
            key("llama.attention.causal", True)(writer)

        open_model(gguf_files.write(tmp_path / "x.gguf", rough, change=change)).close()

    @pytest.mark.parametrize(
        ("tensor", "expected"),
        [("rope_freqs.weight", "rope_freqs.weight in x.gguf is not read"), ("blk.0.attn_q.bias", "numbers, and the")],
    )
    def test_of_tensors_that_transformers_leaves_out(
        self, tensor: str, expected: str, rough: Path, tmp_path: Path
    ) -> None:
        extra = lambda writer: writer.add_tensor(tensor, np.ones(32, np.float32))  # noqa: E731
        assert expected in said(gguf_files.write(tmp_path / "x.gguf", rough, change=extra))

    def test_of_heads_that_the_file_does_not_scale(self, tmp_path: Path) -> None:
        config = transformers.Gemma3TextConfig(**GQA, head_dim=16, sliding_window=16, query_pre_attn_scalar=16)
        path = gguf_files.write(
            tmp_path / "x.gguf", save_config(config, tmp_path / "whole"), architecture="gemma3", kind="F32"
        )
        assert "does not say by what attention is divided" in said(path)

    @pytest.mark.parametrize("number", [4, 9, 24, 99, 2**31])
    def test_of_kinds_that_the_reader_does_not_know(self, number: int, files: Path, tmp_path: Path) -> None:
        raw = (files / "Tiny-Llama.F32.gguf").read_bytes()
        name = b"output_norm.weight"
        at = raw.index(name) + len(name)  # then: dimensions, one size, the kind
        (tmp_path / "x.gguf").write_bytes(raw[: at + 12] + struct.pack("<I", number) + raw[at + 16 :])
        assert "is quantised in a way that gguf" in said(tmp_path / "x.gguf")

    def test_of_a_converted_folder_with_another_record(self, files: Path, tmp_path: Path) -> None:
        gguf.convert(files / "Tiny-Llama.Q8_0.gguf", tmp_path / "made")
        (tmp_path / "made" / "gguf.json").write_text('{"file": "x.gguf"}')
        assert "gguf.json of" in said(tmp_path / "made")


class TestDamage:
    """Headers that lie, and files that were cut: known before a reader of another package gets them."""

    @pytest.fixture
    def raw(self, files: Path) -> bytes:
        return (files / "Tiny-Llama.Q8_0.gguf").read_bytes()

    @pytest.fixture(autouse=True)
    def unread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gguf_reading, "read", None)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"", "is empty"),
            (b"GG", "is no GGUF file"),
            (b"PK\x03\x04" + bytes(99), "is no GGUF file"),
            (b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
            (b"GGUF", "is cut short"),
            (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "is of GGUF version 1"),
            (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is big-endian"),
            (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "holds no tensors"),
            (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "has a header that lies"),
            (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**60), "has a header that lies"),
            (b"GGUF" + struct.pack("<IQQ", 3, 1, 5), "is cut short"),
        ],
    )
    def test_of_the_beginning(self, content: bytes, expected: str, tmp_path: Path) -> None:
        (tmp_path / "x.gguf").write_bytes(content)
        assert expected in said(tmp_path / "x.gguf")

    @pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.9999])
    def test_of_a_file_that_was_cut(self, part: float, raw: bytes, tmp_path: Path) -> None:
        (tmp_path / "x.gguf").write_bytes(raw[: int(len(raw) * part)])
        assert "is cut short" in said(tmp_path / "x.gguf")

    LIES: dict[str, tuple[bytes, int, bytes]] = {  # noqa: RUF012 - a table
        # after this text, so many bytes on: these bytes
        "a text as long as memory": (b"general.name", 4, struct.pack("<Q", 2**40)),
        "an array as long as memory": (b"tokenizer.ggml.tokens", 8, struct.pack("<Q", 2**40)),
        "numbers as many as memory": (b"tokenizer.ggml.token_type", 8, struct.pack("<Q", 2**40)),
        "an array of arrays": (b"tokenizer.ggml.tokens", 4, struct.pack("<I", 9)),
        "a type that is none": (b"general.name", 0, struct.pack("<I", 77)),
        "a tensor as large as memory": (b"output_norm.weight", 4, struct.pack("<Q", 2**50)),
        "a tensor of nothing": (b"output_norm.weight", 4, struct.pack("<Q", 0)),
        "dimensions without end": (b"output_norm.weight", 0, struct.pack("<I", 2**31)),
        "a place behind the end": (b"output_norm.weight", 16, struct.pack("<Q", 2**50)),
        "a place between two": (b"output_norm.weight", 16, struct.pack("<Q", 7)),
        "a place that is taken": (b"output_norm.weight", 16, struct.pack("<Q", 0)),
        "rows that are no blocks": (b"token_embd.weight", 4, struct.pack("<Q", 31)),
    }

    @pytest.mark.parametrize("lie", LIES)
    def test_of_sizes(self, lie: str, raw: bytes, tmp_path: Path) -> None:
        after, skip, value = self.LIES[lie]
        at = raw.index(after) + len(after) + skip
        (tmp_path / "x.gguf").write_bytes(raw[:at] + value + raw[at + len(value) :])
        tracemalloc.start()
        try:
            text = said(tmp_path / "x.gguf")
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()
        assert "lies" in text or "is cut short" in text

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("blk.0.ffn_up.weight", "blk.1.ffn_up.weight"),
            ("tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"),
        ],
    )
    def test_of_names_that_are_there_twice(self, one: str, other: str, raw: bytes, tmp_path: Path) -> None:
        assert len(one) == len(other)
        (tmp_path / "x.gguf").write_bytes(raw.replace(other.encode(), one.encode(), 1))
        assert "is there twice" in said(tmp_path / "x.gguf")

    def test_of_any_byte_is_one_line(self, raw: bytes, tmp_path: Path) -> None:
        """Bytes changed, cut or doubled in the header: it can still be read, or one line is said."""
        rng = random.Random(0)
        top = raw.index(b"output_norm.weight") + 60
        read = refused = 0
        for _ in range(300):
            damaged = bytearray(raw)
            at = rng.choice((rng.randrange(24), rng.randrange(1500), rng.randrange(top)))
            kind = rng.choice(("byte", "bytes", "cut", "double"))
            if kind == "byte":
                damaged[at] = rng.randrange(256)
            elif kind == "bytes":
                damaged[at : at + 8] = rng.randbytes(8)
            elif kind == "cut":
                del damaged[at : at + rng.choice((1, 8, 100))]
            else:
                damaged[at:at] = damaged[at : at + 8]
            (tmp_path / "x.gguf").write_bytes(damaged)
            try:
                gguf_header.read(tmp_path / "x.gguf")
                read += 1
            except HeadatlasError as error:
                assert "\n" not in str(error)
                refused += 1
        print(f"{read} read, {refused} refused in one line")
        assert read + refused == 300 and refused > 100


@pytest.mark.slow
def test_no_damage_ends_in_a_traceback(files: Path, tmp_path: Path, empty_cache: Path) -> None:
    """Values changed in the header of a file: the model opens, or one line is said, and nothing is left."""
    rng = random.Random(1)
    raw = (files / "Tiny-Llama.Q8_0.gguf").read_bytes()
    top = raw.index(b"tokenizer.ggml.tokens")
    opened = refused = 0
    for _ in range(60):
        damaged = bytearray(raw)
        damaged[rng.randrange(24, top)] = rng.randrange(256)
        (tmp_path / "x.gguf").write_bytes(damaged)
        try:
            open_model(tmp_path / "x.gguf").close()
            opened += 1
        except HeadatlasError as error:
            assert "\n" not in str(error)
            refused += 1
        assert not list(empty_cache.rglob("*.part"))
    print(f"{opened} opened, {refused} refused in one line")
    assert opened and refused
