"""Scores of all heads: drawn patterns by hand, then every way of streaming against the full pattern."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from conftest import EACH_FAMILY, GATED, held_bytes
from headatlas import HeadatlasError
from headatlas.lab import OpenModel, forward, open_model
from headatlas.lab.attention import fused, layer_scores
from headatlas.lab.attention.layer_scores import LayerScore, read_scores
from headatlas.lab.attention.streaming import (
    ArgmaxKey,
    Distance,
    Entropy,
    HeadScore,
    KeyMass,
    PairWeight,
    SinkMass,
    score_heads,
)
from headatlas.lab.hooks.attention_interface import AttentionCall, attention_hooks
from headatlas.lab.running import token_positions
from operations import Work
from tiny_prompts import TOKENS

Tiny = Callable[[str], Path]
PAIRS = [(5, 4), (23, 0), (23, 5), (23, 23), (0, 0), (9, 2), (9, 2)]
EACH_PAIRS = torch.tensor([[(7, 3), (7, 2), (1, 1)], [(20, 19), (4, 0), (4, 4)], [(6, 1), (6, 2), (6, 3)]])
PER_PROMPT = torch.tensor([[3, 4, 5], [1, -1, -1], [0, 22, 22]])
PREVIOUS = (torch.arange(24)[None, :, None] - torch.tensor([1, 2])).clamp_min(-1)  # of every query, its last two

SCORES: dict[str, HeadScore] = {
    "pairs": PairWeight(PAIRS),
    "pairs of each prompt": PairWeight(EACH_PAIRS),
    "pairs without sinks": PairWeight(PAIRS, sinks=[0]),
    "pairs by value": PairWeight(PAIRS, norm="value"),
    "mass": KeyMass([2, 3, 11]),
    "mass of each prompt": KeyMass(PER_PROMPT),
    "mass of each query": KeyMass(PREVIOUS),
    "mass without sinks": KeyMass(PER_PROMPT, sinks=[[0, 1], [0, 2], [3, -1]]),
    "mass of each query without sinks": KeyMass(PREVIOUS, sinks=[0, 7]),
    "mass by value": KeyMass(PER_PROMPT, norm="value"),
    "all by output": KeyMass(None, norm="output"),
    "mass of each query by output, without sinks": KeyMass(PREVIOUS, sinks=[0], norm="output"),
    "row": KeyMass(None),
    "sink": SinkMass(),
    "two sinks": SinkMass([0, 1]),
    "entropy": Entropy(),
    "distance": Distance(),
}
BY_QUERY = [name for name in SCORES if not name.startswith("pairs") and "of each query" not in name]


def random_call(
    heads: int = 4, kv_heads: int = 2, length: int = 40, d_head: int = 16, scale: float = 1.0, **parts: Any
) -> AttentionCall:
    """A layer's attention with no model around it; a larger scale makes sharper rows."""
    generator = torch.Generator().manual_seed(7)
    query, key, value = (
        scale * torch.randn(2, each, length, d_head, generator=generator) for each in (heads, *[kv_heads] * 2)
    )
    return AttentionCall(**{  # type: ignore[arg-type]
        "module": torch.nn.Identity(), "query": query, "key": key, "value": value, "mask": None,
        "scaling": d_head**-0.5, "softcap": None, "sinks": None,
    } | parts)  # fmt: skip


def softmax_pattern(call: AttentionCall) -> torch.Tensor:
    """[batch head query key] as a textbook computes it, in float64."""
    groups = call.query.shape[1] // call.key.shape[1]
    key = call.key.double().repeat_interleave(groups, 1)
    scores = torch.einsum("bhqd,bhkd->bhqk", call.query.double(), key) * call.scaling
    return scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -math.inf).softmax(-1)


def streamed(
    call: AttentionCall, score: HeadScore, queries: torch.Tensor, w_o: torch.Tensor | None = None
) -> torch.Tensor:
    return read_scores(call, [score.reading(call.query.shape[2], queries)], w_o)[0]


class TestDrawnPatterns:
    """Numbers one can work out by hand."""

    drawn = torch.tensor([[[[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.8, 0.0, 0.2, 0], [0.1, 0.2, 0.3, 0.4]]]])

    def score(self, score: HeadScore, **norms: torch.Tensor) -> list[Any]:
        return score.of_pattern(self.drawn, **norms)[0, 0].tolist()

    def test_pairs(self) -> None:
        assert self.score(PairWeight([(2, 0), (3, 3), (2, 0)])) == pytest.approx([0.8, 0.4, 0.8])

    def test_mass_on_one_set_and_on_a_set_per_query(self) -> None:
        assert self.score(KeyMass([0, 3])) == pytest.approx([1.0, 0.5, 0.8, 0.5])
        assert self.score(KeyMass([[[0, -1], [0, 0], [1, 2], [0, 3]]])) == pytest.approx([1.0, 0.5, 0.2, 0.5])
        assert self.score(KeyMass(None)) == pytest.approx([1.0] * 4)

    def test_argmax_takes_the_first_of_equals(self) -> None:
        assert self.score(ArgmaxKey()) == [0, 0, 0, 3]

    def test_entropy(self) -> None:
        sharp = -0.8 * math.log(0.8) - 0.2 * math.log(0.2)
        assert self.score(Entropy())[:3] == pytest.approx([0.0, math.log(2), sharp])

    def test_distance(self) -> None:
        expected = [[0.0, 0.0], [0.5, 0.5], [1.6, 3.2], [0.3 + 0.4 + 0.3, 0.9 + 0.8 + 0.3]]
        for row, moments in zip(self.score(Distance()), expected, strict=True):
            assert row == pytest.approx(moments)

    def test_without_sinks_the_rest_is_whole(self) -> None:
        assert self.score(SinkMass()) == pytest.approx([1.0, 0.5, 0.8, 0.1])
        assert self.score(KeyMass(None, sinks=[0])) == pytest.approx([0.0, 1.0, 1.0, 1.0])
        assert self.score(PairWeight([(0, 0), (1, 1), (2, 2), (3, 1), (3, 0)], sinks=[0])) == pytest.approx(
            [0.0, 1.0, 1.0, 2 / 9, 0.0]
        )

    def test_weights_times_norms(self) -> None:
        norms = torch.tensor([[[2.0, 0.0, 1.0, 10.0]]])
        assert self.score(KeyMass(None, norm="value"), norms=norms) == pytest.approx([2.0, 1.0, 1.8, 4.5])
        with pytest.raises(ValueError, match="norms"):
            self.score(KeyMass(None, norm="value"))


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_streaming_equals_full_patterns_in_every_family(
    family: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(str(tiny(family)))
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        tiny(family), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        full = reference(TOKENS, output_attentions=True).attentions  # of each layer, [batch head query key]
    norms = recorded_norms(model)
    scores = SCORES
    if family in GATED:  # what a value brings through W_O depends on the query
        scores = {name: score for name, score in SCORES.items() if getattr(score, "norm", None) != "output"}
        with pytest.raises(HeadatlasError, match="depends on the query"):
            score_heads(model, TOKENS, SCORES)
    rows = torch.tensor([[23, 1], [5, 9], [0, 20]])
    results = score_heads(model, TOKENS, scores)
    few = score_heads(
        model, TOKENS, {name: scores[name] for name in BY_QUERY if name in scores} | {"argmax": ArgmaxKey()}, rows
    )
    monkeypatch.setattr(layer_scores, "BLOCK", 1000)  # numbers: a few rows at a time
    monkeypatch.setattr(fused, "serves", lambda call, dtype: False)
    in_blocks = score_heads(model, TOKENS, scores)
    for layer, pattern in enumerate(full):
        for name, score in scores.items():
            norm = getattr(score, "norm", None)
            expected = score.of_pattern(pattern, *([norms[norm][layer]] if norm else []))
            assert results[name].dtype == torch.float32
            for found in (results[name][:, layer], in_blocks[name][:, layer]):
                torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6, msg=name)
            if name in BY_QUERY:
                for prompt in range(3):
                    part = expected[prompt][:, rows[prompt]]
                    torch.testing.assert_close(few[name][prompt, layer], part, atol=1e-6, rtol=1e-6, msg=name)
        chosen = pattern.gather(2, rows[:, None, :, None].expand(-1, pattern.shape[1], -1, 24))
        best = chosen.gather(-1, few["argmax"][:, layer, ..., None]).squeeze(-1)
        assert (best >= chosen.amax(-1) - 1e-6).all()


def recorded_norms(model: OpenModel) -> dict[str, list[torch.Tensor]]:
    """Of each layer [batch head key]: how long values are, and what each head would write of them."""
    values: list[torch.Tensor] = []
    taps = {module: lambda call, z: values.append(call.value.clone()) for module in model.anatomy.attention.values()}
    with attention_hooks(taps):
        forward(model, TOKENS, {})
    heads = [each.repeat_interleave(model.anatomy.heads // each.shape[1], 1) for each in values]
    written = [torch.einsum("bhkd,hdm->bhkm", v, model.anatomy.w_o(layer)) for layer, v in enumerate(heads)]
    return {"value": [each.norm(dim=-1) for each in heads], "output": [each.norm(dim=-1) for each in written]}


@pytest.mark.parametrize("family, one_pass", [("llama", True), ("gpt2", True), ("gemma2", False), ("gpt_oss", False)])
def test_the_way_is_chosen_by_layer(family: str, one_pass: bool, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    for name in ("_in_blocks", "_in_one_pass"):
        way = getattr(layer_scores, name)
        monkeypatch.setattr(layer_scores, name, lambda *parts, way=way, name=name: taken.append(name) or way(*parts))
    score_heads(open_model(str(tiny(family))), TOKENS, {"sink": SinkMass()})
    assert taken == ["_in_one_pass" if one_pass else "_in_blocks"] * 2


class TestOneLayer:
    """Calls with no model around them, against a textbook softmax in float64."""

    @pytest.mark.parametrize("shape", [(4, 4, 40, 16), (6, 2, 33, 10), (3, 1, 130, 1), (2, 2, 1, 8)])
    @pytest.mark.parametrize("scale", [0.3, 3.0])
    def test_shapes_and_sharpness(self, shape: tuple[int, int, int, int], scale: float) -> None:
        call = random_call(*shape, scale=scale)
        queries = torch.arange(shape[2]).expand(2, -1)
        exact = softmax_pattern(call)
        grouped = call.query.unflatten(1, (shape[1], -1)) @ call.key.mT[:, :, None]
        largest = (
            grouped.abs().max().item() * call.scaling
        )  # of any score: float32 knows it no better than eps times it
        rounding = max(1e-6, 2 * largest * torch.finfo(torch.float32).eps)
        last = shape[2] - 1
        for score in (SinkMass(), KeyMass([0], sinks=[0]), Entropy(), Distance(), PairWeight([(0, 0), (last, 0)])):
            expected = score.of_pattern(exact.float())
            assert fused.serves(call, torch.float64)
            torch.testing.assert_close(streamed(call, score, queries), expected, atol=rounding, rtol=rounding)

    def test_uniform_attention_has_the_moments_of_dice(self) -> None:
        call = random_call(length=50)
        call.query.zero_()
        here = torch.arange(50.0)
        queries = torch.arange(50).expand(2, -1)
        expected = torch.stack([here / 2, here * (2 * here + 1) / 6], -1)
        torch.testing.assert_close(streamed(call, Distance(), queries), expected.expand(2, 4, 50, 2))
        entropy = streamed(call, Entropy(), queries)
        torch.testing.assert_close(entropy, (here + 1).log().expand(2, 4, 50), atol=1e-6, rtol=1e-6)
        alone = streamed(call, PairWeight([(9, 3)], sinks=[0]), queries)
        torch.testing.assert_close(alone, torch.full((2, 4, 1), 1 / 9))

    def test_small_distances_at_large_positions_keep_their_digits(self) -> None:
        place = torch.arange(3000.0).expand(2, 1, -1)
        ones = torch.ones_like(place)
        call = random_call(  # a key weighs e times less with each step back: distances are geometric
            heads=1, length=3000, query=torch.stack([ones, 0 * ones], -1), key=torch.stack([place, 0 * ones], -1),
            scaling=1.0,
        )  # fmt: skip
        step = math.exp(-1)
        expected = torch.tensor([step / (1 - step), step * (1 + step) / (1 - step) ** 2])
        found = streamed(call, Distance(), torch.arange(3000).expand(2, -1))[:, :, 100:]
        torch.testing.assert_close(found, expected.expand_as(found), atol=1e-6, rtol=1e-6)

    def test_what_all_keys_share_costs_no_digits(self) -> None:
        key = (random_call().key * 256).round() / 256
        call, shifted = random_call(key=key), random_call(key=key + 4096)  # exact in float32
        queries = torch.arange(40).expand(2, -1)
        for score in (Entropy(), SinkMass()):
            found, expected = streamed(shifted, score, queries), streamed(call, score, queries)
            torch.testing.assert_close(found, expected, atol=5e-6, rtol=5e-6)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_lower_precision_is_scored_in_float32(self, dtype: torch.dtype) -> None:
        exact = random_call()
        call = random_call(**{name: getattr(exact, name).to(dtype) for name in ("query", "key", "value")})
        pattern = softmax_pattern(call).float()
        for positions in (torch.arange(40).expand(2, -1), torch.tensor([[39], [7]])):
            expected = Entropy().of_pattern(pattern).gather(2, positions[:, None].expand(-1, 4, -1))
            torch.testing.assert_close(streamed(call, Entropy(), positions), expected, atol=1e-6, rtol=1e-6)

    def test_a_kernel_that_is_wrong_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        operator = "_scaled_dot_product_flash_attention_for_cpu"
        right = getattr(torch.ops.aten, operator)
        assert fused.serves(random_call(d_head=12), torch.float32)
        monkeypatch.setattr(
            torch.ops.aten, operator, lambda *parts, **options: [each + 1e-3 for each in right(*parts, **options)]
        )
        call, queries = random_call(d_head=28), torch.arange(40).expand(2, -1)  # a size that nothing else has asked for
        assert not fused.serves(call, torch.float32)
        expected = SinkMass().of_pattern(softmax_pattern(call).float())
        torch.testing.assert_close(streamed(call, SinkMass(), queries), expected, atol=1e-6, rtol=1e-6)

    def test_edited_patterns_are_what_is_scored(self) -> None:
        class Uniform:
            def rows(self, call: AttentionCall, heads: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
                return torch.full((2, len(positions), len(heads), 40), 1 / 40)

        call = random_call(pattern=Uniform())
        found = streamed(call, KeyMass([3, 4]), torch.tensor([[30, 10, 39], [5, 39, 6]]))
        torch.testing.assert_close(found, torch.full((2, 4, 3), 1 / 20))

    @pytest.mark.parametrize(
        "readings", [[("entropy", 0), ("argmax", 1), ("mass", 2)], [("mass", 1), ("mass", 0), ("distance", 2)]]
    )
    def test_readings_of_different_queries_come_back_in_order(self, readings: list[tuple[Any, int]]) -> None:
        call = random_call()
        rows = [torch.arange(40).expand(2, -1), torch.arange(8, 30).expand(2, -1), torch.tensor([[3, 39], [1, 0]])]
        asked = [LayerScore(kind, rows[which]) for kind, which in readings]
        for reading_, found in zip(asked, read_scores(call, asked), strict=True):
            torch.testing.assert_close(found, read_scores(call, [reading_])[0], atol=1e-6, rtol=1e-6)
            assert found.shape[2] == reading_.queries.shape[1]


class TestMemory:
    @pytest.mark.parametrize("way", ["one pass", "blocks", "few rows"])
    def test_no_tensor_grows_faster_than_the_prompt(self, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        scores: dict[str, HeadScore] = {"sink": SinkMass(), "entropy": Entropy(), "all": KeyMass(None, norm="value")}
        monkeypatch.setattr(layer_scores, "BLOCK", 2**18)
        if way != "one pass":
            scores["argmax"] = ArgmaxKey()
        largest = []
        for length in (512, 2048):
            call = random_call(length=length, d_head=8)
            queries = torch.arange(length if way != "few rows" else 64).expand(2, -1)
            with Work() as seen, torch.no_grad():
                read_scores(call, [score.reading(length, queries) for score in scores.values()])
            largest.append(seen.bytes)
        assert largest[1] <= max(
            4.1 * largest[0], 4 * layer_scores.BLOCK
        )  # four times the prompt, or one block of float32
        assert largest[1] < 2048 * 2048 * 4 / 8  # far from one head's pattern, of eight

    def test_all_pairs_of_one_query_and_one_of_each_other(self) -> None:
        length = 500
        pairs = [(length - 1, key) for key in range(length)] + [(query, 0) for query in range(length)]
        grouped = token_positions.by_query(token_positions.pairs(pairs, 1, length))
        assert grouped.keys.numel() <= 3 * len(pairs)
        where = grouped.keys.flatten(1).gather(1, grouped.place)[0].tolist()
        assert where == [key for _, key in pairs]

    def test_memory_stays_flat_over_twenty_batches(self, tiny: Tiny) -> None:
        model, held = open_model(str(tiny("llama"))), []
        for batch in range(20):
            tokens = torch.randint(1, 299, (2, 64), generator=torch.Generator().manual_seed(batch))
            score_heads(model, tokens, {"sink": SinkMass(), "distance": Distance()})
            if batch in (1, 19):
                held.append(held_bytes())
        assert held[1] <= held[0]


class TestScoreHeads:
    def test_prompts_of_a_batch_do_not_mix(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("qwen2")))
        together = score_heads(model, TOKENS, {"pairs": PairWeight(EACH_PAIRS), "mass": KeyMass(PER_PROMPT)})
        for prompt in range(3):
            scores = {"pairs": PairWeight(EACH_PAIRS[prompt]), "mass": KeyMass(PER_PROMPT[prompt])}
            for name, alone in score_heads(model, TOKENS[prompt : prompt + 1], scores).items():
                torch.testing.assert_close(together[name][prompt], alone[0], atol=1e-6, rtol=1e-6)

    def test_shapes_and_progress(self, tiny: Tiny) -> None:
        model, steps = open_model(str(tiny("llama"))), []
        scores = {"argmax": ArgmaxKey(), "distance": Distance(), "pairs": PairWeight(PAIRS)}
        results = score_heads(model, TOKENS.tolist(), scores, positions=[4, 9], progress=steps.append)
        assert {name: tuple(each.shape) for name, each in results.items()} == {
            "argmax": (3, 2, 4, 2), "distance": (3, 2, 4, 2, 2), "pairs": (3, 2, 4, 7),
        }  # fmt: skip
        assert steps == [1, 1] and results["argmax"].dtype == torch.int64

    def test_an_exception_on_the_way_leaves_the_model_as_it_was(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("llama")))
        before = forward(model, TOKENS, {})
        with pytest.raises(ZeroDivisionError):
            score_heads(model, TOKENS, {"sink": SinkMass()}, progress=lambda step: 1 // 0)
        assert torch.equal(forward(model, TOKENS, {}), before)
        assert score_heads(model, TOKENS, {"sink": SinkMass()})["sink"].shape == (3, 2, 4, 24)

    def test_nan_after_the_first_position_is_not_a_result(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("llama")))

        def spoil(call: AttentionCall, z: torch.Tensor) -> torch.Tensor:
            return torch.cat([z[:, :5], z[:, 5:] * float("nan")], 1)

        with pytest.raises(HeadatlasError, match="NaN"), attention_hooks({model.anatomy.attention[0]: spoil}):
            score_heads(model, TOKENS, {"sink": SinkMass()})

    @pytest.mark.parametrize(
        "parts, complaint",
        [
            ({"scores": {}}, "no scores"),
            ({"tokens": [[1, 2, 3], [1, 2]]}, "differ in length"),
            ({"tokens": []}, "not empty"),
            ({"tokens": [[0.5, 1.0]]}, "whole numbers"),
            ({"tokens": [[1] * 200]}, "do not fit"),
            ({"positions": [24]}, "positions 0 to 23"),
            ({"positions": [-1]}, "positions name -1"),
            ({"positions": []}, "empty"),
            ({"positions": [[1], [2]]}, "2 prompts, but there are 3"),
            ({"scores": {"a": PairWeight([(3, 4)])}}, "key 4 lies ahead of query 3"),
            ({"scores": {"a": PairWeight([(30, 4)])}}, "pairs name 30"),
            ({"scores": {"a": PairWeight([])}}, "pairs must be|empty"),
            ({"scores": {"a": PairWeight([1, 2, 3])}}, "pairs must be"),
            ({"scores": {"a": PairWeight([[(1, 0)], [(1, 0), (2, 1)]])}}, "lists of one length"),
            ({"scores": {"a": KeyMass([])}}, "empty"),
            ({"scores": {"a": KeyMass([24])}}, "keys name 24"),
            ({"scores": {"a": KeyMass([[[1], [2]]])}, "positions": [1, 1]}, "ahead of query 1"),
            ({"scores": {"a": KeyMass([[[1], [2]]])}}, "2 queries, but 24"),
            ({"scores": {"a": KeyMass([1], sinks=[[[0]]])}}, "keys must be"),
            ({"scores": {"a": KeyMass([0.5])}}, "whole numbers"),
        ],
    )
    def test_mistakes_get_one_clear_line(self, parts: dict[str, Any], complaint: str, tiny: Tiny) -> None:
        model = open_model(str(tiny("llama")))
        with pytest.raises(HeadatlasError, match=complaint) as caught:
            score_heads(model, **{"tokens": TOKENS, "scores": {"sink": SinkMass()}} | parts)
        assert "\n" not in str(caught.value)
