"""The doctor: sound models of every family pass, and each way of being silently wrong is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from conftest import EACH_FAMILY, FAMILIES
from headatlas import HeadatlasError
from headatlas.cli.program import main
from headatlas.lab import open_model
from headatlas.lab.safety.diagnosis import Check, Diagnosis
from headatlas.lab.safety.doctor import CHECKS, doctor
from unrouted import UNROUTED

Tiny = Callable[[str], Path]
Capture = pytest.CaptureFixture[str]
NOTES = {  # what there is to know about the tiny models, beside their width
    "mistral": "sliding window of 16 tokens in 2 of 2 layers",
    "starcoder2": "sliding window of 16 tokens in 2 of 2 layers",
    "gemma2": "scores softcapped at 50",
    "gpt_oss": "sinks in 2 of 2 layers",
    "qwen3": "norms on queries and keys",
    "olmo2": "norms on queries and keys",
    "opt": "queries times 0.3536",
    "gpt_neo": "sliding window of 16 tokens in 1 of 2 layers",
    "bloom": "scores biased by position",
    "mpt": "scores biased by position",
    "qwen3_next": "attention is gated in 2 layers",
    "qwen3_5_text": "attention is gated in 2 layers",
}


def load(folder: Path, **options: Any) -> transformers.PreTrainedModel:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)


def words(folder: Path) -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(folder)


def checks(diagnosis: Diagnosis) -> dict[str, Check]:
    return {check.name: check for check in diagnosis.checks}


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_every_family_is_safe(family: str, tiny: Tiny) -> None:
    diagnosis = doctor(tiny(family))
    found = checks(diagnosis)
    assert diagnosis.safe and "is safe to measure" in diagnosis.conclusion, diagnosis.conclusion
    assert len(found) == len(CHECKS)
    assert found["pass-through"].figure == 0.0
    for name in ("identity", "causality", "recomputed", "weights", "unembed", "padding"):
        figure = found[name].figure
        assert found[name].verdict == "pass" and figure is not None and figure < 1e-5, found[name]
    assert NOTES.get(family, "") in found["peculiarities"].detail
    wide = "head_dim" in FAMILIES[family]().to_dict() and FAMILIES[family]().head_dim == 16
    assert found["head width"].verdict == ("note" if wide else "pass")


def test_a_model_that_is_open_stays_open(tiny: Tiny) -> None:
    with open_model(load(tiny("llama")), tokenizer=words(tiny("llama"))) as model:
        assert doctor(model).safe
        assert model.model.config._attn_implementation == "headatlas_sdpa"


def test_a_loaded_model_is_given_back(tiny: Tiny) -> None:
    model = load(tiny("llama")).train()
    assert doctor(model, tokenizer=words(tiny("llama")), called="mine").conclusion == "mine is safe to measure"
    assert model.config._attn_implementation == "sdpa" and model.training


def test_lower_precision_is_a_note(tiny: Tiny) -> None:
    diagnosis = doctor(tiny("llama"), dtype=torch.bfloat16)
    assert diagnosis.safe and checks(diagnosis)["dtype"].verdict == "note"
    assert "bfloat16" in checks(diagnosis)["dtype"].detail and "read the note" in diagnosis.conclusion


class TestWhatIsWrongIsNamed:
    def broken(self, tiny: Tiny, family: str, damage: Callable[[Any], None], **options: Any) -> Diagnosis:
        model = load(tiny(family), **options)
        damage(model)
        diagnosis = doctor(model, tokenizer=words(tiny(family)), called="broken")
        assert model.config._attn_implementation == options.get("attn_implementation", "sdpa")
        return diagnosis

    def refused(self, diagnosis: Diagnosis) -> str:
        assert not diagnosis.safe and diagnosis.conclusion.startswith("broken is not safe to measure")
        (check,) = (check for check in diagnosis.checks if check.verdict == "fail")
        return check.name

    def test_a_broken_weight(self, tiny: Tiny) -> None:
        def damage(model: Any) -> None:
            model.lm_head.weight.data[0, 0] = float("inf")

        assert self.refused(self.broken(tiny, "llama", damage)) == "finite"

    def test_attention_that_sees_the_future(self, tiny: Tiny) -> None:
        def damage(model: Any) -> None:
            model.model.layers[1].register_forward_hook(lambda module, args, out: out + out.flip(1))

        assert self.refused(self.broken(tiny, "llama", damage)) == "causality"

    def test_z_that_is_changed_before_the_output_matrix(self, tiny: Tiny) -> None:
        def damage(model: Any) -> None:
            model.model.layers[1].self_attn.o_proj.register_forward_pre_hook(lambda module, args: (args[0] * 0.5,))

        assert self.refused(self.broken(tiny, "llama", damage)) == "identity"

    def test_an_output_that_is_not_the_sum_of_heads(self, tiny: Tiny) -> None:
        def damage(model: Any) -> None:
            model.model.layers[1].self_attn.o_proj.register_forward_hook(lambda module, args, out: out.tanh() * 3)

        assert self.refused(self.broken(tiny, "llama", damage)) == "identity"

    def test_heads_that_are_all_the_same(self, tiny: Tiny) -> None:
        def damage(model: Any) -> None:
            for layer in model.model.layers:
                layer.self_attn.v_proj.weight.data.zero_()

        assert self.refused(self.broken(tiny, "llama", damage)) == "heads differ"

    def test_a_model_that_behaves_otherwise_when_watched(self, tiny: Tiny) -> None:
        def damage(model: Any) -> None:
            def otherwise(module: nn.Module, args: object, out: torch.Tensor) -> torch.Tensor:
                return out if model.config._attn_implementation == "sdpa" else out * 1.5

            model.model.layers[0].register_forward_hook(otherwise)

        assert self.refused(self.broken(tiny, "llama", damage)) == "pass-through"

    def test_weights_that_do_not_give_z(self, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
        inner = transformers.integrations.sdpa_attention.sdpa_attention_forward

        def warmer(*args: Any, scaling: float, **options: Any) -> Any:
            return inner(*args, scaling=scaling * 3, **options)

        def damage(model: Any) -> None:
            for layer in model.model.layers:
                for matrix in (layer.self_attn.q_proj, layer.self_attn.k_proj):
                    matrix.weight.data.mul_(20)  # so that attention is not close to uniform

        monkeypatch.setattr("headatlas.lab.hooks.attention_interface.sdpa_attention_forward", warmer)
        diagnosis = self.broken(tiny, "llama", damage)
        assert not diagnosis.safe and checks(diagnosis)["recomputed"].verdict == "fail"

    def test_a_tokenizer_that_is_not_the_models(self, tiny: Tiny) -> None:
        tokenizer = words(tiny("llama"))
        tokenizer.add_special_tokens({"bos_token": "<another>"})
        tokenizer.add_tokens([f"word{number}" for number in range(10)])
        config = FAMILIES["llama"]()
        config.vocab_size = tokenizer.bos_token_id
        model = transformers.AutoModelForCausalLM.from_config(config)
        assert self.refused(doctor(model, tokenizer=tokenizer, called="broken")) == "BOS"

    def test_values_that_are_no_linear_map_are_a_note(self, tiny: Tiny) -> None:
        def damage(model: Any) -> None:
            attention = model.model.layers[1].self_attn
            attention.v_proj = nn.Sequential(attention.v_proj, nn.Tanh())
            attention.v_proj[0].weight.data.mul_(20)

        diagnosis = self.broken(tiny, "llama", damage)
        assert diagnosis.safe and checks(diagnosis)["weights"].verdict == "note"
        assert "could not be confirmed in layer 1" in checks(diagnosis)["weights"].detail

    def test_padding_that_is_not_honoured_is_a_note(self, tiny: Tiny) -> None:
        def damage(model: Any) -> None:
            model.register_forward_pre_hook(
                lambda module, args, options: (args, {"use_cache": False}), with_kwargs=True
            )  # the mask and the positions get lost

        diagnosis = self.broken(tiny, "gpt2", damage)
        assert diagnosis.safe and checks(diagnosis)["padding"].verdict == "note"

    def test_another_order_of_rounding_is_at_most_a_note(self, tiny: Tiny) -> None:
        def damage(model: Any) -> None:
            for block in model.transformer.h:
                block.attn.reorder_and_upcast_attn = True  # plain transformers then computes scores its own way

        diagnosis = self.broken(tiny, "gpt2", damage, attn_implementation="eager")
        check = checks(diagnosis)["pass-through"]
        assert diagnosis.safe and check.figure is not None and check.figure < 1e-6
        assert (check.verdict == "pass") == (check.figure == 0)


class TestCommand:
    def test_safe(self, tiny: Tiny, capsys: Capture) -> None:
        assert main(["doctor", str(tiny("gemma2"))]) == 0
        text = " ".join(capsys.readouterr().out.split())  # lines are wrapped
        assert text.endswith("read the 2 notes") and "softcapped" in text

    def test_json(self, tiny: Tiny, capsys: Capture) -> None:
        assert main(["doctor", str(tiny("qwen2")), "--json", "--dtype", "bfloat16"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["safe"] is True and found["architecture"] == "Qwen2ForCausalLM"
        assert [check["name"] for check in found["checks"]][:4] == ["registry", "layers", "finite", "identity"]
        assert {check["verdict"] for check in found["checks"]} == {"pass", "note"}

    @pytest.mark.parametrize("family", UNROUTED)
    def test_not_safe(self, family: str, tiny: Tiny, tmp_path: Path, capsys: Capture) -> None:
        transformers.AutoModelForCausalLM.from_config(UNROUTED[family]()).save_pretrained(tmp_path)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny("llama") / name, tmp_path / name)
        capsys.readouterr()
        assert main(["doctor", str(tmp_path)]) == 2
        assert "is not safe to measure: registry" in " ".join(capsys.readouterr().out.split())
        assert main(["doctor", str(tmp_path), "--json"]) == 2
        assert json.loads(capsys.readouterr().out)["safe"] is False

    def test_no_model_is_one_line(self, capsys: Capture) -> None:
        assert main(["doctor", "./nowhere"]) == 2
        assert capsys.readouterr().err == (
            "headatlas: ./nowhere is not a folder; give a model folder, a hub id, or the word specimen\n"
        )


def test_mistakes_of_the_user_are_not_a_diagnosis(tiny: Tiny) -> None:
    with pytest.raises(HeadatlasError, match="tokenizer"):
        doctor(load(tiny("llama")))


class TestPromptsAsMeasurementsHaveThem:
    """What goes wrong only behind BOS, or past a sliding window, is seen."""

    @torch.no_grad()
    def overflowing(self, tiny: Tiny, tmp_path: Path) -> Path:
        """A model whose first token, and no other, leaves the range of float16 in the residual stream."""
        model = load(tiny("gpt_neox"))
        bos = words(tiny("gpt_neox")).bos_token_id
        model.gpt_neox.embed_in.weight[bos, 0] = 6e4
        model.gpt_neox.layers[0].mlp.dense_4h_to_h.bias[0] = 1e4  # others stay far below 65,504
        model.save_pretrained(tmp_path)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny("gpt_neox") / name, tmp_path / name)
        return tmp_path

    def test_float16_that_overflows_behind_bos_is_not_safe(self, tiny: Tiny, tmp_path: Path) -> None:
        folder = self.overflowing(tiny, tmp_path)
        found = checks(doctor(folder, dtype=torch.float16))["finite"]
        assert found.verdict == "fail" and "begin with BOS" in found.detail
        assert "open it in float32 or bfloat16" in found.detail
        assert doctor(folder).safe and doctor(folder, dtype=torch.bfloat16).safe

    def test_what_goes_wrong_past_the_window_is_seen(self, tiny: Tiny) -> None:
        model = load(tiny("mistral"))  # window 16

        def spoil(_: nn.Module, read: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            z = read[0].clone()
            z[:, 20:] *= 0.5
            return (z,)

        model.model.layers[1].self_attn.o_proj.register_forward_pre_hook(spoil)
        diagnosis = doctor(model, tokenizer=words(tiny("mistral")), called="late")
        assert [check.name for check in diagnosis.checks if check.verdict == "fail"] == ["identity"]

    def test_it_says_what_it_looked_at(self, tiny: Tiny) -> None:
        assert "prompts of 128 tokens that begin with BOS" in checks(doctor(tiny("llama")))["finite"].detail
        assert "past the window of 16" in checks(doctor(tiny("gemma3")))["finite"].detail
