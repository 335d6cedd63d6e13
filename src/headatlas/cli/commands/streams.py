"""Handles standard output and error that are not UTF-8, are closed, or are full.

Text for people uses the closest characters that the encoding has. Output for programs loses nothing: see
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
        "●": "@", "◐": "%", "○": "o", "│": "|", "┃": "|", "─": "-", "━": "-", "═": "=", "║": "|",
        "█": "#", "▇": "#", "▆": "#", "▅": "=", "▄": "=", "▃": "-", "▂": "_", "▁": "_", "░": ".", "▒": ":", "▓": "#",
        "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta", "λ": "lambda", "μ": "mu",
        "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "ω": "omega", "Δ": "Delta", "Σ": "Sum",
        "∑": "sum", "∏": "prod", "∈": "in", "∉": "not in", "∀": "for all", "∃": "exists", "∪": "u", "∩": "n",
        "ℓ": "l", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "ı": "i",
    }
)  # fmt: skip


def nearest(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by a similar character, or else by an escape."""
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
    """Make standard output and error accept any text, even if they are closed."""
    codecs.register_error("headatlas", nearest)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - to the end of the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="headatlas")


def is_utf8(stream: TextIO) -> bool:
    """True if a stream accepts every character."""
    try:
        return codecs.lookup(stream.encoding or "").name in ("utf-8", "utf-8-sig")
    except (LookupError, TypeError):
        return False


def drop(stream: TextIO) -> None:
    """Discard what a stream could not write, so that the program does not try again when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
