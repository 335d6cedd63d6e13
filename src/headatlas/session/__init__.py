"""A model opened for a notebook: text goes in; words, numbers and pictures come out.

opening      the session itself
tokens       a text as the model reads it
attention    the attention patterns of a text
prediction   the tokens that may come next
naming       the names of a head, of papers and of a census
viewing      all patterns of a text as one HTML file
showing      progress and pictures where there is a notebook, and where there is none
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headatlas.lab import OpenModel
    from headatlas.session.opening import Session

__all__ = ["open"]


def open(model: str | Path | OpenModel | Any = "specimen", **options: Any) -> Session:
    """Open a model for work with text: `headatlas.open("specimen").next("Anna gave a book to")`.

    Args:
        model: whatever `headatlas.lab.open_model` opens, or a model that it has opened.
        options: of `headatlas.lab.open_model`, such as dtype="bfloat16", or tokenizer=... for a model in memory.

    Returns:
        A session; `close()`, or leaving a `with` block, closes a model that was opened here.

    Raises:
        HeadatlasError: if the model cannot be opened, or cannot be measured safely.
        ValueError: for options of a model that is open already.
    """
    from headatlas.lab import OpenModel, open_model
    from headatlas.session.opening import Session

    if isinstance(model, OpenModel):
        if options:
            raise ValueError(f"the model is open already; leave out {', '.join(options)}")
        return Session(model)
    return Session(open_model(model, **options), owned=True)
