"""Standard output and error where they are not UTF-8, are closed, or are full.

What a person reads gets the nearest sign that the encoding has. What a program reads loses nothing: see
`headatlas.cli.commands.output`.
"""

import codecs
import contextlib
import io
import os
import sys
import unicodedata
from pathlib import Path
from typing import TextIO

_NEAREST = str.maketrans(
    {
        "→": "->", "←": "<-", "↔": "<->", "⇒": "=>", "↦": "|->", "↑": "^", "↓": "v",
        "…": "...", "⋯": "...", "·": ".", "•": "*", "∙": ".", "⋅": ".", "★": "*", "✓": "v", "✗": "x",
        "–": "-", "—": "-", "‑": "-", "‐": "-", "−": "-", "×": "x", "÷": "/", "±": "+-", "∓": "-+",
        "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "∼": "~", "≪": "<<", "≫": ">>", "∞": "inf", "√": "sqrt",
        "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "′": "'", "″": '"',
        "│": "|", "┃": "|", "─": "-", "━": "-", "═": "=", "║": "|",
        "█": "#", "▇": "#", "▆": "#", "▅": "=", "▄": "=", "▃": "-", "▂": "_", "▁": "_", "░": ".", "▒": ":", "▓": "#",
        "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta", "λ": "lambda", "μ": "mu",
        "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "ω": "omega", "Δ": "Delta", "Σ": "Sum",
        "∑": "sum", "∏": "prod", "∈": "in", "∉": "not in", "∀": "for all", "∃": "exists", "∪": "u", "∩": "n",
        "ℓ": "l", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "ı": "i",
    }
)  # fmt: skip


def nearest(error: UnicodeError) -> tuple[str, int]:
    """What to write for signs that an encoding lacks: one much like it, else its number as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_near, error.object[error.start : error.end])), error.end


def _near(sign: str) -> str:
    known = sign.translate(_NEAREST)
    if known.isascii():
        return known
    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return plain or sign.encode("ascii", "backslashreplace").decode()


def prepare() -> None:
    """Make standard output and error take any text, also where they are closed."""
    codecs.register_error("headatlas", nearest)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - to the end of the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="headatlas")


def is_utf8(stream: TextIO) -> bool:
    """Whether a stream takes every sign as it is."""
    try:
        return codecs.lookup(stream.encoding or "").name in ("utf-8", "utf-8-sig")
    except (LookupError, TypeError):
        return False


def drop(stream: TextIO) -> None:
    """Forget what a stream could not take, so that the end of the program does not try again."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
