"""Runs prompts that begin alike in one pass that computes each beginning once.

The prompts form a tree, whose nodes are laid out as one sequence. A node keeps the position of its token, and sees what
the model's own mask lets that position see, on its own way to the root. So every node has the state that its token has
in its prompt. A trial shows whether a model can be run this way.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from headatlas.lab.hooks.attention_interface import AttentionCall, attached, given_masks
from headatlas.lab.hooks.module_hooks import hooked, telling
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.forward import forward, run_layers

Masks = Mapping[nn.Module, Tensor]  # by attention module: [1 1|head position position]
_TOLERANCE = 1e-5  # relative, of logits
_tried: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@dataclass(frozen=True)
class PrefixTree:
    """Prompts whose common beginnings are kept once.

    Attributes:
        tokens, positions: [node], the token of each node and its position in its prompts.
        group: [node], the group of its prompts; prompts of different groups share nothing.
        ways: for each prompt, the nodes of its tokens.
        seen: [node node], whether the second node is the first, or on its way to the root.
    """

    tokens: Tensor
    positions: Tensor
    group: Tensor
    ways: tuple[tuple[int, ...], ...]
    seen: Tensor


def prefix_tree(prompts: Sequence[tuple[int, ...]], groups: Sequence[int] | None = None) -> PrefixTree:
    """The tree of some prompts, each of a group; all of the same group by default."""
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    ways = []
    for prompt, group in zip(prompts, [0] * len(prompts) if groups is None else groups, strict=True):
        beginnings = [(group, prompt[: end + 1]) for end in range(len(prompt))]
        ways.append(tuple(known.setdefault(each, len(known)) for each in beginnings))
    seen = torch.zeros(len(known), len(known), dtype=torch.bool)
    for way in ways:
        for number, node in enumerate(way):
            seen[node, list(way[: number + 1])] = True
    tokens, positions, owners = zip(*((each[-1], len(each) - 1, group) for group, each in known), strict=True)
    return PrefixTree(torch.tensor(tokens), torch.tensor(positions), torch.tensor(owners), tuple(ways), seen)


def own_masks(model: OpenModel, tokens: tuple[int, ...]) -> Masks | None:
    """The model's masks for prompts as long as this one; None if it cannot run trees, or while edits are in force."""
    anatomy = model.anatomy
    if anatomy.other_mixers or anatomy.hybrid or len(tokens) < 2:
        return None
    watched = (*anatomy.blocks, *anatomy.projections.values())
    if any(map(hooked, watched)) or any(map(attached, anatomy.attention.values())):
        return None
    length = len(tokens)
    causal = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    found: dict[nn.Module, Tensor] = {}

    def look(call: AttentionCall, z: Tensor) -> None:
        found[call.module] = causal if call.mask is None else call.mask

    run_layers(model, torch.tensor([tokens]), lambda _: look)
    if model.model not in _tried:
        _tried[model.model] = _agrees(model, found, tokens)
    return found if _tried[model.model] else None


@contextmanager
def laid_out(model: OpenModel, tree: PrefixTree, masks: Masks) -> Iterator[None]:
    """While active, the model takes `tree.tokens` [1 node] as the nodes of the tree."""
    each = {id(mask): mask for mask in masks.values()}  # layers share them
    made = {name: _mask(mask, tree).to(model.device) for name, mask in each.items()}
    given = {module: made[id(mask)] for module, mask in masks.items()}
    with given_masks(given), telling(model.model, position_ids=tree.positions[None].to(model.device)):
        yield


def _mask(mask: Tensor, tree: PrefixTree) -> Tensor:
    positions, seen = tree.positions.to(mask.device), tree.seen.to(mask.device)
    rows = mask[:, :, positions][..., positions]  # [1 1|head node node]
    return rows & seen if mask.dtype == torch.bool else rows.masked_fill(~seen, torch.finfo(mask.dtype).min)


def _agrees(model: OpenModel, masks: Masks, tokens: tuple[int, ...]) -> bool:
    """Whether a tree of three prompts, two of them with a common beginning, gives the logits of the prompts."""
    half = len(tokens) // 2
    prompts = [tokens, tokens[:half] + tokens[half:][::-1], tokens[::-1]]
    tree, ends = prefix_tree(prompts, [0, 0, 1]), [half - 1, half, len(tokens) - 1]
    nodes = torch.tensor([[way[end] for end in ends] for way in tree.ways])
    plain = forward(model, torch.tensor(prompts), positions=torch.tensor(ends))
    kept, place = torch.unique(nodes, return_inverse=True)
    try:
        with laid_out(model, tree, masks):
            found = forward(model, tree.tokens[None], positions=kept)[0, place]
    except torch.OutOfMemoryError:
        raise
    except Exception:  # its family does not take positions, or not this mask
        return False
    gap = (found - plain).abs().max()
    return bool(gap <= max(_TOLERANCE, 8 * torch.finfo(model.dtype).eps) * plain.abs().max())
