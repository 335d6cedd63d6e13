"""Conversations of several turns, and the first token of a reply."""

from collections.abc import Sequence
from dataclasses import dataclass

from headatlas.stimuli.chat import turn_frames
from headatlas.stimuli.prompts import Vocabulary


@dataclass(frozen=True)
class Conversation:
    """Turns as tokens, the user's first, up to where the model's reply begins.

    Attributes:
        ids: token ids, BOS included where the template or the tokenizer puts it.
        spans: the positions of what is said in each turn.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, ...], ...]


def conversation(words: Vocabulary, turns: Sequence[str]) -> Conversation:
    """What user and model said in turn, in the tokenizer's chat template or as 'User: … Assistant: …' without one.

    Args:
        words: vocabulary of the model.
        turns: an odd number of texts without a space before them; the user's are the first, the third and so on.

    Raises:
        UntestableError: where the template does not take these turns.
    """
    if len(turns) % 2 == 0:
        raise ValueError(f"{len(turns)} turns do not end with the user's; give an odd number")
    pieces = turn_frames(words, len(turns))
    ids = list(pieces[0])
    spans = []
    for turn, after in zip(turns, pieces[1:], strict=True):
        start = len(ids)
        ids += words.encode(begun(words, ids, turn))
        spans.append(tuple(range(start, len(ids))))
        ids += after
    return Conversation(tuple(ids), tuple(spans))


def begun(words: Vocabulary, before: Sequence[int], text: str) -> str:
    """The text with a space before it; as it is where the tokens before it end a line, or there are none."""
    last = words.tokenizer.decode(list(before))[-1:]
    return text if not last or last.isspace() else f" {text}"


def first_token(words: Vocabulary, before: Sequence[int], text: str) -> int:
    """The token with which a text begins that follows other tokens, such as those of a turn's frame."""
    told = begun(words, before, text)
    return (words.continuation(told) if told[0] == " " else words.encode(told))[0]
