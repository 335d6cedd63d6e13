"""House words: phrases that need a second reading do not come back into docstrings, comments, messages and pages."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = next(each for each in Path(__file__).parents if (each / "pyproject.toml").is_file())
LAB = ("src/headatlas/lab/**/*.py", "src/headatlas/stimuli/**/*.py")

AREAS: dict[str, tuple[str, ...]] = {
    "lab and stimuli": LAB,
    "the rest of the library": ("src/headatlas/**/*.py",),
    "reproductions": ("reproductions/**/*.py",),
    "tools": ("tools/**/*.py",),
    "pages": ("README.md", "CONTRIBUTING.md", "site/*.md"),
}

# What not to write (a regular expression of whole words), and what to write instead.
BANNED: dict[str, str] = {
    "twins?": "corrupted prompt",
    "placebos?": "null, or the name of the alternative prompt",
    "(?:is|are|was|were) due(?! to)": "is expected, comes next",
    "mend(?:s|ed|ing)?": "fix, correct",
    "(?:stands?|standing|stood) for": "means, represents",
    "held against": "compared with",
    "lean(?:s|ed|ing)? on": "rely on",
    "in words": "as text",
    "so many": "the number, or the name of the argument that holds it",
    "tap(?:s|ped)?": "hook",
    "seams?": "attention interface, hook",
}

# (file, phrase) where a banned phrase is right. The list may only shrink.
EXEMPT: dict[tuple[str, str], str] = {
    ("reproductions/arithmetic.py", "in words"): "sums written in words, as opposed to signs",
}


def files(area: str) -> list[Path]:
    """The files of an area; a file belongs to the first area that has it."""
    found = {path for pattern in AREAS[area] for path in ROOT.glob(pattern)}
    if area == "the rest of the library":
        found -= set(files("lab and stimuli"))
    built = {ROOT / line for line in (ROOT / ".gitignore").read_text().splitlines()}  # pages that quote papers
    return sorted(found - built)


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each comment; comments on consecutive lines are one text."""
    begun, last, text = 0, 0, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, words = token.start[0], token.string.lstrip("# ")
        if text and line != last + 1:
            yield begun, text
            text = ""
        begun, text = (begun, f"{text}\n{words}") if text else (line, words)
        last = line
    if text:
        yield begun, text


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """First line and text of every docstring, comment and string of a script, or of a whole page."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, source
        return
    yield from comments(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def banned(text: str) -> Iterator[tuple[int, str, str]]:
    """For each banned phrase in a text: how many lines before it, the phrase, and what to write instead."""
    for pattern, instead in BANNED.items():
        words = rf"\b{pattern}\b".replace(" ", r"\s+")
        for match in re.finditer(words, text, re.IGNORECASE):
            yield text[: match.start()].count("\n"), " ".join(match.group().lower().split()), instead


def findings(path: Path) -> list[tuple[str, str, str]]:
    """Place, phrase and advice for each banned phrase in a file."""
    name = path.relative_to(ROOT).as_posix()
    return [
        (f"{name}:{line + before}", phrase, instead)
        for line, text in texts(path)
        for before, phrase, instead in banned(text)
    ]


@pytest.mark.parametrize("area", AREAS)
def test_no_banned_phrase_is_written(area: str) -> None:
    assert files(area), f"no files in {area}"
    found = [
        f"{place} says {phrase!r}; write: {instead}"
        for path in files(area)
        for place, phrase, instead in findings(path)
        if (path.relative_to(ROOT).as_posix(), phrase) not in EXEMPT
    ]
    assert not found, "\n" + "\n".join(found)


def test_every_exemption_is_needed() -> None:
    for (name, phrase), reason in EXEMPT.items():
        assert reason
        assert phrase in {said for _, said, _ in findings(ROOT / name)}, f"{name} no longer says {phrase!r}"


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("Its twin has other names.", "twin"),
        ("read where the answer is due", "is due"),
        ("a mistake you can mend", "mend"),
        ("None stands for all of them", "stands for"),
        ("a story cut after so\n    many tokens", "so many"),
        ("The plan, in words.", "in words"),
        ("Tapped at the seam.", "tapped"),
        ("It should not be leaned on.", "leaned on"),
        ("The effect is held against a null.", "held against"),
        ("The placebo of a prompt.", "placebo"),
    ],
)
def test_a_banned_phrase_is_found_across_lines_and_capitals(text: str, phrase: str) -> None:
    assert phrase in {said for _, said, _ in banned(text)}


@pytest.mark.parametrize("text", ["The difference is due to rounding.", "seamless tapering", "recommended amendments"])
def test_other_words_are_left_alone(text: str) -> None:
    assert not list(banned(text))


def test_docstrings_comments_and_messages_are_all_read(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        '"""First: a twin."""\n# second: so\n# many\nx = f"third: {1} is due"\ndef f():\n    "fourth: mend"\n',
        encoding="utf-8",
    )
    said = {phrase for _, text in texts(script) for _, phrase, _ in banned(text)}
    assert said == {"twin", "so many", "is due", "mend"}
