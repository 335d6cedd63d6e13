"""Prints why a command failed: one line, and exit code 2, because 1 is a verdict."""

import contextlib
import os
import sys
import traceback
from typing import TextIO

from headatlas.cli.commands import EXIT_MISTAKE, streams
from headatlas.errors import HeadatlasError

DEBUG = "HEADATLAS_DEBUG"


def tell(error: BaseException) -> int:
    """Print what went wrong and what to do, and the traceback if HEADATLAS_DEBUG=1. Returns the exit code."""
    if not _flushes(sys.stdout):
        streams.drop(sys.stdout)
    with contextlib.suppress(OSError, ValueError):
        if os.environ.get(DEBUG) and not isinstance(error, HeadatlasError | KeyboardInterrupt):
            traceback.print_exception(error)
        print(f"headatlas: {said(error)}", file=sys.stderr)
    if not _flushes(sys.stderr):
        streams.drop(sys.stderr)
    return EXIT_MISTAKE


def said(error: BaseException) -> str:
    """The message for an error. A HeadatlasError brings its own, one line per problem."""
    if isinstance(error, HeadatlasError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; finished files are kept"
    reason = " ".join(str(error).split())[:200]
    if isinstance(error, MemoryError):
        return "not enough memory; use a smaller model, fewer --jobs, or another machine"
    if isinstance(error, ModuleNotFoundError):
        return f"a package is missing ({reason}); install headatlas again, with its dependencies"
    if isinstance(error, OSError):
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        why = error.strerror or reason or type(error).__name__
        return f"{place}{why}; check the disk and its permissions"
    if isinstance(error, UnicodeEncodeError) and any("\ud800" <= sign <= "\udfff" for sign in error.object):
        return f"a name is not UTF-8 text ({error.object[:60]}); rename the file or folder"
    return (
        f"a bug in headatlas ({type(error).__name__}: {reason}); put {DEBUG}=1 before the command and report the "
        "traceback, please"
    )


def _flushes(stream: TextIO) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):
        return False
    return True
