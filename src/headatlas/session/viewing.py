"""All attention patterns of a text as one HTML file that needs nothing else: `headatlas view`."""

from base64 import b64encode
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headatlas.evidence import files
from headatlas.lab import OpenModel
from headatlas.notation import Head, HeadLike
from headatlas.pages.figures.attention import quoted, shown
from headatlas.pages.templating import template
from headatlas.session.attention import Attention, Weights
from headatlas.session.naming import HeadNames
from headatlas.session.tokens import tokens_of

if TYPE_CHECKING:
    from headatlas.session.opening import Session

MOST_TOKENS = 128


def write(session: "Session", text: str, path: Path, head: HeadLike | None = None) -> Path:
    """Write the page of a text, and return its path.

    Raises:
        HeadatlasError: as in `Session.attention`; for a head that the model lacks; if the file cannot be written.
    """
    total = len(session.model.vocabulary.prompt(text))
    seen = session.attention_to(tokens_of(session.model, text, most_tokens(session.model)))
    chosen = looking_back(seen) if head is None else seen[head].head
    names = {each: session.names(each) for each in seen.heads}
    return files.write(path, page(seen, names, chosen, total), folders=False)


def most_tokens(model: OpenModel) -> int:
    """How many tokens of a text are shown. What a token attends to does not depend on the tokens after it."""
    return min(MOST_TOKENS, model.context or MOST_TOKENS)


def page(attention: Attention, names: dict[Head, HeadNames], head: Head, total: int) -> str:
    """The page, self-contained; a content policy in it forbids every request.

    Args:
        attention: of all heads.
        names: of each of them.
        head: shown large at first.
        total: number of tokens of the text, of which those of the attention are the first.
    """
    words = attention.tokens.words
    data = {
        "words": [shown(word) for word in words],
        "quoted": [quoted(word) for word in words],
        "heads": [_head(attention[each].weights, names[each]) for each in attention.heads],
        "start": str(head),
    }
    rows = [[each for each in attention.heads if each.layer == layer] for layer in range(attention.size)]
    about = names[head]
    return template("view.html").render(
        data=data,
        model=attention.model,
        removed=attention.removed,
        text="".join(words),
        shown=len(words),
        total=total,
        rows=rows,
        most=max(map(len, rows)),
        named=names,
        known=about.known,
        census=about.census,
        kinds={side: _kinds(names.values(), side) for side in ("measured", "reported")},
        version=version("headatlas"),
    )


def _head(weights: Weights, names: HeadNames) -> dict[str, Any]:
    """The data of one head: its names, and its weights in hundredths, row by row up to the diagonal."""
    count = len(weights)
    hundredths = np.clip(np.rint(weights * 100), 0, 255).astype(np.uint8)[np.tril_indices(count)]
    return {
        "head": str(names.head),
        "weights": b64encode(hundredths.tobytes()).decode(),
        "measured": [f"{each.type} {each.score:.2f} [{each.low:.2f}, {each.high:.2f}]" for each in names.measured],
        "reported": [f"{each.head_type.id} ({', '.join(each.sources)})" for each in names.reported],
        "types": {side: _types(names, side) for side in ("measured", "reported")},
    }


def _types(names: HeadNames, side: str) -> list[str]:
    if side == "measured":
        return [each.type for each in names.measured]
    return [each.head_type.id for each in names.reported]


def _kinds(names: Collection[HeadNames], side: str) -> dict[str, int]:
    """How many heads carry each type, most first."""
    found: dict[str, int] = {}
    for each in names:
        for type in _types(each, side):
            found[type] = found.get(type, 0) + 1
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def looking_back(attention: Attention) -> Head:
    """The head that looks back most sharply: at one earlier token that is not the first, its neighbour or itself."""

    def sharpness(head: Head) -> float:
        weights = attention.layers[head.layer][head.head]
        return float(np.mean([row[1 : query - 1].max(initial=0) for query, row in enumerate(weights)]))

    return max(attention.heads, key=sharpness)
