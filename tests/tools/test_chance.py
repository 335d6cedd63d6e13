"""What the test of chance puts in no order, and how its page counts."""

import json
import random
from pathlib import Path

import pytest
import torch
import transformers

import chance
from headatlas.lab import OpenModel, open_model
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt
from pages.chance import chance_page
from site_pages import ATLAS


def test_every_text_is_shuffled_on_its_own_and_the_first_tokens_stay() -> None:
    words = tuple(range(100, 140))
    prompt = Prompt((7, *words), (7, *words), pairs=((5, 2),), alternatives={"other": (7, *words)})
    (made,) = chance.in_no_order(PromptSample([prompt], ["a"], "find"), 1, random.Random(0)).prompts
    texts = made.tokens, made.corrupted, made.alternatives["other"]
    assert len(set(texts)) == 3 and all(text[0] == 7 and sorted(text[1:]) == list(words) for text in texts)
    assert made.pairs == prompt.pairs and words not in {text[1:] for text in texts}


def test_redrawn_weights_have_the_same_numbers_in_other_places(tiny_llama: OpenModel) -> None:
    before = {name: weight.clone() for name, weight in tiny_llama.model.named_parameters()}
    again = chance.redrawn(tiny_llama, seed=0)
    after = dict(again.model.named_parameters())
    assert before.keys() == after.keys() and again.anatomy == tiny_llama.anatomy
    for name, weight in after.items():
        assert torch.equal(weight.flatten().sort().values, before[name].flatten().sort().values)
        assert weight.dim() < 2 or not torch.equal(weight, before[name])


@pytest.fixture
def tiny_llama(specimen: OpenModel) -> OpenModel:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.LlamaConfig(vocab_size=specimen.vocabulary.size, bos_token_id=0, eos_token_id=0, **shape)
    return open_model(
        transformers.LlamaForCausalLM(config).eval(), tokenizer=specimen.vocabulary.tokenizer, called="tiny"
    )


def test_the_page_counts_types_without_scores_and_leaves_out_those_of_any_order(tmp_path: Path) -> None:
    types = {
        "induction": {"behaviour": False, "heads": []},
        "retrieval": {"behaviour": False, "heads": ["L1H2"]},
        "mover": {"behaviour": False, "unscored": "no behaviour"},
        "previous-token": {"behaviour": False, "heads": ["L0H0"], "any_order": "by distance"},
    }
    found = {"tokens": {"prompts": 4, "seed": 0, "types": types}}
    (tmp_path / "specimen.json").write_text(json.dumps(found), encoding="utf-8")
    page = chance_page(ATLAS, tmp_path)
    assert "<td>1 of 3</td><td>2</td>" in page and "(<code>L1H2</code>)" in page
    assert "by distance (<code>L0H0</code>)" in page


def test_each_type_of_any_order_is_in_the_catalog_and_says_why() -> None:
    assert chance.ANY_ORDER.keys() <= ATLAS.catalog.heads.keys() and all(chance.ANY_ORDER.values())
