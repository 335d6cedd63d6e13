"""The lab against plain transformers: what is silently wrong elsewhere must be loud here."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from conftest import EACH_FAMILY, save_tiny
from headatlas import HeadatlasError
from headatlas.lab import (
    ablate_sets,
    accuracy,
    attention_scores,
    forward,
    log_probability,
    logit_difference,
    open_model,
)
from headatlas.lab.ablation import Reference, ablate, mean_z
from headatlas.lab.hooks.attention_interface import attention_hooks
from headatlas.lab.running import accuracy_among_rivals
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout

Tiny = Callable[[str], Path]
TOKENS = torch.randint(1, 299, (3, 24), generator=torch.Generator().manual_seed(1))


def plain(folder: Path, **options: object) -> transformers.PreTrainedModel:
    """The model as transformers opens it, without us."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()


def prompt(tokens: torch.Tensor, control: torch.Tensor | None = None, **parts: object) -> Prompt:
    return Prompt(tuple(tokens.tolist()), tuple((tokens if control is None else control).tolist()), **parts)


@pytest.mark.parametrize("family", EACH_FAMILY)
class TestEveryFamily:
    def test_looking_changes_no_bit_of_the_logits(self, family: str, tiny: Tiny) -> None:
        model = open_model(str(tiny(family)))
        looked = forward(model, TOKENS, {module: lambda call, z: None for module in model.anatomy.attention.values()})
        with torch.no_grad():
            assert torch.equal(looked, plain(tiny(family))(TOKENS).logits)

    def test_weights_at_pairs_equal_the_full_pattern(self, family: str, tiny: Tiny) -> None:
        model = open_model(str(tiny(family)))
        with torch.no_grad():
            output = plain(tiny(family), attn_implementation="eager")(TOKENS, output_attentions=True)
        patterns = torch.stack(output.attentions, 1)  # [batch layer head query key]
        pairs = tuple((query, key) for query in (0, 5, 20, 23) for key in (0, query // 2, query) if key <= query)
        pairs = tuple(dict.fromkeys(pairs))
        scores = attention_scores(model, [prompt(row, pairs=pairs) for row in TOKENS])
        expected = sum(patterns[..., query, key] for query, key in pairs) / len({query for query, _ in pairs})
        assert np.abs(scores.score - expected.numpy()).max() < 1e-6

    def test_ablation_equals_a_hook_on_the_output_projection(self, family: str, tiny: Tiny) -> None:
        model = open_model(str(tiny(family)))
        head, size = Head(1, 2), model.anatomy.d_head

        def silence(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            z = inputs[0].clone()
            z[..., head.head * size : (head.head + 1) * size] = 0.0
            return (z,)

        reference = plain(tiny(family))
        path = next(name for name, module in model.model.named_modules() if module is model.anatomy.projections[1])
        reference.get_submodule(path).register_forward_pre_hook(silence)
        ours = forward(model, TOKENS, ablate(model.anatomy, [head], Reference.zero(model.anatomy)))
        with torch.no_grad():
            theirs = reference(TOKENS).logits
        assert torch.allclose(ours, theirs, atol=1e-6)
        assert not torch.allclose(ours, plain(tiny(family))(TOKENS).logits.detach(), atol=1e-6)

    def test_heads_add_up_to_what_attention_writes(self, family: str, tiny: Tiny) -> None:
        anatomy = open_model(str(tiny(family))).anatomy  # opening checks the identity, and refuses where it fails
        assert (anatomy.layers, anatomy.heads, anatomy.d_model) == (2, 4, 32)
        assert anatomy.w_o(0).shape == (4, anatomy.d_head, 32)


def test_a_projection_that_does_not_read_z_is_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "headatlas.lab.anatomy.anatomy.Anatomy.w_o",
        lambda self, layer: torch.randn(self.heads, self.d_head, self.d_model),
    )
    with pytest.raises(HeadatlasError, match="do not add up"):
        open_model(str(tiny("llama")))


def test_a_model_that_sees_the_future_is_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.masking_utils import AttentionMaskInterface

    def see_all(*_: object, **__: object) -> None:
        return None

    monkeypatch.setitem(AttentionMaskInterface._global_mapping, "headatlas_eager", see_all)
    with pytest.raises(HeadatlasError, match="not causal"):
        open_model(str(tiny("gemma2")))


def test_grouped_heads_share_keys_but_not_scores(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    assert (model.anatomy.heads, model.anatomy.kv_heads) == (4, 2)
    scores = attention_scores(model, [prompt(TOKENS[0], pairs=((20, 3),))]).score[0]
    assert len({round(value, 9) for value in scores.ravel()}) == 8


def test_sliding_windows_are_honoured(tiny: Tiny) -> None:
    model = open_model(str(tiny("mistral")))
    near, far = (attention_scores(model, [prompt(TOKENS[0], pairs=((23, key),))]).score for key in (22, 2))
    assert (near > 0).all() and (far == 0).all()


def test_sinks_take_weight_and_do_not_give_it_back(tiny: Tiny) -> None:
    model = open_model(str(tiny("gpt_oss")))
    row = tuple((23, key) for key in range(24))
    assert (attention_scores(model, [prompt(TOKENS[0], pairs=row)]).score < 0.99).all()


class TestAblation:
    """On the specimen's own shape: what an ablated head's z becomes."""

    def test_mean_is_the_mean_over_controls_without_the_first_position(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("gpt2")))
        seen: list[torch.Tensor] = []
        with attention_hooks({model.anatomy.attention[1]: lambda call, z: seen.append(z.clone())}), torch.no_grad():
            model.model(TOKENS)
        reference = mean_z(model, [tuple(row.tolist()) for row in TOKENS])
        assert torch.allclose(reference.z[1][0, 0], seen[0][:, 1:].mean((0, 1)), atol=1e-7)

    def test_resampling_from_itself_changes_nothing_and_from_another_prompt_does(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("llama")))
        read = (Readout(23, answer=5),)
        same = [prompt(row, readouts=read) for row in TOKENS]
        other = [prompt(row, row.flip(0), readouts=read) for row in TOKENS]
        heads = [[], [Head(0, 1), Head(1, 3)]]
        kept = ablate_sets(model, same, log_probability, heads, "resample")
        moved = ablate_sets(model, other, log_probability, heads, "resample")
        assert np.allclose(kept[0], kept[1], atol=1e-7)
        assert np.allclose(kept[0], moved[0], atol=1e-7)
        assert np.abs(moved[0] - moved[1]).min() > 1e-6

    def test_ablating_a_set_is_not_the_sum_of_its_heads_done_twice(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("gpt2")))
        prompts = [prompt(row, readouts=(Readout(23, answer=5),)) for row in TOKENS]
        once, twice = ablate_sets(model, prompts, log_probability, [[Head(1, 0)], [Head(1, 0), Head(1, 0)]], "zero")
        assert np.array_equal(once, twice)

    @pytest.mark.parametrize("heads", [[], [Head(2, 0)], [Head(0, 4)]])
    def test_refuses_no_heads_and_heads_that_are_not_there(self, tiny: Tiny, heads: list[Head]) -> None:
        anatomy = open_model(str(tiny("gpt2"))).anatomy
        with pytest.raises(ValueError, match=r"no heads|is not in a model"):
            ablate(anatomy, heads, Reference.zero(anatomy))


class TestHygiene:
    def test_an_exception_inside_a_measurement_leaves_the_model_as_it_was(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("llama")))
        before = forward(model, TOKENS, {})

        def explode(call: object, z: torch.Tensor) -> None:
            raise RuntimeError("inside")

        with pytest.raises(RuntimeError, match="inside"):
            forward(model, TOKENS, {model.anatomy.attention[0]: explode})
        assert torch.equal(forward(model, TOKENS, {}), before)

    def test_two_models_measured_at_once_do_not_mix(self, tiny: Tiny, tmp_path: Path) -> None:
        one, two = open_model(str(tiny("llama"))), open_model(str(save_tiny("llama", tmp_path, seed=1)))
        seen: list[str] = []
        watch = {one.anatomy.attention[0]: lambda call, z: seen.append("one")}
        with attention_hooks(watch):  # type: ignore[arg-type]
            forward(two, TOKENS, {})
        assert seen == []
        assert not torch.equal(forward(one, TOKENS, {}), forward(two, TOKENS, {}))

    def test_scores_do_not_depend_on_how_prompts_are_batched(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("qwen2")))
        rng = random.Random(0)
        rows = [torch.randint(1, 299, (rng.choice([9, 17, 24]),)) for _ in range(40)]
        prompts = [prompt(row, pairs=((8, 3), (6, 1))) for row in rows]
        together = attention_scores(model, prompts).score
        alone = np.concatenate([attention_scores(model, [each]).score for each in prompts])
        assert np.abs(together - alone).max() < 1e-6

    def test_a_prompt_longer_than_the_context_is_refused(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("llama")))
        long = Prompt((1,) * 200, (1,) * 200, pairs=((5, 4),))
        with pytest.raises(HeadatlasError, match="does not fit the context"):
            attention_scores(model, [long])

    def test_nan_is_not_a_result(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("llama")))
        broken = {model.anatomy.attention[0]: lambda call, z: z * float("nan")}
        with pytest.raises(HeadatlasError, match="NaN"):
            forward(model, TOKENS, broken)


class TestReadouts:
    logits = torch.tensor([[[0.0, 3.0, 1.0, -1.0]], [[2.0, 0.0, 0.0, 0.0]]])  # [prompt readout vocabulary]
    answers = torch.tensor([[1], [1]])
    rivals = torch.tensor([[[0, 2]], [[0, -1]]])

    def test_accuracy(self) -> None:
        assert accuracy(self.logits, self.answers, self.rivals).tolist() == [1.0, 0.0]

    def test_accuracy_among_rivals_counts_a_tie_as_wrong(self) -> None:
        assert accuracy_among_rivals(self.logits, self.answers, self.rivals).tolist() == [1.0, 0.0]
        tied = torch.tensor([[[1.0, 1.0]]])
        assert accuracy_among_rivals(tied, torch.tensor([[0]]), torch.tensor([[[1]]])).tolist() == [0.0]

    def test_logit_difference_leaves_missing_rivals_out(self) -> None:
        assert logit_difference(self.logits, self.answers, self.rivals).tolist() == [2.5, -2.0]

    def test_log_probability(self) -> None:
        expected = torch.log_softmax(self.logits, -1)[:, 0, 1]
        assert torch.allclose(log_probability(self.logits, self.answers, self.rivals), expected)


class TestOpening:
    """Each mistake of a user is one clear line."""

    @pytest.mark.parametrize(
        "damage, complaint",
        [
            (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
            (lambda folder: (folder / "config.json").write_text("{"), "config.json of .* is not JSON"),
            (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
            (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be read"),
            (lambda folder: (folder / "model.safetensors").unlink(), r"has no model\*.safetensors"),
            (lambda folder: truncate(folder / "model.safetensors"), "is cut short"),
            (lambda folder: drop_a_weight(folder / "model.safetensors"), "lacks weights its architecture needs"),
            (lambda folder: poison(folder / "model.safetensors"), "NaN"),
        ],
    )
    def test_damaged_folders(self, tiny: Tiny, tmp_path: Path, damage: Callable[[Path], None], complaint: str) -> None:
        folder = tmp_path / "model"
        shutil.copytree(tiny("llama"), folder)
        damage(folder)
        with pytest.raises(HeadatlasError, match=complaint) as caught:
            open_model(str(folder))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c"])
    def test_folders_that_do_not_exist(self, name: str) -> None:
        with pytest.raises(HeadatlasError, match="is not a folder"):
            open_model(name)

    def test_encoders(self, tmp_path: Path) -> None:
        config = transformers.BertConfig(
            vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
        )
        transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
        with pytest.raises(HeadatlasError, match="not a causal language model"):
            open_model(str(tmp_path))

    def test_attention_outside_the_registry(self, tiny: Tiny, tmp_path: Path) -> None:
        config = transformers.XGLMConfig(vocab_size=300, d_model=32, num_layers=2, attention_heads=4, ffn_dim=64)
        transformers.XGLMForCausalLM(config).save_pretrained(tmp_path)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny("llama") / name, tmp_path / name)
        with pytest.raises(HeadatlasError, match="registry"):
            open_model(str(tmp_path))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def drop_a_weight(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})


def poison(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    weights["model.layers.1.self_attn.q_proj.weight"][0, 0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
