"""Reasoning in written steps over categories that nobody knows: which rule is next, what it says, what follows.

Design after the chains of thought of dutta2024how: every step is a decision for a rule, a copy of it, and a conclusion.
The authors invent words for categories; here common words are put together at random, so that a category is one token.
"""

import random
from dataclasses import dataclass
from typing import Literal

from headatlas.stimuli.cases import Segment, in_same_places, segments
from headatlas.stimuli.lexicon import NAMES, THINGS
from headatlas.stimuli.prompts import Prompt, Readout, Vocabulary

CATEGORIES: tuple[str, ...] = tuple(word for word in THINGS if word[0] not in "aeiou")  # that follow "a"
Task = Literal["decision", "copying", "inference"]
IN_CHAIN = 5


@dataclass(frozen=True)
class Chain:
    """Two rules to be applied one after the other, and one that is not.

    Attributes:
        name: of somebody.
        words: three categories, each a kind of the next, and two others, the first a kind of the second.
        order: in which the rules from words 0, 1 and 3 are written.
    """

    name: str
    words: tuple[str, ...]
    order: tuple[int, ...]

    def told(self, after: dict[int, int], is_a: int) -> list[str]:
        """The rules and the fact; `after` says which word each rule leads to, `is_a` which category the fact names."""
        rules = [f"Every {self.words[one]} is a {self.words[after[one]]}." for one in self.order]
        return [*rules, f"{self.name} is a {self.words[is_a]}."]


TRUE: dict[int, int] = {0: 1, 1: 2, 3: 4}


def steps(chain: Chain, task: Task, hop: int, corrupted: bool = False) -> str:
    """The text up to the word that the task asks for, in the first or second application of a rule (hop 0 or 1).

    In the corrupted prompt another word is right: the step before names another category (decision), or the rule
    (copying) or its copy in the steps (inference) leads to another one.
    """
    now, after = hop, dict(TRUE)
    if corrupted and task != "decision":  # the rule that is applied and the one that is not exchange what they say
        after[now], after[3] = TRUE[3], TRUE[now]
    start = 3 if corrupted and task == "decision" and hop == 0 else 0
    name, words = chain.name, chain.words
    done = [f"{name} is a {words[start]}."]
    if hop:
        done.append(f"Every {words[0]} is a {words[after[0]]}.")
        done.append(f"{name} is a {words[3 if corrupted and task == 'decision' else after[0]]}.")
    if task == "decision":
        done.append("Every")
    else:
        done.append(f"Every {words[now]} is a" + (f" {words[after[now]]}. {name} is a" if task == "inference" else ""))
    return " ".join([*chain.told(after, start), "Steps:", *done])


def solved(chain: Chain) -> str:
    """A chain with all of its steps."""
    name, words = chain.name, chain.words
    done = [f"{name} is a {words[0]}."]
    for now in (0, 1):
        done.append(f"Every {words[now]} is a {words[now + 1]}. {name} is a {words[now + 1]}.")
    return " ".join([*chain.told(TRUE, 0), "Steps:", *done])


def chains(words: Vocabulary, rng: random.Random, count: int) -> list[Chain]:
    """Draw chains that share no word; all words are single tokens.

    Raises:
        UntestableError: if too few categories or names are single tokens.
    """
    categories = rng.sample(words.singles(CATEGORIES, at_least=IN_CHAIN * count), IN_CHAIN * count)
    names = rng.sample(words.singles(NAMES, at_least=count), count)
    return [
        Chain(name, tuple(categories[number * IN_CHAIN : (number + 1) * IN_CHAIN]), tuple(rng.sample(sorted(TRUE), 3)))
        for number, name in enumerate(names)
    ]


def prompt(words: Vocabulary, task: Task, examples: int, rng: random.Random) -> Prompt:
    """A chain after solved ones, cut before the word that the task asks for, and read there.

    The rivals are the other categories of the chain; the first of them is right in the corrupted prompt.
    """
    *shown, asked = chains(words, rng, examples + 1)
    hop = rng.randrange(2)
    lead = "".join(f"{solved(chain)}\n" for chain in shown)

    def text(corrupted: bool) -> tuple[Segment, ...]:
        return segments(lead, steps(asked, task, hop, corrupted))

    read, other = in_same_places(words, text(False), text(True))
    right, wrong = (hop, 3) if task == "decision" else (TRUE[hop], TRUE[3])
    tokens = [words.continuation(f" {word}")[0] for word in asked.words]
    rivals = [tokens[wrong], *(token for place, token in enumerate(tokens) if place not in (right, wrong))]
    return Prompt(read.ids, other.ids, readouts=(Readout(len(read.ids) - 1, tokens[right], tuple(rivals)),))
