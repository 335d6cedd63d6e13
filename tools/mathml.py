"""Converts formulas to MathML at build time, so that pages need no script."""

import re
from html import escape, unescape
from itertools import pairwise
from xml.etree.ElementTree import Element, tostring

from latex2mathml.converter import convert_to_element

from headatlas.catalog import formulas
from headatlas.errors import HeadatlasError

# All that may come out. No element here can hold a link or a script, no attribute can load or style anything.
_ELEMENTS = frozenset("math mrow mi mn mo ms mtext mspace mfrac msqrt msub msup msubsup".split())
_ATTRIBUTES = frozenset("xmlns display displaystyle width stretchy fence form lspace rspace mathvariant".split())
_BEFORE_A_SIGN = "([,;:=<>≤≥≈∑"  # a minus after these is one of sign, which stands close to what follows it
_BARS = "|‖"
_DOUBLE_STRUCK = str.maketrans("0123456789", "𝟘𝟙𝟚𝟛𝟜𝟝𝟞𝟟𝟠𝟡")
_BOLD = str.maketrans("0123456789", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗")


def mathml(formula: str) -> str:
    """A formula as HTML: words escaped, each `$…$` a `<math>` element.

    Raises:
        HeadatlasError: if the formula has a problem (see `formulas.problem`), or contains something that cannot be
        converted.
    """
    formulas.refuse_broken(formula)
    return "".join(_math(text) if is_math else escape(text) for is_math, text in formulas.pieces(formula))


def _math(latex: str) -> str:
    """Convert one piece of LaTeX. Serialising a tree escapes all text; latex2mathml's own strings do not."""
    root = convert_to_element(latex)
    _repair(root)
    if root.find(".//mfrac") is not None:
        root.set("displaystyle", "true")  # full size: a fraction in small print is hard to read
    return tostring(root, encoding="unicode")


def _repair(element: Element) -> None:
    """Repair latex2mathml's tree: names as one element, functions and bars without operator space; check the rest."""
    if element.tag not in _ELEMENTS or not set(element.attrib) <= _ATTRIBUTES:
        raise HeadatlasError(f"<{element.tag}> with {sorted(element.attrib)} is not allowed; add it to tools/mathml.py")
    element.text = unescape(element.text) if element.text else element.text
    if "\\" in (element.text or ""):
        raise HeadatlasError(f"latex2mathml does not know {element.text}; write it in another way")
    for child in element:
        _repair(child)
    _join_assignment(element)
    _join_letters(element)
    _mend_leaf(element)
    _space_names(element)
    _close_signs(element)
    _raise_prime(element)


def _join_letters(row: Element) -> None:
    r"""\\mathrm{head} is four identifiers to latex2mathml; a screen reader should say one word."""
    letters = list(row)
    if row.tag == "mrow" and letters and all(each.get("mathvariant") == "normal" for each in letters):
        name = "".join(each.text or "" for each in letters)
        row.clear()
        row.tag, row.text = "mi", name
        if len(name) == 1:
            row.set("mathvariant", "normal")


def _join_assignment(row: Element) -> None:
    """A colon is an operator, and := is one."""
    for at in reversed(range(len(row))):
        if row[at].text == ":":
            row[at].tag = "mo"
            if at + 1 < len(row) and row[at + 1].text == "=":
                row[at].text = ":="
                row.remove(row[at + 1])


def _mend_leaf(leaf: Element) -> None:
    text = leaf.text or ""
    if leaf.tag == "mo" and re.fullmatch(r"[A-Za-z]{2,}|∅", text):
        leaf.tag = "mi"
        leaf.attrib.clear()
    elif text and text in _BARS:
        leaf.tag = "mo"
        leaf.attrib = {"stretchy": "false", "lspace": "0", "rspace": "0"}
    elif leaf.get("mathvariant") in ("double-struck", "bold"):  # browsers know no variant but normal
        table = _DOUBLE_STRUCK if leaf.attrib.pop("mathvariant") == "double-struck" else _BOLD
        if not all(ord(sign) in table for sign in text):
            raise HeadatlasError(f"{text!r} in that font is not set yet; add it to tools/mathml.py")
        leaf.text = text.translate(table)


def _space_names(row: Element) -> None:
    """The thin space between the name of a function and an argument without parentheses, and between two names."""
    for at in reversed(range(len(row) - 1)):
        following = row[at + 1]
        if row.tag in ("math", "mrow") and _is_name(row[at]) and _first(following).tag != "mo":
            row.insert(at + 1, Element("mspace", width="0.167em"))


def _close_signs(row: Element) -> None:
    """Mark signs: a browser takes a minus as subtraction unless it is first in its row."""
    for before, sign in pairwise(row):
        if sign.text == "−" and (_first(before).text or " ") in _BEFORE_A_SIGN:
            sign.set("form", "prefix")


def _raise_prime(script: Element) -> None:
    """Write a prime as raised text: as a superscript it is too small without a mathematical font."""
    if script.tag == "msup" and script[1].text == "′":
        script.tag, script[1].tag = "mrow", "mo"
        script[1].attrib = {"lspace": "0", "rspace": "0"}


def _is_name(element: Element) -> bool:
    base = element[0] if element.tag in ("msub", "msup", "msubsup") and len(element) else element
    return base.tag == "mi" and len(base.text or "") > 1


def _first(element: Element) -> Element:
    return _first(element[0]) if len(element) else element
