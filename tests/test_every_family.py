"""Every causal family that transformers can build small: the lab against plain hooks on plain transformers.

A family either gives the numbers that `plain` gives, or is refused in one line. See `family_zoo` for the models.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import family_zoo
from family_zoo import Member
from headatlas import Head, HeadatlasError, specimens
from headatlas.lab import (
    OpenModel,
    ablate_sets,
    logit_lens,
    metric_per_prompt,
    open_model,
    path_patch,
    path_sweep,
    record,
    score_heads,
    sweep,
)
from headatlas.lab.attention import ArgmaxKey, Distance, Entropy, KeyMass, PairWeight, SinkMass
from headatlas.lab.attention.pairs import PairQuestion, attention_between
from headatlas.lab.paths import Receiver, path_runs
from headatlas.stimuli import Prompt, Readout
from plain import Change, Layer, Plain, Run, after, replacing

TOLERANCE = 1e-5
LENGTH = 3 * family_zoo.WINDOW
LAST, MIDDLE = LENGTH - 1, LENGTH - 4
READ = (Readout(LAST, answer=5, rivals=(7, 9)), Readout(MIDDLE + 1, answer=6, rivals=(8, 11)))
PAIRS = torch.randint(20, 4000, (2, 2, LENGTH), generator=torch.Generator().manual_seed(1))
TOKENS, OTHERS = PAIRS
PROMPTS = [Prompt(tuple(one), tuple(other), readouts=READ) for one, other in zip(*PAIRS.tolist(), strict=True)]
PLACES = {"all": list(range(LENGTH)), "last": [LAST], (MIDDLE, MIDDLE + 1): [MIDDLE, MIDDLE + 1], (2, 9): [2, 9]}


def behaviour(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """Logits of the answers minus the mean of their rivals', over all readouts: [prompt]."""
    own, other = logits.gather(-1, answers[..., None]).squeeze(-1), logits.gather(-1, rivals).mean(-1)
    return (own - other).mean(-1)


def read(logits: Tensor) -> Tensor:
    """The behaviour, of logits [prompt position vocabulary]."""
    kept = logits[:, [each.position for each in READ]]
    answers = torch.tensor([[each.answer for each in READ]]).expand(len(kept), -1)
    rivals = torch.tensor([[each.rivals for each in READ]]).expand(len(kept), -1, -1)
    return behaviour(kept, answers, rivals)


def agree(what: str, found: Any, expected: Any, size: float = 1.0) -> None:
    """Fail where two arrays differ by more than the tolerance, relative to the largest number where that exceeds 1."""
    found, expected = (torch.as_tensor(np.asarray(each, dtype=np.float64)) for each in (found, expected))
    assert found.shape == expected.shape, f"{what}: {list(found.shape)} for {list(expected.shape)}"
    absent = expected.isnan()
    assert torch.equal(found.isnan(), absent), f"{what}: numbers where there is no head, or none where there is one"
    found, expected = found[~absent], expected[~absent]
    largest = max(1.0, size, expected.abs().max().item())
    gap = (found - expected).abs().max().item()
    assert gap <= TOLERANCE * largest, f"{what}: off by {gap:.1e}, the largest is {largest:.3g}"


@dataclass(frozen=True)
class Pair:
    """One model, opened by headatlas and as transformers has it."""

    lab: OpenModel
    plain: Plain

    def chosen(self) -> list[Head]:
        """Heads of the first, a middle and the last attention layer."""
        numbers = sorted(self.plain.layers)
        picked = dict.fromkeys((numbers[0], numbers[len(numbers) // 2], numbers[-1]))
        return [Head(layer, min(number, self.plain.layers[layer].heads - 1)) for number, layer in enumerate(picked)]

    def sets(self) -> list[list[Head]]:
        """Sets of heads: none, all of the last layer, and some over several layers."""
        numbers = sorted(self.plain.layers)
        last = self.plain.layers[numbers[-1]]
        return [
            [],
            [Head(last.number, head) for head in range(last.heads)],
            [Head(layer, layer % self.plain.layers[layer].heads) for layer in reversed(numbers)],
        ]


def values(pair: Pair, kind: str) -> dict[int, Tensor | float]:
    """What the z of a layer's heads becomes: [... head d_head], or 0."""
    z = pair.plain.z(OTHERS)
    if kind == "zero":
        return dict.fromkeys(z, 0.0)
    return {layer: each[:, 1:].mean((0, 1)) if kind == "mean" else each for layer, each in z.items()}


def ablated(pair: Pair, heads: Sequence[Head], kind: str, at: list[int]) -> Tensor:
    """The behaviour with heads ablated by hooks: [prompt]."""
    new = values(pair, kind)
    changes: dict[int, Any] = {}
    for layer, head in heads:
        value = new[layer]
        if isinstance(value, Tensor):
            value = value[..., head, :]
            value = value[:, at] if value.ndim == 3 else value
        change = replacing(head, at, value)
        changes[layer] = after(changes[layer], change) if layer in changes else change
    return read(pair.plain.logits(TOKENS, changes))


def check_places(pair: Pair) -> None:
    """All modules that give attention weights are known, by their own number."""
    seen = pair.plain.weights(TOKENS)
    known = {each.attention for each in pair.plain.layers.values()}
    assert set(seen) == known, f"plain transformers attends in {sorted(set(seen) ^ known)} too"
    for each in pair.plain.layers.values():
        numbers = re.findall(r"\.(\d+)(?=\.|$)", each.attention)
        assert int(numbers[0]) == each.number, f"{each.attention} is called layer {each.number}"
        assert seen[each.attention].shape[1] == each.heads


def check_logits(pair: Pair) -> None:
    """An opened model gives the logits that it gives without headatlas."""
    agree("logits", pair.lab.model(input_ids=TOKENS, use_cache=False).logits, pair.plain.clean(TOKENS))


def check_patterns(pair: Pair) -> None:
    """Recorded patterns are those of eager attention."""
    seen = pair.plain.weights(TOKENS)
    found = record(pair.lab, TOKENS, ["pattern"], layers=sorted(pair.plain.layers))
    for layer, each in pair.plain.layers.items():
        agree(f"pattern of layer {layer}", found["pattern", layer], seen[each.attention])


def by_layer(pair: Pair, of: Callable[[Tensor], Tensor], axis: int) -> Tensor:
    """What of(pattern) gives for every head, layers stacked along `axis`; NaN where there is no such head."""
    seen = pair.plain.weights(TOKENS)
    parts = {layer: of(seen[each.attention]) for layer, each in pair.plain.layers.items()}
    most = max(each.heads for each in pair.plain.layers.values())
    like = next(iter(parts.values()))
    rows = []
    for layer in range(len(pair.plain.blocks())):
        row = torch.full((like.shape[0], most, *like.shape[2:]), torch.nan, dtype=torch.float64)
        if layer in parts:
            row[:, : parts[layer].shape[1]] = parts[layer].double()
        rows.append(row)
    return torch.stack(rows, axis)


def check_attention_between_pairs(pair: Pair) -> None:
    """What a census reads: the weight between pairs, summed over keys and averaged over queries."""
    pairs = ((LAST, 3), (LAST, LAST - 1), (MIDDLE, MIDDLE), (9, 0))
    found = attention_between(pair.lab, [PairQuestion(prompt.tokens, pairs) for prompt in PROMPTS])

    def of(pattern: Tensor) -> Tensor:
        return sum(pattern[:, :, query, key] for query, key in pairs) / 3  # three queries

    agree("attention between pairs", found, by_layer(pair, of, 1))


def check_scores(pair: Pair) -> None:
    """Streamed scores are those of the patterns."""
    pairs = [(LAST, 3), (LAST, LAST - 1), (MIDDLE, MIDDLE), (9, 0)]
    steps = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)
    asked: dict[str, tuple[Any, Callable[[Tensor], Tensor]]] = {
        "pair weight": (PairWeight(pairs), lambda p: torch.stack([p[:, :, query, key] for query, key in pairs], -1)),
        "sink": (SinkMass(), lambda p: p[..., 0]),
        "key mass": (KeyMass([1, 4]), lambda p: p[..., 1] + p[..., 4]),
        "entropy": (Entropy(), lambda p: -torch.xlogy(p, p).sum(-1)),
        "distance": (Distance(), lambda p: torch.stack([(p * steps**power).sum(-1) for power in (1, 2)], -1)),
    }
    found = score_heads(pair.lab, TOKENS, {name: score for name, (score, _) in asked.items()} | {"most": ArgmaxKey()})
    for name, (_, of) in asked.items():
        agree(name, found[name], by_layer(pair, of, 1))
    most = found["most"]
    for layer in sorted(pair.plain.layers):
        pattern = pair.plain.weights(TOKENS)[pair.plain.layers[layer].attention]
        at = most[:, layer, : pattern.shape[1]].long()
        agree("weight on the key with most", pattern.gather(-1, at[..., None])[..., 0], pattern.amax(-1))


def check_metric(pair: Pair) -> None:
    """The metric of a behaviour, with nothing ablated."""
    agree("metric", metric_per_prompt(pair.lab, PROMPTS, behaviour), ablated(pair, [], "mean", PLACES["all"]))


def check_sets(pair: Pair) -> None:
    """Ablating sets of heads by running what they can change."""
    sets = pair.sets()
    for kind, where in (("zero", "last"), ("mean", (2, 9))):
        found = ablate_sets(pair.lab, PROMPTS, behaviour, sets, kind, where)
        agree(
            f"ablate_sets, {kind}, {where}",
            found,
            torch.stack([ablated(pair, heads, kind, PLACES[where]) for heads in sets]),
        )


def check_sweep(pair: Pair) -> None:
    """Ablating heads one at a time."""
    heads, clean = pair.chosen(), read(pair.plain.clean(TOKENS))
    for kind, where in (("zero", "all"), ("resample", (MIDDLE, MIDDLE + 1))):
        found = sweep(pair.lab, PROMPTS, behaviour, kind, where, heads=heads)
        expected = torch.stack([ablated(pair, [head], kind, PLACES[where]) for head in heads])
        agree(f"sweep, {kind}, {where}, untouched", found.clean, clean)
        agree(f"sweep, {kind}, {where}", np.stack([found.ablated[head] for head in heads]), expected)
        if where == "all":
            assert (expected - clean).abs().max() > 1e-3, "the heads of this model hardly matter; make it louder"


def check_lens(pair: Pair) -> None:
    """What the model makes of a stream where its last block leaves it; at the end its own logits."""
    streams = pair.plain.streams(TOKENS)
    end = len(streams) - 1
    inside, found = logit_lens(pair.lab, TOKENS, [end - 1, end])
    agree("lens at the end", found, pair.plain.clean(TOKENS))
    agree("lens before the last layer", inside, pair.plain.read_as_last(TOKENS, streams[end - 1]))


def check_streams(pair: Pair) -> None:
    """The residual stream before every block, and after the last."""
    streams = pair.plain.streams(TOKENS)
    found = record(pair.lab, TOKENS, ["resid"])
    for layer, stream in enumerate(streams):
        agree(f"stream of layer {layer}", found["resid", layer], stream)


KEPT = [each.position for each in READ]


def metric(logits: Tensor) -> Tensor:
    """The behaviour, of the logits of the kept positions alone, ascending."""
    back = logits.new_zeros(len(logits), LENGTH, logits.shape[-1])
    back[:, sorted(KEPT)] = logits
    return read(back)


def held(pair: Pair, sender: Head, at: list[int]) -> dict[int, Change]:
    """All heads give what they give on the prompts; at some positions the sender gives what it gives on the others."""
    clean, other = pair.plain.z(TOKENS), pair.plain.z(OTHERS)
    changes: dict[int, Change] = {layer: partial(_given, z) for layer, z in clean.items()}
    new = other[sender.layer][:, at, sender.head]
    changes[sender.layer] = after(changes[sender.layer], replacing(sender.head, at, new))
    return changes


def _given(clean: Tensor, _: Tensor) -> Tensor:
    return clean.clone()


def check_paths(pair: Pair) -> None:
    """From senders to the logits: z of all other heads held, all else computed."""
    clean = read(pair.plain.clean(TOKENS))
    runs = path_runs(pair.lab, TOKENS, OTHERS, sorted(KEPT))
    found = path_sweep(runs, "logits", metric, sender_positions=[9, MIDDLE, LAST]).effect
    for head in pair.chosen():
        expected = read(pair.plain.logits(TOKENS, held(pair, head, [9, MIDDLE, LAST]))) - clean
        agree(f"path from {head}", found[head], expected, clean.abs().max().item())


def check_receivers(pair: Pair) -> None:
    """From a sender through the query, key and value of later heads: what reaches them, put into a clean run."""
    first, *_, last = sorted(pair.plain.layers)
    heads = pair.plain.layers[last].heads
    ends = [Receiver(Head(last, heads - 1), "q"), Receiver(Head(last, 0), "k"), Receiver(Head(last, 1 % heads), "v")]
    runs = path_runs(pair.lab, TOKENS, OTHERS, sorted(KEPT))
    sender = Head(first, 1)
    found = path_sweep(runs, ends, metric, sender_positions=[2, 9]).effect[sender]
    if (hooked := received(pair, sender, ends, [2, 9])) is None:
        expected = path_patch(runs, [sender], ends, metric, sender_positions=[2, 9])
    else:
        expected = hooked - read(pair.plain.clean(TOKENS))
    agree(f"path from {sender} to {ends}", found, expected)


def received(pair: Pair, sender: Head, ends: Sequence[Receiver], at: list[int]) -> Tensor | None:
    """The behaviour where some inputs of heads of one layer are what a patched sender makes them: [prompt].

    None for a family whose attention does not go through transformers' registry: no hook sees its queries and keys.
    """
    plain, last = pair.plain, ends[0].head.layer
    target = plain.model.get_submodule(plain.layers[last].attention)
    reached: dict[str, Tensor] = {}

    def note(module: Any, query: Tensor, key: Tensor, value: Tensor, run: Run) -> Tensor:
        if module is target:
            reached.update(q=query, k=key, v=value)
        return run(query, key, value)[0]

    def put(module: Any, query: Tensor, key: Tensor, value: Tensor, run: Run) -> Tensor:
        z = run(query, key, value)[0]
        for (_, head), site in ends if module is target else ():
            own = {"q": query, "k": key, "v": value, site: reached[site]}
            z[:, :, head] = run(own["q"], own["k"], own["v"])[0][:, :, head]
        return z

    with plain.attending(note):
        plain.logits(TOKENS, held(pair, sender, at))
    if not reached:
        return None
    with plain.attending(put):
        return read(plain.logits(TOKENS))


CHECKS = (
    check_places, check_logits, check_patterns, check_attention_between_pairs, check_scores, check_metric, check_sets,
    check_sweep, check_streams, check_lens, check_paths, check_receivers,
)  # fmt: skip
LIGHT = (check_places, check_logits, check_patterns, check_sweep)


@dataclass
class Tally:
    """What became of every member: refused with these words, or these checks equal, refused or wrong."""

    refused: dict[str, str] = field(default_factory=dict)
    equal: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    partly: dict[str, list[str]] = field(default_factory=dict)  # by check: who was refused it


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Prints how many families gave equal numbers, and how many were refused, and why."""
    found = Tally()
    yield found
    lines = [f"{len(found.equal)} models equal plain hooks, {len(found.refused)} refused, {len(found.wrong)} wrong"]
    reasons: dict[str, list[str]] = {}
    for name, reason in found.refused.items():
        reasons.setdefault(re.sub(r"\b[A-Z]\w+(For|Attention|Model)\w*", "its class", reason)[:110], []).append(name)
    lines += [f"  refused ({reason}): {', '.join(names)}" for reason, names in reasons.items()]
    lines += [f"  refused {check} alone: {', '.join(names)}" for check, names in found.partly.items()]
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n" + "\n".join(lines))


def one_line(error: HeadatlasError) -> str:
    """Its words."""
    assert "\n" not in str(error), f"a refusal of several lines: {error}"
    return str(error)


def test_every_family_is_built_or_on_the_list_of_those_that_are_not() -> None:
    families = family_zoo.families()
    assert set(family_zoo.UNBUILT) <= set(families), "a family on the list is not one of transformers"
    built = {member.family for member in family_zoo.members()}
    assert built | set(family_zoo.UNBUILT) == set(families) and not built & set(family_zoo.UNBUILT)
    assert len(family_zoo.UNBUILT) <= 24 and len(built) >= 240, "the recipe must keep up with transformers"


@torch.no_grad()
@pytest.mark.parametrize("member", family_zoo.members(), ids=str)
def test_a_family_is_measured_as_plain_hooks_do_or_refused(member: Member, tmp_path: Path, tally: Tally) -> None:
    model = family_zoo.model_of(member)
    model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(specimens.folder() / name, tmp_path / name)
    try:
        lab = open_model(tmp_path)
    except HeadatlasError as error:
        tally.refused[str(member)] = one_line(error).replace(str(tmp_path), "...")
        return
    pair = Pair(lab, Plain(model, places(lab)))
    failed = []
    for check in LIGHT if family_zoo.is_wrapper_of_a_family(member.family) else CHECKS:
        try:
            check(pair)
        except HeadatlasError as error:
            one_line(error)
            tally.partly.setdefault(check.__name__.removeprefix("check_"), []).append(str(member))
        except Exception as error:
            failed.append(f"{check.__name__.removeprefix('check_')}: {type(error).__name__}: {error}")
    (tally.wrong if failed else tally.equal).append(str(member))
    assert not failed, "\n".join(failed)


def places(lab: OpenModel) -> dict[int, Layer]:
    """Where headatlas has found heads: `check_places` holds that against plain transformers."""
    anatomy = lab.anatomy
    paths = {module: path for path, module in lab.model.named_modules()}
    return {
        layer: Layer(layer, paths[module], paths[anatomy.projections[layer]], anatomy.heads_in(layer))
        for layer, module in anatomy.attention.items()
    }
