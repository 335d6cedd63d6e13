"""What the map of a model shows: the squares of its grid, its choices, its sentences, and the table below it."""

from collections import Counter
from typing import Any, get_args

from headatlas.catalog.schema import HeadType, Kind, Stance
from headatlas.notation import Head
from pages.atlas import Atlas
from pages.maps import ModelMap, Name, NamedHead

_WRITTEN = 12  # heads of a layer, up to which squares are wide enough for names
_WIDE = 32  # heads of a layer, up to which squares are large enough for a finger
_NAMES = 2  # names written in a square


def view(atlas: Atlas, map: ModelMap) -> dict[str, Any]:
    """The values of the template `map.html` for one model."""
    stages = atlas.catalog.taxonomy.stages
    by_stage = {stage.id: sorted(_of_stage(map, stage.id), key=lambda type: type.name) for stage in stages}
    named = map.named.values()
    return {
        "of": map,
        "size": "names" if map.columns <= _WRITTEN else "plain" if map.columns <= _WIDE else "dense",
        "rows": [[_square(atlas, map, Head(layer, at)) for at in range(n)] for layer, n in enumerate(map.by_layer)],
        "stages": [
            {
                "stage": stage,
                "types": by_stage[stage.id],
                "heads": sum(any(name.type.stage == stage.id for name in each.names) for each in named),
            }
            for stage in stages
        ],
        "carried": Counter(name.type.id for each in named for name in each.names),
        "unnamed": map.total - len(map.named),
        "against": any(name.contradicted for each in named for name in each.names),
        "apart": any(each.parts and not each.names for each in named),
        "kinds": get_args(Kind),
        "stances": get_args(Stance),
        "lead": _lead(map),
        "beside": _beside(map),
        "data": _data(atlas, map),
        "reported": [row for types in by_stage.values() for type in types if (row := _reported(map, type))["heads"]],
    }


def _of_stage(map: ModelMap, stage: str) -> list[HeadType]:
    return [type for type in map.types if type.stage == stage]


def _square(atlas: Atlas, map: ModelMap, head: Head) -> dict[str, Any] | None:
    """One square; None for a head without a name."""
    named = map.named.get(head)
    if named is None:
        return None
    written = [name.type.id for name in named.names] or [role.name or "" for _, role in named.parts]
    return {
        "head": head,
        "papers": _stages(atlas, named.papers),
        "measured": _stages(atlas, named.measured),
        "names": [
            {"text": text, "ours": bool(named.names) and named.names[place].papers is None}
            for place, text in enumerate(written[:_NAMES])
        ],
        "more": max(0, len(written) - _NAMES),
        "against": any(name.contradicted for name in named.names),
        "said": said(named),
    }


def _stages(atlas: Atlas, names: list[Name]) -> list[str]:
    return list(dict.fromkeys(atlas.short(name.type.id).lower() for name in names))


def said(named: NamedHead) -> str:
    """A head and all its names as text, for screen readers."""
    papers = [f"{name.type.id}{' (contradicted)' if name.contradicted else ''}" for name in named.papers]
    papers += [f"{role.name} in {circuit.name}" for circuit, role in named.parts]
    voices = {"papers": papers, "measured here": [name.type.id for name in named.measured]}
    return f"{named.head}. " + ". ".join(f"{who}: {', '.join(names)}" for who, names in voices.items() if names)


def _lead(map: ModelMap) -> str:
    """How many heads have names, and whose."""
    made = []
    if typed := [each for each in map.published if each.papers]:
        names = sum(len(each.papers) for each in typed)
        made.append(f"Papers give {names} names to {len(typed)} of the {map.total} heads of this model")
        if apart := len(map.published) - len(typed):
            made[-1] += f", and to {apart} more only a part in a circuit"
    elif map.published:
        made.append(f"Papers give {len(map.published)} of the {map.total} heads of this model a part in a circuit")
    if map.found:
        names = sum(len(each.measured) for each in map.found)
        how = "our census" if map.source == "census" else f"our runs of {len(map.measured)} types"
        made.append(f"In {how} {len(map.found)} of {map.total} heads have {names} names")
    elif not map.source:
        made.append("We have not measured this model yet")
    return ". ".join(made) + "."


def _beside(map: ModelMap) -> str:
    """The agreement of what papers report with what we measured; '' if no type has both."""
    found = map.agreement
    if found is None:
        return ""
    types = f"{found.types} type{'s' if found.types > 1 else ''} that papers report here and that we measured"
    return (
        f"Of {types}: {found.found} of {found.published} published heads found, {found.chance:.1f} expected by chance; "
        f"{found.found} agree, {found.new} new, {found.missing} missing. (A head counts once for each of its types.)"
    )


def _data(atlas: Atlas, map: ModelMap) -> dict[str, Any]:
    """What the script of the map needs: of each name its type, the kinds and stances of its findings, and whose it is.

    Types are [id, name, stage]. A name is [number of its type, kinds and stances of findings, number of sources, 1 if
    measured], or only the number of its type if it is measured and no paper gives it.
    """
    number = {type.id: at for at, type in enumerate(map.types)}

    def name_of(name: Name) -> int | list[Any]:
        if name.papers is None:
            return number[name.type.id]
        findings = sorted({f"{finding.kind} {finding.stance}" for finding in name.findings})
        return [number[name.type.id], findings, len(name.papers.sources), int(name.measured)]

    return {
        "types": [[type.id, type.name, atlas.short(type.id).lower()] for type in map.types],
        "heads": {str(head): [name_of(name) for name in each.names] for head, each in map.named.items()},
        "parts": {
            str(head): [f"{role.name} in {circuit.name}" for circuit, role in each.parts]
            for head, each in map.named.items()
            if each.parts
        },
    }


def _reported(map: ModelMap, type: HeadType) -> dict[str, Any]:
    """The heads that papers report of one type, with the findings."""
    named = [(each.head, name) for each in map.published for name in each.papers if name.type.id == type.id]
    return {
        "type": type,
        "heads": [head for head, _ in named],
        "findings": list({finding.id: finding for _, name in named for finding in name.findings}.values()),
    }
