"""Every script on models it was not written for: each ends in a verdict with its reason, never in a crash."""

import re

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import headatlas
from headatlas import HeadatlasError, specimens
from headatlas.lab import OpenModel, open_model
from headatlas.protocol import run
from headatlas.protocol.script import load_script

CATALOG = headatlas.load()
IDS = CATALOG.find(reproduction=True)


def llama(vocabulary: int, context: int) -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=64,
            max_position_embeddings=context,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


@pytest.fixture(scope="module")
def short() -> OpenModel:
    """A context of five tokens."""
    words = transformers.AutoTokenizer.from_pretrained(specimens.folder())
    return open_model(llama(len(words), 5), tokenizer=words, called="short")


@pytest.fixture(scope="module")
def letters() -> OpenModel:
    """A tokenizer that splits every word into its bytes."""
    alphabet = ["<s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>")
    return open_model(llama(len(words), 96), tokenizer=words, called="letters")


@pytest.fixture(scope="module")
def unmarked(tmp_path_factory: pytest.TempPathFactory) -> OpenModel:
    """A tokenizer without BOS."""
    inner = Tokenizer.from_file(str(specimens.folder() / "tokenizer.json"))
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=inner)
    return open_model(llama(len(words), 128), tokenizer=words, called="unmarked")


@pytest.mark.parametrize("id", IDS)
def test_a_context_too_short_is_inconclusive_with_the_reason(id: str, short: OpenModel) -> None:
    record = run.run(CATALOG, CATALOG.heads[id], short)
    assert record.verdict.label == "inconclusive"
    assert "the context of this model only 5" in record.verdict.reasons[0]


@pytest.mark.parametrize("id", IDS)
def test_a_tokenizer_that_splits_every_word_ends_in_a_verdict(id: str, letters: OpenModel) -> None:
    """Most stimuli cannot be made of it, for a reason of their words; the rest this model has not learned."""
    record = run.run(CATALOG, CATALOG.heads[id], letters)
    assert record.verdict.label == "inconclusive"
    reason = record.verdict.reasons[0]
    cannot = re.match("the stimuli cannot be made: .*(token|piece|initial)", reason)
    assert cannot or reason.startswith("behaviour absent: ")


@pytest.mark.parametrize("id", IDS)
def test_without_bos_prompts_start_with_their_first_word(id: str, unmarked: OpenModel) -> None:
    script, words = load_script(id), unmarked.vocabulary
    assert words.bos == ()
    for kind in ("stimulus", "task"):
        for prompt in script.draw(kind, words, "find", 2, 0).prompts:
            assert 0 not in prompt.tokens[:1] and all(query < len(prompt.tokens) for query, _ in prompt.pairs)


def test_a_vocabulary_smaller_than_its_tokenizer_is_refused_before_anything_runs() -> None:
    words = transformers.AutoTokenizer.from_pretrained(specimens.folder())
    with pytest.raises(HeadatlasError, match="knows only 300 tokens: they do not belong together"):
        open_model(llama(300, 128), tokenizer=words, called="small")
