"""A source: one entry of the bibliography."""

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from headatlas.catalog.schema.base import CitationKey, Strict, Text


class Reference(Strict):
    """One entry of catalog/references.bib."""

    key: CitationKey
    type: Text
    title: Text
    author: Text
    year: Annotated[str, StringConstraints(pattern=r"^\d{4}$")]
    venue: Text | None = None
    doi: Text | None = None
    eprint: Text | None = None
    url: Text | None = None
    bibtex: str = Field(exclude=True, repr=False, description="The entry as in the file.")

    @model_validator(mode="after")
    def _reachable(self) -> "Reference":
        if not (self.doi or self.eprint or self.url):
            raise ValueError("needs doi, eprint or url, so that a reader can find the source")
        return self

    @property
    def link(self) -> str:
        """A link to the source."""
        if self.eprint:
            return f"https://arxiv.org/abs/{self.eprint}"
        return f"https://doi.org/{self.doi}" if self.doi else str(self.url)

    @property
    def short(self) -> str:
        """A short citation, such as 'Wang et al. 2023'."""
        people = self.author.split(" and ")
        last = [person.split(",")[0] if "," in person else person.split()[-1] for person in people]
        named = last[0] if len(last) == 1 else f"{last[0]} and {last[1]}" if len(last) == 2 else f"{last[0]} et al."
        return f"{named} {self.year}"

    @property
    def text(self) -> str:
        """The source as a line of a bibliography."""
        venue = f" {self.venue}." if self.venue else ""
        return f"{self.author.replace(' and ', '; ')} ({self.year}). {self.title}.{venue} {self.link}"
