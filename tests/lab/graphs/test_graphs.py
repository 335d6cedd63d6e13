"""Graphs over heads: against sums written by hand, real removals on plain transformers, and a planted circuit."""

from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
import transformers

from conftest import EACH_FAMILY, roughen
from headatlas import HeadatlasError
from headatlas.lab import OpenModel, accuracy, forward, log_probability, open_model
from headatlas.lab.activations.edits import Edit, patch
from headatlas.lab.activations.interventions import intervene, on_stream
from headatlas.lab.activations.recording import record
from headatlas.lab.graphs.acdc import prune_edges
from headatlas.lab.graphs.edge_scores import edge_attribution, stream_contributions
from headatlas.lab.graphs.flow import flow_scores, information_flow, proximity
from headatlas.lab.running.passes import count_passes
from headatlas.lab.weights.norm_folding import fold_norms
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout

Tiny = Callable[[str], Path]
Circuit = tuple[Path, Head, Head]
TOKENS = torch.randint(1, 299, (2, 9), generator=torch.Generator().manual_seed(1))
PAIRS = [Prompt(tuple(row.tolist()), tuple(row.flip(0).tolist()), readouts=(Readout(8, answer=5),)) for row in TOKENS]
# A first word comes again, in the corrupted prompt another one: what follows it should follow again.
REPEATED = [
    Prompt((0, a, b, c, d, a), (0, e, b, c, d, a), readouts=(Readout(5, answer=b),))
    for a, b, c, d, e in ((3, 9, 17, 30, 41), (22, 7, 50, 11, 5), (60, 33, 2, 19, 48))
]


@pytest.mark.parametrize("family", EACH_FAMILY)
class TestEveryFamily:
    def test_what_heads_add_and_what_mlps_add_is_the_stream(self, family: str, tiny: Tiny) -> None:
        model = open_model(str(tiny(family)))
        folding = fold_norms(model)
        seen = record(model, TOKENS, ["resid", "attn_out"])
        heads = stream_contributions(folding, TOKENS).heads
        for layer in range(2):
            out, bias = seen["attn_out", layer], model.anatomy.b_o(layer)
            norm = folding.after[layer]
            written = (out if norm is None else norm(out)) - (0 if bias is None else bias)
            assert torch.allclose(heads[layer].sum(0), written, atol=1e-5)

    def test_flow_is_a_walk_that_loses_nothing_without_a_threshold(self, family: str, tiny: Tiny) -> None:
        graph = information_flow(open_model(str(tiny(family))), TOKENS[0].tolist(), threshold=0.0)
        assert graph.graph["reached"] == pytest.approx(1.0)
        assert graph.in_degree("logits", weight="weight") == pytest.approx(1.0)
        for node in set(graph) - {"logits", "embedding"}:
            assert graph.in_degree(node, weight="weight") == pytest.approx(graph.out_degree(node, weight="weight"))
        assert nx.is_directed_acyclic_graph(graph)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "gemma2", "opt", "gpt_oss"])
def test_removed_edges_equal_patches_made_one_by_one(family: str, tiny: Tiny) -> None:
    """Two heads wholly cut off: queries, keys and values patched in, reader by reader, by `intervene`."""
    model = open_model(str(tiny(family)))
    early, late = Head(0, 1), Head(1, 2)
    graph = prune_edges(model, PAIRS, 1e9, heads=[early, late])
    assert graph.number_of_edges() == 0 and graph.graph["tried"] == 6
    folding = fold_norms(model)
    clean, corrupted = (stream_contributions(folding, _stack(name)) for name in ("tokens", "corrupted"))
    change = corrupted.embedding - clean.embedding
    edits = _reading(model, early, change)
    with intervene(model, edits):
        current = stream_contributions(folding, TOKENS).heads[0][1]
        edits = edits + _reading(model, late, change + corrupted.heads[0][1] - current)
    with intervene(model, edits):
        found = stream_contributions(folding, TOKENS)
        end = record(model, TOKENS, ["resid"])["resid", 2]
    end = end + change + corrupted.heads[0][1] - found.heads[0][1] + corrupted.heads[1][2] - found.heads[1][2]
    p, q = (each[:, -1].double().log_softmax(-1) for each in (forward(model, TOKENS, {}), model.anatomy.logits(end)))
    expected = (p.exp() * (p - q)).sum(-1).mean().item()
    assert expected > 1e-6
    assert graph.graph["divergence"] == pytest.approx(expected, rel=1e-4)


def _reading(model: OpenModel, head: Head, change: torch.Tensor) -> list[Edit]:
    """Edits after which a head reads a changed stream."""
    handle = on_stream(model.anatomy, head.layer, lambda stream: stream + change)
    read = record(model, TOKENS, ["q", "k", "v"], layers=[head.layer])
    handle.remove()
    return [patch("q", [head], read), patch("k", [head], read), patch("v", [head], read)]


def _stack(name: str) -> torch.Tensor:
    return torch.tensor([getattr(pair, name) for pair in PAIRS])


def test_nearness_of_drawn_parts() -> None:
    whole = torch.tensor([3.0, 1.0])
    parts = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-5.0, 0.0]])
    assert proximity(parts, whole).tolist() == pytest.approx([3.0, 1.0, 1e-5])


def test_nearness_of_heads_equals_sums_written_by_hand(tiny: Tiny) -> None:
    """One layer's importances on plain GPT-2, from its own patterns and weights."""
    model = open_model(str(tiny("gpt2")))
    graph = information_flow(model, TOKENS[0].tolist(), threshold=0.0)
    plain = transformers.GPT2LMHeadModel.from_pretrained(tiny("gpt2"), attn_implementation="eager").eval()
    with torch.no_grad():
        out = plain(TOKENS[:1], output_attentions=True, output_hidden_states=True)
        block, x = plain.transformer.h[1], out.hidden_states[1][0]
        v = block.attn.c_attn(block.ln_1(x))[:, 64:]
        middle = x + block.attn(block.ln_1(x)[None])[0][0]
        near = torch.zeros(4, 9)
        for head in range(4):
            part = slice(8 * head, 8 * head + 8)
            for key in range(9):
                vector = out.attentions[1][0, head, 8, key] * v[key, part] @ block.attn.c_proj.weight[part]
                near[head, key] = max((middle[8].abs().sum() - (middle[8] - vector).abs().sum()).item(), 1e-5)
        rest = (middle[8].abs().sum() - (middle[8] - x[8]).abs().sum()).item()
    expected = near.sum(1) / (near.sum() + rest)  # the one state of layer 1 on the route is the last
    found = [graph.nodes[f"L1H{head}"]["importance"] for head in range(4)]
    assert np.allclose(found, expected.numpy(), rtol=1e-3)


def test_flow_scores_are_the_nearness_of_single_edges(tiny: Tiny) -> None:
    """Of one layer of plain GPT-2: one query with two keys, and another with one."""
    model = open_model(str(tiny("gpt2")))
    tokens, control = (tuple(row.tolist()) for row in TOKENS)
    pairs, others = ((8, 2), (8, 5), (6, 6)), ((7, 0),)
    found = flow_scores(model, [Prompt(tokens, control, pairs, others), Prompt(tokens, control, others)])
    plain = transformers.GPT2LMHeadModel.from_pretrained(tiny("gpt2"), attn_implementation="eager").eval()

    def share(row: torch.Tensor, head: int, query: int, key: int) -> float:
        with torch.no_grad():
            out = plain(row[None], output_attentions=True, output_hidden_states=True)
            block, x = plain.transformer.h[1], out.hidden_states[1][0]
            v = block.attn.c_attn(block.ln_1(x))[:, 64:].unflatten(1, (4, 8))
            weight = block.attn.c_proj.weight.unflatten(0, (4, 8))
            parts = torch.einsum("hk,khd,hdm->hkm", out.attentions[1][0, :, query], v, weight)[:, : query + 1]
            whole = x[query] + parts.sum((0, 1)) + block.attn.c_proj.bias
            near = proximity(parts, whole.expand_as(parts))
            return (near[head, key] / (near.sum() + proximity(x[query], whole))).item()

    for head in range(4):
        here, there = (share(TOKENS[0], head, 8, key) for key in (2, 5))
        expected = (here + there + share(TOKENS[0], head, 6, 6)) / 2
        assert found.score[0, 1, head] == pytest.approx(expected, rel=1e-3)
        assert found.null[0, 1, head] == pytest.approx(share(TOKENS[1], head, 7, 0), rel=1e-3)
        assert found.null[1, 1, head] == pytest.approx(share(TOKENS[1], head, 7, 0), rel=1e-3)


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3_next"])
def test_flow_scores_of_prompts_run_together_are_those_of_each_alone(family: str, tiny: Tiny) -> None:
    model = open_model(str(tiny(family)))
    roughen(model.model)
    one, other = (tuple(row.tolist()) for row in TOKENS)
    prompts = [
        Prompt(one, other, ((8, 2), (8, 5), (6, 6)), ((7, 0),)),
        Prompt(one[:6], other[:6], ((5, 1),)),
        Prompt(other, one, ((8, 3), (4, 3))),
    ]
    fold_norms(model)  # what is looked for once per model is looked for now
    with count_passes(model) as count:
        together = flow_scores(model, prompts)
    for number, prompt in enumerate(prompts):
        alone = flow_scores(model, [prompt])
        assert np.allclose(together.score[number], alone.score[0], rtol=1e-4, atol=1e-7)
        assert np.allclose(together.null[number], alone.null[0], rtol=1e-4, atol=1e-7)
    assert count.passes == 4, "prompts of one length share a pass, and so do their corrupted prompts"


def test_flow_goes_through_the_planted_heads(planted_circuit: Circuit) -> None:
    folder, previous, induction = planted_circuit
    model = open_model(str(folder))
    with torch.no_grad():  # as planted they write little beside the large constants of the embedding
        for planted in (previous, induction):
            model.anatomy.w_o(planted.layer)[planted.head].mul_(20)
    graph = information_flow(model, REPEATED[0].tokens, threshold=0.05)
    assert set(graph) == {"embedding", "logits", str(previous), str(induction)}
    assert graph.edges[str(induction), "logits"]["weight"] > 0.5
    assert graph.edges[str(previous), str(induction)]["weight"] > 0.1


def test_attribution_singles_out_the_planted_edge(planted_circuit: Circuit) -> None:
    folder, previous, induction = planted_circuit
    model = open_model(str(folder))
    with torch.no_grad():  # as planted its attention is all or nothing, which leaves no gradient
        model.anatomy.w_q(induction.layer)[induction.head].mul_(0.1)
    graph = edge_attribution(model, REPEATED, log_probability, most=400)
    heads = [(a, b) for a, b in graph.edges if "embedding" not in (a, b) and "logits" not in (a, b)]
    best = max(heads, key=lambda edge: abs(graph.edges[edge]["weight"]))
    assert best == (str(previous), str(induction))
    edge = graph.edges[best]
    assert abs(edge["k"]) > 0.99 * abs(edge["weight"])  # K-composition


def test_pruning_keeps_the_planted_circuit(planted_circuit: Circuit) -> None:
    folder, previous, induction = planted_circuit
    idle = [Head(0, 0), Head(2, 1)]
    graph = prune_edges(open_model(str(folder)), REPEATED, 0.05, heads=[previous, induction, *idle])
    assert (str(previous), str(induction)) in graph.edges and (str(induction), "logits") in graph.edges
    assert ("embedding", str(previous)) in graph.edges
    assert not {str(head) for head in idle} & set(graph)
    assert graph.graph["divergence"] < 0.05


class TestAttributionIsTheDerivative:
    def test_into_a_head_and_into_the_logits(self, tiny: Tiny) -> None:
        """A small step along each edge, taken by hand on plain GPT-2."""
        model = open_model(str(tiny("gpt2")))
        graph = edge_attribution(model, PAIRS, log_probability, most=1000)
        plain = transformers.GPT2LMHeadModel.from_pretrained(tiny("gpt2"), attn_implementation="eager").double().eval()
        clean, corrupted = (
            stream_contributions(fold_norms(model), _stack(name)).heads[0] for name in ("tokens", "corrupted")
        )
        step = 1e-4 * (corrupted - clean)[3].double()
        block = plain.transformer.h[1]

        def change_of(kind: int | None) -> float:
            found = []
            for sign in (1, -1):
                seen: dict[str, torch.Tensor] = {}

                def enter(_, args, seen=seen):  # type: ignore[no-untyped-def]
                    seen["x"] = args[0]

                def qkv(_, __, out, sign=sign, seen=seen):  # type: ignore[no-untyped-def]
                    moved = block.attn.c_attn.forward(block.ln_1(seen["x"] + sign * step))
                    part = slice(32 * kind + 8, 32 * kind + 16)  # head 1
                    out = out.clone()
                    out[..., part] = moved[..., part]
                    return out

                if kind is None:
                    handles = [block.register_forward_hook(lambda _, __, out, sign=sign: out + sign * step)]
                else:
                    handles = [block.register_forward_pre_hook(enter), block.attn.c_attn.register_forward_hook(qkv)]
                with torch.no_grad():
                    logits = plain(TOKENS).logits[:, -1]
                for handle in handles:
                    handle.remove()
                found.append(logits.log_softmax(-1)[:, 5].mean().item())
            return (found[0] - found[1]) / 2e-4

        edge = graph.edges["L0H3", "L1H1"]
        assert [edge[name] for name in "qkv"] == pytest.approx([change_of(kind) for kind in range(3)], rel=1e-2)
        assert edge["weight"] == pytest.approx(edge["q"] + edge["k"] + edge["v"])
        assert graph.edges["L0H3", "logits"]["weight"] == pytest.approx(change_of(None), rel=1e-2)

    def test_query_heads_that_share_keys_have_edges_of_their_own(self, tiny: Tiny) -> None:
        graph = edge_attribution(open_model(str(tiny("llama"))), PAIRS, log_probability, most=1000)
        parts = {graph.edges["embedding", f"L1H{head}"]["k"] for head in range(4)}
        assert len(parts) == 4

    def test_a_behaviour_without_gradient_is_refused(self, tiny: Tiny) -> None:
        with pytest.raises(HeadatlasError, match="no gradient"):
            edge_attribution(open_model(str(tiny("gpt2"))), PAIRS, accuracy)


class TestLimits:
    def test_graphs_too_large_to_read_are_refused(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("gpt2")))
        with pytest.raises(HeadatlasError, match="raise the threshold"):
            information_flow(model, TOKENS[0].tolist(), threshold=0.0, most=3)
        with pytest.raises(HeadatlasError, match="choose fewer heads"):
            prune_edges(model, PAIRS, 0.1, most=3)
        assert edge_attribution(model, PAIRS, log_probability, most=3).number_of_edges() == 3

    def test_prompts_with_nothing_to_compare_are_refused(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("gpt2")))
        same = Prompt((1, 2, 3), (1, 2, 3), readouts=(Readout(2, answer=1),))
        with pytest.raises(HeadatlasError, match="are equal"):
            prune_edges(model, [same], 0.1)
        with pytest.raises(HeadatlasError, match="no readout"):
            edge_attribution(model, [Prompt((1, 2, 3), (1, 2, 4))], log_probability)
        with pytest.raises(HeadatlasError, match="outside a prompt"):
            information_flow(model, [1, 2, 3], position=3)

    def test_the_model_is_as_it_was(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("llama")))
        before = forward(model, TOKENS, {})
        prune_edges(model, PAIRS, 0.1, heads=[Head(0, 1), Head(1, 2)])
        edge_attribution(model, PAIRS, log_probability)
        with pytest.raises(HeadatlasError):
            edge_attribution(model, PAIRS, accuracy)
        assert torch.equal(forward(model, TOKENS, {}), before)
