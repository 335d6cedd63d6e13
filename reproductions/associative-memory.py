"""Associative-memory heads hold pairs in their weights: the vector of one thing brings up that of another.

Claim      In the circuit that copies what followed a token before, the output-value matrix of the last head stores, for
           every token, the direction that raises that token's own logit (bietti2023birth).
Stimuli    For the score, tokens drawn from the vocabulary, half of them to find heads and half to test them. For the
           behaviour, the authors' task: random text in which some trigger tokens have a successor of their own, that
           must be told when they come back.
Score      The authors' recall probe: the share of tokens t for which W_U OV E(t) is largest at t, among those drawn.
           A model with a first MLP and tied embeddings is read after that MLP, where its heads read.
Control    The share for which it is largest at one other token instead, drawn at random for each.
Behaviour  How often a trigger's successor is the likeliest next token, from its second time on.
Cause      The heads found are replaced by their mean over text without triggers that come back.
Toy        The finding was made on models of two layers, trained on this task alone; `--model toy` trains one, of four
           heads, with its loss on what returning triggers bring. To be affordable it departs from the authors' recipe:
           width 128 (theirs: 256), rows of 48 tokens (256), triggers drawn anew for each row (fixed), 2,000 batches of
           32 (1,000 of 512), AdamW without decay at 0.001 (SGD), warmed up and lowered to nothing over the last half.
           The odds of letters are made up, not counted in a text. Eight heads give too few random sets to show a cause.
"""

import random

import numpy as np

from headatlas.lab import OpenModel, Scores, accuracy
from headatlas.lab.fits.toys import Toy
from headatlas.lab.weights import ov_logits
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, triggers

FAMILIES = {"two triggers": 2, "three triggers": 3, "five triggers": 5}
BEHAVIOUR = accuracy
CANDIDATES = 200
TOY = Toy(lambda rng: triggers.document(rng, length=48), steps=2000, batch=32, shape={"n_head": 4})


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Random tokens, among them triggers that come back, each followed by its own successor."""
    return triggers.prompt(vocab, FAMILIES[family], rng)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """Whether each head recalls each token, and one other: [token layer head]."""
    rng = random.Random(sample.split)
    vocab = model.vocabulary
    tokens = vocab.draw(random.Random(0), min(CANDIDATES, len(vocab.ordinary)))
    logits = ov_logits(model, tokens, tokens, states="mlp0")  # [layer head token token]
    best = logits.argmax(-1).cpu().numpy()
    mine = range(sample.split == "test", len(tokens), 2)
    others = [rng.choice([other for other in range(len(tokens)) if other != token]) for token in mine]
    hits = [best[..., token] == token for token in mine]
    misses = [best[..., token] == other for token, other in zip(mine, others, strict=True)]
    return Scores(np.array(hits, dtype=float), np.array(misses, dtype=float), per="token")
