"""Which files the catalog has, and what each of them holds."""

from collections.abc import Mapping

from headatlas.catalog.schema.base import Strict
from headatlas.catalog.schema.entities import Benchmark, Circuit, Method, Model
from headatlas.catalog.schema.head_type import HeadType
from headatlas.catalog.schema.survey import Directions, Errata, Glossary, Limitations, Parallels, Topics

# One file per entity, in a folder of that name.
FOLDERS: Mapping[str, type[Strict]] = {
    "heads": HeadType,
    "methods": Method,
    "benchmarks": Benchmark,
    "circuits": Circuit,
    "models": Model,
}
# One file with many short entries each.
FILES: Mapping[str, type[Strict]] = {
    "errata": Errata,
    "parallels": Parallels,
    "glossary": Glossary,
    "limitations": Limitations,
    "directions": Directions,
    "topics": Topics,
}
