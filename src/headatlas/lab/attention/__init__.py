"""Scores computed from attention weights: of whole prompts, of chosen pairs, or of every token."""

from headatlas.lab.attention.cmr import cmr_fit
from headatlas.lab.attention.pair_shares import attention_shares
from headatlas.lab.attention.pairs import attention_on_pairs, pair_weights
from headatlas.lab.attention.streaming import ArgmaxKey, Distance, Entropy, KeyMass, PairWeight, SinkMass

__all__ = [
    "ArgmaxKey",
    "Distance",
    "Entropy",
    "KeyMass",
    "PairWeight",
    "SinkMass",
    "attention_on_pairs",
    "attention_shares",
    "cmr_fit",
    "pair_weights",
]
