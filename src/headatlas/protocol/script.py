"""A reproduction: the script beside an entry, and the prompts drawn from it."""

import random
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from headatlas import locations
from headatlas.catalog.schema import Rule
from headatlas.errors import HeadatlasError
from headatlas.evidence.statistics import matched_sets as matched_sets  # for scripts, which see no evidence
from headatlas.lab import OpenModel, Scores
from headatlas.lab.ablation import Patch, ZValues
from headatlas.lab.ablation.replacement import EditPositions
from headatlas.lab.fits.toys import Toy
from headatlas.lab.running import Metric
from headatlas.notation import Head
from headatlas.protocol import load_module, script_check
from headatlas.protocol.script_check import Cost
from headatlas.stimuli.prompts import Prompt, UntestableError, Vocabulary

Split = Literal["find", "test"]
_ATTEMPTS = 100  # to draw a prompt that was not drawn before


@dataclass(frozen=True)
class PromptSample:
    """Prompts, the family of each, and whether they select heads or test them."""

    prompts: list[Prompt]
    families: list[str]
    split: Split

    def only(self, numbers: Sequence[int]) -> "PromptSample":
        """The prompts of the given numbers."""
        prompts, families = self.prompts, self.families
        return PromptSample([prompts[each] for each in numbers], [families[each] for each in numbers], self.split)

    def of_family(self, family: str) -> list[int]:
        """The numbers of the prompts of one family."""
        return [number for number, name in enumerate(self.families) if name == family]


@dataclass(frozen=True)
class Script:
    """A module in reproductions/, which supplies the names below. Those in brackets are for methods that need them.

    FAMILIES             {name: value, ...}: at least three ways of writing the prompts. The functions below are given
                         the name; what the value says is the script's own matter.
    BEHAVIOUR            the metric of headatlas.lab.running that tells whether the model can do the task at all
    [CONTRAST]           True where the behaviour is the metric on the prompt minus the metric on the corrupted prompt
    [EFFECT]             the metric that the intervention must move, where it is not BEHAVIOUR. It is read on the
                         prompts alone, even where CONTRAST is True.
    [POSITIONS]          where the intervention takes place: 'all' (the default), 'last', or positions; negative
                         positions count from the end
    [NEEDS_BEHAVIOUR]    True where the score is a share of a behaviour, so that it says nothing of a model without it
    [COST]               why the score takes many times more than a run of the model for every prompt: a word of
                         headatlas.protocol.script_check.COSTS
    [CHAT]               True where prompts of some family stand in the tokenizer's chat template; the record says
                         whose template it was (headatlas.stimuli.chat)
    stimulus, task       (vocab, family, rng) -> Prompt. Heads are found on the prompts of stimulus; behaviour and cause
                         are measured on those of task. A script with only one of them uses it for both.
    [detect]             (model, sample) -> Scores: the score of every head and its null. Without it, the score is the
                         attention between the pairs of a prompt, and the null that between its null_pairs, or between
                         the same pairs of the corrupted prompt.
    [search]             (model, sample) -> PromptSample: other prompts, as many and in the same order, made with the
                         help of the model, such as prompts on which it fails. Heads are found, and the cause is
                         measured, on these; behaviour is measured on the prompts as they were drawn.
    [edit]               (model, sample) -> ZValues or Patch: what the intervention puts in place of z or adds to z.
                         `sample` holds the prompts that select heads. A script has an edit exactly if the entry's rule
                         says that the intervention is steer or patch.
    [silenced]           (model) -> heads that are ablated in every run of the causal test, the baseline run too
    [TOY]                how to train the small model of the paper, for `--model toy`

    A script may have names of its own, which it must read itself: `script_check` says what else it asks of a script.
    """

    id: str
    path: Path
    module: ModuleType

    @property
    def families(self) -> list[str]:
        """The names of the prompt families."""
        return list(self.module.FAMILIES)

    @property
    def behaviour(self) -> Metric:
        """The metric that tells whether the model can do the task."""
        return self.module.BEHAVIOUR  # type: ignore[no-any-return]

    @property
    def contrast(self) -> bool:
        """Whether the behaviour is read as prompt minus corrupted prompt."""
        return bool(getattr(self.module, "CONTRAST", False))

    @property
    def effect(self) -> tuple[Metric, bool]:
        """The metric that the intervention must move, and whether it is read as prompt minus corrupted prompt."""
        own: Metric | None = getattr(self.module, "EFFECT", None)
        return (self.behaviour, self.contrast) if own is None else (own, False)

    @property
    def positions(self) -> EditPositions:
        """Where the intervention takes place."""
        return getattr(self.module, "POSITIONS", "all")

    @property
    def needs_behaviour(self) -> bool:
        """Whether the score is a share of a behaviour, so that it says nothing of a model without it."""
        return bool(getattr(self.module, "NEEDS_BEHAVIOUR", False))

    @property
    def cost(self) -> Cost | None:
        """Why the score takes many times more than a run of the model for every prompt; None where it does not."""
        return getattr(self.module, "COST", None)

    @property
    def chat(self) -> bool:
        """Whether prompts of some family stand in the tokenizer's chat template."""
        return bool(getattr(self.module, "CHAT", False))

    @property
    def toy(self) -> Toy | None:
        """How to train the small model of the paper."""
        return getattr(self.module, "TOY", None)

    @property
    def detect(self) -> Callable[[OpenModel, PromptSample], Scores] | None:
        """The script's own score; None where it is the attention between pairs."""
        return getattr(self.module, "detect", None)

    @property
    def search(self) -> Callable[[OpenModel, PromptSample], PromptSample]:
        """What makes other prompts of those drawn; by default they stay as they are."""
        return getattr(self.module, "search", lambda _, sample: sample)

    @property
    def edit(self) -> Callable[[OpenModel, PromptSample], ZValues | Patch] | None:
        """What the intervention puts in place of z or adds to z; None where the rule names an ablation."""
        return getattr(self.module, "edit", None)

    @property
    def silenced(self) -> Callable[[OpenModel], Sequence[Head]] | None:
        """The heads that are ablated in every run of the causal test."""
        return getattr(self.module, "silenced", None)

    def draw(
        self,
        kind: Literal["stimulus", "task"],
        vocab: Vocabulary,
        split: Split,
        count: int,
        seed: int,
        but: PromptSample | None = None,
    ) -> PromptSample:
        """`count` prompts per family; find and test, and every family, draw from seeds of their own.

        Args:
            kind: for detection, or for behaviour and cause.
            vocab: of the model.
            split: whether they select heads or test them.
            count: per family.
            seed: of this draw.
            but: prompts that found heads, none of which is drawn again to test them.

        Raises:
            UntestableError: where the tokenizer cannot express the prompts, or there are too few different ones.
        """
        seen = {prompt.tokens for prompt in but.prompts} if but else ()
        families = [family for family in self.families for _ in range(count)]
        prompts = [
            self._one(kind, vocab, family, f"{seed}/{self.id}/{kind}/{split}/{family}/{number}", seen)
            for family in self.families
            for number in range(count)
        ]
        return PromptSample(prompts, families, split)

    def _one(self, kind: str, vocab: Vocabulary, family: str, seed: str, seen: Container[tuple[int, ...]]) -> Prompt:
        make = getattr(self.module, kind, None) or getattr(self.module, "task" if kind == "stimulus" else "stimulus")
        for attempt in range(_ATTEMPTS):
            prompt: Prompt = make(vocab, family, random.Random(f"{seed}/{attempt}" if attempt else seed))
            if prompt.tokens not in seen:
                return prompt
        raise UntestableError(f"{self.id} has too few different prompts to find heads on some and test them on others")


def load_script(id: str, folder: Path | None = None, rule: Rule | None = None) -> Script:
    """Load reproductions/<id>.py.

    Args:
        id: of the entry.
        folder: of the scripts; that of the project by default.
        rule: of the entry; where given, the script must have an edit exactly if the rule asks for one.

    Raises:
        HeadatlasError: where there is none, it does not import, or `script_check` finds a problem.
    """
    path = (folder or locations.reproductions()) / f"{id}.py"
    module = load_module.load(path, f"{id} has no reproduction script; expected {path}")
    if faults := script_check.check(path, rule):
        more = f" (and {len(faults) - 1} more: headatlas validate lists all)" if len(faults) > 1 else ""
        raise HeadatlasError(f"{path}: line {faults[0].line}: {faults[0].message}{more}")
    return Script(id, path, module)
