r"""Checks formulas, and writes them as Unicode for a terminal. A formula is text with LaTeX between `$`.

A formula may use fractions, roots, names in \mathrm and similar fonts, words in \text, brackets with \left and \right,
and every symbol that pylatexenc writes as one character.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from headatlas.errors import HeadatlasError

# Number of arguments per command. Fonts and \text give their argument.
_ARGUMENTS = {"frac": 2, "sqrt": 1, "mathrm": 1, "mathbf": 1, "mathbb": 1, "operatorname": 1, "text": 1}
# Symbols that read better in a terminal than pylatexenc's.
_OURS = {"sum": "Σ", "prod": "Π", "parallel": "‖", "left": "", "right": ""}
_NAMES = ("max", "min", "log", "exp", "arccos", "cos", "sin", "tanh")
_RAISED = str.maketrans("0123456789−T⊤", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ᵀᵀ")
_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_ENDS = "+-=<>,;:/)]|"  # characters that do not multiply a preceding fraction
_TIGHT = ("lvert", "lVert", "left", "partial")  # no space after these
_CLOSING = ("rvert", "rVert", "right")  # nor before these
_RELATIONS = ("cdot", "times", "le", "ge", "approx", "in", "mid", "parallel", *_CLOSING)


def pieces(formula: str) -> list[tuple[bool, str]]:
    """The parts of a formula in order: (True for LaTeX, the text without its `$`)."""
    parts = enumerate(formula.split("$"))
    return [(number % 2 == 1, text) for number, text in parts if text]


def plain(formula: str) -> str:
    r"""The formula as Unicode text: `$\sum_i x_{i,j}^2$` gives `Σ_i x[i,j]²`.

    Raises:
        HeadatlasError: if the formula has a problem; see `problem`.
    """
    refuse_broken(formula)
    return "".join(_unicode(_nodes(text)) if is_math else text for is_math, text in pieces(formula))


def refuse_broken(formula: str) -> None:
    """Raise a HeadatlasError if a formula has a problem."""
    if why := problem(formula):
        raise HeadatlasError(f"formula {formula!r}: {why}")


def problem(formula: str) -> str | None:
    """The first problem of a formula and what to do; None if there is none."""
    if formula.count("$") % 2:
        return "a $ has no partner; put one $ on each side of the LaTeX, and no $ elsewhere"
    if "$$" in formula:
        return "there is nothing between two $; put LaTeX there or drop both"
    for text in (text for is_math, text in pieces(formula) if is_math):
        try:
            found = next(_complaints(_nodes(text)), None)
            if text.endswith("\\"):  # pylatexenc would drop the \
                found = "it ends with a \\; name the command or drop it"
        except ValueError as error:
            found = f"it does not parse ({error}); correct it"
        if found:
            return f"in ${text}$: {found}"
    for text in (text for is_math, text in pieces(formula) if not is_math):
        if stray := re.search(r"[\\{}]", text):
            return f"{stray[0]!r} is outside $…$; put LaTeX between two $"
    return None


def _nodes(latex: str) -> list[Any]:
    """Parse LaTeX into pylatexenc's nodes. Raises ValueError if the LaTeX does not parse."""
    from pylatexenc.latexwalker import LatexWalker, LatexWalkerError

    try:
        walker = LatexWalker(latex, latex_context=_grammar(), tolerant_parsing=False)
        nodes: list[Any] = walker.get_latex_nodes()[0]
    except LatexWalkerError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    return nodes


@cache
def _grammar() -> Any:
    """The grammar of formulas: our commands with their arguments, and any other command without arguments."""
    from pylatexenc.macrospec import LatexContextDb, MacroSpec, std_macro

    grammar = LatexContextDb()
    commands = [std_macro(name, "{" * count) for name, count in _ARGUMENTS.items()]
    grammar.add_context_category("formulas", macros=commands)
    grammar.set_unknown_macro_spec(MacroSpec(""))
    return grammar


@cache
def _symbol(command: str) -> str | None:
    """The character or name of a command without arguments; None if the command is unknown."""
    from pylatexenc.latex2text import get_default_latex_context_db

    if command in _OURS or command in _NAMES:
        return _OURS.get(command, command)
    known = get_default_latex_context_db().get_macro_spec(command)
    text = getattr(known, "simplify_repl", None)
    return text if isinstance(text, str) and len(text) == 1 and text not in "{}$\\%" else None


# --- what is wrong -----------------------------------------------------------------------------------------------


def _complaints(nodes: Sequence[Any]) -> Iterator[str]:
    """Everything that formulas may not contain, at any depth."""
    for node in nodes:
        match type(node).__name__:
            case "LatexCharsNode":
                yield from _of_characters(node.chars)
            case "LatexGroupNode":
                yield from _complaints(node.nodelist)
            case "LatexMacroNode" if node.macroname == "text":
                if re.search(r"[\\$%&#~^_]", _source(node)):
                    yield r"\text may contain only words; close it before a symbol"
            case "LatexMacroNode" if node.macroname in _ARGUMENTS:
                yield from _complaints(node.nodeargd.argnlist)
            case "LatexMacroNode":
                if _symbol(node.macroname) is None:
                    yield rf"\{node.macroname} is not known here; use a symbol, or \mathrm{{…}} for a name"
            case _:
                yield f"{node.latex_verbatim()!r} is not allowed in a formula; remove it"
    tokens = [token for token in _tokens(nodes) if not _is(token, " ")]
    names = [getattr(token, "macroname", "") for token in tokens]
    if names.count("left") != names.count("right"):
        yield r"\left and \right come in pairs; write both"
    for token, following in pairwise([*tokens, "_"]):
        if _is(token, "_^") and _is(following, "_^"):
            yield f"{token} has no subscript or superscript; write one, in braces if it has several letters"


def _of_characters(text: str) -> Iterator[str]:
    if stray := re.search(r"[&#~\"`]", text):
        yield f"{stray[0]!r} has another meaning in LaTeX; remove it"
    if script := re.search(r"([_^])(\w{2,})", text):
        yield f"{script[0]!r} takes only one letter; write {script[1]}{{{script[2]}}}"


def _source(node: Any) -> str:
    """The text between the braces of \\text."""
    return str(node.nodeargd.argnlist[0].latex_verbatim()).removeprefix("{").removesuffix("}")


# --- as Unicode --------------------------------------------------------------------------------------------------


def _tokens(nodes: Sequence[Any]) -> list[Any]:
    """Flatten nodes: single characters, and all other nodes."""
    flat: list[Any] = []
    for node in nodes:
        flat += node.chars if type(node).__name__ == "LatexCharsNode" else [node]
    return flat


def _is(token: Any, signs: str) -> bool:
    """True if a token is one of these characters; False for a node."""
    return isinstance(token, str) and token in signs


def _unicode(nodes: Sequence[Any]) -> str:
    tokens, text = _tokens(nodes), ""
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if _is(token, "_^"):
            at = next(i for i in range(at + 1, len(tokens)) if not _is(tokens[i], " "))
            text = text.rstrip() + _script(token, _token(tokens[at]), of_sum=text.endswith(("Σ", "Π")))
        elif getattr(token, "macroname", "") == "frac":
            above, below = token.nodeargd.argnlist
            text += _fraction(above, below, times=_is_factor(tokens[at + 1 :]))
        else:
            text = (text.rstrip() if getattr(token, "macroname", "") in _CLOSING else text) + _token(token)
        if getattr(token, "macroname", "") not in _TIGHT:
            text += getattr(tokens[at], "macro_post_space", "")
        at += 1
    return re.sub(r"\s+", " ", text)


def _token(token: Any) -> str:
    """One character or node."""
    if isinstance(token, str):
        return {"-": "−", "'": "′"}.get(token, token)
    if type(token).__name__ == "LatexGroupNode":
        return _unicode(token.nodelist)
    name = token.macroname
    if name == "text":
        return _source(token)
    if name == "sqrt":
        inner = _unicode(token.nodeargd.argnlist)
        return f"√{inner}" if re.fullmatch(r"\w+", inner) else f"√({inner})"
    if name in _ARGUMENTS:
        return _unicode(token.nodeargd.argnlist)
    return _symbol(name) or ""


def _script(sign: str, text: str, of_sum: bool) -> str:
    """A subscript or superscript: small digits, a word unchanged, indices in brackets, the rest in parentheses."""
    table = _LOWERED if sign == "_" else _RAISED
    if re.fullmatch(r"\d+" if sign == "_" else r"−?\d+|[T⊤]", text):
        return text.translate(table)
    if re.fullmatch(r"[\w′]+|\(.*\)|.", text):
        return sign + text
    return f"[{text}]" if sign == "_" and "," in text and not of_sum else f"{sign}({text})"


def _fraction(above: Any, below: Any, times: bool) -> str:
    """A fraction in one line, with the parentheses it needs."""
    sides = [_unicode([above]), _unicode([below])]
    short = all(re.fullmatch(r"\w+", side) for side in sides)
    line = ("/" if short else " / ").join(side if _is_one(side) else f"({side})" for side in sides)
    return f"({line})" if times else line


def _is_one(text: str) -> bool:
    """True if a text needs no parentheses in a fraction: no space or slash outside brackets."""
    while text != (shorter := re.sub(r"[(\[][^()\[\]]*[)\]]", "", text)):
        text = shorter
    return not re.search(r"[\s/+−]", text)


def _is_factor(following: Sequence[Any]) -> bool:
    """True if the next token multiplies the fraction without a sign."""
    token = next((token for token in following if not _is(token, " ")), ",")
    return not _is(token, _ENDS) if isinstance(token, str) else getattr(token, "macroname", "") not in _RELATIONS
