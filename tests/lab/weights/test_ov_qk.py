"""Scores of weights: analytic matrices, matrices multiplied out, random ones, and planted heads."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from conftest import EACH_FAMILY, roughen
from headatlas import HeadatlasError
from headatlas.lab import open_model
from headatlas.lab.anatomy.low_rank import LowRank
from headatlas.lab.weights.head_composition import composition, composition_scores, random_composition
from headatlas.lab.weights.norm_folding import fold_norms, recognise_norm
from headatlas.lab.weights.ov_qk import copying_of_states, copying_scores, ov_logits
from headatlas.lab.weights.token_ranks import HELD
from headatlas.notation import Head
from operations import Work, tokens_run

Tiny = Callable[[str], Path]
Circuit = tuple[Path, Head, Head]
SEED = torch.Generator().manual_seed(0)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=SEED)


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_folded_norms_give_what_attention_reads(family: str, tiny: Tiny) -> None:
    """x through the folded W_Q, divided as the norm divides, is what the weights make of the norm's output."""
    model = open_model(str(tiny(family)))
    folding, anatomy = fold_norms(model), model.anatomy
    with torch.no_grad():
        for layer, norm in folding.before.items():
            if norm is not None:
                for parameter in norm.parameters():
                    parameter.add_(0.3 * noise(*parameter.shape))  # gains and biases that are not 1 and 0
            x = noise(3, 32)
            scores = folding.reads(layer, x) @ anatomy.w_q(layer)[2].float()
            folded = x @ folding.qk(layer).left[2]
            ratio = scores / folded
            assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3)


class TestComposition:
    def test_equals_the_matrices_multiplied_out(self) -> None:
        senders, receivers = LowRank(noise(3, 16, 4), noise(3, 4, 16)), LowRank(noise(2, 16, 4), noise(2, 4, 16))
        found = composition_scores(senders, receivers)
        for s in range(3):
            for r in range(2):
                a, b = senders.left[s] @ senders.right[s], receivers.left[r] @ receivers.right[r]
                assert found[s, r].item() == pytest.approx(((a @ b).norm() / (a.norm() * b.norm())).item(), rel=1e-4)

    def test_is_one_for_aligned_and_zero_for_orthogonal_heads(self) -> None:
        one, other = torch.eye(8)[None, :, :1], torch.eye(8)[None, :, 1:2]
        assert composition_scores(LowRank(one, one.mT), LowRank(one, one.mT)).item() == pytest.approx(1.0)
        assert composition_scores(LowRank(one, one.mT), LowRank(other, other.mT)).item() == 0.0

    def test_queries_keys_and_values_are_read_by_their_own_matrices(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("llama")))
        layers = transformers.AutoModelForCausalLM.from_pretrained(tiny("llama")).model.layers
        with torch.no_grad():  # the norms' gains are 1; sender L0H1, receiver L1H3, in column vectors as in the paper
            w = [layers[i].self_attn for i in (0, 1)]
            o_v = w[0].o_proj.weight[:, 8:16] @ w[0].v_proj.weight[0:8]
            q_k = w[1].q_proj.weight[24:32].T @ w[1].k_proj.weight[8:16]
            o_v_late = w[1].o_proj.weight[:, 24:32] @ w[1].v_proj.weight[8:16]
            for kind, reader in (("Q", q_k.T), ("K", q_k), ("V", o_v_late)):
                found = composition(model, kind).scores  # type: ignore[arg-type]
                expected = (reader @ o_v).norm() / (reader.norm() * o_v.norm())
                assert found[0, 1, 1, 3].item() == pytest.approx(expected.item(), rel=1e-4)
                assert found[1].isnan().all() and found[0, :, 0].isnan().all()

    @pytest.mark.parametrize("d_model, d_head", [(32, 8), (64, 8), (96, 24)])
    def test_random_heads_lie_at_the_baseline(self, d_model: int, d_head: int) -> None:
        baseline, spread = random_composition(d_model, d_head, draws=24)
        heads = [LowRank(noise(20, d_model, d_head), noise(20, d_head, d_model)) for _ in range(2)]
        scores = composition_scores(*heads)
        assert abs(scores.mean().item() - baseline) < 0.4 * spread
        assert 0.6 < scores.std().item() / spread < 1.6
        assert baseline == pytest.approx(d_model**-0.5, rel=0.1)
        assert random_composition(d_model, d_head, draws=24) == (baseline, spread)

    def test_singles_out_the_planted_pair(self, planted_circuit: Circuit) -> None:
        folder, previous, induction = planted_circuit
        model = open_model(str(folder))
        found = composition(model, "K")
        group = model.anatomy.kv_head(induction)
        (first, *same), rest = found.strongest(2)[: 4 // model.anatomy.kv_heads], found.strongest(3)[-1]
        for earlier, later, excess in (first, *same):
            assert earlier == previous  # heads that share their keys with the induction head read the same
            assert (later.layer, model.anatomy.kv_head(later)) == (induction.layer, group)
            assert excess > 100 * found.spread
        assert rest[2] < 10 * found.spread
        other = composition(model, "Q")
        assert other.strongest(1)[0][2] < 10 * other.spread


class TestPlanted:
    def test_copying_finds_the_copier_alone(self, planted_circuit: Circuit) -> None:
        folder, _, induction = planted_circuit
        model = open_model(str(folder))
        found = copying_scores(model, tokens=range(2, 34), k=1)
        assert found.copying[induction] == 1.0 and found.suppression[induction] == 0.0
        assert (found.copying > 0.3).sum() == 1 and found.suppression.max() < 0.3
        assert found.chance == pytest.approx(1 / len(model.tokenizer))

    def test_a_copier_with_its_sign_turned_suppresses(self, planted_circuit: Circuit) -> None:
        folder, _, induction = planted_circuit
        model = open_model(str(folder))
        with torch.no_grad():
            model.anatomy.w_o(induction.layer)[induction.head].neg_()
        found = copying_scores(model, tokens=range(2, 18), k=1)
        assert found.suppression[induction] == 1.0 and found.copying[induction] == 0.0


def test_copying_equals_the_weights_multiplied_out(tiny: Tiny) -> None:
    model = open_model(str(tiny("gpt2")))
    gpt2 = transformers.GPT2LMHeadModel.from_pretrained(tiny("gpt2"))
    tokens = list(range(40))
    found = copying_scores(model, tokens, k=200)
    with torch.no_grad():
        block, embedding = gpt2.transformer.h[1], gpt2.transformer.wte.weight
        read = torch.nn.functional.layer_norm(embedding[tokens], (32,))
        written = read @ block.attn.c_attn.weight[:, 64 + 16 :][:, :8] @ block.attn.c_proj.weight[16:24]
        logits = torch.nn.functional.layer_norm(written, (32,), eps=1e-5) @ embedding.T
        top, bottom = logits.topk(200).indices, (-logits).topk(200).indices
    own = torch.tensor(tokens)[:, None]
    assert found.copying[1, 2].item() == pytest.approx((top == own).any(1).double().mean().item())
    assert found.suppression[1, 2].item() == pytest.approx((bottom == own).any(1).double().mean().item())


def test_logits_of_ov_circuits_equal_the_weights_multiplied_out(tiny: Tiny) -> None:
    model, tokens, among = open_model(str(tiny("gpt2"))), [3, 7, 250], [9, 4]
    roughen(model.model)
    gpt2 = model.model.transformer
    found = ov_logits(model, tokens, among, states="mlp0")
    assert found.shape == (2, 4, 3, 2)
    with torch.no_grad():
        block = gpt2.h[0]
        state = gpt2.wte.weight[tokens] + block.attn.c_proj.bias
        state = block.mlp(block.ln_2(state))  # MLP0 of the token alone
        for layer, block in enumerate(gpt2.h):
            value = ((block.ln_1(state) - block.ln_1.bias) @ block.attn.c_attn.weight)[:, 64:]
            for head in range(4):
                part = slice(head * 8, head * 8 + 8)
                written = value[:, part] @ block.attn.c_proj.weight[part]
                normed = torch.nn.functional.layer_norm(written, (32,), gpt2.ln_f.weight, eps=1e-5)
                assert torch.allclose(found[layer, head], normed @ gpt2.wte.weight[among].T, atol=1e-4)


def test_copying_of_given_states_is_what_plain_matrices_rank(tiny: Tiny) -> None:
    """Every layer reads states of its own; GPT-2 written out, as above."""
    model = open_model(str(tiny("gpt2")))
    gpt2, tokens, k = model.model.transformer, list(range(4, 24)), 60
    states = noise(model.anatomy.layers, len(tokens), 32)
    found = copying_of_states(model, tokens, states, k)
    with torch.no_grad():
        for layer, block in enumerate(gpt2.h):
            value = ((block.ln_1(states[layer]) - block.ln_1.bias) @ block.attn.c_attn.weight)[:, 64:]
            for head in range(4):
                part = slice(head * 8, head * 8 + 8)
                written = value[:, part] @ block.attn.c_proj.weight[part]
                logits = torch.nn.functional.layer_norm(written, (32,), gpt2.ln_f.weight, eps=1e-5) @ gpt2.wte.weight.T
                own = logits.gather(1, torch.tensor(tokens)[:, None])
                top, bottom = ((logits >= own).sum(1) <= k).double(), ((logits <= own).sum(1) <= k).double()
                assert found.copying[layer, head] == pytest.approx(top.mean().item())
                assert found.suppression[layer, head] == pytest.approx(bottom.mean().item())
    assert 0 < found.copying.mean() < 1 and found.chance == k / len(gpt2.wte.weight)
    with pytest.raises(ValueError, match="layers, tokens, d_model"):
        copying_of_states(model, tokens, states[1:], k)


def test_states_of_the_first_mlp_need_one_block(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    first = copying_scores(model, range(9), states="mlp0")  # what is tried once per model is tried now
    with tokens_run(model) as read:
        copying_scores(model, range(60), states="mlp0")
    assert read == [60, 0]
    again = copying_scores(model, range(9), states="mlp0")
    assert torch.equal(again.copying, first.copying) and torch.equal(again.suppression, first.suppression)


def test_the_last_scores_are_kept_until_the_weights_change_or_the_model_is_edited(tiny: Tiny) -> None:
    model, asked = open_model(str(tiny("llama"))), {"tokens": range(300), "k": 200, "states": "mlp0"}
    first = copying_scores(model, **asked)  # type: ignore[arg-type]
    with tokens_run(model) as read:
        assert torch.equal(copying_scores(model, **asked).copying, first.copying)  # type: ignore[arg-type]
    assert read == [0, 0]
    louder = model.anatomy.blocks[0].register_forward_hook(lambda _, args, out: out * torch.linspace(-1, 3, 32))
    assert not torch.equal(copying_scores(model, **asked).copying, first.copying)  # type: ignore[arg-type]
    louder.remove()
    assert torch.equal(copying_scores(model, **asked).copying, first.copying)  # type: ignore[arg-type]
    with torch.no_grad():
        model.anatomy.w_o(1)[2].neg_()
    changed = copying_scores(model, **asked)  # type: ignore[arg-type]
    assert not torch.equal(changed.copying[1, 2], first.copying[1, 2])
    assert torch.equal(changed.copying[0], first.copying[0])


def test_no_logits_of_all_heads_are_held(tiny: Tiny) -> None:
    model = open_model(str(tiny("gemma2")))
    with Work() as work:
        copying_scores(model, range(2000), k=5)
    assert work.bytes <= 4 * HELD < 4 * 2000 * model.anatomy.heads * 4096


def test_scores_of_the_first_mlp_are_others_than_of_the_embedding(tiny: Tiny) -> None:
    model = open_model(str(tiny("gpt2")))
    by = [copying_scores(model, range(60), k=300, states=states).copying for states in ("embedding", "mlp0")]
    assert not torch.equal(*by)
    with pytest.raises(ValueError, match="'embedding' or 'mlp0'"):
        copying_scores(model, range(9), states="mlp1")  # type: ignore[arg-type]


def test_mistakes_are_one_clear_line(tiny: Tiny) -> None:
    model = open_model(str(tiny("gpt2")))
    with pytest.raises(HeadatlasError, match="between 0 and 4095"):
        copying_scores(model, [5000])
    with pytest.raises(ValueError, match="choose Q, K or V"):
        composition(model, "X")  # type: ignore[arg-type]
    with pytest.raises(HeadatlasError, match="cannot be folded"):
        recognise_norm(torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Tanh()), 32)
