"""Conversations of several turns: the words of the template between the turns, and the first token of a reply."""

import pytest

from headatlas.stimuli import UntestableError, Vocabulary
from headatlas.stimuli.chat import chat_frame
from headatlas.stimuli.conversations import begun, conversation, first_token
from placed import TEMPLATE, chatting, specimen_words

TURNS = ("What is it?", "The answer is red.", "No, it is blue.")


@pytest.fixture(scope="module")
def plain() -> Vocabulary:
    return specimen_words()


def test_a_template_stands_around_every_turn(plain: Vocabulary) -> None:
    words = chatting(plain)
    made = conversation(words, TURNS)
    text = words.tokenizer.decode(made.ids)
    assert text == "[user]\nWhat is it?\n[assistant]\nThe answer is red.\n[user]\nNo, it is blue.\n[assistant]\n"
    assert [words.tokenizer.decode([made.ids[place] for place in span]) for span in made.spans] == list(TURNS)


def test_without_a_template_turns_are_named_and_prompts_begin_with_bos(plain: Vocabulary) -> None:
    words = plain
    made = conversation(words, TURNS)
    text = words.tokenizer.decode(made.ids[len(words.bos) :])
    assert made.ids[: len(words.bos)] == words.bos
    assert text == "User: What is it?\nAssistant: The answer is red.\nUser: No, it is blue.\nAssistant:"
    said = [words.tokenizer.decode([made.ids[place] for place in span]).strip() for span in made.spans]
    assert said == list(TURNS)


def test_one_turn_is_framed_as_a_chat_of_one_turn_is(plain: Vocabulary) -> None:
    for words in (plain, chatting(plain)):
        frame = chat_frame(words)
        said = words.encode(begun(words, frame.before, "What is it?"))
        assert conversation(words, TURNS[:1]).ids == frame.before + said + frame.after


def test_a_reply_begins_with_a_space_unless_a_line_ended(plain: Vocabulary) -> None:
    words, other = plain, chatting(plain)
    assert first_token(words, chat_frame(words).after, "The") == words.one_token(" The")
    assert first_token(other, chat_frame(other).after, "The") == words.encode("The")[0] != words.one_token(" The")
    assert begun(words, (), "The") == "The"


def test_a_conversation_ends_with_the_user_and_a_template_must_take_it(plain: Vocabulary) -> None:
    with pytest.raises(ValueError, match="2 turns do not end with the user's"):
        conversation(plain, TURNS[:2])
    twice = chatting(plain, TEMPLATE.replace("{{ m.content }}", "{{ m.content }}{{ m.content }}"))
    with pytest.raises(UntestableError, match="does not write each turn once"):
        conversation(twice, TURNS)
    strict = chatting(plain, "{{ raise_exception('no turns') }}")
    with pytest.raises(UntestableError, match="cannot be used"):
        conversation(strict, TURNS)
