"""Prompts as turns of a chat: in the tokenizer's own template, or in a plain one where it has none."""

from dataclasses import dataclass, replace

from headatlas.stimuli.prompts import Pairs, Prompt, Readout, UntestableError, Vocabulary

_HERE = "\N{REPLACEMENT CHARACTER}turn {number}\N{REPLACEMENT CHARACTER}"  # means what is said in a turn


@dataclass(frozen=True)
class ChatFrame:
    """What stands around a user's turn.

    Attributes:
        before: token ids from the start of the text to the user's words, BOS included where there is one.
        after: token ids from the user's words to where the model's turn begins.
        source: whose template it is, for records.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    source: str


def chat_frame(words: Vocabulary) -> ChatFrame:
    """The frame of a chat with one turn of the user.

    It is the tokenizer's own, with the system prompt that it puts there by itself; 'User: … Assistant:' for a
    tokenizer without a chat template.

    Raises:
        UntestableError: where the template does not take a plain turn of the user.
    """
    before, after = turn_frames(words, 1)
    if _template(words):
        return ChatFrame(before, after, "the tokenizer's own chat template")
    return ChatFrame(before, after, "a plain template (User: … Assistant:), as the tokenizer has none")


def turn_frames(words: Vocabulary, turns: int) -> list[tuple[int, ...]]:
    """The tokens before the first turn of a chat, between turns, and after the last, where the model's reply begins.

    Args:
        words: vocabulary of the model.
        turns: their number, odd; the user's are the first, the third and so on.

    Raises:
        UntestableError: where the template does not take these turns.
    """
    if not _template(words):
        ends = [words.continuation("\nAssistant:" if number % 2 == 0 else "\nUser:") for number in range(turns)]
        return [words.bos + words.encode("User:"), *ends]
    marks = [_HERE.format(number=number) for number in range(turns)]
    said = [{"role": ("user", "assistant")[place % 2], "content": mark} for place, mark in enumerate(marks)]
    try:
        text = str(words.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # a template is a program that comes with the model
        raise UntestableError(f"the tokenizer's chat template cannot be used ({error})") from None
    parts = []
    for mark in marks:
        part, *rest = text.split(mark)
        if len(rest) != 1:
            raise UntestableError("the tokenizer's chat template does not write each turn once and in order")
        parts.append(part)
        text = rest[0]
    return [tuple(words.tokenizer.encode(part, add_special_tokens=False)) for part in (*parts, text)]


def _template(words: Vocabulary) -> object:
    """The tokenizer's chat template; nothing where it has none."""
    return getattr(words.tokenizer, "chat_template", None)


def in_chat(words: Vocabulary, prompt: Prompt, opening: int = 0) -> Prompt:
    """A prompt as a turn of a chat: the user says it, and the model answers.

    Pairs, spans and readouts move with their tokens. What is at the last token of a prompt without an opening moves to
    the last token of the frame, where the answer comes next.

    Args:
        words: vocabulary of the model.
        prompt: that begins with BOS where the tokenizer has one.
        opening: how many tokens at the end of the prompt, such as those of ' Answer:', open the model's turn instead.

    Raises:
        UntestableError: as in `chat_frame`.
    """
    frame, bos, length = chat_frame(words), len(words.bos), len(prompt.tokens)
    turn = length - opening  # where the model's turn begins, in the prompt

    def framed(tokens: tuple[int, ...]) -> tuple[int, ...]:
        return frame.before + tokens[bos:turn] + frame.after + tokens[turn:]

    def moved(place: int) -> int:
        if place < bos:
            return place
        return place - bos + len(frame.before) + (len(frame.after) if place >= turn else 0)

    def asked(place: int) -> int:
        """Where a query stands: the last token's is where the answer comes next."""
        return moved(place) + (len(frame.after) if place == length - 1 and not opening else 0)

    def pairs(given: Pairs) -> Pairs:
        return tuple((asked(query), moved(key)) for query, key in given)

    return replace(
        prompt,
        tokens=framed(prompt.tokens),
        corrupted=framed(prompt.corrupted),
        pairs=pairs(prompt.pairs),
        null_pairs=pairs(prompt.null_pairs),
        readouts=tuple(Readout(asked(each.position), each.answer, each.rivals, each.alike) for each in prompt.readouts),
        alternatives={name: framed(tokens) for name, tokens in prompt.alternatives.items()},
        spans={role: tuple(moved(place) for place in places) for role, places in prompt.spans.items()},
    )
