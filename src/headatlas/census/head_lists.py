"""Reads lists of heads from files: those that `headatlas heads` writes, and those of tools that select heads.

A file is a list (`L5H10`, `5.10`, `5-10`, `(5, 10)`, one or several in a line; a JSON list of names or of
[layer, head]; a CSV with a column `head`, or `layer` and `head` or `index`; the QRHead YAML), or it has a score for
every head, or for every key/value group of every layer (HeadKV JSON, DuoAttention TSV).
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headatlas.errors import HeadatlasError
from headatlas.notation import Head

_GATE = 0.5  # from here on a group of a DuoAttention file keeps its whole context


@dataclass(frozen=True)
class ModelShape:
    """Layers, query heads and key/value heads of a model, which a list must fit."""

    name: str
    layers: int
    heads: int
    kv_heads: int

    def group(self, layer: int, group: int) -> list[Head]:
        """The query heads that read a key/value head."""
        each = self.heads // self.kv_heads
        return [Head(layer, number) for number in range(group * each, (group + 1) * each)]


def read_heads(text: str, shape: ModelShape, top: int | None = None) -> list[Head]:
    """The heads of a list, in its order, each once.

    Args:
        text: of the file.
        shape: of the model that the heads are of.
        top: how many heads to take of a file that has a score for every head, from the highest on.

    Raises:
        HeadatlasError: where the text is none of the known forms, names a head that the model does not have, names
            none, or has a score for every head and `top` is not given.
    """
    heads = list(dict.fromkeys(_read(text.strip(), shape, top)))
    if not heads:
        raise HeadatlasError("the list names no head; write heads as L5H10, separated by spaces or commas")
    for head in heads:
        if not (head.layer < shape.layers and head.head < shape.heads):
            raise HeadatlasError(
                f"{head} is not a head of {shape.name}, which has {shape.layers} x {shape.heads} heads"
            )
    return heads


def _read(text: str, shape: ModelShape, top: int | None) -> Iterable[Head]:
    if text.startswith(("{", "[")):
        return _of_json(_json(text), top)
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if any(line.startswith("attn_head_set:") for line in lines):
        return _of_qrhead(text)
    if lines and "\t" in lines[0] and _numbers(lines[0].split("\t")):
        return _of_gates(lines, shape)
    if lines and {"head", "layer"} & set(_columns(lines[0])):
        return _of_table(lines)
    return [Head.parse(word) for line in lines for word in _words(line.split("#")[0])]


def _words(line: str) -> list[str]:
    """Heads of a line, separated by spaces, commas or semicolons; those written (5, 10) stay whole."""
    if "(" in line:
        return [f"({part.split(')')[0]})" for part in line.split("(")[1:]]
    return line.replace(",", " ").replace(";", " ").split()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise HeadatlasError(f"the list is not JSON ({error}); correct it, or write heads as L5H10") from None


def _of_json(found: Any, top: int | None) -> Iterable[Head]:
    if isinstance(found, Mapping) and isinstance(found.get("heads"), list):
        found = found["heads"]  # as `headatlas heads --format json` writes it
    if isinstance(found, Mapping):
        return _of_scores(found, top)
    if not isinstance(found, list):
        raise HeadatlasError("the list is JSON, but no list of heads and no scores of heads")
    return [Head.parse(each["head"] if isinstance(each, Mapping) and "head" in each else each) for each in found]


def _of_scores(found: Mapping[str, Any], top: int | None) -> Iterable[Head]:
    """The highest of a file with one or more scores for every head, as HeadKV has them."""
    try:
        scores = {Head.parse(name): _mean(each) for name, each in found.items()}
    except (HeadatlasError, TypeError, ValueError, ZeroDivisionError):
        raise HeadatlasError("the list is JSON, but no list of heads and no scores of heads") from None
    if top is None:
        raise HeadatlasError("the file has a score for every head; say how many of the highest to take with --top N")
    return sorted(scores, key=lambda head: -scores[head])[:top]


def _mean(scores: Any) -> float:
    each = scores if isinstance(scores, list) else [scores]
    return sum(map(float, each)) / len(each)


def _of_qrhead(text: str) -> Iterable[Head]:
    try:
        named = str(yaml.safe_load(text)["attn_head_set"])
    except (yaml.YAMLError, KeyError, TypeError):
        raise HeadatlasError("the list is not YAML with attn_head_set; correct it") from None
    return [Head.parse(each) for each in named.split(",")]


def _numbers(cells: Sequence[str]) -> bool:
    try:
        return bool([float(cell) for cell in cells])
    except ValueError:
        return False


def _of_gates(lines: Sequence[str], shape: ModelShape) -> Iterable[Head]:
    """The heads of the groups that keep their whole context: a row for each layer, a column for each group."""
    rows = [line.split("\t") for line in lines]
    if len(rows) != shape.layers or any(len(row) != shape.kv_heads or not _numbers(row) for row in rows):
        raise HeadatlasError(
            f"the list has {len(rows)} rows of numbers; {shape.name} needs {shape.layers} of {shape.kv_heads} numbers"
        )
    return [
        head
        for layer, row in enumerate(rows)
        for group, gate in enumerate(row)
        if float(gate) >= _GATE
        for head in shape.group(layer, group)
    ]


def _columns(line: str) -> list[str]:
    return [name.strip().lower() for name in line.replace("\t", ",").split(",")]


def _of_table(lines: Sequence[str]) -> Iterable[Head]:
    """A CSV or TSV with a column `head`, or with `layer` and one of `index` and `head`."""
    columns = _columns(lines[0])
    rows = list(csv.DictReader(io.StringIO("\n".join(lines[1:])), columns, delimiter="\t" if "\t" in lines[0] else ","))
    number = "index" if "index" in columns else "head"
    try:
        if "layer" in columns:
            return [Head(int(row["layer"]), int(row[number])) for row in rows]
        return [Head.parse(row["head"]) for row in rows]
    except (KeyError, TypeError, ValueError):
        raise HeadatlasError("the list is a table without a head in every row; it needs layer and head") from None


def read_file(path: Path) -> str:
    """The text of a list.

    Raises:
        HeadatlasError: where it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HeadatlasError(f"cannot read {path} ({error}); give a text file with heads") from None
