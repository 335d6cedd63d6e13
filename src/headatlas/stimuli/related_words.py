"""Lists of word pairs that come back with a related first word: 'old lamp, high river; low river, young lamp'."""

import random
from collections.abc import Mapping
from types import MappingProxyType

from headatlas.stimuli.cases import segments, tokenize
from headatlas.stimuli.lexicon import PLACES, THINGS
from headatlas.stimuli.mappings import MAPPINGS
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

# By kind of likeness, the words that may stand first and the related word that comes back.
RELATED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "opposites": MAPPINGS["antonym"],
        "plurals": MAPPINGS["plural"],
        "past tenses": MAPPINGS["past"],
    }
)


def usable(words: Vocabulary, kind: str, at_least: int) -> dict[str, str]:
    """The related pairs of a kind of which both words are single tokens; no two pairs share a word.

    Raises:
        UntestableError: if there are fewer than `at_least`.
    """
    found: dict[str, str] = {}
    for first, second in RELATED[kind].items():
        if {first, second} & {*found, *found.values()}:
            continue
        if words.single(first) is not None and words.single(second) is not None:
            found[first] = second
    if len(found) < at_least:
        raise UntestableError(f"only {len(found)} of the {kind} have two words of one token, and {at_least} are needed")
    return found


def again(words: Vocabulary, kind: str, count: int, rng: random.Random) -> Prompt:
    """`count` pairs of a word and a follower, then the followers again, in another order, each after a related word.

    In the corrupted prompt the words of the second part are related to none of the list; all else is the same. Pairs
    lead from each word of the second part to the follower of its relative in the first part; readouts ask for the
    follower there, against all other followers.

    Args:
        words: vocabulary of the model.
        kind: a key of RELATED.
        count: number of pairs, at least two.
        rng: draws words and orders.

    Raises:
        UntestableError: if the tokenizer has too few of the words as single tokens.
    """
    related = usable(words, kind, 2 * count)
    drawn = rng.sample(list(related), 2 * count)
    turned = [rng.random() < 0.5 for _ in drawn]  # either word of a pair may be the one that comes first
    first = [related[word] if turn else word for word, turn in zip(drawn, turned, strict=True)]
    second = [word if turn else related[word] for word, turn in zip(drawn, turned, strict=True)]
    taken = {*related, *related.values()}
    things = words.singles((each for each in (*THINGS, *PLACES) if each not in taken), at_least=count)
    followers = rng.sample(things, count)
    order = rng.sample(range(count), count)
    while order == list(range(count)):
        order = rng.sample(range(count), count)

    def write(cues: list[str]) -> tuple[tuple[int, ...], list[int], list[int], list[int]]:
        told = [((f" {first[each]}", "told"), (f" {followers[each]}", "follower"), ",") for each in range(count)]
        asked = [((f" {cues[each]}", "cue"), (f" {followers[each]}", "repeated"), ",") for each in order]
        parts = [part for each in (*told, *asked) for part in each]
        made = tokenize(words, segments("List:", *parts[:-2]))  # up to the last cue
        return made.ids, made.at("follower"), made.at("cue"), made.at("repeated")

    tokens, at_first, cues, _ = write(second[:count])
    corrupted, *_ = write(second[count:])
    ids = [words.continuation(f" {word}")[0] for word in followers]
    return Prompt(
        tokens=tokens,
        corrupted=corrupted,
        pairs=tuple((cue, at_first[each]) for cue, each in zip(cues, order, strict=True)),
        readouts=tuple(
            Readout(cue, ids[each], tuple(id for id in ids if id != ids[each]))
            for cue, each in zip(cues, order, strict=True)
        ),
    )
