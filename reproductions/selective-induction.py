"""Selective induction heads find out in context how far back the state stands that decides the next one, and copy it.

Claim      In sequences from Markov chains of one transition matrix whose lag is unknown, the head of the last of three
           layers looks at the state that the true lag selects, by what heads before it gathered from the past, and
           copies it (dangelo2025selective).
Stimuli    Sequences of 40 letters, each of which depends on the letter one, two or three places back: one lag in each
           family. The corrupted prompt is a sequence of another lag.
Score      Attention from each letter of the second half to the letter on which the next one depends: the state at the
           true lag. The authors show it as attention maps, without a number.
Control    The same attention between the same positions in the corrupted prompt, whose lag is another: a head that
           looks a fixed distance back has the same there.
Behaviour  How often the likeliest next token is the likeliest state by the true lag, where the three lags give three
           different ones. The authors measure the divergence from the true distribution.
Cause      The heads found read the sequence of the other lag: the model should no longer predict by the true one.
Toy        The finding was made on transformers of three layers without MLPs, trained on such sequences; `--model toy`
           trains one with one head in each layer, as those whose attention the authors show, and width 64, one of their
           two. MLPs of a single hidden unit take the place of none. To be affordable it departs from their recipe:
           sequences of 40 states (theirs have 128), batches of 64 (256), a learning rate that is warmed up and lowered,
           heads of 64 dimensions (32), and a transition matrix with one likely successor for each state. Such a model
           has two other heads, too few to show a cause against.
"""

import random

from headatlas.lab import accuracy
from headatlas.lab.fits.toys import Toy
from headatlas.stimuli import Prompt, Vocabulary, lagged_chains

FAMILIES = {"one back": 1, "two back": 2, "three back": 3}
BEHAVIOUR = accuracy
TOY = Toy(lagged_chains.document, steps=10_000, batch=64, shape={"n_layer": 3, "n_embd": 64, "n_inner": 1})


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A sequence of one lag; corrupted, one of another."""
    return lagged_chains.lagged(vocab, rng, FAMILIES[family])
