"""Letter movers put the first letter of a word next while an acronym is written.

Claim      In "The Mary John Ben (MJ" the head attends to the word whose turn it is, and its output raises the logit of
           that word's capital letter (garciacarrasco2024how; garciacarrasco2024detecting).
Stimuli    Acronyms of three words of one token each, as in the second of the two studies, read where the first, the
           second or third letter comes next. The words are names with three different initials, and the letters are a
           token each, as both studies ask. In the corrupted prompt the word whose turn it is has changed places with
           another.
Score      What the head, through its attention to the word whose turn it is, writes directly into the logit of that
           word's letter, less the mean of the 25 other capitals, as a share of the model's mean difference. This joins
           the two things that the studies look at, attention and output, on the states that the words really have;
           their test of weights takes tokens of single letters.
Control    In the corrupted prompt, what it writes from the same word, out of turn, into the same letter's logit: a head
           that reads initials off any word is no mover.
Behaviour  How often the right letter has the largest logit of the 26 capitals. Any of the three is right in a third.
Cause      At the end the heads found give what they gave on the corrupted prompt: the right letter should lose its
           lead.
"""

import random
from dataclasses import replace
from string import ascii_uppercase

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.attribution import direct_effects
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, UntestableError, Vocabulary, mappings
from headatlas.stimuli.cases import Case, segments, with_pairs

FAMILIES = {"first letter": 0, "second letter": 1, "third letter": 2}  # letters that stand before it
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
NEEDS_BEHAVIOUR = True


def acronym(vocab: Vocabulary, turn: int, rng: random.Random) -> Case:
    """Three words and the letters before the one in turn, if every word and every letter is a token."""
    drawn = mappings.acronym("held-out", rng)
    three = [part.text for part in drawn.segments if part.role == "word"]
    letters = [word[1] for word in three]
    if len(set(letters)) < 3 or any(vocab.single(word.strip()) is None for word in three):
        raise UntestableError("two initials are the same, or a word is several tokens")
    if len(vocab.continuation(f" ({''.join(letters)}")) != len(vocab.continuation(" (")) + 3:
        raise UntestableError("the tokenizer joins the letters of the acronym")
    swapped = list(three)
    other = rng.choice([place for place in range(3) if place != turn])
    swapped[turn], swapped[other] = three[other], three[turn]

    def write(order: list[str]) -> list[str | tuple[str, str]]:
        named = [(word, "turn" if word == three[turn] else "word") for word in order]
        return ["The", *named, " (", *letters[:turn]]

    rivals = tuple(letter for letter in ascii_uppercase if letter != letters[turn])
    return Case(segments(*write(three)), (letters[turn],), rivals, segments(*write(swapped)))


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """An acronym up to a letter; the pair leads to the word in turn, in the corrupted prompt to where the corrupted
    prompt has it.
    """
    drawn = with_pairs(vocab, lambda: acronym(vocab, FAMILIES[family], rng), "turn", tries=1000)
    [(end, key)] = drawn.pairs
    return replace(drawn, null_pairs=((end, drawn.corrupted.index(drawn.tokens[key])),))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The direct effect of each head through one word, in turn and out of turn: [prompt layer head]."""
    prompts = sample.prompts
    whole = abs(metric_per_prompt(model, prompts, EFFECT)).mean()
    pairs = [prompt.pairs + prompt.null_pairs for prompt in prompts]
    due, moved = ([[each[part][1]] for each in pairs] for part in (0, 1))
    score = direct_effects(model, prompts, due) / whole
    return Scores(score, direct_effects(model, prompts, moved, corrupted=True) / whole)
