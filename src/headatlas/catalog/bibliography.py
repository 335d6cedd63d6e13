"""Reads catalog/references.bib with bibtexparser, and finds problems that the parser accepts."""

import itertools
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import bibtexparser
from bibtexparser.library import Library
from bibtexparser.middlewares import LatexDecodingMiddleware
from bibtexparser.model import Block, Entry, Field, ImplicitComment, Preamble
from pydantic import ValidationError

from headatlas.catalog.bibtex_values import Macros, parts, plain, written
from headatlas.catalog.problems import Problem, from_validation
from headatlas.catalog.reading import Place, text_of
from headatlas.catalog.schema import Reference

_LATEX = LatexDecodingMiddleware()

# Fields with the venue per entry type; the first field is required.
_VENUES = {
    "article": ("journal",),
    "inproceedings": ("booktitle",),
    "incollection": ("booktitle",),
    "book": ("publisher",),
    "phdthesis": ("school",),
    "mastersthesis": ("school",),
    "techreport": ("institution",),
    "misc": ("howpublished", "publisher"),
}


# Fields that refer to another entry, which a citation would not contain.
_BORROWING = ("crossref", "xdata", "xref")
# Fields that TeX typesets. In other fields, such as addresses, special characters are harmless.
_SET = (
    "title",
    "author",
    "editor",
    "booktitle",
    "journal",
    "publisher",
    "howpublished",
    "school",
    "institution",
    "note",
)
_SIGNS = re.compile(r"(?<!\\)[&%#_^]")
_APART = re.compile(r"\\.|(?<!\\)\$[^$]*(?<!\\)\$|\\url\{[^}]*\}", re.S)
_QUIET = logging.getLogger("bibtexparser")


def read(path: Path) -> tuple[dict[str, Reference], list[Problem]]:
    """Every reference by key, and every problem; bibtexparser itself raises no error for these."""
    file = path.name
    try:
        text = text_of(path)
    except OSError as error:
        return {}, [Problem(file, "", f"cannot be read ({error.strerror}); restore the file or its permissions")]
    except ValueError as error:
        return {}, [Problem(file, "", f"cannot be read: {error}")]
    library, problems = _parse(file, text)
    macros = Macros({each.key: str(each.value) for each in library.strings})
    entries: list[tuple[Entry, str]] = []
    for entry in library.entries:
        expanded, found = _expanded(file, entry, macros)
        problems += found
        if expanded is not None:
            entries.append(expanded)
    references: dict[str, Reference] = {}
    for entry, bibtex in entries:
        reference, found = _reference(file, _decoded(entry), bibtex)
        problems += found
        if reference:
            references[reference.key] = reference
    keys = [entry.key for entry in library.entries]
    for before, after in itertools.pairwise(keys):
        if after < before:
            problems.append(Problem(file, after, f"comes after {before}; keep the entries sorted by key"))
            break
    problems += _twice(file, references)
    return references, problems


def _parse(file: str, text: str) -> tuple[Library, list[Problem]]:
    """The blocks of a file with their raw values, and problems with text outside blocks."""
    level = _QUIET.level
    _QUIET.setLevel(logging.CRITICAL + 1)  # it logs the problems that are reported below
    try:
        library = bibtexparser.parse_string(text, parse_stack=[])
    finally:
        _QUIET.setLevel(level)
    problems = [
        Problem(file, "", f"not valid BibTeX ({_reason(block)}); correct the entry", _line(block))
        for block in library.failed_blocks
    ]
    for block in library.blocks:
        if isinstance(block, Preamble):
            what = "citations do not contain @preamble; write its commands out in the entries that use them"
            problems.append(Problem(file, "", what, _line(block)))
        elif isinstance(block, ImplicitComment) and _lost(block.comment):
            shown = " ".join(block.comment.split())[:40]
            problems.append(
                Problem(file, "", f"{shown!r} is outside any entry; check the @, commas and braces", _line(block))
            )
    return library, problems


def _lost(text: str) -> bool:
    """True if text outside entries looks like a part of an entry; BibTeX would ignore it as a comment."""
    return any("=" in line or "@" in line for line in text.splitlines() if not line.lstrip().startswith("%"))


def _line(block: Block) -> int:
    return (block.start_line or 0) + 1


def _reason(block: Block) -> str:
    error = getattr(block, "error", None)
    said = str(getattr(error, "abort_reason", "") or error or type(block).__name__)
    return said.split("\n")[0].split(". Note:")[0]


def _expanded(file: str, entry: Entry, macros: Macros) -> tuple[tuple[Entry, str] | None, list[Problem]]:
    """An entry with its values as text, its self-contained BibTeX, and the problems of its values."""
    line, problems, fields = _line(entry), [], {}
    lines, foreign = [], False
    for field in entry.fields:
        name = field.key.lower()
        try:
            value = macros.expand(str(field.value))
        except ValueError as error:
            problems.append(Problem(file, f"{entry.key}.{name}", str(error), line))
            continue
        if name in fields:
            problems.append(Problem(file, f"{entry.key}.{name}", "is given twice; keep one of them", line))
        if name in _BORROWING:
            what = "takes fields from another entry, which a citation does not contain; write the fields out"
            problems.append(Problem(file, f"{entry.key}.{name}", what, line))
        fields[name] = plain(value)
        if name in _SET and (sign := _SIGNS.search(_APART.sub("", fields[name]))):
            what = f"TeX stops at {sign[0]!r}; write \\{sign[0]}, or put mathematics between two $"
            problems.append(Problem(file, f"{entry.key}.{name}", what, line))
        foreign |= value != parts(str(field.value))
        lines.append(f"  {field.key:<13} = {written(value)},\n")
    if problems:
        return None, problems
    bibtex = f"@{entry.entry_type}{{{entry.key},\n{''.join(lines)}}}" if foreign else entry.raw or ""
    plain_entry = Entry(
        entry.entry_type, entry.key, [Field(name, value) for name, value in fields.items()], entry.start_line
    )
    return (plain_entry, bibtex), []


def _decoded(entry: Entry) -> Entry:
    """The entry with LaTeX accents and symbols as Unicode; unchanged if the decoder cannot read its LaTeX."""
    decoded = _LATEX.transform(Library([entry])).entries
    return decoded[0] if decoded else entry


def _reference(file: str, entry: Entry, bibtex: str) -> tuple[Reference | None, list[Problem]]:
    fields = {field.key: re.sub(r"\s+", " ", str(field.value)).strip() for field in entry.fields}
    kind, line = entry.entry_type.lower(), _line(entry)
    names = _VENUES.get(kind)
    if names is None:
        used = ", ".join(sorted(_VENUES))
        return None, [Problem(file, entry.key, f"@{kind} is not used here; use one of {used}", line)]
    if kind != "misc" and names[0] not in fields:
        return None, [Problem(file, entry.key, f"@{kind} needs {names[0]}; add it, or use @misc", line)]
    data = {
        "key": entry.key,
        "type": kind,
        "venue": next((fields[name] for name in names if name in fields), None),
        "bibtex": bibtex,
        **{name: fields.get(name) for name in ("title", "author", "year", "doi", "eprint", "url")},
    }
    try:
        return Reference.model_validate(data), []
    except ValidationError as error:
        return None, from_validation(file, error, entry.key, {(): Place(line, None)})


def _twice(file: str, references: dict[str, Reference]) -> Iterator[Problem]:
    """Find papers with two keys: the same DOI, arXiv id or title."""
    seen: dict[str, str] = {}
    for key, reference in references.items():
        title = re.sub(r"\W+", " ", reference.title).casefold().strip()
        for mark in {f"doi {reference.doi}".lower(), f"arXiv {reference.eprint}", f"the title {title!r}"}:
            if mark.endswith(" none") or mark.endswith(" None"):
                continue
            if mark in seen:
                yield Problem(file, key, f"has {mark}, like {seen[mark]}; keep one key per paper")
            seen.setdefault(mark, key)
