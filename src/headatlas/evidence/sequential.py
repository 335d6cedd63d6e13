"""How many random sets a causal test needs: a Monte Carlo test that stops when its answer stands.

The test compares the effect of the selected heads with the effects of random sets, drawn one after the other. Let k of
n sets reach the effect of the selected heads. All N sets would show a cause if k stays below a limit: with N = 200 and
5%, at most 9. The test stops

- without a cause, as soon as k passes that limit (Besag and Clifford, 1991, doi:10.1093/biomet/78.2.301). All N sets
  would say the same;
- with a cause, at a few looks before the end: after 68 sets if none reached the effect, after 110 if at most one did,
  after 150 if at most two did. All N sets could say otherwise only if at least ten of the remaining sets reach it.

The looks are fixed so that the rate of false positives of the whole test stays at 5%. If the selected heads are no
different from random ones, all orders of the effects are equally likely, so the next set reaches the effect with
probability (k + 1) / (n + 2). The probability of every outcome follows exactly; nothing is simulated. A p value is the
probability of all outcomes at least as extreme, by (1 + k) / (1 + n).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

Answer = Literal["cause", "no cause", "open"]

# An effect above n random sets has p = 1 / (n + 1): fewer sets than this cannot reach 0.05.
ENOUGH_SETS = 19
_CHECKS = 20  # sets between two checks whether the limit is passed; half as many where so few are drawn at most
_TINY = 1e-12


@dataclass(frozen=True)
class StoppingRule:
    """When a sequential Monte Carlo test stops.

    Attributes:
        most: the largest number of sets.
        limit: the largest k of all `most` sets that still shows a cause; -1 if `most` is too small for any.
        looks: number of sets -> the largest k that shows a cause there. The last look is `most`.
    """

    most: int
    limit: int
    looks: Mapping[int, int]

    def answer(self, n: int, k: int) -> Answer:
        """What is known after n sets, of which k reach the effect of the selected heads."""
        if k > self.limit:
            return "no cause"
        return "cause" if k <= self.looks.get(n, -1) else "open"

    def stages(self) -> Iterator[int]:
        """Numbers of sets after which the test is looked at, ascending; the last is `most`."""
        step = _CHECKS if self.most > _CHECKS else _CHECKS // 2
        yield from sorted({*range(step, self.most, step), *self.looks})

    def reason(self, n: int, k: int) -> str:
        """Why the test stopped after n sets, of which k reach the effect, as text; empty if all sets were drawn."""
        if n == self.most:
            return ""
        reach = "reach" if k > 1 else "reaches"
        seen = f"{k or 'none'} of the first {n} of {self.most} random sets {reach} the effect"
        if self.answer(n, k) == "cause":
            return f"{seen}, few enough to show a cause"
        return f"{seen}, and at most {self.limit} of {self.most} may"

    def p(self, n: int, k: int) -> float:
        """Probability of an outcome as extreme as k of n, if the selected heads are no different from random ones."""
        seen = (1 + k) / (1 + n)
        return sum(chance for at, reached, chance in _outcomes(self) if (1 + reached) / (1 + at) <= seen + _TINY)

    def level(self) -> float:
        """Probability that the test shows a cause, if the selected heads are no different from random ones."""
        return sum(chance for n, k, chance in _outcomes(self) if self.answer(n, k) == "cause")

    def __hash__(self) -> int:
        return hash((self.most, self.limit, tuple(self.looks.items())))


# The early looks for a test of 5% by the largest number of sets. They were chosen once, by the exact level of the test.
_EARLY: Mapping[int, Mapping[int, int]] = {200: {68: 0, 110: 1, 150: 2}}


def stopping_rule(most: int, percentile: float = 95.0, early: bool = True) -> StoppingRule:
    """The rule for a test with at most `most` random sets.

    Args:
        most: the largest number of sets.
        percentile: the percentage of random sets that the selected heads must exceed, in the sense of
            (1 + k) / (1 + most) <= 1 - percentile / 100.
        early: whether the test may stop early with a cause. It may not if all sets that exist are drawn.
    """
    limit = int((1 - percentile / 100) * (1 + most) + _TINY) - 1
    looks = dict(_EARLY.get(most, {})) if early and percentile == 95.0 else {}
    return StoppingRule(most, limit, {**looks, most: limit})


@cache
def _outcomes(rule: StoppingRule) -> tuple[tuple[int, int, float], ...]:
    """Every outcome (n, k) at which the test ends, with its probability if all orders are equally likely."""
    going, ended = {0: 1.0}, []
    stages = set(rule.stages())
    for n in range(1, rule.most + 1):
        after: dict[int, float] = {}
        for k, chance in going.items():
            reaches = (k + 1) / (n + 1)
            after[k + 1] = after.get(k + 1, 0.0) + chance * reaches
            after[k] = after.get(k, 0.0) + chance * (1 - reaches)
        stops = {k for k in after if n in stages and rule.answer(n, k) != "open"}
        ended += [(n, k, after[k]) for k in stops]
        going = {k: chance for k, chance in after.items() if k not in stops}
    return tuple(ended)
