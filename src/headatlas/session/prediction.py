"""The tokens that may come next after a text, with some heads switched off beside the intact model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from headatlas.catalog.collections import table
from headatlas.notation import Head
from headatlas.pages.figures.attention import quoted
from headatlas.session.tokens import words_of

if TYPE_CHECKING:
    import pandas as pd


class Candidate(NamedTuple):
    """A token that may come next.

    Attributes:
        id: of the token.
        word: the token as text.
        probability: that it comes next; in the model without the heads, where some are switched off.
        intact: the same in the intact model.
    """

    id: int
    word: str
    probability: float
    intact: float


@dataclass(frozen=True, repr=False)
class NextTokens(Sequence[Candidate]):
    """The most probable next tokens, best first; with heads switched off, also the intact model's best.

    Attributes:
        candidates: the tokens.
        model: its name.
        removed: heads that were switched off.
    """

    candidates: tuple[Candidate, ...]
    model: str
    removed: tuple[Head, ...]

    def __len__(self) -> int:
        return len(self.candidates)

    def __getitem__(self, place: int) -> Candidate:  # type: ignore[override]
        return self.candidates[place]

    def to_frame(self) -> "pd.DataFrame":
        """One row per token: id, word, probability, intact."""
        import pandas as pd

        return pd.DataFrame(list(self.candidates), columns=Candidate._fields)

    @property
    def _header(self) -> tuple[str, ...]:
        named = ", ".join(map(str, self.removed))
        return ("next token", f"without {named}", "intact") if self.removed else ("next token", "probability")

    def _rows(self) -> list[tuple[str, ...]]:
        columns = 2 if self.removed else 1
        return [(quoted(each.word), *(f"{p:.3f}" for p in each[2 : 2 + columns])) for each in self.candidates]

    def __repr__(self) -> str:
        rows = [self._header, *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        )

    def _repr_html_(self) -> str:
        return table(self._header, self._rows())


def next_tokens(
    tokenizer: object, now: Tensor, intact: Tensor, top: int, model: str, removed: tuple[Head, ...]
) -> NextTokens:
    """The `top` tokens of logits [vocabulary], and, with heads removed, those of the intact model's."""
    here, there = now.softmax(-1), intact.softmax(-1)
    best = {id for each in (here, there) for id in each.topk(top).indices.tolist()}
    order = sorted(best, key=lambda id: (-here[id].item(), id))
    found = (Candidate(id, words_of(tokenizer, [id])[0], here[id].item(), there[id].item()) for id in order)
    return NextTokens(tuple(found), model, removed)
