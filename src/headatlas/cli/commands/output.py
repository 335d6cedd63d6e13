"""Printing for other programs: nothing is lost, whatever the encoding of the terminal or the locale.

JSON has escapes for what the encoding of standard output lacks. Everything else that programs read (CSV, BibTeX, head
sets) is UTF-8 wherever it is redirected, so that a redirection writes the same bytes as --out.
"""

import json
import re
import sys

from headatlas.cli.commands import streams


def print_json(value: object) -> None:
    """A value as JSON."""
    write_json(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_json(text: str) -> None:
    """Text that is JSON already, one value or one a line."""
    if not streams.is_utf8(sys.stdout) or not _is_text(text):
        text = re.sub(r"[^\x00-\x7f]", lambda sign: json.dumps(sign[0])[1:-1], text)
    sys.stdout.write(text)


def write_data(text: str) -> None:
    """Text in a format of other programs."""
    if sys.stdout.isatty() or not hasattr(sys.stdout, "buffer"):
        sys.stdout.write(text)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


def _is_text(text: str) -> bool:
    """Whether it has no halves of surrogate pairs, which file names that are not UTF-8 bring."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
