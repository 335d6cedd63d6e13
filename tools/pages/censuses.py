"""The census pages: one per recorded census, and the types that several models share."""

from collections.abc import Sequence

from headatlas import specimens
from headatlas.census import page as census_page
from headatlas.census.comparing import Transfer, depths, transfer
from headatlas.census.schema import Census
from headatlas.pages.figures.depths import DepthPlace
from pages.atlas import Atlas
from pages.render import page


def census_pages(atlas: Atlas, censuses: Sequence[Census]) -> dict[str, str]:
    """File name -> page: the list, and one self-contained page per model."""
    made = {"census/index.md": _list(atlas, censuses)}
    for census in censuses:
        id = census.model.id
        model_page = f"../models/{id}/" if atlas.has_head_pages(id) else None
        made[f"census/{id}.html"] = census_page.page(atlas.catalog, census, "../", model_page)
    return made


def places(atlas: Atlas, censuses: Sequence[Census]) -> list[DepthPlace]:
    """The depths of the named heads of all censuses: one place per head type and model."""
    return [
        DepthPlace(type.id, atlas.short(type.id), tuple(sorted(depths(census, type))), census.model.id)
        for census in censuses
        for type in census.types
        if type.heads
    ]


def _list(atlas: Atlas, censuses: Sequence[Census]) -> str:
    order = [*atlas.leading, specimens.SPECIMEN]
    censuses = sorted(censuses, key=lambda each: order.index(each.model.id) if each.model.id in order else len(order))
    carried = [each for each in transfer(censuses) if each.found]
    carried.sort(key=lambda each: (-len(each.supported), -len(each.found), each.type))
    return page("census.md", atlas=atlas, censuses=censuses, carried=carried, lead=_lead(censuses, carried))


def _lead(censuses: Sequence[Census], carried: Sequence[Transfer]) -> str:
    if not censuses:
        return "No census has been recorded yet."
    named = sum(census.summary.labelled for census in censuses)
    heads = sum(census.summary.heads for census in censuses)
    able = [each for each in carried if len(each.able) > 1]
    everywhere = sum(set(each.supported) == set(each.able) for each in able)
    return (
        f"Every head of {len(censuses)} models was tested for every type that has a script: {named} of {heads} "
        f"heads have at least one name. {len(able)} types can be tested in two or more models; for {everywhere} of "
        "them the heads have a causal effect in all of these models."
    )
