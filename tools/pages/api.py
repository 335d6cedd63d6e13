"""Files for programs: JSON of every entity, schemas, records, bibliography, feed, llms.txt."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from headatlas import locations
from headatlas.catalog.exporting import export
from headatlas.catalog.schema import FILES, FOLDERS
from headatlas.census import reading
from headatlas.evidence import files
from pages.atlas import Atlas
from pages.named_heads import HeadPage

_ATOM = "http://www.w3.org/2005/Atom"


def write_api(atlas: Atlas, site: Path, heads: Iterable[HeadPage], address: str = "") -> None:
    """Write api/v1, references.bib, findings.csv, feed.xml and llms.txt below the site's folder.

    Args:
        atlas: all data of the site.
        site: the folder of the pages.
        heads: the named heads of all models.
        address: URL of the site, ending in '/'; links are relative if it is empty.
    """
    api = site / "api" / "v1"
    shutil.rmtree(api, ignore_errors=True)
    whole = atlas.catalog.to_json()
    index: dict[str, Any] = {"schema_version": whole["schema_version"]}
    for kind in FOLDERS:
        index[kind] = [_write(api, kind, each["id"], each.get("name", each["id"]), each) for each in whole[kind]]
    index["papers"] = [_write(api, "papers", each["key"], each["title"], each) for each in whole["references"]]
    for id in atlas.catalog.heads:
        (api / "heads" / f"{id}.bib").write_text(atlas.catalog.bibtex(id), encoding="utf-8")
    for name in ("taxonomy", *FILES):
        _dump(api / f"{name}.json", whole[name] if name == "taxonomy" else {name: whole[name]})
    _dump(api / "catalog.json", whole)
    _dump(api / "index.json", index)
    shutil.copytree(locations.catalog() / "schema", api / "schema")
    for result in atlas.results:  # read with the current rule, so that heads must pass on new prompts
        record = result.record
        place = api / "records" / record.model.id / f"{record.entry.id}.json"
        files.write(place, record.model_dump_json(indent=1) + "\n")
    for path in sorted(locations.censuses().glob("*.json")):
        files.write(api / "census" / path.name, reading.read(path).model_dump_json(indent=1) + "\n")
    _write_heads(api, heads)
    if locations.collaborations().is_dir():
        shutil.copytree(locations.collaborations(), api / "collaboration")
    (site / "references.bib").write_text(atlas.catalog.bibtex(), encoding="utf-8")
    (site / "findings.csv").write_text(export(atlas.catalog, "csv"), encoding="utf-8")
    (site / "feed.xml").write_text(_feed(atlas, address), encoding="utf-8")
    (site / "llms.txt").write_text(_guide(atlas), encoding="utf-8")


def _write(api: Path, kind: str, id: str, name: str, entity: dict[str, Any]) -> dict[str, str]:
    _dump(api / kind / f"{id}.json", entity)
    return {"id": id, "name": name, "page": f"{kind}/{id}/", "json": f"api/v1/{kind}/{id}.json"}


def _write_heads(api: Path, heads: Iterable[HeadPage]) -> None:
    """The named heads, each with everything about it, and a list for each model."""
    listed: dict[str, list[dict[str, Any]]] = {}
    for each in heads:
        _dump(api / each.json, each.sheet.model_dump(mode="json"))
        listed.setdefault(each.map.model.id, []).append(
            {
                "head": each.sheet.head,
                "named_in_papers": [name.type for name in each.sheet.names],
                "measured": [name.type.id for name in each.named.measured],
                "page": each.place.removesuffix("index.html"),
                "json": f"api/v1/{each.json}",
            }
        )
    for model, found in listed.items():
        _dump(api / "models" / model / "heads.json", {"model": model, "heads": found})


def _dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _feed(atlas: Atlas, address: str) -> str:
    """An Atom feed of head types, newest first."""
    ElementTree.register_namespace("", _ATOM)
    heads = sorted(atlas.catalog.heads.values(), key=lambda head: (head.added, head.id), reverse=True)
    feed = ElementTree.Element(f"{{{_ATOM}}}feed")
    _add(feed, "title", "headatlas: new head types")
    _add(feed, "id", address or "tag:headatlas,2026:feed")
    _add(feed, "updated", f"{heads[0].added}T00:00:00Z")
    _add(_add(feed, "author"), "name", "The headatlas authors")
    _add(feed, "link", rel="self", href=f"{address}feed.xml")
    for head in heads:
        entry = _add(feed, "entry")
        _add(entry, "title", head.name)
        _add(entry, "id", f"{address}heads/{head.id}/" if address else f"tag:headatlas,2026:heads/{head.id}")
        _add(entry, "updated", f"{head.added}T00:00:00Z")
        _add(entry, "link", href=f"{address}heads/{head.id}/")
        _add(entry, "summary", head.summary)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(feed, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    made = ElementTree.SubElement(parent, f"{{{_ATOM}}}{name}", attributes)
    made.text = text
    return made


def _guide(atlas: Atlas) -> str:
    """llms.txt: a guide to the files for language models."""
    heads = "".join(
        f"- [{head.name}](api/v1/heads/{head.id}.json): {head.summary}\n" for head in atlas.catalog.heads.values()
    )
    return (
        "# headatlas\n\n"
        "> A catalog of attention head types in language models: what papers report, what was expected before "
        "rerunning, and what was measured on open models. The three never share a field.\n\n"
        "Heads count from 0 and are written L5H10 (layer 5, head 10). Verdicts: reproduced, partly, not-reproduced, "
        "inconclusive (the model lacks the behaviour; no failure of the paper).\n\n"
        "## Data\n\n"
        "- [Index of all entities](api/v1/index.json)\n"
        "- [The whole catalog](api/v1/catalog.json)\n"
        "- [Schemas](api/v1/schema/head.json)\n"
        "- [Bibliography](references.bib)\n\n"
        f"## Head types\n\n{heads}"
    )
