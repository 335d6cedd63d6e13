"""Prints for other programs without loss, whatever the encoding of the terminal or the locale.

JSON escapes the characters that the encoding of standard output lacks. All other formats for programs (CSV, BibTeX,
head sets) are UTF-8 if redirected, so that a redirection writes the same bytes as --out.
"""

import json
import re
import sys

from headatlas.cli.commands import streams


def print_json(value: object) -> None:
    """Print a value as JSON."""
    write_json(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_json(text: str) -> None:
    """Print text that is already JSON: one value, or one value per line."""
    if not streams.is_utf8(sys.stdout) or not _is_text(text):
        text = re.sub(r"[^\x00-\x7f]", lambda sign: json.dumps(sign[0])[1:-1], text)
    sys.stdout.write(text)


def write_data(text: str) -> None:
    """Print text in another program's format."""
    if sys.stdout.isatty() or not hasattr(sys.stdout, "buffer"):
        sys.stdout.write(text)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


def _is_text(text: str) -> bool:
    """True if the text has no lone surrogates, which come from file names that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
