"""The sentence that a reproduction tests: the claim in the docstring of its script."""

import ast
import re
from collections.abc import Collection
from functools import cache

from markupsafe import Markup

from headatlas import locations
from headatlas.catalog.catalog import Catalog
from headatlas.protocol.script_check import SECTIONS
from pages.render import text

_KEY = re.compile(r"\b[a-z]+\d{4}[a-z0-9]*\b")


def sections(docstring: str, names: Collection[str] = SECTIONS) -> dict[str, str]:
    """The sections of a script's docstring, each as one line of text: a name, two spaces or more, its text."""
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in docstring.splitlines():
        name, gap, rest = line.partition("  ")
        if gap and name in names:
            lines = found.setdefault(name, [rest])
        elif lines is not None and line.startswith("  "):
            lines.append(line)
        else:
            lines = None
    return {name: " ".join(" ".join(part).split()) for name, part in found.items()}


@cache
def claim(head: str) -> str:
    """The sentence that the script of a head type tests, with the BibTeX keys of its sources; '' without a script."""
    path = locations.reproductions() / f"{head}.py"
    if not path.is_file():
        return ""
    return sections(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").get("Claim", "")


def with_links(said: str, catalog: Catalog, root: str) -> Markup:
    """A claim in which each BibTeX key is a link to its source."""
    made, last = Markup(""), 0
    for found in _KEY.finditer(said):
        if reference := catalog.references.get(found[0]):
            link = Markup('<a href="{}papers/{}/">{}</a>').format(root, found[0], text(reference.short))
            made, last = made + text_of(said[last : found.start()]) + link, found.end()
    return made + text_of(said[last:])


def text_of(part: str) -> Markup:
    """A part of a sentence as text, with the spaces at its ends."""
    start, end = part[: len(part) - len(part.lstrip())], part[len(part.rstrip()) :] if part.strip() else ""
    return Markup(start) + text(part) + Markup(end)


def plain(said: str, catalog: Catalog) -> str:
    """A claim as text, with short citations instead of BibTeX keys."""
    references = catalog.references
    return _KEY.sub(lambda found: references[found[0]].short if found[0] in references else found[0], said)
