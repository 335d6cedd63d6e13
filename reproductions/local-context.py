"""Local-context heads look only at the tokens close by, however long the text is.

Claim      The head's weight stays within a window of fixed length when the text grows (fu2024moa), significantly more
           of it than an even spread would put there (pande2021heads).
Stimuli    Stories of 20, 40 and 60 tokens, read at their last eight.
Score      The weight on the five tokens before the current one. What lies on the first token or on the token itself
           counts against the head: one that rests is idle, not local.
Control    The weight on five tokens farther back, the first left out, drawn anew for each token.
Behaviour  The log-probability of a story's next tokens, minus the same where the story is shuffled.
Cause      The five tokens are hidden from the heads found: the story should become less likely, and more so than where
           they are hidden from as many other heads. The papers show the other side, that nothing is lost where all but
           the window is hidden (fu2024moa; xiao2025duoattention); idle heads pass that test as well.
"""

import random
from collections.abc import Iterator
from dataclasses import replace

from headatlas.lab import OpenModel, log_probability
from headatlas.lab.ablation import Patch, without_keys
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, stories

FAMILIES = {"twenty tokens": 20, "forty tokens": 40, "sixty tokens": 60}
BEHAVIOUR, CONTRAST, EFFECT = log_probability, True, log_probability
WINDOW = 5


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A story; pairs lead from its last tokens to the window before them, or as often farther back."""
    story = stories.opening(vocab, FAMILIES[family], rng)
    queries = [readout.position for readout in story.readouts]
    return replace(
        story,
        corrupted=story.tokens,
        pairs=tuple((query, key) for query in queries for key in range(query - WINDOW, query)),
        null_pairs=tuple((query, key) for query in queries for key in rng.sample(range(1, query - WINDOW), WINDOW)),
    )


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A story and its next tokens; in the corrupted prompt it is shuffled."""
    return stories.opening(vocab, FAMILIES[family], rng)


def edit(model: OpenModel, sample: PromptSample) -> Patch:
    """What heads write when they cannot see the window."""
    return without_keys(model, near)


def near(prompt: Prompt) -> Iterator[tuple[int, int]]:
    """The window before every token, the first token left out."""
    return ((query, key) for query in range(len(prompt.tokens)) for key in range(max(1, query - WINDOW), query))
