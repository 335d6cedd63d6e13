"""Fills templates so that no text of an entry can become HTML or Markdown markup."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from headatlas.catalog.schema import CHECKED
from mathml import mathml

_TEMPLATES = Path(__file__).parent / "templates"
# What HTML or Markdown would take for its own, as character references.
_SIGNS = {ord(sign): f"&#{ord(sign)};" for sign in "<>&\"'\\`*_{}[]|#~$"}
# Marks that turn the direction of all text after them; an entry may hold the scripts that need them, not these.
_TAME = str.maketrans('<>&"{}', "‹›+”()")
_TURNS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)))


def line(value: object) -> str:
    """Any value as one line, without characters that change the text direction."""
    return " ".join(str(value).translate(_TURNS).split())


def text(value: object) -> Markup:
    """Any value as one line of text, with HTML and Markdown escaped."""
    if value is None:
        return Markup("")
    if hasattr(value, "__html__"):
        return Markup(value.__html__())
    return Markup(line(value).translate(_SIGNS))


def page(template: str, **values: Any) -> str:
    """Fill a page template: escape every value that is not markup already."""
    return _environment.get_template(template).render(**values)


def inline_code(source: str) -> Markup:
    """A line of a docstring: what stands between backticks becomes code."""
    parts = [text(each) for each in source.split("`")]
    parts[1::2] = [Markup("<code>{}</code>").format(each) for each in parts[1::2]]
    return Markup("").join(parts)


def head_of(head: object, model: str | None = None, root: str = "../../") -> Markup:
    """A head: with a link to its page, if a model is given in which it has a name.

    An empty `root` means the page of that model itself.
    """
    if not model:
        return text(head)
    return Markup('<a href="{}{}/">{}</a>').format(f"{root}models/{model}/" if root else "", head, head)


def heads_of(heads: Iterable[object], model: str | None = None, root: str = "../../") -> Markup:
    """Heads in a row, each with a link to its page, if a model is given in which all of them have names."""
    return Markup(" ").join(Markup("<code>{}</code>").format(head_of(head, model, root)) for head in heads)


def formula(source: str) -> Markup:
    """A formula with MathML, for HTML blocks that Markdown does not process."""
    return Markup(mathml(source))


def code(source: str, language: str, indent: int = 0) -> Markup:
    """A fenced block that its content cannot close early."""
    fence = "`" * max(3, 1 + max((len(run) for run in _ticks(source)), default=0))
    lines = [f"{fence}{language}", *source.rstrip("\n").split("\n"), fence]
    return Markup("\n".join(" " * indent + line if line else "" for line in lines) + "\n")


def verbatim(source: str) -> Markup:
    """Several lines for an HTML element that keeps them, such as pre."""
    return Markup("\n".join(text(line) for line in source.strip().split("\n")))


def _ticks(source: str) -> list[str]:
    return "".join(sign if sign == "`" else " " for sign in source).split()


def quoted(value: object) -> Markup:
    """A value for the front matter of a page, without markup characters: the theme does not escape it."""
    return Markup(json.dumps(line(value).translate(_TAME), ensure_ascii=False))


def data(value: object) -> Markup:
    """JSON for a script element that its content cannot close."""
    made = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(made.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def number(value: float) -> str:
    """Three significant digits, without an exponent if possible."""
    return f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"


_LIES_IN = {
    "model": "The model does it in another way.",
    "rule": "The finding holds, in a form weaker than the rule asks.",
    "script": "The script was at fault, and is corrected.",
    "stimuli": "The stimuli were at fault, and are corrected.",
    "open": "Not found out.",
}


def lies_in(place: str) -> str:
    """Where the reason lies that a finding was not reproduced, as a sentence."""
    return _LIES_IN[place]


def _made() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "inline_code": inline_code,
        "head_of": head_of, "heads_of": heads_of, "verbatim": verbatim, "formula": formula, "code": code,
        "quoted": quoted, "data": data, "number": number,
        "lies_in": lies_in, "checked": CHECKED.__getitem__,
    }  # fmt: skip
    return environment


_environment = _made()
