"""Indirect object identification: two names, one of them repeated; the other one receives the gift.

Design after wang2023interpretability: fifteen templates in two orders (ABBA and BABA). The corrupted prompt has three
unrelated names in the same places, so that no name is repeated. The sentences are our own.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headatlas.stimuli import stories
from headatlas.stimuli.cases import Segment, Tokens, fill_roles, tokenize
from headatlas.stimuli.lexicon import GIFTS, NAMES, PLACES
from headatlas.stimuli.prompts import Prompt, Readout, Vocabulary

# {A}, {B}: the two people, in the order of the first clause; {S}: the repeated name.
TEMPLATES: tuple[str, ...] = (
    "Then,{A} and{B} went to the{place}.{S} gave a{gift} to",
    "When{A} and{B} got a{gift} at the{place},{S} decided to give it to",
    "After{A} and{B} went to the{place},{S} gave a{gift} to",
    "While{A} and{B} were working at the{place},{S} gave a{gift} to",
    "Then,{A} and{B} had a long talk at the{place}.{S} gave a{gift} to",
    "Later,{A} and{B} walked to the{place}, and{S} handed a{gift} to",
    "One day{A} met{B} at the{place}, where{S} offered a{gift} to",
    "Friends{A} and{B} found a{gift} at the{place}.{S} gave it to",
    "In the morning{A} and{B} were at the{place}.{S} brought a{gift} to",
    "Since{A} and{B} had some time at the{place},{S} showed a{gift} to",
    "At the{place},{A} sat next to{B}. Soon{S} passed a{gift} to",
    "Today{A} saw{B} in the{place}, so{S} sold a{gift} to",
    "Once{A} and{B} came back from the{place},{S} sent a{gift} to",
    "Before{A} and{B} left the{place},{S} returned the{gift} to",
    "The{place} was empty when{A} and{B} came in.{S} threw a{gift} to",
)
ORDERS: tuple[str, ...] = ("ABBA", "BABA")


@dataclass(frozen=True)
class Sentence:
    """One prompt, up to the answer, and its variants.

    Attributes:
        template: one of TEMPLATES.
        names: at the three places of the template, each with a leading space; the third is the subject.
        others: three unrelated names, for the corrupted prompt.
        place, gift: further words of the template.
    """

    template: str
    names: tuple[str, str, str]
    others: tuple[str, str, str]
    place: str
    gift: str

    @property
    def subject(self) -> str:
        """The repeated name."""
        return self.names[2]

    @property
    def answer(self) -> str:
        """The other name, the indirect object."""
        first, second, _ = self.names
        return second if first == self.subject else first

    @property
    def text(self) -> str:
        """The text of the prompt."""
        return "".join(segment.text for segment in self.segments)

    @property
    def corrupted(self) -> str:
        """The text of the corrupted prompt, in which no name is repeated."""
        return "".join(segment.text for segment in self.corrupted_segments)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The prompt in segments, with the roles io, s1 and s2 of wang2023interpretability."""
        roles = ("io", "s1") if self.names[0] == self.answer else ("s1", "io")
        return self._fill(self.names, roles, self.place, self.gift)

    @property
    def corrupted_segments(self) -> tuple[Segment, ...]:
        """The prompt with three unrelated names, in segments."""
        return self._fill(self.others, ("io", "s1"), self.place, self.gift)

    def reworded(self, rng: random.Random) -> tuple[Segment, ...]:
        """The prompt with the same names and another place and gift, which do not affect the answer."""
        place = rng.choice([each for each in PLACES if each != self.place])
        gift = rng.choice([each for each in GIFTS if each != self.gift])
        return self._fill(self.names, ("io", "s1"), place, gift)

    def _fill(self, names: tuple[str, str, str], roles: tuple[str, str], place: str, gift: str) -> tuple[Segment, ...]:
        parts = {"A": (names[0], roles[0]), "B": (names[1], roles[1]), "S": (names[2], "s2")}
        return fill_roles(self.template, parts | {"place": (f" {place}", ""), "gift": (f" {gift}", "")})


def sentence(order: str, rng: random.Random, names: Sequence[str] = NAMES) -> Sentence:
    """Draw a template, two names (and three for the corrupted prompt), a place and a gift."""
    template = rng.choice(TEMPLATES)
    io, subject, first, second, third = (f" {name}" for name in rng.sample(list(names), 5))
    place, gift = rng.choice(PLACES), rng.choice(GIFTS)
    a, b = (io, subject) if order == "ABBA" else (subject, io)
    return Sentence(template, (a, b, subject), (first, second, third), place, gift)


def prompt(words: Vocabulary, order: str, told: int, rng: random.Random) -> Prompt:
    """A sentence after a story of `told` sentences; all names are single tokens.

    The alternative "same names" has another place and gift. The readout is at the end; the pair leads from there to the
    second mention of the subject.

    Raises:
        UntestableError: if too few names are single tokens.
    """
    names = words.singles(NAMES, at_least=20)
    drawn = sentence(order, rng, names)
    strangers = [name for name in names if f" {name}" not in (*drawn.names, *drawn.others)]
    lead = (Segment(stories.story(told, rng, strangers)),) if told else ()

    def made(parts: tuple[Segment, ...]) -> Tokens:
        first = replace(parts[0], text=f" {parts[0].text}") if told else parts[0]
        return tokenize(words, (*lead, first, *parts[1:]))

    read, corrupted, reworded = (
        made(parts) for parts in (drawn.segments, drawn.corrupted_segments, drawn.reworded(rng))
    )
    answer, subject = (words.continuation(name)[0] for name in (drawn.answer, drawn.subject))
    end = len(read.ids) - 1
    return Prompt(
        tokens=read.ids,
        corrupted=corrupted.ids,
        pairs=((end, read.at("s2")[0]),),
        readouts=(Readout(end, answer, (subject,)),),
        alternatives={"same names": reworded.ids},
    )
