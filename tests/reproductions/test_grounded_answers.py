"""Copying heads of retrieval-augmented generation: stimuli, the lead of true answers, and planted heads."""

import numpy as np
import pytest
import transformers

import headatlas
from conftest import selected
from headatlas import specimens
from headatlas.notation import Head
from headatlas.protocol.script import load_script
from headatlas.stimuli import Prompt, Vocabulary, facts, grounded_answers, lexicon
from planted import OUT, START, WORD, Architecture, Copy, Marked, Planter, Same
from planted_circuits import NAMES, STORY, spots, words_in

SCRIPT = load_script("rag-copying")


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    tokenizer = transformers.AutoTokenizer.from_pretrained(specimens.folder())
    return Vocabulary(tokenizer, len(tokenizer))


def texts(prompt: Prompt) -> dict[tuple[str, str], tuple[int, ...]]:
    """The four texts by what they tell and what they answer: the wrong or the learned object."""
    denied, swapped = (prompt.alternatives[name] for name in grounded_answers.CONTRADICTING)
    return {
        ("wrong", "wrong"): prompt.tokens,
        ("learned", "learned"): prompt.corrupted,
        ("wrong", "learned"): denied,
        ("learned", "wrong"): swapped,
    }


def test_each_answer_is_true_to_one_text_and_false_to_the_other(words: Vocabulary) -> None:
    for prompt in SCRIPT.draw("stimulus", words, "find", 6, 0).prompts:
        told, said = {}, {}
        for (tells, answers), tokens in texts(prompt).items():
            context = [tokens[place] for place in prompt.spans["context"]]
            answer = [tokens[place] for place in prompt.spans["answer"]]
            assert told.setdefault(tells, context) == context and said.setdefault(answers, answer) == answer
        assert [len(answer) for answer in said.values()] == [2, 2] and said["wrong"][1] == said["learned"][1]
        for mine, other in (("wrong", "learned"), ("learned", "wrong")):
            assert said[mine][0] in told[mine] and said[other][0] not in told[mine]
        assert max(prompt.spans["context"]) < min(prompt.spans["answer"])


def test_the_learned_object_belongs_to_the_subject_and_is_the_first_rival(words: Vocabulary) -> None:
    for prompt in SCRIPT.draw("task", words, "find", 6, 0).prompts:
        (readout,) = prompt.readouts
        assert readout.position == len(prompt.tokens) - 1
        changed = {(one, other) for one, other in zip(prompt.tokens, prompt.corrupted, strict=True) if one != other}
        assert changed == {(readout.answer, readout.rivals[0])} and readout.answer not in readout.rivals
        learned = str(words.tokenizer.decode([readout.rivals[0]])).strip()
        text = str(words.tokenizer.decode(prompt.tokens))
        owners = [country for country in facts.COUNTRIES if learned in facts.COUNTRIES[country][:2]]
        assert any(f" {country}" in text for country in owners)


def test_a_lead_counts_pairs_in_which_the_first_are_larger() -> None:
    one, other = np.array([[[1.0, 3.0, 2.0]]]), np.array([[[2.0, 3.0, 0.0]]])
    nothing = np.zeros((1, 1, 3))
    lead = SCRIPT.module.lead
    assert lead((one, one), (nothing, nothing)).tolist() == [[[1, 1, 1]]]
    assert lead((one, nothing), (other, other)).tolist() == [[[-1, -0.5, 0.5]]]
    assert lead((one, other), (one, other)).tolist() == [[[0, 0, 0]]]


@pytest.mark.parametrize("architecture, seed", [("gpt2", 0), ("llama", 1)])
def test_finds_the_head_that_looks_at_the_same_word_and_copies_it(architecture: Architecture, seed: int) -> None:
    """Not one that looks there and copies nothing, nor one that copies what has nothing to do with the answer."""
    idle, copying, elsewhere = spots(seed, 3)
    little = [Copy(WORD, OUT, 0.1)]  # so that answers do not differ from the text by what is written there
    again = [Same(WORD, WORD, 60), Marked("start", 30)]
    known = [*facts.COUNTRIES, *(word for row in facts.COUNTRIES.values() for word in row[:2])]
    asked = words_in(text for relation in facts.RELATIONS[:2] for text in (*relation.claims, *relation.questions))
    marks = {"start": [START], "place": lexicon.PLACES}
    every = dict.fromkeys(
        ["+\n", *STORY, *NAMES, *known, *(word for word in asked if word not in ("subject", "object"))]
    )
    made = Planter(architecture, every, marks=marks, seed=seed)
    made.plant(idle, again)
    made.plant(copying, again, little)
    made.plant(elsewhere, [Marked("place", 60), Marked("start", 30)], little)
    model, rule = made.open(), headatlas.load().heads["rag-copying"].rule
    assert rule is not None
    found: list[Head] = selected(SCRIPT, rule, model, SCRIPT.draw("stimulus", model.vocabulary, "find", 8, 0))
    assert found == [copying]
