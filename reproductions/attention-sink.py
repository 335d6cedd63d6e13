"""Attention-sink heads park most of their attention on the first token of the text.

Claim      A head has a sink when the first token's attention, averaged over the tokens of a text, exceeds 0.3
           (gu2025when). The place counts, not the word, and a model that can no longer see its first tokens breaks
           (xiao2024efficient).
Stimuli    64 tokens: a story, the same kind of story in shuffled order, and random tokens. The first is BOS where the
           tokenizer has one. The behaviour is always a story.
Score      The mean attention from all later tokens to the first.
Control    The mean attention from the same tokens to one other token before them, drawn anew for each.
Behaviour  The log-probability of a story's next tokens, minus the same where the story is shuffled.
Cause      The first token is hidden from the heads found, so that their weight must go elsewhere: the story should
           become less likely, and more so than where it is hidden from as many other heads. The authors hide it from
           all heads.
"""

import random
from collections.abc import Iterator

from headatlas.lab import OpenModel, log_probability
from headatlas.lab.ablation import Patch, without_keys
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, stories

FAMILIES = {"story": "story", "shuffled story": "shuffled story", "random tokens": "random tokens"}
BEHAVIOUR, CONTRAST, EFFECT = log_probability, True, log_probability
LENGTH = 64


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A text; pairs lead to its first token from the third on, so that there is another token to look at."""
    story = stories.opening(vocab, LENGTH, rng)
    random_tokens = vocab.bos + vocab.draw(rng, LENGTH - len(vocab.bos))
    texts = {"story": story.tokens, "shuffled story": story.corrupted, "random tokens": random_tokens}
    return Prompt(
        tokens=texts[family],
        corrupted=texts[family],
        pairs=tuple((query, 0) for query in range(2, LENGTH)),
        null_pairs=tuple((query, rng.randrange(1, query)) for query in range(2, LENGTH)),
    )


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A story and its next tokens; in the corrupted prompt it is shuffled."""
    return stories.opening(vocab, LENGTH, rng)


def edit(model: OpenModel, sample: PromptSample) -> Patch:
    """What heads write when they cannot see the first token."""
    return without_keys(model, first)


def first(prompt: Prompt) -> Iterator[tuple[int, int]]:
    """The first token, from every later one."""
    return ((query, 0) for query in range(1, len(prompt.tokens)))
