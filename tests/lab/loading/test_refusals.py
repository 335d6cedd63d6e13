"""Each refusal at opening says in one line what is wrong and what helps; none is a traceback."""

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from conftest import FAMILIES, GQA, TINY
from headatlas import HeadatlasError, specimens
from headatlas.cli.program import main
from headatlas.lab import open_model
from headatlas.lab.safety.doctor import doctor

Tiny = Callable[[str], Path]
Change = Callable[[Path], object]
JIT = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, on its way to a compiler


@pytest.fixture
def folder(tiny: Tiny, tmp_path: Path) -> Path:
    """A model folder to be broken."""
    return shutil.copytree(tiny("llama"), tmp_path / "model")


def said(model: Any, **options: Any) -> str:
    """What opening it says."""
    with pytest.raises(HeadatlasError) as caught:
        open_model(model, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 700
    return text


def config(folder: Path, **changes: Any) -> Path:
    found = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in found.items() if value != "GONE"}))
    return folder


def words(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


class TestPaths:
    def test_a_home_folder_is_found(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(folder.parent))
        with open_model("~/model") as model:
            assert model.name == str(folder) and model.id == "model"
        assert f"~/modle ({folder.parent}/modle) is not a folder; did you mean {folder}?" in said("~/modle")

    def test_a_typing_error_is_corrected(self, folder: Path) -> None:
        assert f"did you mean {folder}?" in said(folder.parent / "modell")
        assert f"did you mean {folder.parent}?" in said(f"{folder.parent}x/model")

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
    def test_a_file_of_a_model_names_its_folder(self, file: str, folder: Path) -> None:
        assert f"give its folder: {folder}" in said(folder / file)

    def test_other_files(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("x")
        assert "is a file; give a folder" in said(tmp_path / "notes.txt")

    def test_a_folder_of_checkpoints_names_the_last(self, folder: Path, tmp_path: Path) -> None:
        shutil.move(folder, tmp_path / "runs" / "checkpoint-500")
        assert f"give one of them: {tmp_path / 'runs' / 'checkpoint-500'}" in said(tmp_path / "runs")

    def test_a_folder_of_the_hubs_cache(self, folder: Path, tmp_path: Path) -> None:
        shutil.move(folder, tmp_path / "models--owner--name" / "snapshots" / "0123")
        assert "snapshots/0123" in said(tmp_path / "models--owner--name")

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        assert "is an empty folder" in said(tmp_path)

    def test_a_broken_link(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "gone")
        assert "is a link to" in said(tmp_path / "link")

    @pytest.mark.parametrize(
        "name", ["", "a" * 5000, "x\0y", "./" + "b" * 5000, "~nobody-here/model", "a b/c d", "\\\\x\\y"]
    )
    def test_names_that_are_none(self, name: str) -> None:
        with pytest.raises(HeadatlasError):
            open_model(name)

    def test_no_permission(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbidden(*_: object, **__: object) -> Any:
            raise PermissionError(13, "Permission denied")

        with monkeypatch.context() as patched:
            patched.setattr(Path, "iterdir", forbidden)
            assert "cannot be read (Permission denied)" in said(folder)
        for method in ("read_text", "open"):  # of the configuration, of the weights
            with monkeypatch.context() as patched:
                patched.setattr(Path, method, forbidden)
                assert "cannot be read (Permission denied)" in said(folder)

    def test_the_command_line_prints_one_line(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "model.safetensors").write_bytes(b"")
        for command in (["doctor", str(folder)], ["run", "induction", "--model", str(folder)], ["census", str(folder)]):
            assert main(command) == 2
            lines = capsys.readouterr().err.splitlines()
            assert [line for line in lines if line.startswith("headatlas: ")] == lines[-1:]
            assert "is empty" in lines[-1]


class TestWeights:
    """A change to the weight file of a sound folder, and what is said then."""

    CHANGES: dict[str, tuple[Change, str]] = {  # noqa: RUF012 - a table
        "empty": (lambda file: file.write_bytes(b""), "is empty; download"),
        "a few bytes": (lambda file: file.write_bytes(b"abc"), "is cut short"),
        "cut in the header": (lambda file: file.write_bytes(file.read_bytes()[:100]), "is cut short"),
        "cut in the weights": (lambda file: file.write_bytes(file.read_bytes()[:-1]), "its header speaks of"),
        "a pointer of Git LFS": (
            lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
            "run `git lfs pull`",
        ),
        "a web page": (lambda file: file.write_text("<!DOCTYPE html>" + "<p>Sign in</p>" * 99), "no safetensors file"),
        "a header that is no JSON": (
            lambda file: file.write_bytes(struct.pack("<Q", 9) + b"{broken}}" + bytes(99)),
            "has a header that is not safetensors'",
        ),
        "no tensors": (lambda file: file.write_bytes(struct.pack("<Q", 2) + b"{}"), "holds no tensors"),
        "gone": (lambda file: file.unlink(), "has no model*.safetensors; download them"),
        "a broken link": (
            lambda file: (file.unlink(), file.symlink_to(file.with_name("blob"))),
            "is a link to a file that is not there",
        ),
        "no gguf": (lambda file: file.rename(file.with_name("model-q4.gguf")), "model-q4.gguf is no GGUF file"),
        "pickled": (
            lambda file: (torch.save(load_file(file), file.with_name("pytorch_model.bin")), file.unlink()),
            "allow_pickle=True (--allow-pickle)",
        ),
        "a torch checkpoint": (lambda file: file.rename(file.with_name("last.pt")), "a checkpoint of torch (last.pt)"),
        "a lightning checkpoint": (lambda file: file.rename(file.with_name("last.ckpt")), "of torch (last.ckpt)"),
        "Meta's layout": (lambda file: file.rename(file.with_name("consolidated.00.pth")), "convert_llama_weights"),
        "Mistral's layout": (lambda file: file.rename(file.with_name("consolidated.safetensors")), "Mistral's own"),
        "Flax": (lambda file: file.rename(file.with_name("flax_model.msgpack")), "from_flax=True"),
        "TensorFlow": (lambda file: file.rename(file.with_name("tf_model.h5")), "from_tf=True"),
        "ONNX": (lambda file: file.rename(file.with_name("model.onnx")), "an ONNX graph"),
        "another name": (lambda file: file.rename(file.with_name("weights.safetensors")), "weights of another name"),
        "shards without their index": (
            lambda file: file.rename(file.with_name("model-00001-of-00002.safetensors")),
            "no model.safetensors.index.json",
        ),
    }  # fmt: skip

    @pytest.mark.parametrize("kind", CHANGES)
    def test_that_cannot_be_read(self, kind: str, folder: Path) -> None:
        change, expected = self.CHANGES[kind]
        change(folder / "model.safetensors")
        assert expected in said(folder)

    @pytest.mark.parametrize("lie", ["offsets", "shape", "dtype", "overlap"])
    def test_whose_header_lies(self, lie: str, folder: Path) -> None:
        path = folder / "model.safetensors"
        raw = path.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        first, second = (header[f"model.layers.{layer}.self_attn.q_proj.weight"] for layer in range(2))
        if lie == "offsets":
            first["data_offsets"][1] += 4
        elif lie == "shape":
            first["shape"] = [64, 64]
        elif lie == "dtype":
            first["dtype"] = "F16"
        else:
            first["data_offsets"] = list(second["data_offsets"])
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
        assert "header that lies" in said(folder)

    def test_shards_that_are_missing(self, tiny: Tiny, tmp_path: Path) -> None:
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(FAMILIES["llama"]()).save_pretrained(
            tmp_path, max_shard_size="50KB"
        )
        shutil.copy(tiny("llama") / "tokenizer.json", tmp_path)
        shards = sorted(tmp_path.glob("model-*.safetensors"))
        shards[1].unlink()
        text = said(tmp_path)
        assert f"lacks 1 of the {len(shards)} files" in text and shards[1].name in text and "download it again" in text
        for shard in shards:
            shard.unlink(missing_ok=True)
        assert f"lacks {len(shards)} of the {len(shards)} files" in said(tmp_path)

    @pytest.mark.parametrize(
        ("index", "expected"),
        [
            ("", "is not JSON (it is empty)"),
            ("{", "is not JSON (line 1"),
            ("[]", "names no files under weight_map"),
            ('{"weight_map": {}}', "names no files under weight_map"),
            ('{"weight_map": {"a": 7}}', "names no files under weight_map"),
            ('{"weight_map": {"a": "../../etc/passwd"}}', "no file of this folder"),
        ],
    )
    def test_whose_index_is_broken(self, index: str, expected: str, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(index)
        assert expected in said(folder)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x80\x04garbage"])
    def test_pickles_that_are_broken(self, content: bytes, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(content)
        assert "pytorch_model.bin" in said(folder, allow_pickle=True)

    def test_pickles_of_a_trainer(self, folder: Path) -> None:
        torch.save({"model": load_file(folder / "model.safetensors"), "step": 7}, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        assert "does not hold tensors by name" in said(folder, allow_pickle=True)

    def test_a_folder_of_weights_alone(self, folder: Path) -> None:
        for file in ("config.json", "generation_config.json"):
            (folder / file).unlink()
        assert "no config.json, only weights of another name (model.safetensors)" in said(folder)


class TestConfiguration:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", "config.json of"),
            ("{", "is not JSON (line 1"),
            ("[]", "is no JSON object"),
            ("{}", "names no model_type"),
            ('{"model_type": 7}', "names no model_type"),
            ("[" * 100_000, "is not JSON"),
        ],
    )
    def test_that_is_broken(self, text: str, expected: str, folder: Path) -> None:
        (folder / "config.json").write_text(text)
        assert expected in said(folder)

    def test_that_is_no_text(self, folder: Path) -> None:
        (folder / "config.json").write_bytes(b"\xff\xfe\x00")
        assert "is not JSON" in said(folder)

    def test_of_a_type_that_transformers_does_not_know(self, folder: Path) -> None:
        text = said(config(folder, model_type="brandnew", transformers_version="99.0"))
        assert f"transformers {transformers.__version__} does not know (it was saved by 99.0)" in text
        assert "pip install --upgrade transformers" in text
        assert "did you mean 'llama'?" in said(config(folder, model_type="lama"))

    def test_that_brings_code(self, folder: Path) -> None:
        said_so = said(config(folder, model_type="own", auto_map={"AutoConfig": "own.Own"}))
        assert "--trust-remote-code" in said_so

    @pytest.mark.parametrize(
        ("method", "expected"),
        [
            ({"quant_method": "gptq", "bits": 4}, "quantised by gptq"),
            ({"quant_method": "awq", "bits": 4}, "quantised by awq"),
            ({"quant_method": "compressed-tensors"}, "quantised by compressed-tensors"),
            ({"quant_method": "bitsandbytes", "load_in_4bit": True}, ".dequantize()"),
            ({"load_in_8bit": True}, "quantised by bitsandbytes"),
            ({"quant_method": "fp8"}, "FineGrainedFP8Config(dequantize=True)"),
            ({"quant_method": "mxfp4"}, "Mxfp4Config(dequantize=True)"),
            ({"bits": 3}, "quantised by an unknown method"),
        ],
    )
    def test_of_a_quantised_model(self, method: dict[str, Any], expected: str, folder: Path) -> None:
        text = said(config(folder, quantization_config=method))
        assert expected in text and "at full precision" in text

    def test_of_mlx(self, folder: Path) -> None:
        assert "quantised by mlx" in said(config(folder, quantization={"group_size": 64, "bits": 4}))

    def test_of_no_quantisation(self, folder: Path) -> None:
        with open_model(config(folder, quantization_config=None)) as model:
            assert model.opened.left_out == {}

    def test_that_does_not_tell_of_quantised_weights(self, folder: Path) -> None:
        from safetensors.torch import save_file

        weights = load_file(folder / "model.safetensors")
        packed = {
            f"model.layers.0.self_attn.q_proj.{name}": torch.ones(4, dtype=torch.int32) for name in ("qweight", "g_idx")
        }
        save_file(weights | packed, folder / "model.safetensors", metadata={"format": "pt"})
        assert "belong to a quantised model" in said(folder)

    @pytest.mark.parametrize(
        ("architecture", "expected"),
        [
            ("LlamaModel", "saved without its unembedding"),
            ("LlamaForSequenceClassification", "not a causal language model"),
            ("T5ForConditionalGeneration", "not a causal language model"),
            ("BertForMaskedLM", "not a causal language model"),
        ],
    )
    def test_of_another_kind(self, architecture: str, expected: str, folder: Path) -> None:
        assert expected in said(config(folder, architectures=[architecture]))

    @pytest.mark.parametrize(
        "changes",
        [
            {"num_attention_heads": 0},
            {"num_attention_heads": 5},
            {"hidden_size": -32},
            {"hidden_size": "large"},
            {"num_hidden_layers": "two"},
            {"hidden_act": "nothing"},
            {"rope_parameters": 7},
            {"rope_parameters": {"rope_type": "nothing"}},
            {"rms_norm_eps": "small"},
            {"dtype": "float99"},
            {"vocab_size": None},
            {"architectures": "LlamaForCausalLM"},
            {"architectures": [None]},
            {"architectures": 7},
            {"head_dim": 10**7},
        ],
        ids=str,
    )
    def test_with_a_value_that_makes_no_model(self, changes: dict[str, Any], folder: Path) -> None:
        """Whatever transformers makes of it: one line, or a model as sound as before."""
        try:
            with open_model(config(folder, **changes)) as model:
                assert doctor(model).safe
        except HeadatlasError as error:
            assert "\n" not in str(error)


class TestLoadedModels:
    def load(self, tiny: Tiny) -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(tiny("llama"), dtype=torch.float32)

    @JIT
    def test_compiled(self, tiny: Tiny) -> None:
        compiled = torch.compile(self.load(tiny))
        assert "open_model(model._orig_mod" in said(compiled, tokenizer=words(tiny("llama")), called="mine")
        with open_model(compiled._orig_mod, tokenizer=words(tiny("llama")), called="mine") as model:
            assert model.anatomy.layers == 2

    @JIT
    def test_compiled_in_place(self, tiny: Tiny) -> None:
        model = self.load(tiny)
        model.compile()
        assert "before you compile it" in said(model, tokenizer=words(tiny("llama")), called="mine")

    def test_spread_by_data_parallel(self, tiny: Tiny) -> None:
        spread = torch.nn.DataParallel(self.load(tiny))
        assert "open_model(model.module" in said(spread, tokenizer=words(tiny("llama")), called="mine")

    def test_in_a_pipeline(self, tiny: Tiny) -> None:
        made = transformers.pipeline("text-generation", model=self.load(tiny), tokenizer=words(tiny("llama")))
        assert "open_model(it.model, tokenizer=it.tokenizer)" in said(made)

    @pytest.mark.parametrize("thing", [None, 7, {"a": torch.ones(2)}, ["gpt2"], b"gpt2"], ids=str)
    def test_that_are_none(self, thing: Any) -> None:
        assert "is no model; give a folder, a hub id" in said(thing)

    def test_on_a_device_that_is_not_here(self, tiny: Tiny) -> None:
        assert "there is no device cuda:77 here" in said(tiny("llama"), device="cuda:77")
        assert "'toaster' is no device" in said(tiny("llama"), device="toaster")

    def test_in_a_dtype_that_is_none(self, tiny: Tiny) -> None:
        for dtype in ("float23", "int8", torch.int8, torch.complex64):
            assert "give float32, bfloat16, float16" in said(tiny("llama"), dtype=dtype)
        with open_model(tiny("llama"), dtype="bfloat16") as model:
            assert model.dtype == torch.bfloat16

    def test_that_do_not_run(self, tiny: Tiny) -> None:
        model = self.load(tiny)
        model.model.layers[1].mlp.up_proj = torch.nn.Linear(7, 7)
        assert "does not run on a few tokens" in said(model, tokenizer=words(tiny("llama")), called="mine")
        assert model.config._attn_implementation == "sdpa"


class TestTokenizers:
    def small(self, folder: Path, **sizes: int) -> Path:
        torch.manual_seed(0)
        made = transformers.LlamaConfig(**(GQA | sizes))
        transformers.AutoModelForCausalLM.from_config(made).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(specimens.folder() / name, folder / name)
        return folder

    def test_with_more_ordinary_tokens_than_embeddings(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Every command that measures refuses it before anything runs."""
        folder = self.small(tmp_path / "small", vocab_size=3800)
        assert "ordinary tokens up to 3892, and the model knows only 3800" in said(folder)
        assert [(check.name, check.verdict) for check in doctor(folder).checks] == [("tokenizer", "fail")]
        out = ["--out", str(tmp_path / "out")]
        for command in (
            ["doctor", str(folder)],
            ["run", "induction", "--model", str(folder), *out],
            ["run", "--all", "--jobs", "1", "--model", str(folder), *out],
            ["census", str(folder), "--jobs", "1", *out],
            ["census", str(folder), "--dry-run"],
            ["collaborate", str(folder), *out],
            ["method", "logit-lens", "--model", str(folder)],
        ):
            capsys.readouterr()
            assert main(command) == 2, command
            shown = capsys.readouterr()
            assert "ordinary tokens up to 3892" in " ".join((shown.out + shown.err).split()), command
        assert not list((tmp_path / "out").rglob("*.json"))

    def test_of_a_loaded_model(self, tmp_path: Path) -> None:
        folder = self.small(tmp_path, vocab_size=3800)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        assert "ordinary tokens up to 3892" in said(model, tokenizer=words(folder), called="mine")
        assert model.config._attn_implementation == "sdpa"

    def test_with_fewer_tokens_are_as_released_models_are(self, tmp_path: Path) -> None:
        with open_model(self.small(tmp_path, vocab_size=4224)) as model:
            assert doctor(model).safe

    @pytest.mark.parametrize("special", [True, False])
    def test_with_an_added_token_that_no_text_gives_are_too(self, special: bool, tmp_path: Path) -> None:
        """Gemma 3 1B has one for pictures, some copies of Llama 2 one for padding."""
        folder = self.small(tmp_path, vocab_size=3893)
        tokenizer = words(folder)
        tokenizer.add_tokens(["<picture>"], special_tokens=special)
        tokenizer.save_pretrained(folder)
        diagnosis = doctor(folder)
        check = next(check for check in diagnosis.checks if check.name == "tokenizer")
        assert diagnosis.safe and check.verdict == "note" and "<picture>" in check.detail
        with open_model(folder) as model, pytest.raises(HeadatlasError, match="gives token 3893"):
            model.vocabulary.encode("a <picture>")

    @pytest.mark.parametrize("end", ["BOS", "EOS"])
    def test_whose_ends_the_model_does_not_know(self, end: str, tmp_path: Path) -> None:
        folder = self.small(tmp_path, vocab_size=3893)
        tokenizer = words(folder)
        tokenizer.add_special_tokens({f"{end.lower()}_token": "<end>"})
        tokenizer.save_pretrained(folder)
        assert f"{end} of the tokenizer" in said(folder)
        assert [check.name for check in doctor(folder).checks] == [end]

    def test_that_are_missing_or_broken(self, folder: Path) -> None:
        whole = (folder / "tokenizer.json").read_bytes()
        for content in (b"", b"{", b"[]", b"{}", whole[: len(whole) // 2], b"\xff\xfe"):
            (folder / "tokenizer.json").write_bytes(content)
            assert "put its tokenizer.json beside config.json" in said(folder)
        (folder / "tokenizer.json").unlink()
        assert "has no tokenizer" in said(folder)


def test_no_damage_ends_in_a_traceback(tiny: Tiny, tmp_path: Path) -> None:
    """Bytes changed, cut or doubled in any file of a folder: the model opens, or one line is said."""
    rng = random.Random(0)
    folder = shutil.copytree(tiny("llama"), tmp_path / "model")
    files = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
    whole = {file: (folder / file).read_bytes() for file in files}
    opened = refused = 0
    for _ in range(120):
        file = rng.choice(files)
        raw = bytearray(whole[file])
        top = len(raw) if file != "model.safetensors" else 3000  # the header
        for _ in range(rng.choice((1, 1, 5))):
            at = rng.randrange(top)
            damage = rng.choice(("byte", "cut", "double", "digit"))
            if damage == "byte":
                raw[at] = rng.randrange(256)
            elif damage == "cut":
                del raw[at : at + rng.choice((1, 10, 1000))]
            elif damage == "double":
                raw[at:at] = raw[at : at + 20]
            else:
                raw[at] = ord(rng.choice("0123456789"))
            top = min(top, len(raw))
        (folder / file).write_bytes(raw)
        try:
            open_model(folder).close()
            opened += 1
        except HeadatlasError as error:
            assert "\n" not in str(error)
            refused += 1
        (folder / file).write_bytes(whole[file])
    print(f"{opened} opened, {refused} refused in one line")
    assert opened + refused == 120 and refused > 60
    assert TINY  # the folder is as it was
    open_model(folder).close()
