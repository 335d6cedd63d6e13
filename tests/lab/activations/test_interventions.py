"""Every intervention against the same edit made by hand in a plain transformers model."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from conftest import EACH_FAMILY, FAMILIES, roughen, save_tiny
from headatlas import HeadatlasError
from headatlas.lab import OpenModel, forward, open_model
from headatlas.lab.activations.edits import (
    Edit,
    add,
    knockout,
    mean,
    patch,
    position_mean,
    project_out,
    resample,
    scale,
    zero,
)
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.activations.recording import record
from headatlas.lab.activations.sites import SITES, Recording
from headatlas.lab.anatomy.families import route_of
from headatlas.lab.hooks.attention_interface import projection_reader
from headatlas.lab.paths import Receiver, path_runs
from headatlas.lab.paths.path_patching import path_patch
from headatlas.notation import Head

Tiny = Callable[[str], Path]
Change = Callable[[Tensor], Tensor]
TOKENS, OTHERS = torch.randint(1, 299, (2, 3, 20), generator=torch.Generator().manual_seed(1))
HEADS = (Head(1, 1), Head(1, 2))  # of two groups where keys are shared
AT = [3, 17, 19]
DRAWN = torch.Generator().manual_seed(2)


def by_hand(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Textbook attention that shows each step to the model's owner, which may change it."""
    owner: ByHand = module.owner
    groups = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
    query, key, value = (
        owner.step(name, module.layer_idx, each.transpose(1, 2)).transpose(1, 2)
        for name, each in (("q", query), ("k", key), ("v", value))
    )
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores + mask[..., : key.shape[2]]
    scores = owner.step("scores", module.layer_idx, scores.masked_fill(scores < -1e30, float("-inf")))
    if s_aux is not None:
        scores = torch.cat([scores, s_aux.reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)], -1)
    pattern = owner.step("pattern", module.layer_idx, scores.softmax(-1)[..., : key.shape[2]])
    name = "attended" if owner.gated else "z"
    return owner.step(name, module.layer_idx, (pattern @ value).transpose(1, 2)), None


AttentionInterface.register("by_hand", by_hand)
AttentionMaskInterface.register("by_hand", ALL_MASK_ATTENTION_FUNCTIONS["eager"])


class Steps(TorchFunctionMode):
    """Shows each step of a family's own attention code to the model's owner: its first product, softmax, and second."""

    def __init__(self, owner: "ByHand", layer: int, heads: int) -> None:
        super().__init__()
        self.owner, self.layer, self.heads = owner, layer, heads
        self.waiting = ["scores", "softmax", "values"]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.__name__
        if name == "softmax" and self.waiting[:1] == ["softmax"]:
            self.waiting.pop(0)
            plain = args[0]
            scores = plain.masked_fill(plain < -1e30, float("-inf")).view(-1, self.heads, *plain.shape[-2:])
            scores = self.step("scores", scores).view(plain.shape)
            return self.step("pattern", func(scores, *args[1:], **kwargs).view(-1, self.heads, *plain.shape[-2:])).view(
                plain.shape
            )
        if name == "baddbmm":
            tensors = [kwargs["batch1"], kwargs["batch2"]]
        elif name in ("matmul", "bmm", "__matmul__") and args[1].ndim > 2:
            tensors = list(args[:2])
        else:
            return func(*args, **kwargs)
        if self.waiting[:1] == ["scores"]:
            self.waiting.pop(0)
            tensors = [self.seen("q", tensors[0]), self.seen("k", tensors[1].mT).mT]
        elif self.waiting[:1] == ["values"]:
            self.waiting.pop(0)
            found = func(tensors[0], self.seen("v", tensors[1]), **kwargs)
            return self.seen("z", found)
        if name == "baddbmm":
            return func(*args, **{**kwargs, "batch1": tensors[0], "batch2": tensors[1]})
        return func(*tensors, **kwargs)

    def step(self, name: str, x: Tensor) -> Tensor:
        return self.owner.step(name, self.layer, x)

    def seen(self, name: str, x: Tensor) -> Tensor:
        """[batch head position feature], or batch and heads as one; shared keys and values one for each head."""
        heads = x.view(-1, self.heads, *x.shape[-2:]) if x.ndim == 3 else x
        heads = heads.expand(-1, self.heads, -1, -1) if heads.shape[1] == 1 else heads
        changed = self.step(name, heads.transpose(1, 2)).transpose(1, 2)
        return changed.reshape(x.shape) if x.ndim == 3 else changed


class ByHand:
    """A plain transformers model with hooks: shows and changes what passes its sites.

    Layouts: pattern and scores [batch head query key], the stream [batch position d_model], else
    [batch position head feature].
    """

    def __init__(self, folder: Path, ours: OpenModel) -> None:
        led = route_of(ours.model) is not None
        way = "eager" if led else "by_hand"
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation=way).eval()
        roughen(self.model)
        self.gated = any(projection_reader(module) is not None for module in ours.anatomy.attention.values())
        self.edits: dict[tuple[str, int], Change] = {}
        self.seen: dict[tuple[str, int], Tensor] = {}
        paths = {module: path for path, module in ours.model.named_modules()}
        for layer in range(2):
            attention = self.model.get_submodule(paths[ours.anatomy.attention[layer]])
            attention.owner = self
            if led:
                attention.forward = self.watching(attention.forward, layer, ours.anatomy.heads)
            projection = self.model.get_submodule(paths[ours.anatomy.projections[layer]])
            projection.register_forward_hook(lambda _m, _i, out, layer=layer: self.step("attn_out", layer, out))
            if self.gated:
                projection.register_forward_pre_hook(
                    lambda _m, args, layer=layer: self.step("z", layer, args[0].unflatten(-1, (4, -1))).flatten(-2)
                )
            block = self.model.get_submodule(paths[ours.anatomy.blocks[layer]])
            block.register_forward_pre_hook(
                lambda _m, args, layer=layer: (self.step("resid", layer, args[0]), *args[1:])
            )
        self.lm_head = self.model.get_output_embeddings()

    def watching(self, own: Callable[..., Any], layer: int, heads: int) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            with Steps(self, layer, heads):
                return own(*args, **kwargs)

        return forward

    def step(self, name: str, layer: int, x: Tensor) -> Tensor:
        x = self.edits.get((name, layer), lambda x: x)(x.clone())
        self.seen[name, layer] = x
        return x

    @torch.no_grad()
    def run(self, tokens: Tensor, edits: dict[tuple[str, int], Change] | None = None) -> Tensor:
        self.edits, self.seen = edits or {}, {}
        return self.model(tokens, use_cache=False).logits


Pair = tuple[OpenModel, ByHand]
_pairs: dict[str, Pair] = {}


@pytest.fixture
def pair(family: str, tiny: Tiny) -> Pair:
    """The same rough model, opened by us and by hand."""
    if family not in _pairs:
        ours = open_model(str(tiny(family)))
        roughen(ours.model)
        _pairs[family] = ours, ByHand(tiny(family), ours)
    return _pairs[family]


@pytest.fixture
def family() -> str:
    return "llama"


def edited(model: OpenModel, *edits: Edit, tokens: Tensor = TOKENS) -> Tensor:
    with intervene(model, edits):
        return forward(model, tokens, {})


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> bool:
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


def setting(new: Tensor | Callable[[Tensor], Tensor], positions: list[int] = AT) -> Change:
    """By hand: heads 1 and 2 at some positions of [batch position head feature] become something else."""

    def change(x: Tensor) -> Tensor:
        for position in positions:
            for head in (1, 2):
                part = x[:, position, head]
                x[:, position, head] = new(part) if callable(new) else new[:, position, head]
        return x

    return change


def turned(change: Change) -> Change:
    """The same for patterns, [batch head query key]."""
    return lambda x: change(x.transpose(1, 2).clone()).transpose(1, 2)


def direction_of(size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(size))


@pytest.mark.parametrize("family", EACH_FAMILY)
class TestEveryFamily:
    def test_recording_equals_what_passes_by_hand(self, pair: Pair) -> None:
        ours, hand = pair
        hand.run(TOKENS)
        before = forward(ours, TOKENS, {})
        seen = record(ours, TOKENS, SITES)
        assert torch.equal(before, forward(ours, TOKENS, {}))
        for (site, layer), found in seen.activations.items():
            if site == "result":
                total = found.sum(2) if ours.anatomy.b_o(layer) is None else found.sum(2) + ours.anatomy.b_o(layer)
                assert close(total, hand.seen["attn_out", layer])
            elif (site, layer) != ("resid", 2):
                expected = hand.seen[site, layer]
                if site in ("k", "v"):
                    found = found.repeat_interleave(4 // found.shape[2], 2)
                assert close(found, expected), (site, layer)
        part = record(ours, TOKENS, ["z", "pattern"], torch.tensor([[1, 5], [2, 6], [0, 19]]), layers=[1])
        assert torch.equal(part["z", 1][1], seen["z", 1][1, [2, 6]])
        assert torch.equal(part["pattern", 1][2], seen["pattern", 1][2][:, [0, 19]])

    @pytest.mark.parametrize("site", ["q", "k", "v", "z", "pattern"])
    def test_edits_of_heads(self, site: str, pair: Pair) -> None:
        ours, hand = pair
        clean = hand.run(TOKENS)
        hand.run(OTHERS)
        other = hand.seen[site, 1]
        source = record(ours, OTHERS, [site])
        if site == "pattern":
            other = other.transpose(1, 2)
        along = direction_of(other.shape[-1])
        unit = along / along.norm()
        middle = direction_of(other.shape[-1] + 1)[1:]
        cases: list[tuple[Edit, Change]] = [
            (zero(site, HEADS, AT), setting(torch.zeros_like)),
            (scale(site, HEADS, -2.0, AT), setting(lambda x: -2.0 * x)),
            (patch(site, HEADS, source, AT), setting(other)),
            (patch(site, HEADS, source), setting(other, list(range(20)))),
            (position_mean(site, HEADS, source, AT), setting(other.mean(0, keepdim=True).expand_as(other))),
            (add(site, HEADS, along, 0.5, AT), setting(lambda x: x + 0.5 * along)),
            (project_out(site, HEADS, along, None, AT), setting(lambda x: x - (x @ unit)[:, None] * unit)),
            (
                project_out(site, HEADS, 3 * along, middle, AT),
                setting(lambda x: x - (x @ unit - middle @ unit)[:, None] * unit),
            ),
        ]
        if site != "pattern":
            average = other[:, 1:].mean((0, 1)).expand_as(other)
            cases.append((mean(site, HEADS, source, AT), setting(average)))
        for edit, change in cases:
            expected = hand.run(TOKENS, {(site, 1): turned(change) if site == "pattern" else change})
            assert close(edited(ours, edit), expected), edit
            assert not close(clean, expected, 1e-4), edit

    def test_edits_of_the_stream_and_of_results(self, pair: Pair) -> None:
        ours, hand = pair
        hand.run(OTHERS)
        others = {site: hand.seen[site, 1] for site in ("resid", "attn_out")}
        source = record(ours, OTHERS, ["resid", "attn_out", "result"])
        along = direction_of(32)
        for site, other in others.items():
            expected = hand.run(
                TOKENS, {(site, 1): lambda x, other=other: x.index_copy(1, torch.tensor(AT), other[:, AT])}
            )
            assert close(edited(ours, patch(site, [1], source, AT)), expected)
            expected = hand.run(TOKENS, {(site, 1): lambda x: x + 2 * along})
            assert close(edited(ours, add(site, [1], along, 2.0)), expected)
        w_o = ours.anatomy.w_o(1)

        def less(x: Tensor) -> Tensor:  # attn_out without what the two heads add
            z = hand.seen["z", 1]
            return x - torch.einsum("bqhd,hdm->bqm", z[:, :, 1:3], w_o[1:3])

        assert close(edited(ours, zero("result", HEADS)), hand.run(TOKENS, {("attn_out", 1): less}))
        assert close(edited(ours, zero("z", HEADS)), edited(ours, zero("result", HEADS)))
        assert close(
            edited(ours, patch("result", HEADS, source)), edited(ours, patch("z", HEADS, record(ours, OTHERS, ["z"])))
        )

    def test_knockout(self, pair: Pair) -> None:
        ours, hand = pair
        edges = [(19, 0), (19, 18), (7, 7), (7, 2), (0, 0)]

        def forbid(scores: Tensor) -> Tensor:
            for query, key in edges:
                scores[:, 1:3, query, key] = float("-inf")
            return scores

        def nothing(pattern: Tensor) -> Tensor:  # 0 / 0 where a query may look nowhere
            return pattern.nan_to_num(0.0)

        expected = hand.run(TOKENS, {("scores", 1): forbid, ("pattern", 1): nothing})
        assert close(edited(ours, knockout(HEADS, edges)), expected)
        assert not close(hand.run(TOKENS), expected, 1e-4)
        with intervene(ours, [knockout(HEADS, edges)]):
            assert close(record(ours, TOKENS, ["pattern"])["pattern", 1], hand_pattern(hand, forbid, nothing))

    @pytest.mark.parametrize("part", ["q", "k", "v"])
    def test_paths_to_a_head(self, part: str, pair: Pair) -> None:
        ours, hand = pair
        clean, sending = by_hand_sending(hand)
        hand.run(TOKENS, sending)
        reached = hand.seen[part, 1]

        def insert(x: Tensor) -> Tensor:
            x[:, 2:, 2] = reached[:, 2:, 2]
            return x

        expected = hand.run(TOKENS, {(part, 1): insert})[:, -1, 5] - clean[:, -1, 5]
        runs = path_runs(ours, TOKENS, OTHERS)
        found = path_patch(
            runs,
            [Head(0, 1)],
            [Receiver(Head(1, 2), part)],
            lambda logits: logits[:, -1, 5],
            sender_positions=AT,
            receiver_positions=list(range(2, 20)),
        )
        assert torch.allclose(found, expected, atol=5e-6)
        assert found.abs().max() > 1e-4
        back = path_patch(runs, [Head(1, 1)], [Receiver(Head(1, 2), part)], lambda logits: logits[:, -1, 5])
        assert back.abs().max() < 5e-6

    def test_paths_to_the_logits(self, pair: Pair) -> None:
        ours, hand = pair
        clean, sending = by_hand_sending(hand)
        expected = (hand.run(TOKENS, sending) - clean)[:, [4, 19]].sum((1, 2))
        runs = path_runs(ours, TOKENS, OTHERS, positions=[4, 19])
        found = path_patch(runs, [Head(0, 1)], "logits", lambda logits: logits.sum((1, 2)), sender_positions=AT)
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3)
        assert expected.abs().max() > 1e-2


def hand_pattern(hand: ByHand, *changes: Change) -> Tensor:
    hand.run(TOKENS, {("scores", 1): changes[0], ("pattern", 1): changes[1]})
    return hand.seen["pattern", 1]


def by_hand_sending(hand: ByHand) -> tuple[Tensor, dict[tuple[str, int], Change]]:
    """Clean logits; and the edits that hold every head but the first layer's head 1, at three positions."""
    hand.run(OTHERS)
    corrupted = hand.seen["z", 0]
    clean = hand.run(TOKENS)
    held = [hand.seen["z", layer] for layer in (0, 1)]
    sent = held[0].clone()
    sent[:, AT, 1] = corrupted[:, AT, 1]
    return clean, {("z", 0): lambda x: sent, ("z", 1): lambda x: held[1]}


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2", "mixtral"])
def test_paths_with_frozen_mlps(pair: Pair, family: str) -> None:
    ours, hand = pair
    clean, sending = by_hand_sending(hand)
    mlps = [module for name, module in hand.model.named_modules() if name.endswith((".mlp", ".block_sparse_moe"))]
    assert len(mlps) == 2
    written: dict[nn.Module, Tensor] = {}
    handles = [m.register_forward_hook(lambda m, _, out: written.setdefault(m, out)) for m in mlps]
    try:
        hand.run(TOKENS)  # from now on they write what they have written
        expected = (hand.run(TOKENS, sending) - clean)[:, -1, 5]
    finally:
        for handle in handles:
            handle.remove()
    runs = path_runs(ours, TOKENS, OTHERS, mlps="frozen")
    found = path_patch(runs, [Head(0, 1)], "logits", lambda logits: logits[:, -1, 5], sender_positions=AT)
    assert torch.allclose(found, expected, atol=5e-6)
    through = path_patch(
        path_runs(ours, TOKENS, OTHERS), [Head(0, 1)], "logits", lambda logits: logits[:, -1, 5], sender_positions=AT
    )
    assert (found - through).abs().max() > 1e-4


class TestOneLayer:
    """Where the answer is known without running anything else."""

    @pytest.fixture
    def model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenModel:
        config = {"n_layer": 1, "vocab_size": 4096, "n_positions": 32, "n_embd": 32, "n_head": 4}
        monkeypatch.setitem(FAMILIES, "one", lambda: transformers.GPT2Config(**config, bos_token_id=0, eos_token_id=0))
        model = open_model(str(save_tiny("one", tmp_path)))
        roughen(model.model)
        with torch.no_grad():  # no MLP, and no query: each head attends to all it sees alike
            block = model.model.transformer.h[0]
            block.mlp.c_proj.weight.zero_()
            block.mlp.c_proj.bias.zero_()
            block.attn.c_attn.weight[:, :32] = 0
            block.attn.c_attn.bias[:32] = 0
        return model

    def test_without_queries_attention_is_the_mean_of_what_is_left(self, model: OpenModel) -> None:
        value = record(model, TOKENS, ["v"])["v", 0]
        with intervene(model, [knockout([Head(0, 3)], [(9, 0), (9, 5)])]):
            seen = record(model, TOKENS, ["z", "pattern"])
        left = [key for key in range(10) if key not in (0, 5)]
        assert torch.allclose(seen["z", 0][:, 9, 3], value[:, left, 3].mean(1), atol=1e-6)
        assert torch.allclose(seen["pattern", 0][:, 3, 9, left], torch.tensor(1 / 8))
        assert torch.allclose(seen["z", 0][:, 9, 2], value[:, :10, 2].mean(1), atol=1e-6)

    def test_edges_can_differ_by_prompt(self, model: OpenModel) -> None:
        edges = torch.tensor([[[9, 0], [4, 1]], [[4, 2], [4, 3]], [[19, 0], [19, 0]]])
        with intervene(model, [knockout([Head(0, 3)], edges)]):
            pattern = record(model, TOKENS, ["pattern"])["pattern", 0][:, 3]
        assert (pattern[0, 4] > 0).sum() == 4 and (pattern[0, 9] > 0).sum() == 9
        assert (pattern[1, 4] > 0).sum() == 3 and (pattern[1, 9] > 0).sum() == 10
        assert (pattern[2, 19] > 0).sum() == 19

    def test_zero_takes_exactly_the_head_out_of_the_stream(self, model: OpenModel) -> None:
        seen = record(model, TOKENS, ["resid", "result"])
        with intervene(model, [zero("z", [Head(0, 2)])]):
            without = record(model, TOKENS, ["resid"])
        assert torch.allclose(without["resid", 1], seen["resid", 1] - seen["result", 0][:, :, 2], atol=1e-6)

    def test_a_halved_pattern_is_not_renormalised(self, model: OpenModel) -> None:
        z = record(model, TOKENS, ["z"])["z", 0]
        with intervene(model, [scale("pattern", [Head(0, 0)], 0.5)]):
            assert torch.allclose(record(model, TOKENS, ["z"])["z", 0][:, :, 0], z[:, :, 0] / 2, atol=1e-7)

    def test_a_path_to_the_logits_without_mlps_is_the_difference_of_results(self, model: OpenModel) -> None:
        clean, other = (record(model, tokens, ["resid", "result"]) for tokens in (TOKENS, OTHERS))
        moved = clean["resid", 1] + other["result", 0][:, :, 1] - clean["result", 0][:, :, 1]
        runs = path_runs(model, TOKENS, OTHERS, mlps="frozen")
        found = path_patch(runs, [Head(0, 1)], "logits", lambda logits: logits[:, 0, 7])
        expected = (model.anatomy.logits(moved) - model.anatomy.logits(clean["resid", 1]))[:, -1, 7]
        assert torch.allclose(found, expected, atol=1e-6)

    def test_a_direction_projected_out_is_gone_and_its_mean_is_back(self, model: OpenModel) -> None:
        along = direction_of(32)
        with intervene(model, [project_out("resid", [1], along)]):
            assert (record(model, TOKENS, ["resid"], layers=[1])["resid", 1] @ along).abs().max() < 1e-4
        clean = record(model, TOKENS, ["resid"])["resid", 1]
        average = clean.mean((0, 1))
        with intervene(model, [project_out("resid", [1], along, average)]):
            moved = record(model, TOKENS, ["resid"])["resid", 1]
        assert torch.allclose(moved @ along, (average @ along).expand(3, 20), atol=1e-4)


class TestOrder:
    def test_within_a_site_the_list_decides(self, pair: Pair) -> None:
        ours, hand = pair
        along = direction_of(8)
        twice, plus = scale("z", HEADS, 2.0), add("z", HEADS, along)
        first = hand.run(TOKENS, {("z", 1): setting(lambda x: 2 * x + along, list(range(20)))})
        second = hand.run(TOKENS, {("z", 1): setting(lambda x: 2 * (x + along), list(range(20)))})
        assert close(edited(ours, twice, plus), first)
        assert close(edited(ours, plus, twice), second)
        assert not close(first, second, 1e-4)
        with intervene(ours, [twice]), intervene(ours, [plus]):
            assert close(forward(ours, TOKENS, {}), first)

    def test_between_sites_the_computation_decides(self, pair: Pair) -> None:
        ours, _ = pair
        edits = [
            scale("v", HEADS, 3.0),
            knockout(HEADS, [(19, 3)]),
            scale("pattern", HEADS, 0.5),
            add("z", HEADS, direction_of(8)),
        ]
        expected = edited(ours, *edits)
        assert torch.equal(edited(ours, *reversed(edits)), expected)
        with intervene(ours, edits[2:]), intervene(ours, edits[:2]):
            assert close(forward(ours, TOKENS, {}), expected)

    def test_each_prompt_can_have_its_own_positions(self, pair: Pair) -> None:
        ours, _ = pair
        own = torch.tensor([[3], [7], [11]])
        together = edited(ours, zero("z", HEADS, own))
        for prompt, position in enumerate(own.tolist()):
            alone = edited(ours, zero("z", HEADS, position), tokens=TOKENS[prompt : prompt + 1])
            assert close(together[prompt], alone[0])

    def test_a_head_of_a_group_changes_alone(self, pair: Pair) -> None:
        ours, _ = pair
        before = record(ours, TOKENS, ["z"])["z", 1]
        with intervene(ours, [zero("v", [Head(1, 1)])]):
            after = record(ours, TOKENS, ["z"])["z", 1]
        assert not after[:, :, 1].any()
        assert torch.allclose(after[:, :, [0, 2, 3]], before[:, :, [0, 2, 3]], atol=1e-6)

    def test_heads_beside_an_edited_pattern_keep_every_bit(self, pair: Pair) -> None:
        ours, _ = pair
        before = record(ours, TOKENS, ["z"])["z", 1]
        with intervene(ours, [zero("pattern", [Head(1, 1)], [4]), scale("pattern", [Head(1, 3)], 2.0, [9])]):
            after = record(ours, TOKENS, ["z"])["z", 1]
        changed = (after != before).any(-1)
        assert changed.nonzero().tolist() == [[p, q, h] for p in range(3) for q, h in ((4, 1), (9, 3))]


class TestSources:
    def test_the_mean_pools_recordings_of_any_length_without_position_0(self, pair: Pair) -> None:
        ours, _ = pair
        sources = [record(ours, TOKENS, ["z"]), record(ours, OTHERS[:, :7], ["z"])]
        pooled = torch.cat([each["z", 1][:, 1:].flatten(0, 1) for each in sources]).mean(0)
        with intervene(ours, [mean("z", HEADS, sources)]):
            found = record(ours, TOKENS, ["z"])["z", 1]
        assert torch.allclose(found[0, 0, 1:3], pooled[1:3], atol=1e-6)

    def test_the_mean_of_a_recording_at_some_positions(self, pair: Pair) -> None:
        ours, _ = pair
        some, full = record(ours, TOKENS, ["resid"], [0, 4, 9]), record(ours, TOKENS, ["resid"])
        with intervene(ours, [mean("resid", [1], some)]):
            found = record(ours, TOKENS, ["resid"])["resid", 1]
        assert torch.allclose(found[0, 0], full["resid", 1][:, [4, 9]].mean((0, 1)), atol=1e-6)

    def test_resampling_takes_one_donor_for_all_sites_of_a_prompt(self, pair: Pair) -> None:
        ours, _ = pair
        many = torch.randint(1, 299, (7, 20), generator=DRAWN)
        source = record(ours, many, ["z"])
        both = [Head(0, 1), Head(1, 2)]
        found = []
        for seed in range(4):
            with intervene(ours, [resample("z", both, source, seed=seed)]):
                now = record(ours, TOKENS, ["z"])
            donors = [
                [
                    [torch.equal(now["z", la][p, :, h], source["z", la][d, :, h]) for d in range(7)].index(True)
                    for p in range(3)
                ]
                for la, h in both
            ]
            assert donors[0] == donors[1]
            found.append(tuple(donors[0]))
        assert len(set(found)) > 1

    def test_patching_a_run_into_itself_changes_nothing(self, pair: Pair) -> None:
        ours, _ = pair
        source = record(ours, TOKENS, SITES)
        clean = forward(ours, TOKENS, {})
        for site in SITES:
            targets = [1] if site in ("resid", "attn_out") else HEADS
            assert close(edited(ours, patch(site, targets, source)), clean, 1e-6)

    def test_directions_by_head(self, pair: Pair) -> None:
        ours, hand = pair
        along = {head: direction_of(8) * (number + 1) for number, head in enumerate(HEADS)}

        def change(x: Tensor) -> Tensor:
            x[:, :, 1] += along[HEADS[0]]
            x[:, :, 2] += along[HEADS[1]]
            return x

        assert close(edited(ours, add("z", HEADS, along)), hand.run(TOKENS, {("z", 1): change}))


class TestHygiene:
    def test_the_model_is_restored_also_after_an_exception(self, pair: Pair) -> None:
        ours, _ = pair
        clean = forward(ours, TOKENS, {})
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in ours.model.modules()]
        source = record(ours, OTHERS, SITES)
        edits = [patch(site, [1] if site in ("resid", "attn_out") else HEADS, source) for site in SITES]
        with pytest.raises(RuntimeError, match="inside"), intervene(ours, [*edits, knockout(HEADS, [(3, 1)])]):
            raise RuntimeError("inside")
        with pytest.raises(HeadatlasError, match="outside a prompt"):
            edited(ours, *edits, zero("z", HEADS, [20]))
        assert torch.equal(forward(ours, TOKENS, {}), clean)
        assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in ours.model.modules()] == hooks

    def test_an_edit_that_never_took_place_is_an_error(self, pair: Pair) -> None:
        ours, _ = pair
        with (
            pytest.raises(HeadatlasError, match="zero z of layer 1 never took place"),
            intervene(ours, [zero("z", HEADS)]),
        ):
            pass

    def test_another_model_is_not_touched(self, pair: Pair, tiny: Tiny) -> None:
        ours, _ = pair
        other = open_model(str(tiny("llama")))
        clean = forward(other, TOKENS, {})
        with intervene(ours, [zero("q", HEADS), zero("resid", [1])]):
            assert torch.equal(forward(other, TOKENS, {}), clean)
            forward(ours, TOKENS, {})

    def test_gradients_pass_through_edits(self, pair: Pair) -> None:
        ours, _ = pair
        along = direction_of(8).requires_grad_()
        edits = [add("v", HEADS, along), knockout(HEADS, [(0, 0), (19, 1)]), add("z", HEADS, along)]
        with intervene(ours, edits):
            ours.model(TOKENS, use_cache=False).logits[:, -1, 3].sum().backward()
        assert along.grad is not None and torch.isfinite(along.grad).all() and along.grad.any()

    def test_edits_work_while_generating_unless_they_count_positions(self, pair: Pair) -> None:
        ours, _ = pair
        along = direction_of(32) * 5
        plain = ours.model.generate(TOKENS[:1], max_new_tokens=4, do_sample=False)
        with intervene(ours, [add("resid", [1], along)]):
            steered = ours.model.generate(TOKENS[:1], max_new_tokens=4, do_sample=False)
            slow = ours.model.generate(TOKENS[:1], max_new_tokens=4, do_sample=False, use_cache=False)
        assert torch.equal(steered, slow) and not torch.equal(steered, plain)
        with (
            pytest.raises(HeadatlasError, match="use_cache=False"),
            intervene(ours, [add("resid", [1], along, 1.0, [3])]),
        ):
            ours.model.generate(TOKENS[:1], max_new_tokens=4, do_sample=False)


@pytest.fixture
def source(pair: Pair) -> Iterator[Recording]:
    yield record(pair[0], OTHERS, ["z", "resid"])


class TestBadInput:
    @pytest.mark.parametrize(
        "make, complaint",
        [
            (lambda: zero("z", []), "no heads"),
            (lambda: zero("y", HEADS), "not a site"),
            (lambda: zero("resid", HEADS), "acts on layers"),
            (lambda: zero("z", [1]), "acts on heads"),
            (lambda: mean("pattern", HEADS, []), "use position_mean"),
            (lambda: mean("z", HEADS, []), "no recordings"),
            (lambda: add("z", HEADS, torch.ones(8, dtype=torch.long)), "finite floating-point"),
            (lambda: add("z", HEADS, torch.full((8,), float("nan"))), "finite floating-point"),
            (lambda: project_out("z", HEADS, torch.zeros(8)), "is zero"),
            (lambda: knockout(HEADS, []), "at least one"),
            (lambda: knockout(HEADS, [(3, 4)]), "not after it"),
        ],
    )
    def test_edits_that_make_no_sense(self, make: Callable[[], Edit], complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            make()

    @pytest.mark.parametrize(
        "edit, error, complaint",
        [
            (lambda source: zero("z", [Head(2, 0)]), ValueError, "L2H0 is not in a model of 2 layers"),
            (lambda source: zero("z", [Head(1, 4)]), ValueError, "L1H4"),
            (lambda source: zero("resid", [3]), ValueError, "layer 3"),
            (lambda source: zero("z", HEADS, [-1]), HeadatlasError, "position -1 is outside"),
            (lambda source: zero("z", HEADS, torch.tensor([[1], [2]])), HeadatlasError, "batch has 3"),
            (lambda source: zero("z", HEADS, [0.5]), ValueError, "integers"),
            (lambda source: knockout(HEADS, [(20, 1)]), HeadatlasError, "outside"),
            (lambda source: add("z", HEADS, torch.ones(9)), ValueError, "9 numbers"),
            (lambda source: add("z", HEADS, {HEADS[0]: torch.ones(8)}), ValueError, "no direction is given for L1H2"),
            (lambda source: patch("q", HEADS, source), HeadatlasError, "was not recorded"),
            (lambda source: patch("z", HEADS, shorter(source, 10)), HeadatlasError, "not in a recording of 10"),
            (lambda source: patch("z", HEADS, fewer(source)), HeadatlasError, "holds 2 prompts and the batch 3"),
            (lambda source: patch("z", HEADS, coarser(source)), HeadatlasError, "float16"),
            (lambda source: patch("z", HEADS, narrower(source)), HeadatlasError, "would become"),
        ],
    )
    def test_edits_that_do_not_fit(
        self, edit: Callable[[Recording], Edit], error: type[Exception], complaint: str, pair: Pair, source: Recording
    ) -> None:
        with pytest.raises(error, match=complaint) as caught:
            edited(pair[0], edit(source))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "tokens, complaint",
        [
            ([[1, 2, 3], [1, 2]], "differ in length"),
            (torch.ones(2, 3), "whole numbers"),
            (torch.ones(3, dtype=torch.long), "whole numbers"),
            ([[1, 5000]], "outside the vocabulary"),
            ([[1] * 200], "do not fit the context"),
        ],
    )
    def test_prompts(self, tokens: Tensor, complaint: str, pair: Pair) -> None:
        with pytest.raises(HeadatlasError, match=complaint):
            record(pair[0], tokens, ["z"])

    def test_recordings(self, pair: Pair) -> None:
        for sites, layers in (([], None), (["y"], None), (["z"], [2])):
            with pytest.raises(ValueError):
                record(pair[0], TOKENS, sites, layers=layers)
        with pytest.raises(HeadatlasError, match="no mean per position"):
            position_mean("z", HEADS, record(pair[0], TOKENS, ["z"], torch.tensor([[1], [2], [3]])))

    @pytest.mark.parametrize("number", [float("nan"), float("inf")])
    def test_activations_that_are_no_numbers(self, number: float, pair: Pair) -> None:
        """After the first position, and in the last layer, from where they reach no logit that recording reads."""
        broken = scale("z", HEADS, number, [7])
        with (
            pytest.raises(HeadatlasError, match=r"z of layer 1 of .* holds NaN or infinite numbers"),
            intervene(pair[0], [broken]),
        ):
            record(pair[0], TOKENS, ["q", "z"])
        with pytest.raises(HeadatlasError, match="NaN or infinite logits"), intervene(pair[0], [broken]):
            forward(pair[0], TOKENS, {})

    def test_paths(self, pair: Pair) -> None:
        with pytest.raises(HeadatlasError, match="pairs of equal length"):
            path_runs(pair[0], TOKENS, OTHERS[:, :9])
        runs = path_runs(pair[0], TOKENS, OTHERS)
        with pytest.raises(ValueError, match="no heads"):
            path_patch(runs, [], "logits", lambda logits: logits.sum((1, 2)))
        with pytest.raises(ValueError, match="no receivers"):
            path_patch(runs, HEADS, [], lambda logits: logits.sum((1, 2)))


def changed(source: Recording, change: Change) -> Recording:
    return Recording({at: change(each) for at, each in source.activations.items()})


def shorter(source: Recording, length: int) -> Recording:
    return changed(source, lambda x: x[:, :length])


def fewer(source: Recording) -> Recording:
    return changed(source, lambda x: x[:2])


def coarser(source: Recording) -> Recording:
    return changed(source, lambda x: x.half())


def narrower(source: Recording) -> Recording:
    return changed(source, lambda x: x[..., :5])
