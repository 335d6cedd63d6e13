"""Opening: files, hub ids and loaded models; what is refused, what is recorded, and what is given back."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from conftest import EACH_FAMILY, FAMILIES
from headatlas import HeadatlasError, specimens
from headatlas.lab import attention_scores, forward, open_model
from headatlas.stimuli import Prompt
from tiny_prompts import TOKENS
from unrouted import UNROUTED

Tiny = Callable[[str], Path]


# Families whose attention neither passes transformers' registry nor is led through the seam.
def load(folder: Path, **options: object) -> transformers.PreTrainedModel:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)


def tokenizer(folder: Path) -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(folder)


class TestLoadedModels:
    @pytest.mark.parametrize("family", EACH_FAMILY)
    def test_measure_like_the_same_model_opened_from_its_folder(self, family: str, tiny: Tiny) -> None:
        prompts = [Prompt(tuple(row.tolist()), tuple(row.tolist()), pairs=((20, 3), (7, 7))) for row in TOKENS]
        with open_model(load(tiny(family)), tokenizer=tokenizer(tiny(family))) as loaded:
            ours = attention_scores(loaded, prompts).score
        assert (ours == attention_scores(open_model(str(tiny(family))), prompts).score).all()

    @pytest.mark.parametrize("implementation", ["sdpa", "eager"])
    def test_are_given_back_as_they_were(self, implementation: str, tiny: Tiny) -> None:
        model = load(tiny("llama"), attn_implementation=implementation).train()
        model.model.layers[0].eval()  # a mixed state, to be given back exactly
        modes = [module.training for module in model.modules()]
        with open_model(model, tokenizer=tokenizer(tiny("llama")), called="mine") as opened:
            assert (opened.name, opened.implementation) == ("mine", implementation)
            assert not any(module.training for module in model.modules())
            assert model.config._attn_implementation != implementation
        assert model.config._attn_implementation == implementation
        assert [module.training for module in model.modules()] == modes
        assert all(parameter.requires_grad for parameter in model.parameters())
        opened.close()  # a second time does nothing
        assert model.config._attn_implementation == implementation

    def test_are_given_back_after_an_exception(self, tiny: Tiny) -> None:
        model = load(tiny("gpt2"))
        with (
            pytest.raises(RuntimeError, match="inside"),
            open_model(model, tokenizer=tokenizer(tiny("gpt2"))) as opened,
        ):
            forward(opened, TOKENS, {})
            raise RuntimeError("inside")
        assert model.config._attn_implementation == "sdpa"

    def test_that_are_refused_are_left_as_they_were(self, tiny: Tiny) -> None:
        model = load(tiny("llama")).train()
        model.model.layers[0].self_attn.is_causal = False
        model.model.layers[0].self_attn.o_proj.register_forward_hook(lambda module, args, out: out.flip(1))
        with pytest.raises(HeadatlasError):
            open_model(model, tokenizer=tokenizer(tiny("llama")))
        assert model.config._attn_implementation == "sdpa" and model.training

    def test_measure_nothing_once_closed(self, tiny: Tiny) -> None:
        opened = open_model(load(tiny("llama")), tokenizer=tokenizer(tiny("llama")))
        opened.close()
        with pytest.raises(HeadatlasError, match="not reached"):
            forward(opened, TOKENS, {opened.anatomy.attention[0]: lambda call, z: None})

    def test_can_be_opened_twice(self, tiny: Tiny) -> None:
        model, words = load(tiny("llama")), tokenizer(tiny("llama"))
        with open_model(model, tokenizer=words):
            with open_model(model, tokenizer=words) as inner:
                assert inner.implementation == "sdpa"
            assert model.config._attn_implementation == "headatlas_sdpa"
        assert model.config._attn_implementation == "sdpa"

    def test_are_told_apart_by_their_weights(self, tiny: Tiny) -> None:
        words = tokenizer(tiny("llama"))

        def digest(model: transformers.PreTrainedModel) -> str:
            with open_model(model, tokenizer=words) as opened:
                assert opened.opened.source == "loaded" and opened.sha256 == opened.opened.weights
                return opened.sha256

        changed = load(tiny("llama"))
        with torch.no_grad():
            changed.model.layers[1].self_attn.q_proj.weight[0, 0] += 1e-6
        assert digest(load(tiny("llama"))) == digest(load(tiny("llama")))
        assert len({digest(load(tiny("llama"))), digest(changed), digest(load(tiny("llama")).bfloat16())}) == 3

    def test_need_their_tokenizer(self, tiny: Tiny) -> None:
        with pytest.raises(HeadatlasError, match="tokenizer="):
            open_model(load(tiny("llama")))

    def test_must_be_causal_language_models_of_transformers(self, tiny: Tiny) -> None:
        for wrong in (load(tiny("llama")).model, torch.nn.Linear(2, 2)):
            with pytest.raises(HeadatlasError, match="not a causal language model"):
                open_model(wrong, tokenizer=tokenizer(tiny("llama")))

    def test_may_not_have_broken_weights(self, tiny: Tiny) -> None:
        model = load(tiny("llama"))
        with torch.no_grad():
            model.model.layers[1].self_attn.q_proj.weight[0, 0] = float("nan")
        with pytest.raises(HeadatlasError, match="NaN"):
            open_model(model, tokenizer=tokenizer(tiny("llama")))

    def test_whose_attention_is_of_another_kind_are_refused(self, tiny: Tiny) -> None:
        model = load(tiny("llama"))
        model.set_attn_implementation("flex_attention")
        with pytest.raises(HeadatlasError, match="attn_implementation='sdpa'"):
            open_model(model, tokenizer=tokenizer(tiny("llama")))

    def test_that_are_not_in_memory_are_refused(self, tiny: Tiny) -> None:
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(FAMILIES["llama"]())
        with pytest.raises(HeadatlasError, match="not in memory"):
            open_model(model, tokenizer=tokenizer(tiny("llama")))


@pytest.mark.parametrize("family", UNROUTED)
class TestOutsideTheRegistry:
    def test_folders_are_refused(self, family: str, tiny: Tiny, tmp_path: Path) -> None:
        transformers.AutoModelForCausalLM.from_config(UNROUTED[family]()).save_pretrained(tmp_path)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny("llama") / name, tmp_path / name)
        with pytest.raises(HeadatlasError, match=f"family {family}.*choose a model of another family") as caught:
            open_model(str(tmp_path))
        assert "\n" not in str(caught.value)

    def test_loaded_models_are_refused_and_left_alone(self, family: str, tiny: Tiny) -> None:
        model = transformers.AutoModelForCausalLM.from_config(UNROUTED[family]())
        implementation = model.config._attn_implementation
        with pytest.raises(HeadatlasError, match=f"family {family}"):
            open_model(model, tokenizer=tokenizer(tiny("llama")))
        assert model.config._attn_implementation == implementation


class TestTheRecord:
    def test_has_every_file(self, tiny: Tiny) -> None:
        opened = open_model(str(tiny("llama"))).opened
        expected = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tiny("llama").iterdir()
        }  # tokenizer, configurations, weights
        assert opened.files == expected and opened.source == "folder"
        assert opened.weights == expected["model.safetensors"]
        assert not opened.pickle and not opened.remote_code

    def test_knows_the_specimen(self) -> None:
        assert {open_model(name).opened.source for name in specimens.names()} == {"specimen"}

    def test_of_several_weight_files_is_of_all_in_order(self, tiny: Tiny, tmp_path: Path) -> None:
        load(tiny("llama")).save_pretrained(tmp_path, max_shard_size="50KB")
        shutil.copy(tiny("llama") / "tokenizer.json", tmp_path)
        shards = sorted(tmp_path.glob("model*.safetensors"))
        assert len(shards) > 1
        opened = open_model(str(tmp_path))
        assert opened.sha256 == hashlib.sha256(b"".join(shard.read_bytes() for shard in shards)).hexdigest()
        assert {shard.name for shard in shards} <= set(opened.opened.files)


class TestOnlyOnRequest:
    def test_pickled_weights(self, tiny: Tiny, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        shutil.copytree(tiny("llama"), folder)
        (folder / "model.safetensors").unlink()
        torch.save(load(tiny("llama")).state_dict(), folder / "pytorch_model.bin")
        with pytest.raises(HeadatlasError, match=r"has no model\*\.safetensors; allow_pickle=True"):
            open_model(str(folder))
        opened = open_model(str(folder), allow_pickle=True)
        assert opened.opened.pickle and "pytorch_model.bin" in opened.opened.files
        assert torch.equal(forward(opened, TOKENS, {}), forward(open_model(str(tiny("llama"))), TOKENS, {}))

    def test_remote_code(self, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
        folder = tmp_path / "model"
        shutil.copytree(tiny("llama"), folder)
        (folder / "own.py").write_text(
            "from transformers import LlamaConfig, LlamaForCausalLM\n"
            "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
            "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
        )
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "own", "architectures": ["OwnForCausalLM"]}
        config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(HeadatlasError, match="trust_remote_code=True") as caught:
            open_model(str(folder))
        assert "\n" not in str(caught.value)
        opened = open_model(str(folder), trust_remote_code=True)
        assert type(opened.model).__name__ == "OwnForCausalLM"
        assert opened.opened.remote_code and "own.py" in opened.opened.files


def test_dtype_and_paths(tiny: Tiny) -> None:
    model = open_model(tiny("llama"), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16 and model.name == str(tiny("llama"))


def test_options_that_do_not_go_together(tiny: Tiny) -> None:
    words = tokenizer(tiny("llama"))
    with pytest.raises(ValueError, match="stays as it is"):
        open_model(load(tiny("llama")), dtype=torch.bfloat16, tokenizer=words)
    with pytest.raises(ValueError, match="already loaded"):
        open_model(str(tiny("llama")), tokenizer=words)
    with pytest.raises(ValueError, match="not both"):
        open_model(str(tiny("llama")), device="cpu", device_map="auto")
