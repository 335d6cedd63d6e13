"""Word-to-word mappings shown by example (antonyms, plurals, first letters …), and labels given by category.

After the tasks of todd2024function; the word lists are our own.
"""

import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from headatlas.stimuli import facts, ordinals
from headatlas.stimuli.cases import Case, Partition, Segment, in_partition, segments
from headatlas.stimuli.lexicon import NAMES

_OPPOSITES = """
hot:cold big:small old:young new:used long:short warm:cool soft:hard clean:dirty heavy:light fast:slow quiet:loud
bright:dark happy:sad rich:poor strong:weak high:low wide:narrow thick:thin deep:shallow full:empty open:closed
early:late left:right up:down in:out on:off front:back top:bottom inside:outside above:below before:after
always:never more:less many:few good:bad true:false right:wrong easy:difficult safe:dangerous wet:dry sweet:sour
sharp:blunt smooth:rough brave:afraid kind:cruel polite:rude wise:foolish alive:dead awake:asleep alone:together
first:last north:south east:west summer:winter day:night morning:evening man:woman boy:girl king:queen father:mother
brother:sister son:daughter uncle:aunt husband:wife friend:enemy love:hate win:lose buy:sell give:take come:go
push:pull start:stop rise:fall
""".split()
_PAST = """
go:went see:saw eat:ate drink:drank read:read drive:drove ride:rode play:played wear:wore open:opened feed:fed
throw:threw wash:washed climb:climbed write:wrote fix:fixed paint:painted cross:crossed walk:walked run:ran sing:sang
swim:swam sleep:slept speak:spoke take:took give:gave find:found hold:held know:knew grow:grew fall:fell buy:bought
sell:sold bring:brought think:thought catch:caught teach:taught build:built send:sent lose:lost win:won sit:sat
stand:stood tell:told feel:felt leave:left keep:kept meet:met break:broke choose:chose steal:stole hide:hid
""".split()


def _table(pairs: list[str]) -> dict[str, str]:
    made = dict(pair.split(":") for pair in pairs)
    return {left: right for left, right in made.items() if left != right}


_COUNTED = """
apple egg bird cat dog horse cow pig duck lion bear snake frog car train boat plane bike truck ship chair table bed
door window clock mirror plate spoon pen stone tree lake hill field star shirt shoe sock belt bag rope nail wheel
engine radio camera drum guitar song picture doll kite candle pillow blanket ring book letter ball hat cup coat
""".split()

MAPPINGS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "antonym": {**_table(_OPPOSITES), **{right: left for left, right in _table(_OPPOSITES).items()}},
        "plural": {word: f"{word}s" for word in _COUNTED},
        "past": _table(_PAST),
        "capital": {country: row[0] for country, row in facts.COUNTRIES.items()},
        "first letter": {name: name[0] for name in NAMES[::2]},
        "kind": dict(facts.BY_NAME["kind"].pairs),
        "next": {
            first: second
            for name in ("numbers", "number words", "days", "months", "letters")
            for first, second in zip(ordinals.CLASSES[name], ordinals.CLASSES[name][1:], strict=False)
        },
    }
)
# Each pair of a mapping as a sentence, so that pairs never shown in few-shot lists are still known.
SAID: Mapping[str, str] = MappingProxyType(
    {
        "antonym": "The opposite of{word} is",
        "plural": "One{word}, two",
        "past": "Today I{word}, yesterday I",
        "capital": "The capital of{word} is",
        "first letter": "The name{word} begins with",
        "kind": "The{word} is a kind of",
        "next": "After{word} comes",
    }
)
PairFormat: TypeAlias = tuple[str, str, str]
# Text before a word, before its image, and before the next pair.
FORMATS: tuple[PairFormat, ...] = (("", " ->", ","), ("", ":", ";"), (" Q:", " A:", "."))


def few_shot(
    split: Partition,
    rng: random.Random,
    task: str | None = None,
    shots: int | None = None,
    form: PairFormat | None = None,
) -> Case:
    """Examples of a mapping, then a word to be mapped. The corrupted prompt shuffles the images of the examples.

    Args:
        split: partition of the queried word.
        rng: draws everything that is not given.
        task: a key of MAPPINGS.
        shots: number of examples.
        form: how pairs are written, one of FORMATS.
    """
    task = task or rng.choice(list(MAPPINGS))
    table = MAPPINGS[task]
    shots = rng.randint(3, 7) if shots is None else shots
    usable = list(table) if split == "held-out" else [word for word in table if in_partition("train", task, word)]
    word = rng.choice([each for each in usable if in_partition(split, task, each)])
    examples: list[str] = []
    while len(examples) < shots:
        drawn = rng.choice(usable)
        if (drawn not in (word, table[word], *examples) and table[drawn] != table[word]) or task == "kind":
            examples.append(drawn)
    before, arrow, between = rng.choice(FORMATS) if form is None else form
    moved = [*examples[1:], examples[0]] if examples else []

    def write(images: list[str]) -> tuple[Segment, ...]:
        made: list[Segment] = []
        for index, (left, right) in enumerate(zip(examples, images, strict=True)):
            made += segments(before, (f" {left}", "word"), arrow)
            known = index > 1 and in_partition("train", task, left)
            made += [Segment(f" {table[right]}", known=known, role="image"), Segment(between)]
        return (*made, *segments(before, (f" {word}", "query"), arrow))

    rivals = tuple(dict.fromkeys(f" {table[each]}" for each in examples if table[each] != table[word]))
    return Case(write(examples), (f" {table[word]}",), rivals, write(moved), between)


def said(split: Partition, rng: random.Random, task: str | None = None) -> Case:
    """One pair of a mapping, stated as a sentence."""
    task = task or rng.choice(list(MAPPINGS))
    word, image = rng.choice(list(MAPPINGS[task].items()))
    other = rng.choice([each for each, value in MAPPINGS[task].items() if value != image])
    before, after = SAID[task].split("{word}")

    def write(what: str) -> tuple[Segment, ...]:
        return segments(before, (f" {what}", "word"), after)

    return Case(write(word), (f" {image}",), (f" {MAPPINGS[task][other]}",), write(other))


LABELS: tuple[str, ...] = tuple("foo bar zip zap one two red blue yes no left right plus minus x y".split())


def few_shot_labels(
    split: Partition,
    rng: random.Random,
    shots: int | None = None,
    form: PairFormat | None = None,
    among: Sequence[str] = LABELS,
) -> Case:
    """Words of two categories, each category with a label, then a word to be labelled. The corrupted prompt swaps the
    labels.

    The labels are drawn from `among`; `shots` is the number of examples, and `form` is one of FORMATS.
    """
    shots = rng.randint(5, 8) if shots is None else shots
    kinds = rng.sample([kind for kind, words in facts.KINDS.items() if len(words) >= 6], 2)
    labels = rng.sample(among, 2)
    usable = [[word for word in facts.KINDS[kind] if in_partition("train", "label", word)] for kind in kinds]
    asked = rng.randrange(2)
    final = rng.choice(
        [word for word in facts.KINDS[kinds[asked]] if in_partition(split, "label", word)] or usable[asked]
    )
    before, arrow, between = rng.choice(FORMATS) if form is None else form
    sides = [0, 1, *(rng.randrange(2) for _ in range(shots - 2))]
    rng.shuffle(sides)
    drawn = [rng.choice([word for word in usable[side] if word != final]) for side in sides]

    def write(names: list[str]) -> tuple[Segment, ...]:
        made: list[Segment] = []
        for index, (word, side) in enumerate(zip(drawn, sides, strict=True)):
            known = side in sides[:index]
            made += segments(before, (f" {word}", "word"), arrow)
            made += [Segment(f" {names[side]}", known=known, role="label"), Segment(between)]
        return (*made, *segments(before, (f" {final}", "query"), arrow))

    right, wrong = labels[asked], labels[1 - asked]
    return Case(write(labels), (f" {right}",), (f" {wrong}",), write(labels[::-1]), between)


def acronym(split: Partition, rng: random.Random, names: Sequence[str] = NAMES) -> Case:
    """An organisation named after three words, by default people, and their initials. The corrupted prompt has other
    names.
    """
    while True:
        words = rng.sample(names, 6)
        mine, other = words[:3], words[3:]
        if in_partition(split, "acronym", *mine):
            break

    def write(three: list[str]) -> tuple[Segment, ...]:
        made = [Segment("The"), *(Segment(f" {word}", role="word") for word in three), Segment(" (")]
        return (*made, *(Segment(word[0], known=True, role="initial") for word in three[:2]))

    rivals = tuple(letter for letter in dict.fromkeys(word[0] for word in (*mine, *other)) if letter != mine[2][0])
    return Case(write(mine), (mine[2][0],), rivals, write(other), ")")
