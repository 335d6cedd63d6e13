"""Orders evidence: the strongest findings of a head type, those that dispute it, and the names of a head."""

from collections.abc import Iterable, Mapping
from typing import get_args

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.collections import Naming
from headatlas.catalog.schema import Checked, Finding, Kind
from headatlas.notation import Head

_KINDS: tuple[Kind, ...] = ("causal", "mechanistic", "correlational", "behavioural")  # strongest first
_CHECKED: tuple[Checked, ...] = get_args(Checked)


def strength(finding: Finding) -> tuple[int, ...]:
    """A key that sorts the strongest finding first: its kind, how it was checked, and what it gives."""
    has = (finding.figure or finding.scores, finding.heads, finding.n, finding.formula)
    return _KINDS.index(finding.kind), _CHECKED.index(finding.checked), *(not each for each in has)


def strongest(findings: Iterable[Finding], count: int) -> list[Finding]:
    """The strongest supporting findings; one of each source before a second of any."""
    supporting = sorted((each for each in findings if each.stance == "supports"), key=strength)
    first: dict[str, Finding] = {}
    for each in supporting:
        first.setdefault(each.source, each)
    return [*first.values(), *(each for each in supporting if each is not first[each.source])][:count]


def disputing(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that contradict, then those that qualify; the strongest of each first."""
    found = [each for each in findings if each.stance != "supports"]
    return sorted(found, key=lambda each: (each.stance != "contradicts", strength(each)))


def by_evidence(namings: Iterable[Naming]) -> list[Naming]:
    """The names of one head: causal or mechanistic support first, then any; names from long lists, and then names that
    findings only dispute, come last.
    """

    def key(naming: Naming) -> tuple[bool, bool, bool, int, str]:
        own = [each for each in naming.findings if not each.published_list]
        cause = any(each.kind in ("causal", "mechanistic") for each in own)
        return not naming.findings, not cause, not own, -len(naming.findings), naming.head_type.id

    return sorted(namings, key=key)


def names_of(catalog: Catalog, model: str) -> Mapping[Head, list[Naming]]:
    """The names that papers give the heads of a model, best supported first; only heads with a name.

    Raises:
        HeadatlasError: for an unknown model.
    """
    id = catalog.model(model).id
    heads = {head for _, finding in catalog.findings(model=id) for head in finding.heads}
    heads |= {
        head
        for circuit in catalog.circuits.values()
        for role in circuit.roles
        if role.model == id and role.head
        for head in role.heads
    }
    return {head: by_evidence(catalog.who(id, head)) for head in sorted(heads)}
