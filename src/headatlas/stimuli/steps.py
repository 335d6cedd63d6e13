"""Calculations in written steps: the parity of bits, sums, and years that follow a year."""

import random
from dataclasses import dataclass, replace

from headatlas.stimuli.cases import Case, Partition, Segment, fill_roles, filled, in_partition, segments
from headatlas.stimuli.prompts import UntestableError, Vocabulary

BITS: tuple[str, str] = (" 0", " 1")


def parity(split: Partition, rng: random.Random, length: int | None = None) -> Case:
    """Bits, then the parity after each bit, then the parity of all.

    The iteration task of cabannes2024iteration: each step is the exclusive or of the previous step and the next bit.
    The corrupted prompt has other random bits.
    """
    while True:
        bits = [rng.randrange(2) for _ in range(length or rng.randint(2, 9))]
        if in_partition(split, "parity", *map(str, bits)):
            break
    other = bits
    while other == bits:
        other = [rng.randrange(2) for _ in bits]

    def write(row: list[int]) -> tuple[Segment, ...]:
        state = 0
        steps: list[Segment] = []
        for bit in row:
            state ^= bit
            steps.append(Segment(BITS[state], known=True, role="step"))
        return (
            Segment("Bits:"),
            *(Segment(BITS[bit], role="bit") for bit in row),
            *segments(". Steps:", *steps, ". Their sum is"),
        )

    right, wrong = (" odd", " even") if sum(bits) % 2 else (" even", " odd")
    return Case(write(bits), (right,), (wrong,), write(other))


LARGEST = 20
SUMS: tuple[str, ...] = ("The sum of{first} and{second} is", "Sum:{first} +{second} =", "{first} +{second} =")


def addition(split: Partition, rng: random.Random, form: str | None = None, changed: int = 0) -> Case:
    """Two numbers to add. The corrupted prompt changes the first number, or the second if `changed` is 1.

    `form` is one of SUMS, drawn by default.
    """
    while True:
        first, second = rng.randint(1, LARGEST), rng.randint(1, LARGEST)
        if in_partition(split, "sum", str(first), str(second)):
            break
    form = rng.choice(SUMS) if form is None else form
    other = rng.choice([n for n in range(1, LARGEST + 1) if n != (first, second)[changed]])

    def write(one: int, two: int) -> tuple[Segment, ...]:
        return fill_roles(form, {"first": (f" {one}", "addend"), "second": (f" {two}", "addend")})

    right = first + second
    near = tuple(f" {n}" for n in range(max(2, right - 5), right + 6) if n != right)
    corrupted = write(first, other) if changed else write(other, second)
    return Case(write(first, second), (f" {right}",), near, corrupted)


def chain(split: Partition, rng: random.Random, count: int | None = None) -> Case:
    """Three or four small numbers to add in written steps, and the answer. In the corrupted prompt the last written
    step is wrong.
    """
    while True:
        numbers = [rng.randint(1, 12) for _ in range(count or rng.randint(3, 4))]
        if sum(numbers) <= 40 and in_partition(split, "chain", *map(str, numbers)):
            break
    off = rng.choice((-2, -1, 1, 2))

    def write(change: int) -> tuple[Segment, ...]:
        made = list(segments("Add", *((f" {number}", "addend") for number in numbers), ". Steps:"))
        total = numbers[0]
        for place, number in enumerate(numbers[1:]):
            total += number
            last = place == len(numbers) - 2
            made.append(Segment(f" {total + change * last}", known=True, role="step"))
            made.append(Segment("." if last else ","))
        return (*made, Segment(" So the answer is"))

    right = sum(numbers)
    return Case(write(0), (f" {right}",), (f" {right + off}",), write(off))


def wrong_step(case: Case, place: int, rng: random.Random) -> tuple[Segment, ...]:
    """A chain of steps in which one is wrong; `place` counts from 0, or from the end if negative."""
    number = [index for index, part in enumerate(case.segments) if part.role == "step"][place]
    step = case.segments[number]
    if any(part.role == "bit" for part in case.segments):
        other = BITS[step.text == BITS[0]]
    else:
        other = f" {int(step.text) + rng.choice((-2, -1, 1, 2))}"
    return (*case.segments[:number], replace(step, text=other), *case.segments[number + 1 :])


EVENTS: tuple[str, ...] = tuple("war journey reign project trial strike crisis drought siege voyage".split())
YEARS: tuple[str, ...] = (
    "The{event} lasted from the year{century}{year} to the year{century}",
    "The{event} began in{century}{year} and ended in{century}",
    "From{century}{year} on there was a{event}, until{century}",
)


def greater_year(split: Partition, rng: random.Random, template: str | None = None, corrupted: int = 1) -> Case:
    """A span of years, cut before the last two digits of its end; any later year is right (after hanna2023how).

    The corrupted prompt begins in year `corrupted` of the century, 01 as in the paper. `template` is one of YEARS,
    drawn by default.
    """
    while True:
        century, year = str(rng.randint(11, 17)), rng.randint(2, 98)
        if in_partition(split, "year", century, str(year)):
            break
    event = rng.choice(EVENTS)
    form = rng.choice(YEARS) if template is None else template

    def write(start: int) -> tuple[Segment, ...]:
        return filled(form, event=f" {event}", century=f" {century}", year=f"{start:02d}")

    later = [f"{n:02d}" for n in range(year + 1, 100)]
    rng.shuffle(later)
    return Case(write(year), tuple(later), tuple(f"{n:02d}" for n in range(2, year + 1)), write(corrupted))


@dataclass(frozen=True)
class YearEndings:
    """The tokens with which the last two digits of years begin.

    Attributes:
        tokens: in the order of the years; None where a year has no token of its own.
        years: how many years begin with each token: 1, or 10 where a token is a digit.
    """

    tokens: tuple[int | None, ...]
    years: int

    def sides(self, year: int) -> tuple[list[int], list[int]]:
        """The tokens of later years, and those of other years. A digit with which both begin is in neither.

        Raises:
            UntestableError: if there are none of one of them.
        """
        start = year // self.years
        earlier = self.tokens[: start + (self.years == 1)]
        later, others = ([token for token in side if token is not None] for side in (self.tokens[start + 1 :], earlier))
        if not later or not others:
            raise UntestableError(f"no year after {year:02d} begins with another digit, or none before it")
        return later, others


def year_endings(vocab: Vocabulary) -> YearEndings:
    """The tokens of 00 to 99, with none for 00 and 01 where they are more than one token; or the digits.

    Raises:
        UntestableError: if 02 to 99 are neither single tokens nor written in digits.
    """
    numbers = [vocab.continuation(f"{number:02d}") for number in range(100)]
    if all(len(each) == 1 for each in numbers[2:]):
        return YearEndings(tuple(each[0] if len(each) == 1 else None for each in numbers), 1)
    digits = [vocab.continuation(str(digit)) for digit in range(10)]
    if all(len(each) == 1 for each in digits) and numbers == [tens + ones for tens in digits for ones in digits]:
        return YearEndings(tuple(digit for (digit,) in digits), 10)
    raise UntestableError("the numbers 02 to 99 are neither single tokens of this tokenizer nor written in digits")
