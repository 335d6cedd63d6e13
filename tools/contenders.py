"""The jobs of tools/bench.py in headatlas, TransformerLens and plain transformers.

Every function loads the model in a folder and returns a job. The job takes prompts and the number of earlier calls, and
returns named results for comparison. Loops over heads run one head per call.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor

from cross_check import difference_at_last, open_lens, tokens_of
from headatlas.lab import logit_difference, open_model, path_sweep, score_heads, sweep
from headatlas.lab.attention import PairWeight, SinkMass
from headatlas.lab.paths import path_runs
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt

Positions = Literal["all", "last"]
Values = dict[str, float]
Run = Callable[[Sequence[Prompt], int], Values]
Prepare = Callable[[Path], Run]

SHARE = 4  # at all positions, headatlas ablates one in four heads of each layer


def our_scores(folder: Path) -> Run:
    """headatlas: score_heads."""
    model = open_model(str(folder))

    def run(prompts: Sequence[Prompt], repeat: int) -> Values:
        tokens = tokens_of(prompts)
        pairs = torch.tensor(list(pairwise(range(tokens.shape[1])))).flip(1)  # each query and the key before it
        found = score_heads(model, tokens, {"previous": PairWeight(pairs), "sink": SinkMass()})
        return _named(found["previous"].mean((0, -1)), found["sink"].mean((0, -1)))

    return run


def lens_scores(folder: Path, names: Callable[[str], bool] | None = None) -> Run:
    """TransformerLens: run_with_cache of all or some activations; computes scores from the patterns."""
    lens = open_lens(folder)

    def run(prompts: Sequence[Prompt], repeat: int) -> Values:
        _, kept = lens.run_with_cache(tokens_of(prompts), names_filter=names)
        return _scores([kept[f"blocks.{layer}.attn.hook_pattern"] for layer in range(lens.cfg.n_layers)])

    return run


def is_pattern(name: str) -> bool:
    """True for TransformerLens hooks on attention patterns."""
    return name.endswith("hook_pattern")


def plain_scores(folder: Path) -> Run:
    """transformers: output_attentions, with eager attention, the only implementation that returns patterns."""
    model = _plain(folder, "eager")

    def run(prompts: Sequence[Prompt], repeat: int) -> Values:
        return _scores(model(tokens_of(prompts), output_attentions=True, use_cache=False, logits_to_keep=1).attentions)

    return run


def our_ablation(folder: Path, positions: Positions, share: int) -> Run:
    """headatlas: sweep over every `share`-th head of each layer."""
    model = open_model(str(folder))
    heads = [
        Head(layer, head)
        for layer in range(model.anatomy.layers)
        for head in range(layer % share, model.anatomy.heads, share)
    ]

    def run(prompts: Sequence[Prompt], repeat: int) -> Values:
        found = sweep(model, prompts, logit_difference, "zero", positions, heads=heads).ablated
        return {str(head): float(found[head.layer, head.head].mean()) for head in heads}

    return run


def lens_ablation(folder: Path, positions: Positions) -> Run:
    """TransformerLens: run_with_hooks, one head per call."""
    lens = open_lens(folder)

    def run(prompts: Sequence[Prompt], repeat: int) -> Values:
        head = _in_turn(repeat, lens.cfg.n_layers)

        def zero(z: Tensor, hook: Any) -> Tensor:  # [batch position head d_head]
            z[:, _at(positions), head.head] = 0.0
            return z

        logits = lens.run_with_hooks(tokens_of(prompts), fwd_hooks=[(f"blocks.{head.layer}.attn.hook_z", zero)])
        return {str(head): float(difference_at_last(logits, prompts).mean())}

    return run


def our_paths(folder: Path, frozen: bool) -> Run:
    """headatlas: path_sweep, from every head to the logits."""
    model = open_model(str(folder))

    def run(prompts: Sequence[Prompt], repeat: int) -> Values:
        pairs = [(each.readouts[0].answer, each.readouts[0].rivals[0]) for each in prompts]
        few = sorted({token for pair in pairs for token in pair})  # as few tokens are read as there are names
        place = torch.tensor([[few.index(token) for token in pair] for pair in pairs])
        mlps: Literal["recomputed", "frozen"] = "frozen" if frozen else "recomputed"
        runs = path_runs(model, tokens_of(prompts), _controls(prompts), mlps=mlps, vocabulary=few)

        def metric(logits: Tensor) -> Tensor:  # of logits [batch 1 token]
            chosen = logits[:, -1].gather(1, place)
            return chosen[:, 0] - chosen[:, 1]

        effect = path_sweep(runs, "logits", metric).effect.mean(-1)
        heads = product(range(model.anatomy.layers), range(model.anatomy.heads))
        return {str(Head(*each)): float(effect[each]) for each in heads}

    return run


def lens_paths(folder: Path, frozen: bool) -> Run:
    """TransformerLens: run_with_hooks with all other heads frozen, one head per call; reuses the two runs."""
    lens = open_lens(folder)
    held: dict[int, tuple[Any, Any, Tensor]] = {}
    sites = ["attn.hook_z", "hook_mlp_out"] if frozen else ["attn.hook_z"]

    def run(prompts: Sequence[Prompt], repeat: int) -> Values:
        tokens, head = tokens_of(prompts), _in_turn(repeat, lens.cfg.n_layers)
        if len(prompts) not in held:
            logits, clean = lens.run_with_cache(tokens, names_filter=lambda name: name.endswith(tuple(sites)))
            _, other = lens.run_with_cache(_controls(prompts), names_filter=lambda name: name.endswith("attn.hook_z"))
            held[len(prompts)] = clean, other, difference_at_last(logits, prompts)
        clean, other, before = held[len(prompts)]
        sent = f"blocks.{head.layer}.attn.hook_z"

        def hold(activation: Tensor, hook: Any, name: str) -> Tensor:  # z: [batch position head d_head]
            kept: Tensor = clean[name].clone()
            if name == sent:
                kept[:, :, head.head] = other[sent][:, :, head.head]
            return kept

        names = [f"blocks.{layer}.{site}" for layer in range(lens.cfg.n_layers) for site in sites]
        logits = lens.run_with_hooks(tokens, fwd_hooks=[(name, partial(hold, name=name)) for name in names])
        return {str(head): float((difference_at_last(logits, prompts) - before).mean())}

    return run


def products(folder: Path) -> Run:
    """torch: the two matrix products of one MLP, at one position of every prompt, for as many heads as a layer has."""
    block = _plain(folder, "sdpa").transformer.h[0]
    heads, weights = block.attn.num_heads, (block.mlp.c_fc.weight, block.mlp.c_proj.weight)

    def run(prompts: Sequence[Prompt], repeat: int) -> Values:
        rows = torch.randn(heads * len(prompts), len(weights[0]))
        for weight in weights:
            rows = rows @ weight
        return {}

    return run


def plain_ablation(folder: Path, positions: Positions) -> Run:
    """transformers: a hook before the output projection, one head per call, only the last logits."""
    model = _plain(folder, "sdpa")
    width = model.config.n_embd // model.config.n_head

    def run(prompts: Sequence[Prompt], repeat: int) -> Values:
        head = _in_turn(repeat, model.config.n_layer)

        def zero(_: torch.nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:  # [batch position head*d_head]
            z = args[0].clone()
            z[:, _at(positions), head.head * width : (head.head + 1) * width] = 0.0
            return (z,)

        handle = model.transformer.h[head.layer].attn.c_proj.register_forward_pre_hook(zero)
        try:
            logits = model(tokens_of(prompts), use_cache=False, logits_to_keep=1).logits
        finally:
            handle.remove()
        return {str(head): float(difference_at_last(logits, prompts).mean())}

    return run


def plain_pass(folder: Path) -> Run:
    """transformers: a forward pass without hooks."""
    model = _plain(folder, "sdpa")

    def run(prompts: Sequence[Prompt], repeat: int) -> Values:
        model(tokens_of(prompts), use_cache=False, logits_to_keep=1)
        return {}

    return run


def _controls(prompts: Sequence[Prompt]) -> Tensor:
    """[prompt position]"""
    return torch.tensor([prompt.corrupted for prompt in prompts])


def _plain(folder: Path, implementation: str) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation=implementation).eval()


def _scores(patterns: Sequence[Tensor]) -> Values:
    """Previous-token weight and sink mass of patterns [batch head query key], by layer."""
    previous = torch.stack([pattern.diagonal(-1, 2, 3).mean((0, -1)) for pattern in patterns])
    return _named(previous, torch.stack([pattern[..., 0].mean((0, -1)) for pattern in patterns]))


def _named(previous: Tensor, sink: Tensor) -> Values:
    return {
        f"{name} of {Head(layer, head)}": float(each[layer, head])  # each: [layer head]
        for name, each in (("previous-token weight", previous), ("sink mass", sink))
        for layer in range(each.shape[0])
        for head in range(each.shape[1])
    }


def _in_turn(repeat: int, layers: int) -> Head:
    """A head that `our_ablation` also runs; cycles through the layers."""
    layer = repeat * 5 % layers
    return Head(layer, layer % SHARE)


def _at(positions: Positions) -> slice:
    return slice(None) if positions == "all" else slice(-1, None)
