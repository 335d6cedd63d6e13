"""The names of a head: those that papers give it, and those of a census of this very model, apart."""

from dataclasses import dataclass
from functools import cache
from html import escape

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.collections import Naming
from headatlas.catalog.loading import load
from headatlas.census import reading
from headatlas.census.schema import Census, Label
from headatlas.lab import OpenModel
from headatlas.lab.loading.identifying import edited
from headatlas.notation import Head
from headatlas.protocol.provenance import catalog_id


@dataclass(frozen=True, repr=False)
class HeadNames:
    """The names of one head; what papers report and what was measured share no field.

    Attributes:
        head: whose names they are.
        reported: the names that papers give it, best supported first.
        measured: its names in a census of this very model; empty without a census, and for a head without a name.
        model: its name.
        known: whether the catalog knows the model; papers say nothing of a model that it does not know.
        census: where the measured names come from, as text; None without a census.
    """

    head: Head
    reported: tuple[Naming, ...]
    measured: tuple[Label, ...]
    model: str
    known: bool
    census: str | None

    def _papers(self) -> list[str]:
        """A line for each name that papers give, with its sources."""
        return [
            f"{each.head_type.id} ({', '.join(each.sources)}{'; disputed' if each.disputing else ''})"
            for each in self.reported
        ] or ["no name" if self.known else "the catalog does not know this model"]

    def _found(self) -> list[str]:
        """A line for each measured name, with its score and 95% interval on new prompts."""
        if self.census is None:
            return ["no census of this model; `headatlas census` takes one"]
        named = [f"{each.type} {each.score:.2f} [{each.low:.2f}, {each.high:.2f}]" for each in self.measured]
        return named or ["no name"]

    @property
    def _measured(self) -> str:
        return f"measured, {self.census}" if self.census else "measured"

    def __repr__(self) -> str:
        parts = (("reported by papers", self._papers()), (self._measured, self._found()))
        listed = "".join(f"\n  {title}:" + "".join(f"\n    {line}" for line in lines) for title, lines in parts)
        return f"{self.head} of {self.model}{listed}"

    def _repr_html_(self) -> str:
        papers, found = (escape("; ".join(lines)) for lines in (self._papers(), self._found()))
        return (
            f"<p><b>{self.head}</b> of {escape(self.model)}</p>"
            f"<ul><li>reported by papers: {papers}</li><li>{escape(self._measured)}: {found}</li></ul>"
        )


class Names:
    """The names of all heads of an open model, from the shipped catalog and from a census, if there is one."""

    def __init__(self, model: OpenModel) -> None:
        self._title, self._catalog = model.title, _catalog()
        self._known = catalog_id(self._catalog, model)
        self._census = _census_of(model)
        self._labels = {each.head: tuple(each.labels) for each in self._census.heads} if self._census else {}

    def of(self, head: Head) -> HeadNames:
        """The names of one head."""
        reported = self._catalog.who(self._known, head) if self._known else ()
        return HeadNames(
            head,
            tuple(reported),
            self._labels.get(str(head), ()),
            self._title,
            self._known is not None,
            None if self._census is None else _described(self._census),
        )


@cache
def _catalog() -> Catalog:
    return load()


def _census_of(model: OpenModel) -> Census | None:
    """A census of these very weights: taken here, or one that ships."""
    if edited(model):
        return None
    for path in reading.by_name(model.name):
        census = reading.read(path)
        if census.model.sha256 == model.sha256:
            return census
    return None


def _described(census: Census) -> str:
    return f"census of {census.environment.started[:10]}, {census.settings.budget} budget, seed {census.settings.seed}"
