"""Markov chains whose states depend on the state one, two or three steps back: interleaved chains of an unknown lag.

After dangelo2025selective, who draw the transition matrix; ours has one likely successor for each of five states.
"""

import random

from headatlas.stimuli.cases import Segment
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

STATES: tuple[str, ...] = (" A", " B", " C", " D", " E")
LAGS: tuple[int, ...] = (1, 2, 3)
LENGTH = 40  # states of a sequence
SEEN = 20  # states after which a sequence tells its lag
LIKELY = 0.7  # probability of the successor; the four others share the rest
_FEWEST = 3  # readouts in a prompt


def successor(state: int) -> int:
    """The likeliest state after a state, `lag` steps later: A, C, E, B, D and A again."""
    return (state + 2) % len(STATES)


def chain(rng: random.Random, lag: int, length: int = LENGTH) -> list[int]:
    """States of interleaved chains: each depends on the one `lag` steps back alone, by the same matrix for all lags.

    The first states, as many as the largest lag, are drawn evenly, which is the stationary distribution.
    """
    states = [rng.randrange(len(STATES)) for _ in range(max(LAGS))]
    while len(states) < length:
        right = successor(states[-lag])
        others = [state for state in range(len(STATES)) if state != right]
        states.append(right if rng.random() < LIKELY else rng.choice(others))
    return states


def document(rng: random.Random) -> tuple[Segment, ...]:
    """A sequence of any lag, all of which can be learned but the first states."""
    return tuple(
        Segment(STATES[state], known=place >= max(LAGS)) for place, state in enumerate(chain(rng, rng.choice(LAGS)))
    )


def lagged(words: Vocabulary, rng: random.Random, lag: int) -> Prompt:
    """A sequence of a lag; the corrupted prompt is one of another lag.

    Pairs lead from each state of the second half to the state on which the next one depends. A readout stands where the
    three lags give three different successors: that of the right lag is the answer, the others are its rivals.

    Args:
        words: vocabulary of the model.
        rng: draws both sequences.
        lag: one of LAGS.

    Raises:
        UntestableError: if a state is not a single token of this tokenizer.
    """
    if any(len(words.continuation(state)) != 1 for state in STATES):
        raise UntestableError("the letters A to E are not single tokens of this tokenizer")
    token = [words.continuation(state)[0] for state in STATES]
    start, readouts, states = len(words.bos), list[Readout](), list[int]()
    while len(readouts) < _FEWEST:
        states = chain(rng, lag)
        readouts = []
        for place in range(SEEN, LENGTH):
            after = {each: token[successor(states[place + 1 - each])] for each in LAGS}
            if len(set(after.values())) == len(LAGS):
                rivals = tuple(after[each] for each in LAGS if each != lag)
                readouts.append(Readout(start + place, after[lag], rivals))
    other = chain(rng, rng.choice([each for each in LAGS if each != lag]))
    return Prompt(
        tokens=words.bos + tuple(token[state] for state in states),
        corrupted=words.bos + tuple(token[state] for state in other),
        pairs=tuple((start + place, start + place + 1 - lag) for place in range(SEEN, LENGTH)),
        readouts=tuple(readouts),
    )
