"""Semantic induction heads look at one member of a related pair and make the other a likely next word.

Claim      When such a head attends to the head token of a triplet (wheel, part-of, bike), its OV circuit raises the
           tail token (ren2024identifying).
Stimuli    Texts of three facts of one relation, each in a wording of its own: part-of, used-for and hyponym-of, which
           are among the paper's relations. For the behaviour, one fact; its corrupted prompt is about another thing.
Score      The relation index: over the later positions at which the head token gets the largest attention, by more than
           the factor 2.2, the tail's share of the positive, centred part of what the OV circuit makes of the head
           token's embedding, among the heads and tails of the text; a text without such a position counts as 0. Three
           things differ: the formula as restated projects the token that looks, and softmaxes, for which logits behind
           the final norm have no size; and the next token does not count, as an audit found heads that pass by looking
           one token back (maxgolu2026from).
Control    The same with the tail of another fact of the text: nothing is left of what the head raises for any tail.
Behaviour  How often the right tail has the largest logit of all tails of the relation.
Cause      The heads found read the corrupted prompt: the tail should lose its lead. The paper makes no intervention.
"""

import random
from dataclasses import replace

import numpy as np
import torch

from headatlas.lab import OpenModel, Scores, logit_difference, record
from headatlas.lab.running import accuracy_among_rivals
from headatlas.lab.weights import ov_logits
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, facts
from headatlas.stimuli.cases import aligned, prompt, tokenize

FAMILIES = {"part of": "part", "used for": "use", "kind of": "kind"}
BEHAVIOUR, EFFECT = accuracy_among_rivals, logit_difference
FACTOR = 2.2


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Three facts, each tail an answer; pairs lead from later tokens to the head tokens."""
    relation = facts.BY_NAME[FAMILIES[family]]
    heads, tails = vocab.singles(relation.pairs, at_least=8), vocab.singles(relation.objects, at_least=5)
    pairs = {head: relation.pairs[head] for head in heads if relation.pairs[head] in tails}
    case = facts.several(rng, relation, 3, pairs)
    drawn, places = prompt(vocab, case), tokenize(vocab, case.segments).at("subject")
    return replace(drawn, pairs=tuple((query, key) for key in places for query in range(key + 2, len(drawn.tokens))))


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """One fact, up to its tail."""
    return aligned(vocab, lambda: facts.statement("train", rng, facts.BY_NAME[FAMILIES[family]]))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The relation index of each head on each text, and that with the tail of another fact."""
    return Scores(*np.stack([index(model, text) for text in sample.prompts], 1))


def index(model: OpenModel, text: Prompt) -> np.ndarray:
    """[tail layer head], of the right and of another tail."""
    places = sorted({key for _, key in text.pairs})
    heads, tails = [text.tokens[place] for place in places], [readout.answer for readout in text.readouts]
    raised = ov_logits(model, heads, heads + tails)  # [layer head token token]
    positive = (raised - raised.mean(-1, keepdim=True)).clamp_min(0)
    share = positive[..., len(heads) :] / positive.sum(-1, keepdim=True).clamp_min(1e-9)
    seen = record(model, [text.tokens], ["pattern"])
    anatomy = model.anatomy
    pattern = anatomy.stack({layer: seen["pattern", layer][0].float() for layer in anatomy.attention_layers}, 0)
    total, passed = torch.zeros(2, *raised.shape[:2]), torch.zeros(raised.shape[:2])
    for number, place in enumerate(places):
        rows = pattern[:, :, place + 2 :].cpu()  # [layer head query key]
        rest = rows.index_fill(-1, torch.tensor([place]), 0.0).amax(-1)
        times = (rows[..., place] > FACTOR * rest).sum(-1)
        passed += times
        for side in (0, 1):
            total[side] += times * share[:, :, number, (number + side) % len(tails)].cpu()
    return (total / passed.clamp_min(1)).double().numpy()
