"""Path patching from the heads of one type to those of another, compared with other senders and random sets."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headatlas.arrays import Array
from headatlas.collaboration.schema import CollaborationSettings, Measure, Patched, Together, Via
from headatlas.evidence import statistics
from headatlas.lab import OpenModel, metric_per_prompt
from headatlas.lab.paths import Receiver, attention_paths, path_effects, set_path_effects
from headatlas.notation import Head
from headatlas.protocol.script import Script
from headatlas.stimuli.prompts import Prompt

PERCENTILE = 95.0  # percentage of other senders that an effect must exceed
LEAST = 0.01  # smallest effect that counts, as a share of the unpatched value


@dataclass(frozen=True)
class Paths:
    """Paths from senders to the queries, keys or values of receivers, with the script of the receivers' type."""

    model: OpenModel
    script: Script
    senders: Sequence[Head]
    receivers: Sequence[Head]
    via: Via
    known: Sequence[Head]  # all heads of the senders' type; never drawn as random senders
    settings: CollaborationSettings

    @property
    def into(self) -> Literal["q", "k", "v"]:
        return "q" if self.via == "Q" else "k" if self.via == "K" else "v"


def measure(paths: Paths) -> tuple[Measure, Together | None, dict[tuple[Head, Head], Patched]]:
    """Patch each sender alone and all senders together.

    The measure is the receivers' attention if the path leads to their queries or keys and the prompts of their type
    have pairs of positions; else the behaviour of their type.

    Returns:
        The measure; the effect of all senders together, or None if no random set can be drawn; and the effect of each
        pair (sender, receiver in a later layer).

    Raises:
        HeadatlasError: if the tokenizer cannot express the prompts, or they do not fit the context.
    """
    prompts = _prompts(paths, "stimulus")
    before = [head for head in paths.senders if head.layer < max(each.layer for each in paths.receivers)]
    others = _others(paths)
    matched = _sets(paths, before)
    if paths.via != "V" and all(prompt.pairs for prompt in prompts):
        read, alone, sets = _attention(paths, prompts, before, others, matched.sets)
    else:
        read, alone, sets = _behaviour(paths, _prompts(paths, "task"), before, others, matched.sets)
    pairs: dict[tuple[Head, Head], Patched] = {}
    for place, receiver in enumerate(paths.receivers):
        rivals = [alone[head][:, place].mean() for head in others if head.layer < receiver.layer and head != receiver]
        for sender in (head for head in before if head.layer < receiver.layer):
            pairs[sender, receiver] = patched(alone[sender][:, place], rivals, read.clean)
    together = None
    if len(sets) > 1:
        together = Together(
            senders=[str(head) for head in before],
            receivers=[str(head) for head in paths.receivers],
            matching=matched.matching,
            distinct_sets=matched.distinct,
            patched=patched(sets[0], list(sets[1:].mean(1)), read.clean),
        )
    return read, together, pairs


def patched(effect: Array, others: Sequence[float], clean: float) -> Patched:
    """Compare an effect [prompt] with the mean effects of other senders and with the unpatched value."""
    low, high = statistics.interval(effect)
    share, p = statistics.exceeds(float(effect.mean()), others)
    return Patched(
        effect=float(effect.mean()),
        low=float(low),
        high=float(high),
        others=[float(each) for each in others],
        share_exceeded=share,
        p=p,
        stands=bool(low > 0 and share >= PERCENTILE and effect.mean() >= LEAST * abs(clean)),
    )


def _prompts(paths: Paths, kind: Literal["stimulus", "task"]) -> list[Prompt]:
    each = max(2, paths.settings.prompts // len(paths.script.families))
    drawn = paths.script.draw(kind, paths.model.vocabulary, "test", each, paths.settings.seed)
    return paths.script.search(paths.model, drawn).prompts


def _others(paths: Paths) -> list[Head]:
    """Heads in layers before the last receiver, without heads of the senders' type."""
    last = max(head.layer for head in paths.receivers)
    free = [head for head in paths.model.anatomy.all_heads if head.layer < last and head not in paths.known]
    if len(free) <= paths.settings.others:
        return free
    return sorted(random.Random(paths.settings.seed).sample(free, paths.settings.others))


def _sets(paths: Paths, senders: Sequence[Head]) -> statistics.MatchedSets:
    """Random sets of as many heads in layers before the last receiver, without heads of the senders' type."""
    last, settings = max(head.layer for head in paths.receivers), paths.settings
    early = [head for head in paths.model.anatomy.all_heads if head.layer < last]
    return statistics.matched_sets(senders, early, settings.seed, settings.sets, paths.known)


PathEffects = tuple[Measure, Mapping[Head, Array], Array]  # the measure; head -> [prompt receiver]; [set prompt]


def _attention(
    paths: Paths, prompts: list[Prompt], senders: Sequence[Head], others: Sequence[Head], sets: Sequence[Sequence[Head]]
) -> PathEffects:
    assert paths.into != "v"
    single = [*senders, *others]
    tried: list[Sequence[Head]] = [(), *([head] for head in single), senders, *sets]
    values = attention_paths(paths.model, prompts, tried, paths.receivers, paths.into)  # [set prompt receiver]
    lost = values[0] - values[1:]
    read = Measure(
        of="attention",
        what="attention of the receivers between the pairs of their type's prompts",
        prompts_of=paths.script.id,
        clean=float(values[0].mean()),
        n=len(prompts),
    )
    return read, dict(zip(single, lost[: len(single)], strict=True)), lost[len(single) :].mean(2)


def _behaviour(
    paths: Paths, prompts: list[Prompt], senders: Sequence[Head], others: Sequence[Head], sets: Sequence[Sequence[Head]]
) -> PathEffects:
    behaviour, _ = paths.script.effect
    ends = [Receiver(head, paths.into) for head in paths.receivers]
    alone = np.stack([-path_effects(paths.model, prompts, behaviour, [end]) for end in ends], -1)
    read = Measure(
        of="behaviour",
        what=f"{getattr(behaviour, '__name__', 'behaviour').replace('_', ' ')} of the receivers' type",
        prompts_of=paths.script.id,
        clean=float(metric_per_prompt(paths.model, prompts, behaviour).mean()),
        n=len(prompts),
    )
    by_head = {head: alone[:, head.layer, head.head] for head in (*senders, *others)}
    return read, by_head, -set_path_effects(paths.model, prompts, behaviour, [senders, *sets], ends)
