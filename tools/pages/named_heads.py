"""The pages of named heads, as plain HTML in the look of the theme, and the JSON beside them.

There are thousands of them, each with one subject: the site builder and its search would take minutes for them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from headatlas.catalog.wordings import uncapitalised
from headatlas.census.schema import Census
from pages.atlas import Atlas
from pages.maps import ModelMap, NamedHead
from pages.render import page
from pages.scores import Score
from pages.sheets import PublishedName, Sheet, sheets

# Model ids of Neuronpedia: its pages of heads are /<model>/head/<layer>/<head>, as the source of the site has it
# (hijohnnylin/neuronpedia, apps/webapp/app/[modelId]/head/[layerNum]/[headIndex]/page.tsx).
_NEURONPEDIA = {"gpt2": "gpt2-small"}


@dataclass(frozen=True)
class HeadPage:
    """A named head of a model, with its sheet."""

    map: ModelMap
    named: NamedHead
    sheet: Sheet

    @property
    def place(self) -> str:
        """Where the page is on the site."""
        return f"models/{self.sheet.model}/{self.sheet.head}/index.html"

    @property
    def json(self) -> str:
        """Where the data are, below api/v1."""
        return f"models/{self.sheet.model}/heads/{self.sheet.head}.json"


def head_pages(atlas: Atlas, maps: Mapping[str, ModelMap], censuses: Iterable[Census]) -> Iterator[HeadPage]:
    """Every named head of every model."""
    by_model = {census.model.id: census for census in censuses}
    for id, map in maps.items():
        for named, sheet in sheets(atlas.catalog, map, atlas.runs_on(id), by_model.get(id)):
            yield HeadPage(map, named, sheet)


def html(atlas: Atlas, each: HeadPage, tried: Collection[str] = ()) -> str:
    """The page of one head; `tried` are the models whose attention patterns the site shows."""
    model, sheet = each.map.model, each.sheet
    before, after = each.map.beside(each.named.head)
    neuronpedia = _NEURONPEDIA.get(model.id)
    return page(
        "named_head.html",
        atlas=atlas,
        map=each.map,
        model=model,
        sheet=sheet,
        json=each.json,
        tried=model.id in tried,
        before=before,
        after=after,
        lead=[_named_by(atlas, name) for name in sheet.names],
        counts=_counts(sheet),
        measured=_measured(sheet.measured),
        named=list({score.type: score.name for score in sheet.measured if score.outcome == "named"}.items()),
        version=version("headatlas"),
        sources=[atlas.catalog.references[key] for key in sheet.sources],
        neuronpedia=f"https://www.neuronpedia.org/{neuronpedia}/head/{sheet.layer}/{sheet.index}"
        if neuronpedia
        else None,
    )


def _measured(scores: Iterable[Score]) -> list[list[Score]]:
    """Rows of scores, names first: a census and a run of one type share a row if they say the same of the head."""
    rows: dict[tuple[object, ...], list[Score]] = {}
    for score in sorted(scores, key=lambda each: (each.outcome != "named", each.type, each.source)):
        figures = (score.score, score.low, score.high, score.control)
        said = tuple(None if each is None else round(each, 2) for each in figures)
        rows.setdefault((score.type, score.outcome, score.threshold, said), []).append(score)
    return list(rows.values())


def _named_by(atlas: Atlas, name: PublishedName) -> dict[str, Any]:
    """A name as it reads inside a sentence, and who gives it."""
    keys = list(dict.fromkeys(finding.source for finding in name.findings)) or name.sources
    return {
        "type": name.type,
        "text": uncapitalised(name.name),
        "by": atlas.catalog.references[keys[0]].short,
        "more": len(keys) - 1,
        "supported": bool(name.findings),
    }


def _counts(sheet: Sheet) -> str:
    """Names, sources and dissent in one line; '' if no paper names the head."""
    if not sheet.sources:
        return ""
    disputing: list[str] = [finding.stance for name in sheet.names for finding in name.disputing]
    said = [_number(len(sheet.names), "name"), _number(len(sheet.sources), "source")]
    for stance, verb in (("contradicts", "contradict"), ("qualifies", "qualify")):
        if count := disputing.count(stance):
            said.append(f"{count} {verb if count > 1 else stance}")
    return ", ".join(said)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
