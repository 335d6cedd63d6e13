"""Copying heads of retrieval-augmented generation: stimuli, the lead of true answers, and planted heads."""

import numpy as np
import pytest
import transformers

import headatlas
from conftest import selected
from headatlas import specimens
from headatlas.notation import Head
from headatlas.protocol.script import load_script
from headatlas.stimuli import Prompt, Vocabulary, lexicon, lookup
from planted import OUT, START, WORD, Architecture, Back, Copy, Marked, Planter, Same
from planted_circuits import NAMES, STORY, spots, words_in

SCRIPT = load_script("rag-copying")


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    tokenizer = transformers.AutoTokenizer.from_pretrained(specimens.folder())
    return Vocabulary(tokenizer, len(tokenizer))


def texts(prompt: Prompt) -> dict[tuple[str, str], tuple[int, ...]]:
    """The four texts by what they tell and what they answer."""
    denied, swapped = (prompt.alternatives[name] for name in ("other words said", "these words said of others"))
    return {("A", "A"): prompt.tokens, ("B", "B"): prompt.corrupted, ("A", "B"): denied, ("B", "A"): swapped}


def test_each_answer_is_true_to_one_text_and_false_to_the_other(words: Vocabulary) -> None:
    for prompt in SCRIPT.draw("task", words, "find", 6, 0).prompts:
        told, said = {}, {}
        for (tells, answers), tokens in texts(prompt).items():
            context = [tokens[place] for place in prompt.spans["context"]]
            answer = [tokens[place] for place in prompt.spans["answer"]]
            assert told.setdefault(tells, context) == context and said.setdefault(answers, answer) == answer
        for mine, other in ("AB", "BA"):
            length = len(said[mine])
            runs = [told[mine][start : start + length] for start in range(len(told[mine]))]
            assert said[mine] in runs and said[other] not in runs and not set(said[mine]) & set(said[other])


def test_the_prompt_is_read_where_each_word_of_the_answer_comes_next(words: Vocabulary) -> None:
    for prompt in SCRIPT.draw("task", words, "find", 6, 0).prompts:
        assert [readout.position + 1 for readout in prompt.readouts] == list(prompt.spans["answer"])
        assert all(prompt.tokens[readout.position + 1] == readout.answer for readout in prompt.readouts)
        assert max(prompt.spans["context"]) < min(prompt.spans["answer"])


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
    again = [Same(WORD, WORD, 300), Back(0, -200), Marked("start", 155)]
    needles = words_in(text for pair in lookup.NEEDLES for text in pair)
    every = ["+\n", *STORY, *NAMES, *needles, *lexicon.THINGS]
    marks = {"start": [START], "place": lexicon.PLACES}
    made = Planter(architecture, dict.fromkeys(every), marks=marks, seed=seed)
    made.plant(idle, again)
    made.plant(copying, again, little)
    made.plant(elsewhere, [Marked("place", 60), Marked("start", 30)], little)
    model, rule = made.open(), headatlas.load().heads["rag-copying"].rule
    assert rule is not None
    found: list[Head] = selected(SCRIPT, rule, model, SCRIPT.draw("task", model.vocabulary, "find", 4, 0))
    assert found == [copying]
