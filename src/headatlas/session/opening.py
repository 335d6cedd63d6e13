"""The session: an open model with verbs that take text."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray

from headatlas.errors import HeadatlasError
from headatlas.lab import OpenModel, edits, forward, intervene
from headatlas.notation import Head, HeadLike
from headatlas.session.attention import Attention, attention_of
from headatlas.session.naming import HeadNames, Names
from headatlas.session.prediction import NextTokens, next_tokens
from headatlas.session.showing import progress_bar
from headatlas.session.tokens import Tokens, tokens_of

if TYPE_CHECKING:
    from headatlas.api import Rerun


class Session:
    """An open model that takes text: tokens, attention, next tokens, ablation, names, reruns.

    A text is read as in every measurement of headatlas: after BOS, if the model's prompts start with it.

    Attributes:
        model: the open model, for all verbs of `headatlas.lab`.
    """

    def __init__(self, model: OpenModel, owned: bool = False) -> None:
        self.model = model
        self._owned = owned
        self._off: list[tuple[Head, ...]] = []

    @property
    def removed(self) -> tuple[Head, ...]:
        """The heads that are switched off now, ascending."""
        return tuple(sorted({head for heads in self._off for head in heads}))

    def tokens(self, text: str) -> Tokens:
        """The tokens of a text, as words.

        Raises:
            HeadatlasError: for what is no text, has no tokens, or does not fit the model's context.
        """
        return tokens_of(self.model, text)

    def attention(self, text: str) -> Attention:
        """The attention patterns of all heads on a text; `attention(text)["L4H5"].show()` draws one.

        Raises:
            HeadatlasError: as in `tokens`, and for a text whose patterns would need more than 2 GiB.
        """
        return self.attention_to(self.tokens(text))

    def attention_to(self, tokens: Tokens) -> Attention:
        """The same for tokens, such as the first ones of a long text."""
        with self._edited():
            return attention_of(self.model, tokens, self.removed)

    def logits(self, text: str) -> NDArray[np.float32]:
        """The logits of a text: [position vocabulary].

        Raises:
            HeadatlasError: as in `tokens`, and if the logits are not finite.
        """
        tokens = torch.tensor([self.tokens(text).ids])
        with self._edited():
            found: NDArray[np.float32] = forward(self.model, tokens)[0].cpu().numpy()
        return found

    def next(self, text: str, top: int = 5) -> NextTokens:
        """The most probable next tokens; with heads switched off, beside the intact model.

        Args:
            text: what comes before.
            top: number of tokens, of each model.

        Raises:
            HeadatlasError: as in `logits`.
        """
        tokens = torch.tensor([self.tokens(text).ids])
        last = torch.tensor([tokens.shape[1] - 1])
        intact = forward(self.model, tokens, positions=last)[0, 0].cpu()
        with self._edited():
            now = forward(self.model, tokens, positions=last)[0, 0].cpu() if self.removed else intact
        top = max(1, min(top, len(intact)))
        return next_tokens(self.model.tokenizer, now, intact, top, self.model.title, self.removed)

    def without(self, *heads: HeadLike) -> Without:
        """Switch heads off: their z, the weighted sum of values, is 0 at every position.

        `m.without("L4H5").next(text)` looks at one text, `with m.without("L4H5"): ...` at several. Zero ablation is
        off-distribution; `headatlas.lab.edits.mean` and `resample` are gentler.

        Args:
            heads: such as "L4H5", at least one.

        Raises:
            HeadatlasError: for no heads, or what is not a head of this model.
        """
        if not heads:
            raise HeadatlasError('no heads are given; name at least one, such as without("L0H0")')
        return Without(self, tuple(self._place(head) for head in heads))

    def names(self, head: HeadLike) -> HeadNames:
        """The names of a head: those of papers, and those of a census of this very model.

        A census that ships with headatlas, or lies in the folder `headatlas-census`, is found by itself.

        Raises:
            HeadatlasError: for what is not a head of this model.
        """
        return self._names.of(self._place(head))

    def _place(self, head: HeadLike) -> Head:
        place = Head.parse(head)
        if place not in self.model.anatomy.all_heads:
            raise HeadatlasError(f"{place} is not a head of {self._size}; layers and heads count from 0")
        return place

    @cached_property
    def _names(self) -> Names:
        return Names(self.model)

    def rerun(self, finding: str, seeds: Sequence[int] = (0,), progress: bool = True) -> Rerun:
        """Rerun the finding behind a head type on this model, as `headatlas run` does.

        Args:
            finding: id, name or alias of a head type.
            seeds: of the stimuli, at least one.
            progress: say on standard error what is being done.

        Raises:
            HeadatlasError: for an unknown head type, one without a reproduction, or heads that are switched off.
        """
        from headatlas.api import rerun

        if self.removed:
            raise HeadatlasError("a rerun tests the intact model; call rerun outside without(...)")
        if not progress:
            return rerun(finding, self.model, seeds)
        with progress_bar(finding) as told:
            return rerun(finding, self.model, seeds, progress=told)

    def view(self, text: str, path: str | Path, head: HeadLike | None = None) -> Path:
        """Write all patterns of a text as one HTML file, as `headatlas view` does, and return its path.

        Args:
            text: of which at most the first 128 tokens are shown.
            path: of the file.
            head: shown large at first; by default one that looks back sharply.

        Raises:
            HeadatlasError: as in `attention`, or if the file cannot be written.
        """
        from headatlas.session.viewing import write

        return write(self, text, Path(path), head)

    def close(self) -> None:
        """Close the model, if this session opened it."""
        if self._owned:
            self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _edited(self) -> AbstractContextManager[None]:
        return intervene(self.model, [edits.zero("z", self.removed)]) if self.removed else nullcontext()

    @property
    def _size(self) -> str:
        anatomy = self.model.anatomy
        return f"{self.model.title}, {anatomy.layers} layers x {anatomy.heads} heads"

    def __repr__(self) -> str:
        without = f", without {', '.join(map(str, self.removed))}" if self.removed else ""
        return f"<headatlas: {self._size}, {self.model.architecture}{without}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>"


class Without(Session):
    """A session with heads switched off; in a `with` block, they are off in the session it came from too."""

    def __init__(self, whole: Session, heads: tuple[Head, ...]) -> None:
        super().__init__(whole.model)
        self._whole, self._heads = whole, heads
        self._off = [*whole._off, heads]

    def __enter__(self) -> Self:
        self._whole._off.append(self._heads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._whole._off.remove(self._heads)
