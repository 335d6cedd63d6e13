"""The page on which the specimen runs, and the files that its scripts load."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headatlas import specimens
from headatlas.census.schema import Census
from headatlas.evidence.record_parts import ModelRecord, padded
from headatlas.evidence.records import Record
from headatlas.lab import OpenModel, open_model
from headatlas.lab.ablation.z_values import mean_z
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.script import load_script
from pages.atlas import Atlas
from pages.patterns import RecordedPatterns
from pages.render import number, page

COPYING = "induction"  # the type whose heads one button switches off, and whose prompts the means are of
_WEIGHTS = ("config.json", "tokenizer.json", "model.safetensors")
# Texts of the kinds that the specimen has learned: what the button says, and the text.
EXAMPLES: Mapping[str, str] = {
    "random words, repeated": " cup moon table river green seven cup moon table river green seven cup moon",
    "two names": "When Mary and John went to the store, John gave a drink to",
    "days": "Monday, Tuesday, Wednesday,",
    "opposites": "hot -> cold, big -> small, up ->",
    "two years": "The war lasted from the year 1732 to the year 17",
    "a capital": "The capital of France is",
    "who likes what": "Mary likes tea. John likes coffee. Mary likes",
}
Names = dict[str, list[dict[str, str]]]  # head -> its names: type, name, and what was measured


def try_page(atlas: Atlas, patterns: Sequence[RecordedPatterns]) -> str:
    """The page, with a choice of models."""
    size = (specimens.folder() / "model.safetensors").stat().st_size
    models = {specimens.SPECIMEN: "the specimen: runs here, on your text"}
    models |= {_id(each.model): f"{atlas.model_name(_id(each.model))}: recorded texts" for each in patterns}
    heads = len(atlas.by_place[COPYING, specimens.SPECIMEN].record.model.every_head)
    return page("try_it.md", models=models, heads=heads, megabytes=f"{size / 1e6:.1f}")


def write_try(atlas: Atlas, censuses: Iterable[Census], patterns: Sequence[RecordedPatterns], folder: Path) -> None:
    """Write what the scripts of the page load: the specimen, names of heads, and recorded patterns.

    For each model <model>.json says its layers, heads and names. <model>/ holds weights, tokenizer and means of the
    specimen, and of other models the recorded patterns of each text, a byte per weight.
    """
    census = next(each for each in censuses if each.model.id == specimens.SPECIMEN)
    here = folder / specimens.SPECIMEN
    here.mkdir(parents=True, exist_ok=True)
    for name in _WEIGHTS:
        shutil.copy(specimens.folder() / name, here / name)
    with open_model(specimens.SPECIMEN) as model:
        (here / "means.bin").write_bytes(means(atlas, model).astype("<f4").tobytes())
    _write(atlas, folder, census.model, "the shipped census", census_names(atlas, census), {"examples": EXAMPLES})
    for each in patterns:
        id = _id(each.model)
        (folder / id).mkdir(exist_ok=True)
        for text in each.texts:
            (folder / id / f"{text.id}.bin").write_bytes(text.bytes)
        texts = [text.model_dump(include={"id", "name", "text", "pieces"}) for text in each.texts]
        names = record_names(atlas, [result.record for result in atlas.runs_on(id)])
        _write(atlas, folder, each.model, "the shipped records", names, {"texts": texts, "weights": _weights(each)})


def means(atlas: Atlas, model: OpenModel) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Each head's mean z over the corrupted prompts of the recorded run on induction heads: [layer head d_head].

    They are what that run put in place of z; position 0 is left out, as there.
    """
    rule = atlas.catalog.heads[COPYING].rule
    assert rule
    record = atlas.by_place[COPYING, specimens.SPECIMEN].record
    task = draw(load_script(COPYING, rule=rule), rule, model, record.environment.seed).task
    found = mean_z(model, [prompt.corrupted for prompt in task.prompts]).z
    return np.stack([found[layer][0, 0].numpy() for layer in sorted(found)])


def census_names(atlas: Atlas, census: Census) -> Names:
    """The names of each head by a census; those that few heads have come first, as there."""
    return {
        head.head: [
            _name(
                atlas, label.type, f"score {number(label.score)}, control {number(label.control)}; cause {label.causal}"
            )
            for label in head.labels
        ]
        for head in census.heads
        if head.labels
    }


def record_names(atlas: Atlas, records: Iterable[Record]) -> Names:
    """The names of each head by run records: the types that found it, those that found few heads first."""
    names: Names = {}
    for record in sorted(records, key=lambda each: len(each.selected)):
        for head in record.selected:
            score = padded(record.detection.score)[head] if record.detection else 0.0
            said = f"score {number(score)}; the run as a whole: {record.verdict.label}"
            names.setdefault(str(head), []).append(_name(atlas, record.entry.id, said))
    return names


def _name(atlas: Atlas, type: str, said: str) -> dict[str, str]:
    head = atlas.catalog.heads[type]
    return {"type": type, "name": head.name, "stage": atlas.short(type).lower(), "said": said}


def _weights(patterns: RecordedPatterns) -> str:
    """Which weights were read, as a sentence."""
    model = patterns.model
    file = f", from {model.dequantised.file}" if model.dequantised else ""
    return f"{model.name}{file}; sha256 {model.sha256[:12]}"


def _id(model: ModelRecord) -> str:
    return model.catalog_id or model.id


def _write(atlas: Atlas, folder: Path, model: ModelRecord, source: str, names: Names, extra: Mapping[str, Any]) -> None:
    id = _id(model)
    run = atlas.by_place.get((COPYING, id))
    copying = [str(head) for head in run.record.selected] if run else []
    said = {"id": id, "layers": model.by_layer, "source": source, "names": names, "copying": copying, **extra}
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    (folder / f"{id}.json").write_text(text, encoding="utf-8")
