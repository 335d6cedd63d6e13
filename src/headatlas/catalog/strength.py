"""Orders evidence: the strongest findings of a head type, those that dispute it, and the names of a head."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import get_args

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.collections import Naming
from headatlas.catalog.schema import Checked, Finding, Kind
from headatlas.notation import Head

KINDS: tuple[Kind, ...] = ("causal", "mechanistic", "correlational", "behavioural")  # strongest first
_CHECKED: tuple[Checked, ...] = get_args(Checked)


def strength(finding: Finding) -> tuple[int, ...]:
    """A key that sorts the strongest finding first: its kind, how it was checked, and what it gives."""
    has = (finding.figure or finding.scores, finding.heads, finding.n, finding.formula)
    return KINDS.index(finding.kind), _CHECKED.index(finding.checked), *(not each for each in has)


def strongest(findings: Iterable[Finding], count: int, per_source: int = 1) -> list[Finding]:
    """The strongest supporting findings; more than `per_source` of a source only where places are left."""
    taken: Counter[str] = Counter()
    first: list[Finding] = []
    later: list[Finding] = []
    for finding in sorted((each for each in findings if each.stance == "supports"), key=strength):
        (first if taken[finding.source] < per_source else later).append(finding)
        taken[finding.source] += 1
    return [*first, *later][:count]


def disputing(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that contradict, then those that qualify; the strongest of each first."""
    found = [each for each in findings if each.stance != "supports"]
    return sorted(found, key=lambda each: (each.stance != "contradicts", strength(each)))


def name_strength(naming: Naming) -> tuple[bool, bool, int, int]:
    """A key that sorts the names of one head: causal or mechanistic support first, then any, then dispute alone.

    Among equals the name that a finding gives to the fewest heads says most; then that of the most findings.
    """
    causes = [each for each in naming.findings if each.kind in ("causal", "mechanistic")]
    about = min((len(each.heads) for each in causes or naming.findings), default=0)
    return not naming.findings, not causes, about, -len(naming.findings)


def by_evidence(namings: Iterable[Naming]) -> list[Naming]:
    """The names of one head, the best supported first."""
    return sorted(namings, key=lambda naming: (name_strength(naming), naming.head_type.id))


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
