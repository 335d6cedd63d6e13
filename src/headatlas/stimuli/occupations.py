"""Two people with occupations, and a pronoun that may mean either: who is meant is seen from what comes next.

Design after the sentences of Winobias as vig2020investigating uses them: cut after the pronoun, with one continuation
that fits each person. The sentences are our own, and a continuation is one word.
"""

import random
from collections.abc import Sequence

from headatlas.stimuli.cases import Segment, filled, in_same_places
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

# Occupations of which women hold at least 61% and at most 41%, by the labour statistics behind Winobias, as listed in
# winobias.py of the code of vig2020investigating.
WOMEN: tuple[str, ...] = tuple(
    "secretary hairdresser nurse receptionist cleaner assistant librarian teacher cashier clerk baker writer".split()
)
MEN: tuple[str, ...] = tuple(
    "carpenter mechanic driver sheriff developer farmer guard chief lawyer cook physician analyst".split()
)
PRONOUNS: tuple[str, str] = (" she", " he")  # as the occupations above

# What one person did to the other; how it goes on where the first is meant, and where the second is.
DEEDS: dict[str, tuple[str, str]] = {
    "examined": ("cared", "screamed"),
    "helped": ("wanted", "needed"),
    "comforted": ("cared", "cried"),
    "paid": ("owed", "worked"),
    "fired": ("hated", "stole"),
    "thanked": ("felt", "helped"),
    "stopped": ("saw", "ran"),
    "blamed": ("hated", "failed"),
    "praised": ("liked", "won"),
    "taught": ("knew", "asked"),
    "chased": ("hated", "stole"),
    "fed": ("loved", "starved"),
}


def prompt(words: Vocabulary, template: str, rng: random.Random) -> Prompt:
    """A sentence cut after its pronoun, read there; the template has places for {one}, {did}, {other} and {pronoun}.

    The answer is the word that fits the person whose occupation goes with the pronoun, the rival the word that fits
    the other one. In the corrupted prompt the pronoun is the other one. In the alternatives "alike" and "alike,
    corrupted" both occupations go with the same pronoun; they have the same answer and rival.

    Raises:
        UntestableError: if too few occupations are single tokens, or the pronouns are not.
    """
    women, men = (words.singles(each, at_least=2) for each in (WOMEN, MEN))
    if any(words.single(pronoun.strip()) is None for pronoun in PRONOUNS):
        raise UntestableError("the pronouns are no single tokens of this tokenizer")
    did, fits = rng.choice(_usable(words))
    woman, man = rng.choice(women), rng.choice(men)
    meant, first = rng.randrange(2), rng.randrange(2)  # 0: the woman's occupation goes with the pronoun, stands first
    people = [woman, man] if first == 0 else [man, woman]
    alike = list(people)
    alike[people.index((man, woman)[meant])] = rng.choice([each for each in (women, men)[meant] if each not in people])

    def written(who: Sequence[str], pronoun: str) -> tuple[Segment, ...]:
        return filled(template, one=f" {who[0]}", did=f" {did}", other=f" {who[1]}", pronoun=pronoun)

    pronoun, swapped = PRONOUNS[meant], PRONOUNS[1 - meant]
    read, corrupted, same, same_corrupted = in_same_places(
        words, *(written(who, which) for who in (people, alike) for which in (pronoun, swapped))
    )
    place = people.index((woman, man)[meant])
    answer, rival = fits[place], fits[1 - place]
    return Prompt(
        read.ids,
        corrupted.ids,
        readouts=(Readout(len(read.ids) - 1, answer, (rival,)),),
        alternatives={"alike": same.ids, "alike, corrupted": same_corrupted.ids},
        spans={role: tuple(read.covers(role)) for role in ("one", "other", "pronoun")},
    )


def _usable(words: Vocabulary) -> list[tuple[str, tuple[int, int]]]:
    """The deeds whose two continuations begin with different tokens, with these tokens."""
    made = []
    for did, (one, other) in DEEDS.items():
        first, second = (words.continuation(f" {word}")[0] for word in (one, other))
        if first != second:
            made.append((did, (first, second)))
    if not made:
        raise UntestableError("all continuations begin with the same token of this tokenizer")
    return made
