"""Every type can be expressed by the tokenizers that people's models have, those that write numbers in digits too."""

from collections.abc import Iterator

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import headatlas
from headatlas.lab import open_model
from headatlas.protocol.script import load_script
from headatlas.stimuli import Vocabulary
from places import ROOT

IDS = sorted(id for id, entry in headatlas.load().heads.items() if entry.rule)
REAL = ROOT.parent / "shared" / "tokenizers"


def texts() -> Iterator[str]:
    """Prompts of all types, as text: the words that a tokenizer must know."""
    words = open_model("specimen").vocabulary
    for id in (id for id in IDS if id != "subword-merge"):  # whose words must be new to it
        for split in ("find", "test"):
            for prompt in load_script(id).draw("stimulus", words, split, 40, 1).prompts:  # type: ignore[arg-type]
                yield words.tokenizer.decode(prompt.tokens, skip_special_tokens=True)


@pytest.fixture(scope="module")
def in_digits() -> Vocabulary:
    """A byte-level tokenizer as SmolLM2's: no start token, words with the space before them, digits one by one."""
    made = Tokenizer(models.BPE())
    pieces = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    made.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(texts(), trainers.BpeTrainer(vocab_size=6000, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made)
    return Vocabulary(tokenizer, len(tokenizer))


def test_it_writes_digits_one_by_one(in_digits: Vocabulary) -> None:
    assert in_digits.pieces(in_digits.encode("The year 1732")).endswith(" |1|7|3|2")


@pytest.mark.parametrize("id", IDS)
def test_numbers_in_digits(id: str, in_digits: Vocabulary) -> None:
    expressed(id, in_digits)


def expressed(id: str, words: Vocabulary) -> None:
    for kind in ("stimulus", "task"):
        drawn = load_script(id).draw(kind, words, "test", 2, 0)  # type: ignore[arg-type]
        assert len(drawn.prompts) == 2 * len(load_script(id).families)


class TestInDigits:
    def test_a_later_year_begins_with_a_larger_digit(self, in_digits: Vocabulary) -> None:
        for prompt in load_script("greater-than").draw("stimulus", in_digits, "test", 8, 0).prompts:
            (query, key), (later, others) = prompt.pairs[0], prompt.readouts
            tens = int(in_digits.tokenizer.decode([prompt.tokens[key]]))
            after, before = (
                {int(in_digits.tokenizer.decode([token])) for token in (each.answer, *each.rivals)}
                for each in (later, others)
            )
            assert (after, before) == ({*range(tens + 1, 10)}, {*range(tens)}) and query == len(prompt.tokens) - 1
            assert in_digits.pieces(prompt.corrupted[key : key + 2]) == "0|2"

    @pytest.mark.parametrize("id", ["arithmetic", "faithfulness"])
    def test_answers_are_read_where_they_differ(self, id: str, in_digits: Vocabulary) -> None:
        shared = 0
        for prompt in load_script(id).draw("stimulus", in_digits, "test", 8, 0).prompts:
            ((place, right, (wrong,)),) = ((each.position, each.answer, each.rivals) for each in prompt.readouts)
            assert place == len(prompt.tokens) - 1 and right != wrong
            text = in_digits.tokenizer.decode(prompt.tokens)
            shared += text[-1].isdigit()
            if id == "arithmetic":
                numbers = [int(word) for word in text.split() if word.isdigit()]
                begun = text.rsplit(" ", 1)[-1]
                addends = numbers[:-1] if begun.isdigit() else numbers
                assert str(sum(addends)).startswith(begun + in_digits.tokenizer.decode([right]))
        assert shared > 0


@pytest.fixture(scope="module", params=["gpt2", "pythia"])
def of_open_models(request: pytest.FixtureRequest) -> Vocabulary:
    if not (REAL / request.param).is_dir():
        pytest.skip("needs the tokenizers of GPT-2 and Pythia")
    tokenizer = AutoTokenizer.from_pretrained(REAL / request.param)
    return Vocabulary(tokenizer, len(tokenizer))


@pytest.mark.parametrize("id", IDS)
def test_tokenizers_of_open_models(id: str, of_open_models: Vocabulary) -> None:
    expressed(id, of_open_models)
