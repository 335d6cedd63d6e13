"""Runs prompts through an open model: attention scores of all heads, behaviour, and the effect of ablating heads.

Prompts are batched by length, so nothing is ever padded.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.interventions import Ablation, Reference, ablate
from headatlas.lab.attention.layer_scores import Reading, read
from headatlas.lab.hooks.attention_interface import Call, Tap, tapped
from headatlas.lab.hooks.module_hooks import on_input, on_output
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.metrics import Behaviour, all_finite
from headatlas.lab.weights.token_embedding import embedded
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt

Array = NDArray[np.float64]
Progress = Callable[[int], None]
_BATCH = 16


@dataclass(frozen=True)
class Scores:
    """A score per unit and head, the same on the control, and the weight on the first position (the sink).

    Arrays are [unit layer head]; `sink` is None for scores that are not attention. A unit is a prompt, or a token for
    scores that are read from weights.
    """

    score: Array
    control: Array
    sink: Array | None = None
    per: Literal["prompt", "token"] = "prompt"

    def only(self, units: list[int]) -> "Scores":
        """The same, of the given units alone."""
        sink = None if self.sink is None else self.sink[units]
        return replace(self, score=self.score[units], control=self.control[units], sink=sink)


def forward(model: OpenModel, tokens: Tensor, taps: Mapping[nn.Module, Tap], positions: Tensor | None = None) -> Tensor:
    """One pass. tokens [batch position] -> logits [batch position vocabulary], of `positions` only where given.

    Raises:
        HeadatlasError: where a tap did not fire, or the logits are not finite.
    """
    fired: set[nn.Module] = set()

    def watched(module: nn.Module, tap: Tap) -> Tap:
        def watch(call: Call, z: Tensor) -> Tensor | None:
            fired.add(module)
            return tap(call, z)

        return watch

    with tapped({module: watched(module, tap) for module, tap in taps.items()}), torch.no_grad():
        logits = logits_at(model, tokens, positions)
    if len(fired) != len(taps):
        raise HeadatlasError(f"{model.name}: an attention layer was not reached, so a measurement would be empty")
    if not all_finite(logits):
        raise HeadatlasError(f"{model.name} gave NaN or infinite logits; try float32, or check its weights")
    return logits.float()


@cache
def _can_be_asked(forward: Callable[..., object]) -> bool:
    """Whether a class of models computes the logits of chosen positions alone, by its `forward`."""
    return "logits_to_keep" in inspect.signature(forward).parameters


def logits_at(model: OpenModel, tokens: Tensor, positions: Tensor | None) -> Tensor:
    """The logits of a pass over tokens [batch position], at some positions [kept] or all: [batch kept vocabulary].

    Most families compute only those; where one cannot be asked (Whisper swallows the request) all are computed.

    Raises:
        HeadatlasError: where a family gives another number of logits than were asked for.
    """
    tokens = tokens.to(model.device)
    asked = _can_be_asked(type(model.model).forward)
    keep = {} if positions is None or not asked else {"logits_to_keep": positions.to(model.device)}
    logits: Tensor = model.model(tokens, use_cache=False, **keep).logits
    if positions is None or (asked and logits.shape[1] == len(positions)):
        return logits
    if logits.shape[1] != tokens.shape[1]:
        raise HeadatlasError(
            f"{model.name} gave the logits of {logits.shape[1]} positions where {len(positions)} were asked for; its "
            "family cannot be measured"
        )
    return logits[:, positions.to(logits.device)]


def attention_scores(model: OpenModel, prompts: Sequence[Prompt], progress: Progress | None = None) -> Scores:
    """The weight between each prompt's `pairs`, and in its control between the `control_pairs` (or the same).

    Returns:
        Scores with one unit per prompt: the weight summed over each query's keys, averaged over its queries.
    """
    score, control, sink = (model.anatomy.empty(len(prompts)) for _ in range(3))
    for index, batch in batches(model, prompts, lambda prompt: len({query for query, _ in prompt.pairs})):
        pairs, others = (
            pair_tensors([p.pairs for p in batch]),
            pair_tensors([p.control_pairs or p.pairs for p in batch]),
        )
        score[index], sink[index] = _attend(model, stack_tokens([p.tokens for p in batch]), *pairs)
        control[index], _ = _attend(model, stack_tokens([p.control for p in batch]), *others)
        if progress:
            progress(len(batch))
    return Scores(score, control, sink)


def _attend(model: OpenModel, tokens: Tensor, queries: Tensor, keys: Tensor) -> tuple[Array, Array]:
    """[batch layer head] weights between the pairs, and on position 0 from the same queries."""
    found: dict[int, list[Tensor]] = {}
    readings = [Reading("mass", queries, keys), Reading("mass", queries, torch.zeros(1, 1, dtype=torch.long))]

    def tap(layer: int) -> Tap:
        def look(call: Call, z: Tensor) -> None:
            found[layer] = [each.mean(-1).cpu() for each in read(call, readings)]  # [batch head] each

        return look

    forward(model, tokens, {m: tap(layer) for layer, m in model.anatomy.attention.items()}, torch.tensor([0]))
    pairs, sinks = (model.anatomy.stack({layer: each[number] for layer, each in found.items()}, 1) for number in (0, 1))
    return pairs.double().numpy(), sinks.double().numpy()


def behave(
    model: OpenModel,
    prompts: Sequence[Prompt],
    behaviour: Behaviour,
    contrast: bool = False,
    head_sets: Sequence[Sequence[Head]] = ((),),
    ablation: Ablation = "mean",
    progress: Progress | None = None,
) -> Array:
    """The behaviour per prompt, with each set of heads ablated in turn.

    Args:
        model: what to run.
        prompts: with readouts.
        behaviour: what to read from the logits.
        contrast: read it as prompt minus control, instead of on the prompt alone.
        head_sets: the sets; an empty one stands for the untouched model.
        ablation: 'mean' puts a head's mean z over the controls (all positions but the first) in its place;
            'resample' its z at the same position of the prompt's own control; 'zero' nothing.
        progress: called with 1 after each set of each batch.

    Returns:
        [set prompt]
    """
    values = np.empty((len(head_sets), len(prompts)))
    mean = mean_z(model, [prompt.control for prompt in prompts]) if ablation == "mean" and any(head_sets) else None
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts)):
        reference = mean or _reference(model, batch, ablation) if any(head_sets) else None
        readouts = readout_tensors(batch)
        tokens, control = (
            stack_tokens([prompt.tokens for prompt in batch]),
            stack_tokens([prompt.control for prompt in batch]),
        )
        for number, heads in enumerate(head_sets):
            taps = ablate(model.anatomy, heads, reference) if heads and reference else {}
            value = _read(model, tokens, readouts, behaviour, taps)
            if contrast:
                value = value - _read(model, control, readouts, behaviour, taps)
            values[number, index] = value
            if progress:
                progress(1)
    return values


def mean_z(model: OpenModel, tokens: Sequence[tuple[int, ...]], position: int | None = None) -> Reference:
    """Each head's mean z over the given token lists, leaving out position 0 (where many heads rest).

    With a `position` it is the mean there alone; negative ones count from the end.
    """
    total = {layer: torch.zeros(each.heads, each.d_head) for layer, each in model.anatomy.shapes.items()}
    count = 0
    for length in sorted({len(each) for each in tokens}):
        same = [each for each in tokens if len(each) == length]
        for start in range(0, len(same), _BATCH):
            batch = same[start : start + _BATCH]
            for layer, z in record_z(model, stack_tokens(batch)).z.items():
                chosen = z[:, 1:] if position is None else z[:, [position]]
                total[layer] += chosen.sum((0, 1))
            count += len(batch) * chosen.shape[1]
    return Reference({layer: (each / count)[None, None] for layer, each in total.items()})


def _reference(model: OpenModel, batch: Sequence[Prompt], ablation: Ablation) -> Reference:
    if ablation == "zero":
        return Reference.zero(model.anatomy)
    return record_z(model, stack_tokens([prompt.control for prompt in batch]))


def record_z(model: OpenModel, tokens: Tensor) -> Reference:
    """z of every head: per layer [batch query head d_head]."""
    found: dict[int, Tensor] = {}

    def tap(layer: int) -> Tap:
        def look(call: Call, z: Tensor) -> None:
            found[layer] = z.detach().float().cpu()

        return look

    forward(model, tokens, {m: tap(layer) for layer, m in model.anatomy.attention.items()}, torch.tensor([0]))
    return Reference(found)


def _read(
    model: OpenModel,
    tokens: Tensor,
    readouts: tuple[Tensor, Tensor, Tensor, Tensor],
    behaviour: Behaviour,
    taps: Mapping[nn.Module, Tap],
) -> Array:
    positions, where, answers, rivals = readouts
    logits = forward(model, tokens, taps, positions).cpu()  # [batch kept vocabulary]
    chosen = logits.gather(1, where[..., None].expand(-1, -1, logits.shape[-1]))  # [batch readout vocabulary]
    return behaviour(chosen, answers, rivals).double().numpy()


def readout_tensors(batch: Sequence[Prompt]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions to keep [kept], each readout's place among them, its answer [batch readout] and its rivals."""
    positions = sorted({readout.position for prompt in batch for readout in prompt.readouts})
    most = max((len(readout.rivals) for prompt in batch for readout in prompt.readouts), default=0)
    place = {position: number for number, position in enumerate(positions)}
    return (
        torch.tensor(positions),
        torch.tensor([[place[readout.position] for readout in prompt.readouts] for prompt in batch]),
        torch.tensor([[readout.answer for readout in prompt.readouts] for prompt in batch]),
        torch.tensor(
            [[[*r.rivals, *[-1] * (most - len(r.rivals))] for r in prompt.readouts] for prompt in batch],
            dtype=torch.long,
        ),
    )


def pair_tensors(batch: Sequence[tuple[tuple[int, int], ...]]) -> tuple[Tensor, Tensor]:
    """Pairs of each prompt as queries [batch row] and keys [batch row key], -1 where a query has fewer keys."""
    grouped: list[dict[int, list[int]]] = []
    for pairs in batch:
        by_query: dict[int, list[int]] = {}
        for query, key in pairs:
            by_query.setdefault(query, []).append(key)
        grouped.append(by_query)
    most = max(len(keys) for by_query in grouped for keys in by_query.values())
    return (
        torch.tensor([list(by_query) for by_query in grouped]),
        torch.tensor([[[*keys, *[-1] * (most - len(keys))] for keys in by_query.values()] for by_query in grouped]),
    )


def stack_tokens(tokens: Sequence[tuple[int, ...]]) -> Tensor:
    return torch.tensor(tokens, dtype=torch.long)  # [batch position]


def batches(
    model: OpenModel, prompts: Sequence[Prompt], rows: Callable[[Prompt], int]
) -> Iterator[tuple[list[int], list[Prompt]]]:
    """Prompts of one length and one number of rows at a time, with their places in the list."""
    groups: dict[tuple[int, int], list[int]] = {}
    known = model.vocabulary.size
    for number, prompt in enumerate(prompts):
        if (largest := max(prompt.ids, default=0)) >= known:
            raise HeadatlasError(f"token {largest} lies outside the vocabulary of {model.name} (0 to {known - 1})")
        if model.context is not None and len(prompt.tokens) > model.context:
            raise HeadatlasError(
                f"a prompt of {len(prompt.tokens)} tokens does not fit the context of {model.name} ({model.context})"
            )
        groups.setdefault((len(prompt.tokens), rows(prompt)), []).append(number)
    for key in sorted(groups):
        for start in range(0, len(groups[key]), _BATCH):
            index = groups[key][start : start + _BATCH]
            yield index, [prompts[number] for number in index]


def first_mlp(model: OpenModel, tokens: Sequence[int]) -> Tensor:
    """MLP0(E(t)) for each token: [token 1 d_model]."""
    if 0 not in model.anatomy.attention:
        raise HeadatlasError(
            f"layer 0 of {model.name} has no attention, so what its MLP makes of a token alone is not defined; "
            "read embeddings instead"
        )
    block, projection = model.anatomy.blocks[0], model.anatomy.projections[0]
    kept: dict[str, Tensor] = {}
    states = embedded(model, tokens)[:, None]
    first = [Head(0, head) for head in range(model.anatomy.heads_in(0))]
    silence = ablate(model.anatomy, first, Reference.zero(model.anatomy))
    with ExitStack() as stack:
        stack.enter_context(block_inputs(model, states, [0]))
        for name, module in (("block", block), ("attention", projection)):
            stack.callback(on_output(module, partial(kept.__setitem__, name)).remove)
        forward(model, stack_tokens([(t,) for t in tokens]), silence)
    written: Tensor = kept["block"] - states - kept["attention"]
    return written


@contextmanager
def block_inputs(model: OpenModel, states: Tensor, layers: Iterable[int]) -> Iterator[None]:
    """While active, the given blocks read `states` [token 1 d_model] instead of what the stream brings them."""

    with ExitStack() as stack:
        for layer in layers:
            handle = on_input(model.anatomy.blocks[layer], lambda stream: states.to(stream))
            stack.callback(handle.remove)
        yield
