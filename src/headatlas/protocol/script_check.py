"""Checks a reproduction script by reading its source: what it must supply, and names that nothing would read.

Nothing is imported or run, so `headatlas validate` needs no torch.
"""

import ast
import difflib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

from headatlas.catalog.checks import PLACEHOLDER
from headatlas.catalog.problems import Problem

if TYPE_CHECKING:
    from headatlas.catalog.catalog import Catalog
    from headatlas.catalog.schema import Rule

Cost: TypeAlias = Literal["training", "paths", "vocabulary"]
# Scores that take many times more than a run of the model for every prompt, and what they do.
COSTS: Mapping[Cost, str] = MappingProxyType(
    {
        "training": "it trains by gradient descent",
        "paths": "it patches the paths of every head",
        "vocabulary": "it takes every token through every head",
    }
)
CONSTANTS = ("FAMILIES", "BEHAVIOUR", "CONTRAST", "EFFECT", "POSITIONS", "NEEDS_BEHAVIOUR", "COST", "CHAT", "TOY")
# The functions that the protocol calls, and their parameters.
FUNCTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "stimulus": ("vocab", "family", "rng"),
        "task": ("vocab", "family", "rng"),
        "detect": ("model", "sample"),
        "search": ("model", "sample"),
        "edit": ("model", "sample"),
        "silenced": ("model",),
    }
)
SECTIONS = ("Claim", "Stimuli", "Score", "Control", "Behaviour", "Cause")
FEWEST_FAMILIES = 3  # to tell whether a finding depends on how prompts are written
_NEAR = 0.85  # from this likeness on, a name is taken for a misspelling


class ScriptFault(NamedTuple):
    """What is wrong with a script, and in which line, counted from 1."""

    line: int
    message: str


def scripts(catalog: "Catalog", folder: Path) -> list[Problem]:
    """Every problem of every script in `folder` that belongs to an entry of the catalog; what is left to write, too."""
    problems = []
    for head in catalog.heads.values():
        path = folder / f"{head.id}.py"
        if path.is_file():
            faults = [*check(path, head.rule), *_unwritten(path)]
            problems += [Problem(f"../reproductions/{path.name}", "", fault.message, fault.line) for fault in faults]
    return problems


def check(path: Path, rule: "Rule | None" = None) -> list[ScriptFault]:
    """Every problem of one script, in the order of its lines.

    Args:
        path: of the script.
        rule: of its entry, which the script must fit.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        return [ScriptFault(line or 1, f"is not Python ({error.args[0]}); correct it")]
    names = dict(_defined(tree.body))
    faults = [*_header(tree), *_strangers(tree, names), *_missing(names), *_constants(names), *_parameters(names)]
    return sorted([*faults, *(_edit(names, rule) if rule else ())])


# --- what stands in the source ------------------------------------------------------------------------------------


class _Name(NamedTuple):
    """A name at the top of a script: where it is defined, and its value or its function, if either can be read."""

    line: int
    value: ast.expr | None = None
    function: ast.FunctionDef | None = None


def _defined(body: list[ast.stmt]) -> Iterator[tuple[str, _Name]]:
    """The public names that a module gets by assignment, function or class."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef):
            found = [(statement.name, _Name(statement.lineno, function=statement))]
        elif isinstance(statement, ast.ClassDef | ast.AsyncFunctionDef):
            found = [(statement.name, _Name(statement.lineno))]
        elif isinstance(statement, ast.Assign):
            found = [each for target in statement.targets for each in _assigned(target, statement.value)]
        elif isinstance(statement, ast.AnnAssign):
            found = list(_assigned(statement.target, statement.value))
        else:
            inner = [getattr(statement, part, []) for part in ("body", "orelse", "finalbody")]
            found = [each for part in inner for each in _defined(part)]
        yield from (each for each in found if not each[0].startswith("_"))


def _assigned(target: ast.expr, value: ast.expr | None) -> Iterator[tuple[str, _Name]]:
    if isinstance(target, ast.Name):
        yield target.id, _Name(target.lineno, value)
    elif isinstance(target, ast.Tuple | ast.List):
        values: list[ast.expr | None] = [None] * len(target.elts)
        if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
            values = list(value.elts)
        for part, mine in zip(target.elts, values, strict=True):
            yield from _assigned(part, mine)


# --- what is wrong ------------------------------------------------------------------------------------------------


def _unwritten(path: Path) -> Iterator[ScriptFault]:
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if PLACEHOLDER in line:
            yield ScriptFault(number, f"still contains {PLACEHOLDER}; replace it")


def _header(tree: ast.Module) -> Iterator[ScriptFault]:
    starts = [line.split("  ")[0] for line in (ast.get_docstring(tree, clean=False) or "").splitlines()]
    if missing := [section for section in SECTIONS if section not in starts]:
        yield ScriptFault(1, f"the docstring has no line that begins with {_list(missing)} and two spaces; write it")


def _strangers(tree: ast.Module, names: Mapping[str, _Name]) -> Iterator[ScriptFault]:
    """Names that the protocol does not know: a script's own, which it must read itself and must not misspell."""
    known = [*CONSTANTS, *FUNCTIONS]
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    lower = {name.lower(): name for name in known}
    for name, defined in names.items():
        if name in known:
            continue
        near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=_NEAR if name in read else 0.6)
        if near and name in read:
            meant = lower[near[0]]
            yield ScriptFault(
                defined.line, f"{name} is too like {meant}; write {meant} if it is meant, or use another name"
            )
        elif name not in read:
            hint = f"did you mean {lower[near[0]]}?" if near else "use it or remove it"
            yield ScriptFault(defined.line, f"{name} is no name of a script, and nothing here reads it; {hint}")


def _missing(names: Mapping[str, _Name]) -> Iterator[ScriptFault]:
    if not {"stimulus", "task"} & names.keys():
        yield ScriptFault(1, "has neither stimulus nor task; write the function that draws a prompt")
    for name, what in (("FAMILIES", "prompt families by name"), ("BEHAVIOUR", "a metric of headatlas.lab.running")):
        if name not in names:
            yield ScriptFault(1, f"has no {name}; add it: {what}")
    if "detect" not in names:
        for name in sorted({"COST", "NEEDS_BEHAVIOUR"} & names.keys()):
            yield ScriptFault(
                names[name].line, f"{name} is about the score that detect computes; add detect or remove it"
            )


def _constants(names: Mapping[str, _Name]) -> Iterator[ScriptFault]:
    for name in ("CONTRAST", "NEEDS_BEHAVIOUR", "CHAT"):
        if name in names and not isinstance(_literal(names[name].value), bool):
            yield ScriptFault(names[name].line, f"{name} must be True or False")
    if "COST" in names and _literal(names["COST"].value) not in get_args(Cost):
        yield ScriptFault(names["COST"].line, f"COST must be one of {_list(get_args(Cost), quoted=True)}")
    if "POSITIONS" in names:
        value = _literal(names["POSITIONS"].value)
        places = isinstance(value, list | tuple | range) and all(type(place) is int for place in value)
        if not places and value not in ("all", "last"):
            yield ScriptFault(
                names["POSITIONS"].line, "POSITIONS must be 'all', 'last', or whole numbers in [ ] or ( )"
            )
    if "FAMILIES" in names:
        yield from _families(names["FAMILIES"])


def _families(defined: _Name) -> Iterator[ScriptFault]:
    keys = [_literal(key) for key in defined.value.keys] if isinstance(defined.value, ast.Dict) else []
    if not keys or not all(isinstance(key, str) for key in keys):
        yield ScriptFault(defined.line, "FAMILIES must be written out as {name: value, ...}, each name in quotes")
    elif len(set(keys)) < FEWEST_FAMILIES:
        yield ScriptFault(
            defined.line, f"FAMILIES has {len(set(keys))} different names; give at least {FEWEST_FAMILIES}"
        )


def _parameters(names: Mapping[str, _Name]) -> Iterator[ScriptFault]:
    for name, wanted in FUNCTIONS.items():
        if name not in names:
            continue
        function = names[name].function
        if function is None:
            yield ScriptFault(names[name].line, f"{name} must be a function: def {name}({', '.join(wanted)})")
            continue
        given = ast.unparse(function.args)
        plain = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
        more = function.args.vararg or function.args.kwarg or function.args.kwonlyargs or function.args.defaults
        if plain != list(wanted) or more:
            yield ScriptFault(function.lineno, f"{name} takes ({given}); write {name}({', '.join(wanted)})")


def _edit(names: Mapping[str, _Name], rule: "Rule") -> Iterator[ScriptFault]:
    kind = rule.cause.intervention
    if "edit" in names and kind not in ("steer", "patch"):
        yield ScriptFault(
            names["edit"].line,
            f"edit is never called: the rule's intervention is {kind}; make it steer or patch, or remove edit",
        )
    if "edit" not in names and kind in ("steer", "patch"):
        yield ScriptFault(1, f"has no edit, and the rule's intervention is {kind}; add edit(model, sample)")


def _literal(value: ast.expr | None) -> object:
    """What a constant expression is; None where it is none."""
    try:
        return ast.literal_eval(value) if value is not None else None
    except (ValueError, TypeError, SyntaxError):
        return None


def _list(words: Collection[str], quoted: bool = False) -> str:
    shown = [repr(word) if quoted else word for word in words]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
