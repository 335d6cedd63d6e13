"""Methods, benchmarks, circuits and models that head types link to."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from headatlas.catalog.schema.base import CitationKey, Id, ModelId, Sourced, Strict, Text
from headatlas.catalog.schema.packages import Packages, Sha256
from headatlas.notation import Head


class Method(Strict):
    """A way of studying heads: catalog/methods/<id>.yaml."""

    id: Id
    name: Text
    summary: Text
    procedure: Text
    pitfalls: tuple[Text, ...] = ()
    functions: tuple[Text, ...] = Field(
        (), description="Public functions of headatlas that implement it, such as headatlas.lab.sweep."
    )
    code: tuple[Text, ...] = Field((), description="Public implementations, as owner/repository.")
    sources: Annotated[tuple[CitationKey, ...], Field(min_length=1)]


class Benchmark(Strict):
    """A data set or prompt family: catalog/benchmarks/<id>.yaml."""

    id: Id
    name: Text
    summary: Text
    example: Text
    metric: Text
    size: Text | None = Field(None, description="Number of items, if a source gives it.")
    licence: Text | None = Field(None, description="As its home states it; absent if nobody could check it.")
    home: Text | None = Field(None, description="Hub id or repository.")
    sources: Annotated[tuple[CitationKey, ...], Field(min_length=1)]


class Role(Sourced):
    """Heads with one role in one model's circuit."""

    head: Id | None = Field(None, description="The head type with this role.")
    name: Text | None = Field(None, description="Name of the role, if no head type has it.")
    model: ModelId | None = None
    heads: tuple[Head, ...] = Field((), description="Empty if the source names no heads.")

    @model_validator(mode="after")
    def _someone(self) -> "Role":
        if (self.head is None) == (self.name is None):
            raise ValueError("a role needs either `head:` (a head type) or `name:`, not both")
        if self.heads and self.model is None:
            raise ValueError("heads need a model: add `model:` with the id of a file in catalog/models")
        return self


class Edge(Sourced):
    """One head type acting on another inside a circuit."""

    sender: Id
    receiver: Id
    via: Literal["Q", "K", "V"] | None = None


class Circuit(Strict):
    """Heads that work together: catalog/circuits/<id>.yaml."""

    id: Id
    name: Text
    summary: Text
    steps: Annotated[tuple[Text, ...], Field(min_length=1)]
    roles: tuple[Role, ...] = ()
    edges: tuple[Edge, ...] = ()
    sources: Annotated[tuple[CitationKey, ...], Field(min_length=1)]


class PublishedScores(Sourced):
    """A score that a source publishes for every head of a model."""

    name: Id
    definition: Text = Field(description="Precise enough to measure it again, with the data it was measured on.")
    scores: Annotated[tuple[tuple[float, ...], ...], Field(min_length=1)] = Field(
        description="A row for each layer, with a number for each head."
    )


class HeadToKnow(Strict):
    """A head of a model that our recorded runs single out."""

    head: Head
    types: Annotated[tuple[Id, ...], Field(min_length=1)] = Field(
        description="Head types whose recorded run on the model selects it."
    )
    says: Text = Field(description="What it does in this model, with a figure that was measured.")


class Model(Strict):
    """A model that findings name: catalog/models/<id>.yaml."""

    id: ModelId
    name: Text
    access: Literal["open", "gated", "retrain", "closed"] = Field(
        description="open: anyone can download the weights; gated: after accepting terms; retrain: the weights are not "
        "published, the recipe is; closed: neither."
    )
    architecture: Literal["decoder", "encoder", "encoder-decoder"]
    hub: tuple[Text, ...] = Field((), description="Hub ids of the weights.")
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")] | None = Field(
        None, description="A commit of the first hub id that a source pins."
    )
    packages: Packages | None = Field(None, description="Packages that hold the weights, for `headatlas fetch`.")
    sha256: Sha256 | None = Field(
        None, description="Hash of the safetensors files, so that a local folder is recognised under any name."
    )
    licence: Text | None = None
    layers: int | None = Field(None, gt=0)
    heads: int | None = Field(None, gt=0, description="Query heads per layer.")
    kv_heads: int | None = Field(None, gt=0)
    d_head: int | None = Field(None, gt=0)
    sources: tuple[CitationKey, ...] = ()
    published: tuple[PublishedScores, ...] = Field((), description="Scores that a source gives for every head.")
    heads_to_know: tuple[HeadToKnow, ...] = Field((), description="The most telling ones, ten or so.")
    note: Text | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Model":
        for each in self.published:
            if [len(row) for row in each.scores] != [self.heads] * (self.layers or 0):
                raise ValueError(f"the scores {each.name!r} are not one for each of its layers and heads")
        return self

    @model_validator(mode="after")
    def _reachable(self) -> "Model":
        if self.access in ("open", "gated") and not (self.hub or self.packages or self.sha256 or self.id == "specimen"):
            raise ValueError("an open or gated model needs `hub:` with its hub id, or `packages:`")
        if (self.hub or self.packages) and not (
            self.layers and self.heads and self.kv_heads and self.d_head and self.licence
        ):
            raise ValueError("a model on a hub or in packages needs layers, heads, kv_heads, d_head and licence")
        if self.packages and self.access != ("gated" if self.packages.must_accept else "open"):
            raise ValueError("`access:` of packages is gated where `must_accept: true`, else open")
        return self
