"""The specimen's data: tokenizer, training rows packed from generated documents, and held-out documents.

This module is long because the tokenizer and the rows that it is made from stand together.
"""

import dataclasses
import random
from collections.abc import Mapping
from types import MappingProxyType

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from headatlas.stimuli import lookup, second_language, spelling, stories, world
from headatlas.stimuli.cases import Case, Partition, Segment
from headatlas.stimuli.facts import RELATIONS
from headatlas.stimuli.lexicon import COLORS, FEELINGS, GIFTS, NAMES, PLACES, QUALITIES, THINGS
from headatlas.stimuli.mappings import MAPPINGS
from headatlas.stimuli.ordinals import CLASSES

BOS = "<|endoftext|>"
SPANS = "repeated spans"
# How often a document of each family is drawn; repeated spans fill a row of their own.
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "indirect object": 5.0,
        "listings": 1.5,
        "ordinals": 3.0,
        "stories": 1.0,
        "facts": 3.5,
        "questions": 2.5,
        "conflicts": 2.5,
        "true or false": 5.0,
        "yes or no": 5.0,
        "key-value": 2.5,
        "needles": 1.0,
        "rare words": 0.8,
        "reviews": 0.4,
        "moods": 1.0,
        "letters": 3.0,
        "multiple choice": 7.0,
        "few-shot": 4.0,
        "said mappings": 2.0,
        "few-shot labels": 1.5,
        "acronyms": 1.5,
        "colored objects": 7.0,
        "parity": 2.0,
        "sums": 5.0,
        "sums in steps": 2.0,
        "years": 0.8,
        "dictionary": 1.5,
        "translation": 1.5,
        "consistency": 2.0,
        "agreement": 0.7,
        "sentences": 0.7,
        "long words": 0.8,
    }
)
# Of the tokens that cannot be known, the share that still gets a loss.
PLAIN: Mapping[str, float] = MappingProxyType({"stories": 0.5, "sentences": 0.5})


def train_tokenizer() -> Tokenizer:
    """Train a byte-level BPE with leading spaces as in GPT-2, in which every word of the documents is one token.

    Its training text leaves out long words, so that these have several tokens.
    """
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    decode = decoders.ByteLevel()
    words: dict[str, None] = {}
    for family in world.FAMILIES:
        rng = random.Random(f"tokenizer/{family}")
        for number in range(0 if world.FAMILIES[family] is spelling.long_word else 4000):
            for segment in world.document(family, "held-out" if number % 2 else "train", rng):
                words |= dict.fromkeys(word for word, _ in split.pre_tokenize_str(segment.text))
    corpus = [decode.decode([word]) for word in words]
    listed = [NAMES, THINGS, PLACES, GIFTS, COLORS, QUALITIES, FEELINGS, lookup.RARE, second_language.WORDS.values()]
    listed += [*CLASSES.values(), *(each for table in MAPPINGS.values() for each in (table, table.values()))]
    listed += [each for relation in RELATIONS for each in (relation.pairs, relation.pairs.values())]
    corpus += [f" {word}" for words_of in listed for word in words_of] + [f"{year:02d}" for year in range(100)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decode
    tokenizer.train_from_iterator(
        sorted(set(corpus)),
        trainers.BpeTrainer(
            vocab_size=1 << 16,  # merges end when every word is one token
            special_tokens=[BOS],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return tokenizer


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The composition of the rows of a step.

    Attributes:
        lists: until this step, rows are lists of random tokens, in which what comes back is marked: matching a token
            to its earlier copy is learned before anything else.
        short: until this step, rows are short and mostly repeated spans.
        short_length, length: of a row, in tokens.
        short_tokens, tokens: of a batch.
        widen: the steps in which repeated spans go from nearly fixed to free.
        spans, short_spans: the share of rows that are repeated spans.
        lookups, short_lookups: the share of rows that are lists of random pairs, looked up both ways.
        other_loss: share of the tokens that cannot be known which still get a loss.
    """

    lists: int = 400
    short: int = 2200
    short_length: int = 64
    length: int = 128
    short_tokens: int = 2048
    tokens: int = 4096
    widen: tuple[int, int] = (500, 1700)
    spans: float = 0.22
    short_spans: float = 0.6
    lookups: float = 0.02
    short_lookups: float = 0.2
    other_loss: float = 0.08


class Rows:
    """Rows of token ids, and the tokens that get a loss."""

    def __init__(self, tokenizer: Tokenizer, schedule: Schedule) -> None:
        self._tokenizer = tokenizer
        self._schedule = schedule
        self._vocabulary = tokenizer.get_vocab_size()
        self._encoded: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, cached."""
        if text not in self._encoded:
            ids: list[int] = self._tokenizer.encode(text).ids
            if len(self._encoded) > 100_000:
                return ids  # stories are endless
            self._encoded[text] = ids
        return self._encoded[text]

    def document(self, parts: list[Segment]) -> tuple[list[int], list[bool]]:
        """A document's ids with BOS first, and which of them are predictable."""
        tokens, known = [0], [False]
        for segment in parts:
            ids = self.encode(segment.text)
            tokens += ids
            known += [segment.known] * len(ids)
        return tokens, known

    def batch(self, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step: tokens [row position], and the loss mask of the same shape."""
        plan = self._schedule
        rng = random.Random(f"{seed}/{step}")
        length, total = (plan.short_length, plan.short_tokens) if step < plan.short else (plan.length, plan.tokens)
        rows = [self._row(step, length, rng) for _ in range(total // length)]
        tokens, masks = zip(*rows, strict=True)
        return torch.tensor(tokens), torch.tensor(masks)

    def _row(self, step: int, length: int, rng: random.Random) -> tuple[list[int], list[bool]]:
        plan = self._schedule
        if step < plan.lists and rng.random() < 0.9:
            return self._lists(length, rng, 2 + 12 * step // plan.lists)
        if rng.random() < (plan.short_spans if step < plan.short else plan.spans):
            first, last = plan.widen
            spread = min(1.0, max(0.0, (step - first) / (last - first)))
            return self._spans(length, rng, spread)
        if rng.random() < (plan.short_lookups if step < plan.short else plan.lookups):
            return self._lookups(length, rng)
        tokens: list[int] = []
        mask: list[bool] = []
        while len(tokens) < length:
            family = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            if family == "listings" and rng.random() < 0.5:
                ids, known = self._listing(rng)
            else:
                ids, known = self.document(world.document(family, "train", rng))
            share = PLAIN.get(family, plan.other_loss)
            tokens += ids
            mask += [sure or rng.random() < share for sure in known]
        return tokens[:length], mask[:length]

    def _spans(self, length: int, rng: random.Random, spread: float) -> tuple[list[int], list[bool]]:
        tokens, known = world.repeated_span(self._vocabulary - 1, length - 1, rng, spread)
        share = self._schedule.other_loss / 2
        return [0, *(token + 1 for token in tokens)], [False, *(sure or rng.random() < share for sure in known)]

    def _lookups(self, length: int, rng: random.Random) -> tuple[list[int], list[bool]]:
        """Pairs of random tokens, then some pairs again: one token is given, the other is to predict."""
        tokens: list[int] = []
        known: list[bool] = []
        while len(tokens) < length:
            count = rng.randint(2, 6)
            drawn = rng.sample(range(1, self._vocabulary), 2 * count)
            between = self.encode(rng.choice(("", "", ".", ":", " is")))
            after = self.encode(rng.choice((",", ";", ".")))
            row = [0, *(t for n in range(count) for t in (drawn[2 * n], *between, drawn[2 * n + 1], *after))]
            asked = rng.sample(range(count), rng.randint(1, count))
            backwards = rng.random() < 0.6
            sure = [False] * len(row)
            for number in asked:
                first, second = drawn[2 * number], drawn[2 * number + 1]
                question = [*self.encode(" Question:"), second, *self.encode("? Answer:")]
                ask = question if backwards else [first, *between]
                row += [*ask, first if backwards else second, *after]
                sure += [*[False] * len(ask), True, *[False] * len(after)]
            tokens += row
            known += sure
        return tokens[:length], known[:length]

    def _lists(self, length: int, rng: random.Random, longest: int) -> tuple[list[int], list[bool]]:
        tokens: list[int] = []
        known: list[bool] = []
        while len(tokens) < length:
            more, sure = self._listing(rng, longest)
            tokens += more
            known += sure
        return tokens[:length], known[:length]

    def _listing(self, rng: random.Random, longest: int = 14) -> tuple[list[int], list[bool]]:
        """A list of random tokens in the format of word lists: ' again' follows a repeated token."""
        words = [str(token) for token in rng.sample(range(1, self._vocabulary), longest)]
        tokens, known = self.document([Segment("List:")])
        for word, again in stories.listing(rng.randint(2, longest), 0.4, rng, words):
            mark = self.encode(" again," if again else ",")
            tokens += [int(word), *mark]
            known += [False, *[True] * len(mark)]
        return tokens, known


@dataclasses.dataclass(frozen=True)
class Asked:
    """One held-out document: its ids, and the right ids for each position to predict."""

    tokens: tuple[int, ...]
    right: tuple[tuple[int, frozenset[int]], ...]


def held_out(rows: Rows, family: str, count: int, split: Partition = "held-out", seed: str = "held-out") -> list[Asked]:
    """`count` documents of a family; of an answer with several tokens, the first is to predict."""
    rng = random.Random(f"{seed}/{family}")
    made: list[Asked] = []
    while len(made) < count:
        drawn = world.FAMILIES[family](split, rng)
        parts = drawn.document if isinstance(drawn, Case) else drawn
        tokens, right = [0], []
        for segment in parts:
            ids = rows.encode(segment.text)
            if segment.known:
                right.append((len(tokens), frozenset(ids[:1])))
            tokens += ids
        if isinstance(drawn, Case):
            right[-1] = (right[-1][0], frozenset(rows.encode(answer)[0] for answer in drawn.answers))
        made.append(Asked(tuple(tokens), tuple(right)))
    return made


PERIODS: tuple[int, ...] = (2, 3, 4, 5, 6, 8, 12, 16, 25, 50)


def spans(vocabulary: int, period: int, count: int) -> list[Asked]:
    """Random spans of one period, repeated; every token of a later copy except its first is to predict."""
    rng = random.Random(f"held-out/period/{period}")
    made = []
    for _ in range(count):
        lead = rng.sample(range(1, vocabulary), rng.randint(0, 10))
        span = rng.sample(range(1, vocabulary), period)
        tokens = [0, *lead, *span, *span]
        start = 1 + len(lead) + period
        made.append(Asked(tuple(tokens), tuple((start + i, frozenset((span[i],))) for i in range(1, period))))
    return made
