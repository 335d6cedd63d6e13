"""Reserved tokens are never drawn, whatever they are called and whether or not the tokenizer calls them special."""

import random
from collections.abc import Sequence

import pytest
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from headatlas.lab import OpenModel
from headatlas.stimuli import reserved
from headatlas.stimuli.prompts import UntestableError, Vocabulary

RESERVED = (
    "<unused12>", "[unused3]", "<|reserved_special_token_5|>", "<extra_id_0>", "<pad>", "<mask>", "<|im_start|>",
    "<image_soft_token>", "<start_of_turn>", "</s>", "[control_12]", "<SPECIAL_12>", "madeupword0001", "[INST]",
    "<reserved_106>", "<｜place▁holder▁no▁7｜>", "[PAD]151642", "<s>NOTUSED", ">>fra<<", "UNUSED_TOKEN_145",
    "__dummy_1__", "[toxicity=0]", "<保留>", "<0x0A>", "<0xFF>", "\ufffd\ufffd",
)  # fmt: skip
ORDINARY = (
    "cat", "unused", "reserved", "special", "mask", "pad", "x86", "2024", "[]", "<>", "[…]", "[...]", "<=", "->", "</",
    "<", "[", "]", ">", "placeholder", "tokens", "é", "<<", ">>>",
)  # fmt: skip


def wrapped(inner: Tokenizer, **special: str) -> Vocabulary:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    return Vocabulary(tokenizer, len(tokenizer))


def bpe(added: Sequence[AddedToken] = ()) -> Vocabulary:
    """Byte-level, all its 256 bytes and all words of both lists as pieces; markers added as the test asks."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, "Ġthe", "Ġ[âĢ¦]", *(word for word in (*ORDINARY, *RESERVED) if len(word) > 1)]
    inner = Tokenizer(models.BPE({piece: id for id, piece in enumerate(dict.fromkeys(pieces))}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.add_tokens(list(added))
    return wrapped(inner)


def unigram() -> Vocabulary:
    """As SentencePiece has it: bytes to fall back on, and the mark of a space before words and markers."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "", "▁", "▁▁"]
    pieces += [mark + word for mark in ("", "▁") for word in (*ORDINARY, *RESERVED)]
    inner = Tokenizer(models.Unigram([(each, -1.0) for each in dict.fromkeys(pieces)], unk_id=0, byte_fallback=True))
    return wrapped(inner, unk_token="<unk>")


def wordpiece() -> Vocabulary:
    pieces = ["[PAD]", "[UNK]", "[CLS]", *(f"[unused{n}]" for n in range(99)), "the", "##ing", "##12", *ORDINARY]
    inner = Tokenizer(models.WordPiece({each: id for id, each in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]"))
    return wrapped(inner, unk_token="[UNK]", pad_token="[PAD]")


def texts(words: Vocabulary, ids: Sequence[int]) -> set[str]:
    pieces = words.tokenizer.convert_ids_to_tokens(list(ids))
    assert None not in pieces
    return {piece.removeprefix("▁") for piece in pieces}


@pytest.mark.parametrize("words", [bpe(), unigram(), wordpiece()], ids=["bpe", "unigram", "wordpiece"])
def test_reserved_pieces_are_known_by_name_and_all_others_are_drawn(words: Vocabulary) -> None:
    drawn = texts(words, words.ordinary)
    assert not drawn & {*RESERVED, "<unk>", "[UNK]", "[CLS]", "[unused50]", "<0x41>"}
    assert {word for word in ORDINARY if len(word) > 1} <= drawn
    assert {"the", "##ing", "##12"} <= drawn or {"Ġthe", "Ġ[âĢ¦]"} <= drawn or {"", "▁"} <= drawn


def test_a_byte_level_tokenizer_keeps_parts_of_characters_and_a_fallback_is_no_text() -> None:
    """Text in other scripts is written with the former; the latter stand where a vocabulary lacks a character."""
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    assert alphabet <= texts(bpe(), bpe().ordinary)
    assert not [piece for piece in texts(unigram(), unigram().ordinary) if piece.startswith("<0x")]


@pytest.mark.parametrize("special", [True, False])
def test_what_was_added_as_a_marker_is_reserved_and_what_was_added_as_text_is_not(special: bool) -> None:
    names = ["<|fim_prefix|>", "<tool_call>", "<td>"]
    plain = ["\n\n", "      ", "electroencephalography"]
    words = bpe([*(AddedToken(name, special=special) for name in names), *(AddedToken(text) for text in plain)])
    drawn = texts(words, words.ordinary)
    assert not drawn & set(names) and set(plain) <= drawn


def test_a_plain_word_that_the_tokenizer_calls_special_is_reserved() -> None:
    """transformers lists those with a role alone among all special ids."""
    words = bpe([AddedToken("padding", special=True), AddedToken("sop", special=True)])
    assert not words.tokenizer.all_special_ids
    assert not texts(words, words.ordinary) & {"padding", "sop"}


def test_ids_that_the_tokenizer_does_not_use_are_never_drawn() -> None:
    """The embedding is padded, and the ids of the tokenizer have a gap."""
    inner = Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 5, "d": 9, "<unk>": 3}, unk_token="<unk>"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    assert Vocabulary(tokenizer, 64).ordinary == [0, 1, 5, 9]
    assert Vocabulary(tokenizer, 6).ordinary == [0, 1, 5]
    with pytest.raises(UntestableError, match="4 ordinary tokens and 5"):
        Vocabulary(tokenizer, 64).draw(random.Random(0), 5)


def test_no_draw_has_a_reserved_token() -> None:
    words = unigram()
    for seed in range(300):
        drawn = words.draw(random.Random(seed), 25)
        assert len(set(drawn)) == 25 and not any(
            map(reserved.is_reserved, words.tokenizer.convert_ids_to_tokens(drawn))
        )


def test_the_specimen_has_none_but_its_start(specimen: OpenModel) -> None:
    """So that nothing that was drawn for it before has moved."""
    words = specimen.vocabulary
    assert words.ordinary == [id for id in range(len(words.tokenizer)) if id not in words.bos]


def test_a_large_vocabulary_is_read_once() -> None:
    count = 20_000
    vocabulary = {f"<unused{id}>" if id % 40 == 0 else f"▁piece{id}a": id for id in range(count)}
    words = wrapped(Tokenizer(models.WordLevel(vocabulary, unk_token="<unused0>")))
    assert len(words.ordinary) == count - -(-count // 40)
    assert words.ordinary is words.ordinary
