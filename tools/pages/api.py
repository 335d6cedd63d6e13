"""Files for programs: JSON of every entity, schemas, records, bibliography, feed, llms.txt."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from headatlas import locations
from headatlas.catalog.exporting import export
from headatlas.catalog.schema import FILES, FOLDERS
from headatlas.census import reading
from headatlas.evidence import files
from pages.atlas import Atlas
from pages.named_heads import HeadPage
from pages.news import News


def write_api(atlas: Atlas, news: News, site: Path, heads: Iterable[HeadPage], address: str = "") -> None:
    """Write api/v1, references.bib, findings.csv, feed.xml and llms.txt below the site's folder.

    Args:
        atlas: all data of the site.
        news: what the feed tells.
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
    for key in atlas.catalog.references:
        (api / "papers" / f"{key}.bib").write_text(atlas.catalog.bibtex(key), encoding="utf-8")
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
    (site / "feed.xml").write_text(news.atom(address), encoding="utf-8")
    (site / "llms.txt").write_text(_guide(atlas), encoding="utf-8")


def write_loaded(site: Path, loaded: Mapping[str, Any]) -> None:
    """Write what pages load when a reader asks for it, by name, as compact JSON in api/v1."""
    for name, value in loaded.items():
        made = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        files.write(site / "api" / "v1" / f"{name}.json", f"{made}\n")


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
