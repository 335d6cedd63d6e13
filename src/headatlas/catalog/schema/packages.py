"""Weights that come in packages of a Python package index: what to take, how to check it, and under which terms."""

import re
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from headatlas.catalog.schema.base import Strict, Text

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PackageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)*((a|b|rc|\.post)[0-9]+)?$", max_length=40)]
Address = Annotated[str, StringConstraints(pattern=r"^https://[^\s]+$")]


def _inside(path: str) -> str:
    """A path that stays inside an archive."""
    if path != str(PurePosixPath(path)) or path.startswith("/") or ".." in path.split("/") or "\\" in path:
        raise ValueError(f"{path!r} is not a path inside a wheel; write it as `unzip -l` lists it")
    return path


def _plain(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*\.gguf", name):
        raise ValueError(f"{name!r} is not the name of a GGUF file, such as model.Q4_1.gguf")
    return name


class WheelFile(Strict):
    """A file inside a wheel."""

    path: Annotated[str, AfterValidator(_inside)] = Field(description="As `unzip -l` lists it.")
    size: int = Field(gt=0, description="In bytes, unpacked.")


class Wheel(Strict):
    """A package, and the files to take out of its wheel."""

    name: PackageName
    version: Version
    size: int = Field(gt=0, description="Of the wheel, in bytes.")
    files: Annotated[tuple[WheelFile, ...], Field(min_length=1)]


class Packages(Strict):
    """One GGUF file that packages hold, whole or in parts: the parts in order are the file."""

    wheels: Annotated[tuple[Wheel, ...], Field(min_length=1)]
    file: Annotated[str, AfterValidator(_plain)] = Field(description="Name of the joined file.")
    sha256: Sha256 = Field(description="Of the joined file.")
    quantisation: Text = Field(description="Of most weights, such as Q4_1.")
    folder_size: int = Field(gt=0, description="Of the folder with float32 weights, in bytes, to a percent.")
    terms: Address = Field(description="Address of the licence.")
    must_accept: bool = Field(description="Whether a user must accept the terms before the weights are fetched.")

    @model_validator(mode="after")
    def _each_once(self) -> "Packages":
        for what, each in (
            ("the package", [wheel.name for wheel in self.wheels]),
            ("the file", [file.path for file in self.files]),
        ):
            if twice := sorted({name for name in each if each.count(name) > 1}):
                raise ValueError(f"names {what} {twice[0]} twice; name it once")
        return self

    @property
    def files(self) -> tuple[WheelFile, ...]:
        """The parts of the joined file, in order."""
        return tuple(file for wheel in self.wheels for file in wheel.files)

    @property
    def size(self) -> int:
        """Bytes of the joined file."""
        return sum(file.size for file in self.files)

    @property
    def download(self) -> int:
        """Bytes of all wheels."""
        return sum(wheel.size for wheel in self.wheels)
