"""Which room may import which: the arrows of the house, read from every import of the package and of the scripts."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

TOP = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(TOP / "src").with_suffix("").parts).removesuffix(".__init__"): path
    for path in (TOP / "src").rglob("*.py")
}
SCRIPTS = sorted((TOP / "reproductions").glob("*.py"))
METHODS = sorted((TOP / "reproductions" / "methods").glob("*.py"))

LAB = ("hooks", "anatomy", "loading", "running", "activations", "safety", "attention", "ablation", "attribution")
LAB += ("weights", "paths", "graphs", "fits")  # a room imports only itself and rooms before it
GROUND = {"arrays", "errors", "quiet", "progress", "notation", "locations"}
CATALOG_AND_LAB = {"protocol", "census", "collaboration", "methods", "cli", "pages", "api", "session"}
FLOORS = {  # room of headatlas: the rooms it may import, besides itself
    "arrays": set(),
    "errors": set(),
    "quiet": set(),
    "progress": set(),
    "locations": set(),
    "notation": {"errors"},
    "specimens": {"errors", "quiet"},
    "stimuli": {"errors", "notation"},
    "catalog": GROUND,
    "evidence": GROUND | {"catalog"},  # the words of the catalog's schema
    "fetching": GROUND | {"specimens", "catalog", "evidence"},
    "lab": GROUND | {"specimens", "stimuli", "evidence", "fetching"},
    "protocol": GROUND | {"specimens", "stimuli", "catalog", "evidence", "lab"},
    "pages": GROUND | {"catalog", "evidence", "protocol"},
    "methods": GROUND | {"specimens", "stimuli", "lab", "protocol"},
    "collaboration": GROUND | {"specimens", "stimuli", "catalog", "evidence", "lab", "protocol", "pages"},
    "census": GROUND | {"specimens", "stimuli", "catalog", "evidence", "fetching", "lab", "protocol", "pages"},
}
FLOORS["api"] = set(FLOORS) - {"methods"}
FLOORS["session"] = set(FLOORS) - {"methods", "collaboration"}
FLOORS["cli"] = set(FLOORS)
FLOORS["__main__"] = {"cli"}


@cache
def imported(path: Path, deferred: bool = True) -> tuple[str, ...]:
    """The modules that a file imports, whole names; not deferred: only those imported when the file is."""
    return tuple(_imported(path, ast.parse(path.read_text()), deferred))


def _imported(path: Path, top: ast.AST, deferred: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(top):
        if not isinstance(node, ast.FunctionDef | ast.If) or deferred:
            yield from _imported(path, node, deferred)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path} imports relatively"
            wholes = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from {whole if whole in MODULES else node.module for whole in wholes}


def room(module: str, depth: int = 1) -> str:
    """The part of a module's name below headatlas: `lab` at depth 1, `lab.paths` at depth 2."""
    return ".".join(module.split(".")[1 : 1 + depth])


ARROWS = [
    (module, target) for module, path in MODULES.items() for target in imported(path) if target.startswith("headatlas.")
]


def test_every_room_is_known() -> None:
    assert {room(module) for module in MODULES} - {""} <= set(FLOORS)
    assert {module.split(".")[2] for module in MODULES if module.startswith("headatlas.lab.")} == set(LAB)


def test_rooms_import_only_what_lies_below_them() -> None:
    wrong = [
        (module, target)
        for module, target in ARROWS
        if room(module) and room(target) not in FLOORS[room(module)] | {room(module)}
    ]
    assert not wrong


def test_rooms_of_the_lab_import_only_those_before_them() -> None:
    order = {f"lab.{name}": place for place, name in enumerate(LAB)} | {"lab": len(LAB)}
    inside = [arrow for arrow in ARROWS if room(arrow[0]) == room(arrow[1]) == "lab"]
    wrong = [(module, target) for module, target in inside if order[room(module, 2)] < order[room(target, 2)]]
    assert inside and not wrong


def test_of_evidence_the_lab_sees_only_what_identifies_a_model() -> None:
    seen = {target for module, target in ARROWS if room(module) == "lab" and room(target) == "evidence"}
    assert seen == {"headatlas.evidence.identity"}


def test_only_some_rooms_know_both_the_catalog_and_the_lab() -> None:
    knowing = {room(module) for module, target in ARROWS if room(target) == "catalog"} & {
        room(module) for module, target in ARROWS if room(target) == "lab"
    }
    assert knowing - {"catalog", "lab"} <= CATALOG_AND_LAB


def test_torch_is_imported_only_by_the_lab_and_the_rooms_above_it() -> None:
    heavy = {"torch", "transformers"}
    importing = {
        room(module)
        for module, path in MODULES.items()
        if heavy & {name.split(".")[0] for name in imported(path, deferred=False)}
    }
    assert importing <= {"lab", "protocol", "census", "session", "quiet"}


@pytest.mark.parametrize("deferred", [False, True], ids=["modules", "rooms"])
def test_no_import_goes_in_a_circle(deferred: bool) -> None:
    """Neither of modules, when they are imported, nor of rooms at any time."""
    arrows = [(module, target) for module, path in MODULES.items() for target in imported(path, deferred)]
    if deferred:
        arrows = [(room(module), room(target)) for module, target in arrows if target.startswith("headatlas.")]
    graph = nx.DiGraph((start, end) for start, end in arrows if start and start != end)
    circles = [circle for circle in nx.strongly_connected_components(graph) if len(circle) > 1]
    assert not circles


@pytest.mark.parametrize("path", [*SCRIPTS, *METHODS], ids=lambda path: path.stem)
def test_scripts_import_only_the_lab_stimuli_and_their_protocol(path: Path) -> None:
    allowed = {"headatlas.lab", "headatlas.stimuli", "headatlas.notation", "headatlas.protocol.script"}
    if path in METHODS:
        allowed |= {"headatlas.methods", "headatlas.specimens"}
    own = {name for name in imported(path) if name.startswith("headatlas")}
    assert own and all(any(f"{name}.".startswith(f"{each}.") for each in allowed) for name in own)
