"""The reference has every public name, and methods link to it. The built pages: see test_site_built."""

import importlib

import pytest

import headatlas
from pages import reference
from test_floors import MODULES
from test_verbs import PACKAGES

ROOMS = reference.rooms()
ADDRESSES = reference.addresses(ROOMS)


def test_every_package_with_public_names_is_in_it() -> None:
    assert set(PACKAGES) - {"headatlas.catalog.schema"} <= set(reference.PACKAGES)


@pytest.mark.parametrize("package", reference.PACKAGES)
def test_every_public_name_is_in_it_once(package: str) -> None:
    module = importlib.import_module(package)
    names = [f"{package}.{name}" for name in module.__all__ if f"{package}.{name}" != "headatlas.session.open"]
    modules = {"headatlas.lab.edits"}  # its functions are listed where it lies
    assert set(names) - modules <= set(ADDRESSES)
    listed = [each.path for room in ROOMS for each in room.names]
    assert len(listed) == len(set(listed)) and not modules & set(listed)


def test_every_edit_is_in_it() -> None:
    edits = importlib.import_module("headatlas.lab.activations.edits")
    own = [
        name
        for name, each in vars(edits).items()
        if not name.startswith("_") and getattr(each, "__module__", "") == edits.__name__ and callable(each)
    ]
    paths = {f"{edits.__name__}.{name}" for name in own if name[0].islower()}
    assert len(paths) >= 9 and paths <= set(ADDRESSES)


def test_every_function_of_a_method_is_in_it() -> None:
    named = [function for method in headatlas.load().methods.values() for function in method.functions]
    assert named and set(named) <= set(ADDRESSES)


def test_every_name_says_what_it_is() -> None:
    silent = {each.path for room in ROOMS for each in room.names if not each.summary}
    assert silent <= {path for path in silent if path.rpartition(".")[0] in MODULES}
    aliases = ("Metric", "AblationKind", "Patch", "SITES", "Site")
    assert all(path.rpartition(".")[2] in aliases for path in silent), silent


def test_a_page_asks_for_each_name() -> None:
    pages = reference.reference_pages(ROOMS)
    assert set(pages) == {"reference.md", *(f"reference/{room.file}.md" for room in ROOMS)}
    for room in ROOMS:
        asked = [
            line.removeprefix("::: ") for line in pages[f"reference/{room.file}.md"].splitlines() if line[:4] == "::: "
        ]
        assert asked == [each.path for each in room.names]
    assert "`" not in pages["reference.md"]
