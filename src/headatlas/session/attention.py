"""The attention patterns of a text: of all heads, and of one."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from headatlas.errors import HeadatlasError
from headatlas.lab import OpenModel, record
from headatlas.notation import Head, HeadLike
from headatlas.pages.figures.attention import MOST_WORDS, attention_map, quoted, thumbnails
from headatlas.session import showing
from headatlas.session.tokens import Tokens

Weights = NDArray[np.float32]
_MOST_BYTES = 2**31


@dataclass(frozen=True, repr=False)
class HeadAttention:
    """The attention pattern of one head on a text.

    Attributes:
        head: whose pattern it is.
        tokens: of the text.
        weights: [query key], float32.
        model: its name.
        removed: heads that were switched off.
    """

    head: Head
    tokens: Tokens
    weights: Weights
    model: str
    removed: tuple[Head, ...] = ()

    def show(self) -> None:
        """Display the heat map with its words in a notebook; elsewhere print where each token attends most."""
        showing.show(self)

    @property
    def svg(self) -> str:
        """The heat map as an <svg> element, of the first 80 tokens where the text is longer."""
        few = slice(MOST_WORDS)
        return attention_map(self.tokens.words[few], self.weights[few, few], self._title)

    @property
    def _title(self) -> str:
        without = f", without {', '.join(map(str, self.removed))}" if self.removed else ""
        return f"attention of {self.head} of {self.model}{without}"

    def __str__(self) -> str:
        lines = [f"{self._title} (each token: where it attends most)"]
        for query, row in enumerate(self.weights):
            best = [key for key in np.argsort(-row)[:3] if row[key] >= 0.05]
            keys = ", ".join(f"{quoted(self.tokens[int(key)])} ({key}) {row[key]:.2f}" for key in best)
            lines.append(f"{query:4} {quoted(self.tokens[query]):16} {keys}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<{self._title}, {len(self.tokens)} tokens>"

    def _repr_html_(self) -> str:
        said = f"{self._title}: from each token (row) to the tokens it sees (columns)"
        if len(self.tokens) > MOST_WORDS:
            said += f"; the first {MOST_WORDS} of {len(self.tokens)} tokens, .weights has all"
        return f"<figure><figcaption>{escape(said)}</figcaption>{self.svg}</figure>"


@dataclass(frozen=True, repr=False)
class Attention:
    """The attention patterns of all heads on a text; `attention["L4H5"]` is that of one.

    Attributes:
        tokens: of the text.
        layers: [head query key] by layer, float32; a layer without attention has none.
        model: its name.
        size: number of layers of the model.
        removed: heads that were switched off.
    """

    tokens: Tokens
    layers: Mapping[int, Weights]
    model: str
    size: int
    removed: tuple[Head, ...] = ()

    def __getitem__(self, head: HeadLike) -> HeadAttention:
        """The pattern of one head, such as "L4H5".

        Raises:
            HeadatlasError: for what is not a head, or not one of this model.
        """
        place = Head.parse(head)
        if place not in self.heads:
            raise HeadatlasError(f"{place} is not in {self.model}; its heads are {self.heads[0]} to {self.heads[-1]}")
        return HeadAttention(place, self.tokens, self.layers[place.layer][place.head], self.model, self.removed)

    @property
    def heads(self) -> list[Head]:
        """All heads, layer by layer."""
        return [Head(layer, head) for layer, each in self.layers.items() for head in range(len(each))]

    @property
    def weights(self) -> Weights:
        """[layer head query key], float32; NaN for heads that do not exist."""
        most, count = max(map(len, self.layers.values())), len(self.tokens)
        whole = np.full((self.size, most, count, count), np.nan, np.float32)
        for layer, each in self.layers.items():
            whole[layer, : len(each)] = each
        return whole

    def __repr__(self) -> str:
        return f"<attention of {len(self.heads)} heads of {self.model}, {len(self.tokens)} tokens>"

    def _repr_html_(self) -> str:
        none = np.zeros((0, 0, 0), np.float32)
        every = [self.layers.get(layer, none) for layer in range(self.size)]
        said = f"attention of {len(self.heads)} heads of {self.model}; attention[&quot;L4H5&quot;] shows one with words"
        return f"<figure><figcaption>{said}</figcaption>{thumbnails(every, repr(self)[1:-1])}</figure>"


def attention_of(model: OpenModel, tokens: Tokens, removed: tuple[Head, ...]) -> Attention:
    """Record the patterns of all heads on one text.

    Raises:
        HeadatlasError: for a text whose patterns would need more than 2 GiB.
    """
    needed = len(model.anatomy.all_heads) * len(tokens) ** 2 * 4
    if needed > _MOST_BYTES:
        raise HeadatlasError(
            f"the patterns of {len(tokens)} tokens take {needed / 2**30:.1f} GiB; shorten the text, or use "
            "headatlas.lab.record with layers=..., or score_heads, which stores no pattern"
        )
    seen = record(model, [tokens.ids], ["pattern"])
    found = {layer: seen["pattern", layer][0].float().cpu().numpy() for layer in model.anatomy.attention_layers}
    return Attention(tokens, found, model.title, model.anatomy.layers, removed)
