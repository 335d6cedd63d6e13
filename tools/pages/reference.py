"""The reference of the public names: a page for each room; mkdocstrings fills in signatures and docstrings."""

import importlib
import inspect
from dataclasses import dataclass
from types import ModuleType

from pages.render import page

# The public packages, in the order of the reference, each with what it is for.
PACKAGES = {
    "headatlas": "Opening a model, the catalog, reruns",
    "headatlas.session": "A model opened for work with text",
    "headatlas.census": "Names for every head of a model",
    "headatlas.collaboration": "Edges between the heads found",
    "headatlas.lab": "The verbs that most work needs",
    "headatlas.lab.loading": "Opened models",
    "headatlas.lab.running": "Metrics, and scores of all heads",
    "headatlas.lab.activations": "Recording activations, and edits of them",
    "headatlas.lab.attention": "Scores read from attention weights",
    "headatlas.lab.ablation": "Replacing what heads give",
    "headatlas.lab.attribution": "Taking logits apart",
    "headatlas.lab.weights": "Scores read from weights",
    "headatlas.lab.paths": "Path patching",
    "headatlas.lab.graphs": "Circuits as graphs",
    "headatlas.lab.fits": "Probes, directions, learned scales",
    "headatlas.lab.anatomy": "Where a model keeps its attention",
    "headatlas.lab.safety": "The doctor",
    "headatlas.stimuli": "Prompts",
}
# Verbs and classes of the lab that are documented on the page of a room, so that no page is heavy.
ELSEWHERE = {
    "headatlas.lab.OpenModel": "headatlas.lab.loading",
    "headatlas.lab.open_model": "headatlas.lab.loading",
    "headatlas.lab.Scores": "headatlas.lab.running",
    "headatlas.lab.path_patch": "headatlas.lab.paths",
    "headatlas.lab.path_sweep": "headatlas.lab.paths",
    "headatlas.lab.screen": "headatlas.lab.ablation",
}
# Public names that no __all__ lists: what `headatlas.open` returns, and the functions of a module that is exported.
MORE = {
    "headatlas.session": (
        "headatlas.session.opening.Session",
        "headatlas.session.tokens.Tokens",
        "headatlas.session.attention.Attention",
        "headatlas.session.attention.HeadAttention",
        "headatlas.session.prediction.NextTokens",
        "headatlas.session.prediction.Candidate",
        "headatlas.session.naming.HeadNames",
    ),
    "headatlas.lab.activations": tuple(
        f"headatlas.lab.activations.edits.{name}"
        for name in ("zero", "mean", "position_mean", "resample", "patch", "scale", "add", "project_out", "knockout")
    ),
}


@dataclass(frozen=True)
class Documented:
    """A public name.

    Attributes:
        path: with its package; the anchor on its page.
        summary: the first line of its docstring; empty for a type alias.
    """

    path: str
    summary: str


@dataclass(frozen=True)
class Room:
    """The public names of a package.

    Attributes:
        package: its name.
        what: it is for.
        names: sorted as in the package.
    """

    package: str
    what: str
    names: tuple[Documented, ...]

    @property
    def file(self) -> str:
        """The name of its page."""
        return self.package.removeprefix("headatlas.").replace(".", "-")


def rooms() -> list[Room]:
    """All public packages with their names."""
    listed: dict[str, list[str]] = {package: [] for package in PACKAGES}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            path = f"{package}.{name}"
            if path != "headatlas.session.open" and not isinstance(getattr(module, name), ModuleType):
                listed[ELSEWHERE.get(path, package)].append(path)
        listed[package] += MORE.get(package, ())
    return [
        Room(package, PACKAGES[package], tuple(Documented(path, _summary(path)) for path in paths))
        for package, paths in listed.items()
    ]


def _summary(path: str) -> str:
    package, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(package), name)
    own = inspect.isfunction(found) or inspect.isclass(found)
    return (inspect.getdoc(found) or "").partition("\n")[0] if own else ""


def addresses(listed: list[Room]) -> dict[str, str]:
    """Where each public name is documented, from the top of the site: path -> address."""
    return {each.path: f"reference/{room.file}/#{each.path}" for room in listed for each in room.names}


def reference_pages(listed: list[Room]) -> dict[str, str]:
    """The list of all names, and a page for each package: file name -> page."""
    made = {"reference.md": page("reference.md", rooms=listed)}
    return made | {f"reference/{room.file}.md": page("reference_room.md", room=room) for room in listed}
