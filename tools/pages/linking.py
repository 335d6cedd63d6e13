"""Links the first use of each term of the glossary on a page."""

import re
from collections.abc import Iterator

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.wordings import Wordings
from pages.render import text

# Elements without prose, or with links or code of their own.
_SKIPPED = frozenset("a button code h1 h2 h3 h4 h5 h6 label math option pre script style summary svg th".split())
# Classes of elements that show notation, small print, or tokens of a prompt.
_SMALL = ("atlas-signature", "atlas-facts", "atlas-place", "atlas-machine", "atlas-formula", "atlas-tokens",
          "atlas-reading", "atlas-verdict", "atlas-chip")  # fmt: skip
_VOID = frozenset({"br", "hr", "img", "input", "col", "meta", "link", "source", "wbr"})
_TAG = re.compile(r"(<!--.*?-->|</?[a-zA-Z][^>]*>)")
# Code, links and pictures of Markdown, addresses, and formulas.
_MARKDOWN = re.compile(
    r"(?<!`)(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)"
    r"|!?\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])|https?://\S+|\$[^$]+\$"
)
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")


class TermLinks:
    """The terms of a catalog, ready to be linked."""

    def __init__(self, catalog: Catalog) -> None:
        self._wordings = Wordings(catalog.glossary.values(), catalog.heads.values())
        self._first = {term.id: _first_sentence(term.definition) for term in catalog.glossary.values()}

    def link(self, page: str, root: str) -> str:
        """The page with a link to the glossary at the first use of each term.

        Nothing changes inside links, code, headings, formulas, figures, small print, the front matter and Markdown
        blocks of code.

        Args:
            page: a page as Markdown with HTML.
            root: the way from the page to the root of the site, such as `../../`.
        """
        done: set[str] = set()
        inside: list[str] = []  # the skipped element, and all elements open inside it
        return "".join(self._line(line, root, done, inside) if is_prose else line for line, is_prose in _lines(page))

    def _line(self, line: str, root: str, done: set[str], inside: list[str]) -> str:
        parts = _TAG.split(line)
        for number, part in enumerate(parts):
            if number % 2:
                _enter_or_leave(part, inside)
            elif not inside:
                parts[number] = self._text(part, root, done)
        return "".join(parts)

    def _text(self, part: str, root: str, done: set[str]) -> str:
        made, last = "", 0
        for found in _MARKDOWN.finditer(part):
            made, last = made + self._prose(part[last : found.start()], root, done) + found[0], found.end()
        return made + self._prose(part[last:], root, done)

    def _prose(self, prose: str, root: str, done: set[str]) -> str:
        made, last = "", 0
        for term, start, end in self._wordings.uses(prose):
            if term not in done:
                done.add(term)
                title = text(self._first[term])
                link = f'<a class="atlas-term" href="{root}glossary/#{term}" title="{title}">{prose[start:end]}</a>'
                made, last = made + prose[last:start] + link, end
        return made + prose[last:]


def _lines(page: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it can hold prose: not front matter, a heading, code, or what is folded away."""
    fence = ""
    front = page.startswith("---\n")
    for number, line in enumerate(page.splitlines(keepends=True)):
        if front:
            front = number == 0 or line.rstrip() != "---"
            yield line, False
        elif fence:
            if line.strip().startswith(fence):
                fence = ""
            yield line, False
        elif opened := _FENCE.match(line):
            fence = opened[1]
            yield line, False
        else:
            yield line, not line.startswith(("#", "??? ", "!!! ", "    "))


def _enter_or_leave(tag: str, inside: list[str]) -> None:
    name = re.sub(r"[</>\s].*", "", tag.lstrip("</"), flags=re.DOTALL).lower()
    if tag.startswith("<!--") or name in _VOID or tag.endswith("/>"):
        return
    if tag.startswith("</"):
        if name in inside:
            del inside[len(inside) - 1 - inside[::-1].index(name) :]
    elif inside or name in _SKIPPED or any(each in tag for each in _SMALL):
        inside.append(name)


def _first_sentence(definition: str) -> str:
    return re.split(r"(?<=[.]) (?=[A-Z])", definition, maxsplit=1)[0]
