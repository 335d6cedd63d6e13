"""Which findings of a head type its page shows first: the strongest, and those that qualify or contradict it."""

from typing import NamedTuple, get_args

from headatlas.catalog.schema import Checked, Finding, HeadType, Stance
from headatlas.catalog.strength import strength, strongest

STRONGEST, DISSENTING, PER_SOURCE = 5, 5, 2  # cards; the second is for those that only qualify
STANCES: tuple[str, ...] = get_args(Stance)
CHECKED_AS: tuple[str, ...] = get_args(Checked)


class Evidence(NamedTuple):
    """The findings of a head type, each once: `strongest` and `dissenting` are shown as cards, `more` are folded."""

    strongest: list[Finding]
    dissenting: list[Finding]
    more: list[Finding]


def shown(head: HeadType) -> Evidence:
    """Sort the findings of a head type; rows of published lists are left out, as they have tables of their own.

    At most two supporting findings of a source are cards, so that one paper does not take every place. Findings that
    contradict, or that a dispute rests on, are always cards.
    """
    own = sorted((each for each in head.findings if each.published_list is None), key=strength)
    disputed = {id for dispute in head.controversies for id in dispute.findings}
    against = [each for each in own if each.stance == "contradicts"]
    qualifying = [each for each in own if each.stance == "qualifies"]
    always = [each for each in qualifying if each.id in disputed]
    others = [each for each in qualifying if each.id not in disputed]
    dissenting = [*against, *always, *others[: max(0, DISSENTING - len(against) - len(always))]]
    strong = strongest(own, STRONGEST, PER_SOURCE)
    cards = {each.id for each in (*strong, *dissenting)}
    return Evidence(strong, dissenting, [each for each in head.findings if each in own and each.id not in cards])
