"""Downloads one wheel with the user's own pip, from whatever index that pip is set to. Installs and imports nothing."""

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from headatlas.catalog.schema import Wheel
from headatlas.errors import HeadatlasError
from headatlas.fetching.disk import MB, says_full
from headatlas.progress import Progress, no_progress

_EVERY = 0.2  # seconds
_OPTIONS = (
    "--no-deps",
    "--only-binary=:all:",
    "--no-cache-dir",
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar=off",
)
# What pip's log says of an index that did not answer. An index that answers 4xx has no such package.
_NO_ANSWER = re.compile(
    r"Could not fetch URL \S+: (?!4\d\d )|connection broken|Connection interrupted|Max retries exceeded"
    r"|[Tt]imed out|network connectivity|Connection reset|Connection aborted"
)


class NoPackageError(HeadatlasError):
    """The package index did not answer, or has no such package."""


def download(wheel: Wheel, folder: Path, what: str, progress: Progress = no_progress) -> Path:
    """Download one wheel.

    Args:
        wheel: of the catalog.
        folder: an empty folder, for the wheel and everything that pip writes meanwhile.
        what: the work, for `progress`.
        progress: told of the MB done.

    Raises:
        NoPackageError: if no package index answers, or none has it.
        HeadatlasError: if pip is missing, or fails otherwise; says why.
    """
    if not sys.executable:
        raise HeadatlasError(_no_pip())
    into, log, said = folder / "wheel", folder / "pip.log", folder / "pip.out"
    into.mkdir(parents=True)
    wanted = f"{wheel.name}=={wheel.version}"
    # -P: a file pip.py in the current folder is not taken for pip.
    command = [sys.executable, "-P", "-m", "pip", "download", *_OPTIONS, "--log", str(log), "--dest", str(into), wanted]
    own = {name: str(folder) for name in ("TMPDIR", "TEMP", "TMP")}
    with said.open("wb") as out:
        process = subprocess.Popen(
            command, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            while _runs(process):
                progress(what, min(_bytes(folder), wheel.size) // MB, wheel.size // MB)
        finally:
            process.kill()
            process.wait()
    found = sorted(into.glob("*.whl"))
    if process.returncode == 0 and len(found) == 1:
        return found[0]
    raise _explained(wanted, _text(said), _text(log))


def _runs(process: "subprocess.Popen[bytes]") -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(_EVERY)
    return process.returncode is None


def _bytes(folder: Path) -> int:
    """Bytes in a folder that another process writes: files may vanish."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(path) / name).stat().st_size
    return total


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _no_pip() -> str:
    return (
        "this Python has no pip, with which weights are fetched; install it: python -m ensurepip (or: uv pip install "
        "pip)"
    )


def _explained(wanted: str, said: str, log: str) -> HeadatlasError:
    """The error for a pip that failed."""
    if "No module named pip" in said:
        return HeadatlasError(_no_pip())
    if says_full(said):
        return HeadatlasError(f"pip could not download {wanted}: no space left on device")
    if _NO_ANSWER.search(said) or ("from versions: none" in said and _NO_ANSWER.search(log)):
        return NoPackageError(
            f"the package index did not give {wanted}: no answer, or only a part; check the network and `pip config "
            "list`, then run again: what has arrived is kept"
        )
    if "No matching distribution" in said:
        return NoPackageError(
            f"the package index that pip uses has no {wanted}; `pip config list` shows the index, which must have it"
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no message"]
    told = next((line for line in reversed(lines) if line.lower().startswith("error")), lines[-1])
    return HeadatlasError(f"pip could not download {wanted} ({told[:160]}); check `pip config list`, then run again")
