"""Tokenizers with a chat template, and texts of places in prompts, for tests of stimuli."""

import copy
from collections.abc import Iterable

import transformers

from headatlas import specimens
from headatlas.stimuli import Vocabulary

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)


def specimen_words() -> Vocabulary:
    """The tokenizer of the specimen, without its model."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(specimens.folder())
    return Vocabulary(tokenizer, len(tokenizer))


def chatting(words: Vocabulary, template: str = TEMPLATE) -> Vocabulary:
    """The same tokenizer with a chat template."""
    tokenizer = copy.deepcopy(words.tokenizer)
    tokenizer.chat_template = template
    return Vocabulary(tokenizer, words.size)


def at(words: Vocabulary, tokens: tuple[int, ...], places: Iterable[int]) -> str:
    """The text at some places of a prompt, one token after the other."""
    return str(words.tokenizer.decode([tokens[place] for place in places]))
