"""Short documents about where somebody put something, and a question that one of them answers.

Every document tells of one owner, one thing and the place where the thing is. A question names the thing, the owner, or
both; the place answers it.
"""

import random
from dataclasses import dataclass, replace

from headatlas.stimuli.cases import Case, Segment, first_usable, in_place, segments
from headatlas.stimuli.chat import in_chat
from headatlas.stimuli.facts import KINDS
from headatlas.stimuli.lexicon import NAMES, PLACES
from headatlas.stimuli.prompts import Prompt, UntestableError, Vocabulary

EMPTY = " N/A"  # the query that asks for nothing (zhang2025queryfocused)
_OPENING = " It is in the"


@dataclass(frozen=True)
class Deposit:
    """What one document tells."""

    owner: str
    thing: str
    kind: str
    place: str

    @property
    def document(self) -> str:
        """The document."""
        return f" {self.owner} put the {self.thing} in the {self.place}."


def prompt(
    words: Vocabulary,
    rng: random.Random,
    question: str,
    count: int,
    *,
    shared: str = "",
    chat: bool = False,
    answered: bool = False,
) -> Prompt:
    """Documents, a request to find the one that answers a question, and the question.

    The corrupted prompt asks the same documents for another one, the rival. Places differ between all documents; kinds,
    things and owners too, but for what is shared.

    Args:
        words: vocabulary of the model.
        rng: draws.
        question: with a leading space; {thing} and {owner} name what it asks for.
        count: number of documents.
        shared: 'thing' or 'owner', where the rival has it in common with the document that answers.
        chat: whether the prompt is a user's turn in the tokenizer's chat template.
        answered: whether the answer has begun, so that the place comes next. It begins the model's turn in a chat. Read
            there, against the places of all other documents.

    Returns:
        A prompt with spans: 'query', the words of the question; 'gold' and 'rival', the tokens of the two documents;
        'other 1' and so on, those of the others. Pairs lead from all tokens of the query to the gold document.

    Raises:
        UntestableError: if the tokenizer cannot express it.
    """
    return first_usable(lambda: _drawn(words, rng, question, count, shared, chat, answered))


def without_query(words: Vocabulary, prompt: Prompt) -> tuple[int, ...]:
    """The tokens of a prompt whose query is replaced by the empty one; the documents stay where they are."""
    query = prompt.spans["query"]
    return prompt.tokens[: query[0]] + words.continuation(EMPTY) + prompt.tokens[query[-1] + 1 :]


def _deposits(words: Vocabulary, rng: random.Random, count: int, gold: int, rival: int, shared: str) -> list[Deposit]:
    """Draw what the documents tell; owners, things, kinds and places are single tokens.

    Raises:
        UntestableError: if there are too few such words.
    """
    places = rng.sample(words.singles(PLACES, at_least=count), count)
    owners = rng.sample(words.singles(NAMES, at_least=count), count)
    whole = {
        kind: tuple(each for each in (*things, kind) if words.single(each) is not None)
        for kind, things in KINDS.items()
    }
    known = {kind: things[:-1] for kind, things in whole.items() if things[-1:] == (kind,) and things[:-1]}
    if len(known) < count:
        raise UntestableError(f"the tokenizer has whole words for {len(known)} kinds of things; {count} are needed")
    kinds = rng.sample(list(known), count)
    made = [
        Deposit(owner, rng.choice(known[kind]), kind, place)
        for owner, kind, place in zip(owners, kinds, places, strict=True)
    ]
    if shared == "thing":
        made[rival] = replace(made[rival], thing=made[gold].thing, kind=made[gold].kind)
    elif shared == "owner":
        made[rival] = replace(made[rival], owner=made[gold].owner)
    return made


def _drawn(
    words: Vocabulary, rng: random.Random, question: str, count: int, shared: str, chat: bool, answered: bool
) -> Prompt:
    """One draw, which the tokenizer may not be able to express."""
    gold, rival = rng.sample(range(count), 2)
    told = _deposits(words, rng, count, gold, rival, shared)
    others = iter(range(1, count))
    roles = ["gold" if n == gold else "rival" if n == rival else f"other {next(others)}" for n in range(count)]

    opening = (_OPENING if chat else f" Answer:{_OPENING}") if answered else ""

    def write(wanted: Deposit) -> tuple[Segment, ...]:
        asked = question.format(thing=wanted.thing, owner=wanted.owner)
        numbered = (
            part
            for number, (role, each) in enumerate(zip(roles, told, strict=True), 1)
            for part in (f"\n[{number}]", (each.document, role))
        )
        ahead = segments("Notes:", *numbered, "\nFind the note that answers the question. Question:")
        return (*ahead, *segments((asked, "query"), (opening, "opening")))

    rivals = tuple(f" {each.place}" for each in told if each != told[gold])
    made, places = in_place(words, Case(write(told[gold]), (f" {told[gold].place}",), rivals, write(told[rival])))
    pairs = tuple((query, key) for query in places.covers("query") for key in places.covers("gold"))
    made = replace(made, pairs=pairs, readouts=made.readouts if answered else ())
    return in_chat(words, made, opening=len(places.covers("opening"))) if chat else made
