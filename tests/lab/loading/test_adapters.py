"""Adapters: merged on request with peft's own numbers, never otherwise, and refused where they do not belong."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from headatlas import HeadatlasError, load, specimens
from headatlas.cli.program import main
from headatlas.lab import open_model
from headatlas.lab.safety.doctor import doctor
from headatlas.protocol.provenance import catalog_id

Tiny = Callable[[str], Path]
TOKENS = torch.randint(1, 299, (2, 24), generator=torch.Generator().manual_seed(1))
LORA = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")

# Adapters that can be merged: a family, and what is trained.
MERGED: dict[str, tuple[str, Callable[[], peft.PeftConfig]]] = {
    "lora": ("llama", lambda: LORA),
    "lora on fused queries, with biases": (
        "gpt2",
        lambda: peft.LoraConfig(r=4, target_modules=["c_attn"], bias="all", fan_in_fan_out=True),
    ),
    "lora scaled by rank": ("qwen2", lambda: peft.LoraConfig(r=4, target_modules="all-linear", use_rslora=True)),
    "lora and whole matrices": (
        "llama",
        lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"]),
    ),
    "lora of experts": (
        "qwen3_moe",
        lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj"]),
    ),
    "dora": ("llama", lambda: peft.LoraConfig(r=4, target_modules=["o_proj"], use_dora=True)),
    "ia3": (
        "llama",
        lambda: peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    ),
    "loha": ("llama", lambda: peft.LoHaConfig(r=4, target_modules=["q_proj"])),
    "norms": ("llama", lambda: peft.LNTuningConfig(target_modules=["input_layernorm"])),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """peft warns of what these tests mean to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trained(base: Path, config: peft.PeftConfig, folder: Path) -> Any:
    """An adapter of a base model with random weights, saved; returns the two as peft runs them."""
    torch.manual_seed(1)
    model = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(str(folder))
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=TOKENS, use_cache=False).logits
        return found


def beside(tiny: Tiny, folder: Path) -> Path:
    """A folder with full weights and an adapter of them."""
    trained(tiny("llama"), LORA, folder / "adapter")
    shutil.copytree(tiny("llama"), folder / "both")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(folder / "adapter" / file, folder / "both" / file)
    return folder / "both"


@pytest.mark.parametrize("kind", MERGED)
def test_merged_weights_do_as_the_adapter_does(kind: str, tiny: Tiny, tmp_path: Path) -> None:
    family, config = MERGED[kind]
    expected = logits(trained(tiny(family), config(), tmp_path / "adapter"))
    with open_model(tiny(family)) as plain, open_model(tiny(family), adapter=tmp_path / "adapter") as model:
        assert type(model.model) is type(plain.model) and not isinstance(model.model, peft.PeftModel)
        assert (logits(model.model) - expected).abs().max() < 1e-5
        assert (logits(plain.model) - expected).abs().max() > 1e-4
        assert model.sha256 != plain.sha256


class TestTheRecord:
    def test_has_the_files_of_the_adapter(self, tiny: Tiny, tmp_path: Path) -> None:
        trained(tiny("llama"), LORA, tmp_path / "one")
        with open_model(tiny("llama"), adapter=tmp_path / "one") as model, open_model(tiny("llama")) as plain:
            more = model.opened.files.keys() - plain.opened.files.keys()
            assert more == {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
            assert model.opened.adapter == f"{tmp_path / 'one'} (LORA, trained on {tiny('llama')})"
            assert plain.opened.adapter is None

    def test_tells_adapters_apart_by_weights_and_by_scale(self, tiny: Tiny, tmp_path: Path) -> None:
        trained(tiny("llama"), LORA, tmp_path / "one")
        shutil.copytree(tmp_path / "one", tmp_path / "weights")
        weights = load_file(tmp_path / "one" / "adapter_model.safetensors")
        save_file({key: tensor * 2 for key, tensor in weights.items()}, tmp_path / "weights/adapter_model.safetensors")
        shutil.copytree(tmp_path / "one", tmp_path / "scale")
        said = json.loads((tmp_path / "one" / "adapter_config.json").read_text()) | {"lora_alpha": 99}
        (tmp_path / "scale" / "adapter_config.json").write_text(json.dumps(said))
        found = [open_model(tiny("llama"), adapter=tmp_path / each).sha256 for each in ("one", "weights", "scale")]
        assert len(set(found)) == 3
        assert open_model(tiny("llama"), adapter=tmp_path / "one").sha256 == found[0]

    def test_is_of_no_model_of_the_catalog(self, tiny: Tiny, tmp_path: Path) -> None:
        """Papers report nothing about a model with somebody's adapter in it."""
        config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
        trained(specimens.folder(), config, tmp_path / "adapter")
        with open_model("specimen", adapter=tmp_path / "adapter") as model, open_model("specimen") as plain:
            assert catalog_id(load(), plain) == "specimen" and catalog_id(load(), model) is None

    def test_the_doctor_says_it(self, tiny: Tiny, tmp_path: Path) -> None:
        trained(tiny("llama"), LORA, tmp_path / "one")
        diagnosis = doctor(tiny("llama"), adapter=tmp_path / "one")
        check = next(check for check in diagnosis.checks if check.name == "files")
        assert diagnosis.safe and check.verdict == "note" and "(LORA, trained on" in check.detail


class TestBesideFullWeights:
    def test_is_refused_with_the_two_ways(self, tiny: Tiny, tmp_path: Path) -> None:
        folder = beside(tiny, tmp_path)
        with pytest.raises(HeadatlasError) as caught:
            open_model(folder)
        assert f"--adapter {folder}" in str(caught.value) and "--adapter none" in str(caught.value)
        assert [check.name for check in doctor(folder).checks] == ["adapter"]

    @pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
    def test_one_of_its_files_is_enough(self, file: str, tiny: Tiny, tmp_path: Path) -> None:
        folder = shutil.copytree(tiny("llama"), tmp_path / "model")
        (folder / file).write_bytes(b"{}")
        with pytest.raises(HeadatlasError, match=file):
            open_model(folder)

    def test_both_ways_work_and_differ(self, tiny: Tiny, tmp_path: Path) -> None:
        folder = beside(tiny, tmp_path)
        with open_model(folder, adapter="none") as without, open_model(folder, adapter=folder) as merged:
            assert torch.equal(logits(without.model), logits(open_model(tiny("llama")).model))
            assert (logits(merged.model) - logits(without.model)).abs().max() > 1e-4
            assert without.sha256 == open_model(tiny("llama")).sha256 != merged.sha256
            assert without.opened.adapter is None

    def test_on_the_command_line(self, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = str(beside(tiny, tmp_path))
        capsys.readouterr()
        assert main(["doctor", folder]) == 2
        assert main(["doctor", folder, "--adapter", "none"]) == 0
        assert main(["doctor", folder, "--adapter", folder]) == 0


class TestAreRefused:
    def refused(self, base: Path, adapter: Path | str, *said: str, **options: Any) -> None:
        with pytest.raises(HeadatlasError) as caught:
            open_model(base, adapter=adapter, **options)
        assert "\n" not in str(caught.value)
        for each in said:
            assert each in str(caught.value), str(caught.value)

    def test_without_peft(self, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        trained(tiny("llama"), LORA, tmp_path / "one")
        monkeypatch.setattr("headatlas.lab.loading.adapters.importlib.util.find_spec", lambda name: None)
        self.refused(tiny("llama"), tmp_path / "one", "pip install 'headatlas[adapter]'")

    def test_alone_with_the_base_that_they_need(self, tiny: Tiny, tmp_path: Path) -> None:
        trained(tiny("llama"), LORA, tmp_path / "one")
        with pytest.raises(HeadatlasError) as caught:
            open_model(tmp_path / "one")
        assert f"is an adapter of {tiny('llama')}" in str(caught.value)
        assert f"--model {tiny('llama')} --adapter {tmp_path / 'one'}" in str(caught.value)

    @pytest.mark.parametrize(
        ("family", "said"),
        [("gpt2", "Target modules"), ("qwen3_moe", "size mismatch"), ("phi3", "Target modules")],
    )
    def test_of_another_base(self, family: str, said: str, tiny: Tiny, tmp_path: Path) -> None:
        trained(tiny("llama"), LORA, tmp_path / "one")
        self.refused(tiny(family), tmp_path / "one", said, f"it was trained on {tiny('llama')}")

    def test_of_a_deeper_base(self, tiny: Tiny, tmp_path: Path) -> None:
        trained(tiny("llama"), LORA, tmp_path / "one")
        file = tmp_path / "one" / "adapter_model.safetensors"
        weights = load_file(file)
        more = {
            key.replace("layers.1", "layers.2"): tensor.clone() for key, tensor in weights.items() if "layers.1" in key
        }
        save_file(weights | more, file)
        self.refused(tiny("llama"), tmp_path / "one", "has weights for what", "layers.2")

    def test_that_lack_weights(self, tiny: Tiny, tmp_path: Path) -> None:
        trained(tiny("llama"), LORA, tmp_path / "one")
        file = tmp_path / "one" / "adapter_model.safetensors"
        save_file({key: tensor for key, tensor in load_file(file).items() if "layers.1" not in key}, file)
        self.refused(tiny("llama"), tmp_path / "one", "lacks weights that its configuration asks for", "layers.1")

    def test_with_broken_weights(self, tiny: Tiny, tmp_path: Path) -> None:
        trained(tiny("llama"), LORA, tmp_path / "one")
        file = tmp_path / "one" / "adapter_model.safetensors"
        save_file({key: tensor / 0 for key, tensor in load_file(file).items()}, file)
        self.refused(tiny("llama"), tmp_path / "one", "NaN")
        file.write_bytes(file.read_bytes()[:-100])
        self.refused(tiny("llama"), tmp_path / "one", "cut short")

    @pytest.mark.parametrize(
        "config",
        [
            peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
            peft.PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
            peft.LoraConfig(r=4, target_modules=["q_proj"], alora_invocation_tokens=[5], task_type="CAUSAL_LM"),
            peft.LoraConfig(r=4, target_modules=["q_proj"], layer_replication=[(0, 2), (1, 2)]),
        ],
        ids=["prompt tuning", "prefix tuning", "on some tokens", "repeated layers"],
    )
    def test_of_a_kind_that_cannot_be_merged(self, config: Any, tiny: Tiny, tmp_path: Path) -> None:
        trained(tiny("llama"), config, tmp_path / "one")
        self.refused(tiny("llama"), tmp_path / "one", "cannot be merged into weights")

    def test_of_an_embedding_that_is_the_unembedding_too(self, tiny: Tiny, tmp_path: Path) -> None:
        """Merged, it would change both; beside the weights it changes one."""
        trained(tiny("gemma2"), peft.LoraConfig(r=4, target_modules=["embed_tokens"]), tmp_path / "one")
        self.refused(tiny("gemma2"), tmp_path / "one", "gives other logits")

    def test_that_are_none(self, tiny: Tiny, tmp_path: Path) -> None:
        self.refused(tiny("llama"), tmp_path / "nowhere", "is not a folder", "adapter_config.json")
        self.refused(tiny("llama"), tiny("gpt2"), "is no adapter")
        (tmp_path / "adapter_config.json").write_text("{")
        self.refused(tiny("llama"), tmp_path, "is not JSON")
        (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        self.refused(tiny("llama"), tmp_path, "has no adapter_model.safetensors")
        (tmp_path / "adapter_model.bin").write_bytes(b"")
        self.refused(tiny("llama"), tmp_path, "--allow-pickle")
        self.refused(tiny("llama"), tmp_path, "is empty", allow_pickle=True)
        trained(tiny("llama"), LORA, tmp_path / "one")
        (tmp_path / "one" / "adapter_config.json").write_text('{"peft_type": "BRANDNEW"}')
        self.refused(tiny("llama"), tmp_path / "one", "cannot read adapter_config.json")

    def test_around_a_loaded_model(self, tiny: Tiny, tmp_path: Path) -> None:
        words = transformers.AutoTokenizer.from_pretrained(tiny("llama"))
        wrapped = trained(tiny("llama"), LORA, tmp_path / "one")
        with pytest.raises(HeadatlasError, match=r"merge_and_unload\(\)"):
            open_model(wrapped, tokenizer=words)
        inside = transformers.AutoModelForCausalLM.from_pretrained(tiny("llama"))
        inside.load_adapter(str(tmp_path / "one"))
        with pytest.raises(HeadatlasError, match=r"merge_and_unload\(\)"):
            open_model(inside, tokenizer=words)
        with open_model(wrapped.merge_and_unload(), tokenizer=words) as merged:
            same = logits(open_model(tiny("llama"), adapter=tmp_path / "one").model)
            assert (logits(merged.model) - same).abs().max() < 1e-5
