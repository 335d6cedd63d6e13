"""A reproduction: the script beside an entry, and the prompts drawn from it."""

import hashlib
import random
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from headatlas import locations
from headatlas.lab import OpenModel, Scores
from headatlas.lab.ablation import Patch, Reference
from headatlas.lab.ablation.replacement import EditPositions
from headatlas.lab.fits.toys import Toy
from headatlas.lab.running import Metric
from headatlas.notation import Head
from headatlas.protocol import load_module
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
    """A module in reproductions/ that supplies these names, those in brackets where the method needs them.

    FAMILIES        prompt families: name -> what the functions below make of it; at least three
    BEHAVIOUR       a function of headatlas.lab.running.metrics: can the model do the task?
    [CONTRAST]      True where behaviour is prompt minus control
    [EFFECT]        what the intervention must move, read on the prompts alone, where that is not BEHAVIOUR
    [POSITIONS]     where the intervention takes place: 'all', 'last', or positions; negative ones count from the end
    stimulus, task  (words, family, rng) -> Prompt, for detection, and for behaviour and cause; one may do for both
    [detect]        (model, drawn) -> Scores: the paper's score, where it is not the attention between a prompt's pairs
    [TOY]           how to train the small model on which the finding was made, for `--model toy`
    [search]        (model, drawn) -> Drawn: prompts made from those drawn, as many and in their order, with the help of
                    the model, such as ones on which it fails; for detection and cause, while behaviour is that on the
                    prompts as they were drawn
    [edit]          (model, drawn) -> Reference or Patch: what the intervention puts in place of z, or adds to it,
                    learned from the prompts that select heads; the ablation that the rule names if not given
    [silenced]      (model) -> heads that are out in every run of the causal test, the untouched one too: what is
                    measured is what a set of heads does without them
    """

    id: str
    path: Path
    sha256: str
    module: ModuleType

    @property
    def families(self) -> list[str]:
        return list(self.module.FAMILIES)

    @property
    def behaviour(self) -> Metric:
        return self.module.BEHAVIOUR  # type: ignore[no-any-return]

    @property
    def contrast(self) -> bool:
        return bool(getattr(self.module, "CONTRAST", False))

    @property
    def effect(self) -> tuple[Metric, bool]:
        """What the intervention must move, and whether it is read as prompt minus control."""
        own: Metric | None = getattr(self.module, "EFFECT", None)
        return (self.behaviour, self.contrast) if own is None else (own, False)

    @property
    def positions(self) -> EditPositions:
        return getattr(self.module, "POSITIONS", "all")

    @property
    def toy(self) -> Toy | None:
        return getattr(self.module, "TOY", None)

    @property
    def detect(self) -> Callable[[OpenModel, PromptSample], Scores] | None:
        return getattr(self.module, "detect", None)

    @property
    def search(self) -> Callable[[OpenModel, PromptSample], PromptSample]:
        return getattr(self.module, "search", lambda _, drawn: drawn)

    @property
    def edit(self) -> Callable[[OpenModel, PromptSample], Reference | Patch] | None:
        return getattr(self.module, "edit", None)

    @property
    def silenced(self) -> Callable[[OpenModel], Sequence[Head]] | None:
        return getattr(self.module, "silenced", None)

    def draw(
        self,
        kind: Literal["stimulus", "task"],
        words: Vocabulary,
        split: Split,
        count: int,
        seed: int,
        but: PromptSample | None = None,
    ) -> PromptSample:
        """`count` prompts per family; find and test, and every family, draw from seeds of their own.

        Args:
            kind: for detection, or for behaviour and cause.
            words: of the model.
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
            self._one(kind, words, family, f"{seed}/{self.id}/{kind}/{split}/{family}/{number}", seen)
            for family in self.families
            for number in range(count)
        ]
        return PromptSample(prompts, families, split)

    def _one(self, kind: str, words: Vocabulary, family: str, seed: str, seen: Container[tuple[int, ...]]) -> Prompt:
        make = getattr(self.module, kind, None) or getattr(self.module, "task" if kind == "stimulus" else "stimulus")
        for attempt in range(_ATTEMPTS):
            prompt: Prompt = make(words, family, random.Random(f"{seed}/{attempt}" if attempt else seed))
            if prompt.tokens not in seen:
                return prompt
        raise UntestableError(f"{self.id} has too few different prompts to find heads on some and test them on others")


def load_script(id: str, folder: Path | None = None) -> Script:
    """Load reproductions/<id>.py.

    Raises:
        HeadatlasError: where there is none, or it does not import.
    """
    path = (folder or locations.reproductions()) / f"{id}.py"
    module = load_module.load(path, f"{id} has no reproduction script; expected {path}")
    return Script(id, path, hashlib.sha256(path.read_bytes()).hexdigest(), module)
