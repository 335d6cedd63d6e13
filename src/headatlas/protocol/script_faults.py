"""Says for its author where a script failed."""

import traceback
from pathlib import Path

from headatlas.errors import HeadatlasError


def failed(error: Exception, script: Path) -> str:
    """One line on an error that a script raised: file, line, and what to do.

    Args:
        error: that was raised while the script ran or was imported.
        script: its file. An error in which the script has no part is a fault of headatlas.
    """
    if isinstance(error, HeadatlasError):
        return str(error)
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    frames = traceback.extract_tb(error.__traceback__)
    line = next((frame.lineno for frame in reversed(frames) if Path(frame.filename) == script), None)
    if isinstance(error, SyntaxError) and error.filename == str(script):
        line = error.lineno
    if line is None:
        return f"the script failed ({said}); please report it"
    return f"{script.parent.name}/{script.name}: line {line}: {said}; correct the script"
