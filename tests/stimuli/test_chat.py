"""Prompts as turns of a chat: what stood where stands there still, between the words of the template."""

from dataclasses import replace

import pytest
import tokenizers
import transformers

from headatlas.stimuli import Prompt, Readout, UntestableError, Vocabulary
from headatlas.stimuli.chat import chat_frame, in_chat

WORDS = "Hello there friend who are you Answer: User: Assistant: \n <u> <a> <s>".split(" ")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<u>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)


def vocabulary(template: str | None) -> Vocabulary:
    ids = {word: number for number, word in enumerate(WORDS)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="Hello"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>")
    made.add_special_tokens({"additional_special_tokens": ["<u>", "<a>"]})
    made.chat_template = template
    return Vocabulary(made, len(WORDS))


def id_of(*words: str) -> tuple[int, ...]:
    return tuple(WORDS.index(word) for word in words)


@pytest.fixture
def words() -> Vocabulary:
    return vocabulary(TEMPLATE)


def asked(words: Vocabulary) -> Prompt:
    """<s> Hello friend you Answer:"""
    return Prompt(
        words.bos + id_of("Hello", "friend", "you", "Answer:"),
        words.bos + id_of("there", "friend", "you", "Answer:"),
        pairs=((4, 1), (4, 0)),
        readouts=(Readout(4, id_of("who")[0]),),
        alternatives={"other": words.bos + id_of("are", "friend", "you", "Answer:")},
        spans={"name": (2,), "end": (4,)},
    )


def test_the_frame_is_that_of_the_template_with_bos_once(words: Vocabulary) -> None:
    frame = chat_frame(words)
    assert (frame.before, frame.after) == (id_of("<s>", "<u>"), id_of("<a>"))
    assert frame.source == "the tokenizer's own chat template"


def test_an_opening_begins_the_turn_of_the_model(words: Vocabulary) -> None:
    made = in_chat(words, asked(words), opening=1)
    assert made.tokens == id_of("<s>", "<u>", "Hello", "friend", "you", "<a>", "Answer:")
    assert made.corrupted[2] == id_of("there")[0] and made.alternatives["other"][2] == id_of("are")[0]
    assert made.pairs == ((6, 2), (6, 0)) and made.readouts[0].position == 6
    assert made.spans == {"name": (3,), "end": (6,)}


def test_without_an_opening_the_answer_is_due_after_the_frame(words: Vocabulary) -> None:
    made = in_chat(words, asked(words))
    assert made.tokens == id_of("<s>", "<u>", "Hello", "friend", "you", "Answer:", "<a>")
    assert made.pairs == ((6, 2), (6, 0)) and made.readouts[0].position == 6
    assert made.spans["end"] == (5,)  # the word is where it is


def test_a_tokenizer_without_a_template_gets_a_plain_one() -> None:
    frame = chat_frame(vocabulary(None))
    assert frame.before == id_of("<s>", "User:") and frame.after == id_of("Assistant:")
    assert frame.source.startswith("a plain template")


@pytest.mark.parametrize("template", ["{{ nothing.at.all }}", "no words of the user", "{% broken"])
def test_a_template_that_cannot_be_used_is_said_in_one_line(template: str) -> None:
    with pytest.raises(UntestableError, match="chat template") as caught:
        in_chat(vocabulary(template), asked(vocabulary(TEMPLATE)))
    assert "\n" not in str(caught.value)


def test_positions_of_bos_stay_where_a_template_has_it(words: Vocabulary) -> None:
    plain = replace(asked(words), pairs=((4, 0),))
    assert in_chat(words, plain).pairs == ((6, 0),)
