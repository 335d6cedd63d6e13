"""Where in a source a statement stands: a place that a reader finds without the neighbouring findings."""

import re

_REFERS = re.compile(r"\b(?:(?:as|see) (?:above|before|below)|ibid|same place)\b", re.IGNORECASE)
# owner/name, not a file such as figures/taxonomy.tex nor a page such as site.org/articles
_REPOSITORY = re.compile(r"(?<![\w./@-])[A-Za-z][\w-]*/[A-Za-z][\w-]*(?![\w/@-]|\.\w)")
_COMMIT = re.compile(r"(?:@|\bcommit |\bof )[0-9a-f]{7,40}\b")
_ABSTRACT = re.compile(r"\b(?:abstract|summary|opening)", re.IGNORECASE)
_ONLY_ABSTRACT = re.compile(r"(?:title and )?abstract(?: \([^)]*\))?", re.IGNORECASE)


def fault(at: str, checked: str) -> str | None:
    """What is wrong with a place, beside how it was checked; None if nothing is."""
    if refers := _REFERS.search(at):
        return f"{refers[0]!r} refers to another place; each is exported alone, so write it out"
    if (repository := _REPOSITORY.search(at)) and not _COMMIT.search(at):
        return f"{repository[0]} changes; name the commit that was read, as {repository[0]}@1a2b3c4"
    if checked == "primary" and _ONLY_ABSTRACT.fullmatch(at):
        return "only the abstract is named; write `checked: abstract`, or where in the body it stands"
    if checked == "abstract" and not _ABSTRACT.search(at):
        return "not a place in an abstract or summary; write `checked: primary` if the body was read there"
    return None
