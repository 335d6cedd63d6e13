"""Successor heads turn a member of an ordered class into the next one: Monday -> Tuesday.

Claim      The head's output-value circuit maps the state of an ordinal token to the logit of its successor, in many
           classes at once (gould2024successor; ameisen2024investigating).
Stimuli    Numbers, number words, ordinal words, days, months, letters and roman numerals; for the behaviour, runs
           of neighbours, separated by a sign or at the ends of sentences.
Score      Succession: the share of ordinal tokens t for which, of all members of the class, W_U OV(state of t) is
           largest at the successor. The papers take the state after the first MLP of the token alone; here a head reads
           what it has, the stream of its own layer where t stands in a shuffled list of its class, averaged over four
           lists. Half of the tokens select heads, the other half test them.
Control    The same with the order of the class shuffled.
Behaviour  How often the next member has the largest logit of its class.
Cause      The heads found are replaced by their mean over shuffled runs: the count should break.
"""

import random
from collections.abc import Sequence

import numpy as np
import torch

from headatlas.lab import OpenModel, Scores
from headatlas.lab.activations.recording import stream_at
from headatlas.lab.running import accuracy_among_rivals
from headatlas.lab.weights.ov_qk import ov_logits_of_states
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, UntestableError, Vocabulary, ordinals

FAMILIES = {  # how members are written, and how many are shown
    "separated": (ordinals.separated, 4),
    "three, separated": (ordinals.separated, 3),
    "in sentences": (ordinals.in_sentences, 4),
}
BEHAVIOUR = accuracy_among_rivals
LISTS = 4


def classes(vocab: Vocabulary) -> dict[str, tuple[str, ...]]:
    """The longest stretch of each class in which every member is one token, where at least six are."""
    stretches = {name: ordinals.longest_stretch(members, vocab.single) for name, members in ordinals.CLASSES.items()}
    kept = {name: members for name, members in stretches.items() if len(members) >= 6}
    if not kept:
        raise UntestableError("no ordered class has six neighbours that are single tokens of this tokenizer")
    return kept


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A run of neighbours, cut before the next; in the corrupted prompt those shown stand in another order."""
    name, members = rng.choice(list(classes(vocab).items()))
    write, count = FAMILIES[family]
    *shown, answer = ordinals.run(members, count + 1, rng)
    order = ordinals.shuffled(shown, rng)
    text, corrupted = write(name, [shown, order], rng)
    tokens = vocab.bos + vocab.encode(text)
    right, *rivals = (vocab.continuation(f" {m}")[0] for m in (answer, *(m for m in members if m != answer)))
    readout = Readout(len(tokens) - 1, right, tuple(rivals))
    return Prompt(tokens=tokens, corrupted=vocab.bos + vocab.encode(corrupted), readouts=(readout,))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """Succession of every head on every other ordinal token: [token layer head], how often the successor wins."""
    hits, null, vocab = [], [], model.vocabulary
    for members in classes(vocab).values():
        ids = [vocab.continuation(f" {member}")[0] for member in members]
        lists = [ordinals.shuffled(ids, random.Random(number)) for number in range(LISTS)]
        logits = [ov_logits_of_states(model, stream_at(model, *written(vocab, each, ids)), ids) for each in lists]
        best = torch.stack(logits).argmax(-1).cpu().numpy()  # [list layer head token]
        order = ordinals.shuffled(list(range(len(ids))), random.Random(0))
        for token in range(sample.split == "test", len(ids) - 1, 2):
            hits.append((best[..., token] == token + 1).mean(0))
            null.append((best[..., token] == order[(order.index(token) + 1) % len(order)]).mean(0))
    return Scores(np.array(hits), np.array(null), per="token")


def written(vocab: Vocabulary, listed: Sequence[int], ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """A list, after its last token, as the first token of a text often has a state of its own; and where ids stand."""
    between = vocab.continuation(",")
    tokens = [*vocab.bos, *(part for token in (listed[-1], *listed) for part in (token, *between))]
    step = 1 + len(between)
    return tokens, [len(vocab.bos) + step * (1 + listed.index(token)) for token in ids]
