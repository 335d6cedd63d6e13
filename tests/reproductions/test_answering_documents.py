"""Heads that look from a question at the document that answers it: stimuli, scores, and planted heads."""

import random
from dataclasses import replace

import numpy as np
import pytest
import transformers
from scipy.special import softmax

import headatlas
from conftest import selected
from headatlas import specimens
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, load_script
from headatlas.stimuli import Prompt, Vocabulary, documents, facts, lexicon
from planted import PREVIOUS, START, WORD, Architecture, Marked, Planter, Same
from planted_circuits import spots, words_in

CATALOG = headatlas.load()
IDS = ("query-focused-retrieval", "contrastive-retrieval")
# Families in which the words of the question stand in the note, and make up a tenth of what is averaged.
SHARING = ("the thing", "the owner", "both", "nothing shared", "same thing", "same owner", "same thing, in a chat")
KINDS = {kind: things[:3] for kind, things in facts.KINDS.items()}
AGAIN = [Same(WORD, WORD, 60), Marked("start", 30)]  # at the word itself and all earlier ones alike


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    tokenizer = transformers.AutoTokenizer.from_pretrained(specimens.folder())
    return Vocabulary(tokenizer, len(tokenizer))


def text(words: Vocabulary, prompt: Prompt, span: str) -> str:
    return str(words.tokenizer.decode([prompt.tokens[place] for place in prompt.spans[span]]))


def planted(architecture: Architecture, seed: int) -> tuple[Planter, dict[str, Head]]:
    """Heads that look at the words of the question, in the notes; at all places alike; and at the token before."""
    again, everywhere, previous = spots(seed, 3)
    said = words_in(["Notes put the in It is Find note that answers question Question Where did what away"])
    things = [word for kind, own in KINDS.items() for word in (kind, *own)]
    made = Planter(
        architecture,
        ["+\n", *said, *lexicon.NAMES[:20], *things, *lexicon.PLACES],
        marks={"start": [START], "place": lexicon.PLACES},
        seed=seed,
    )
    made.plant(again, AGAIN)
    made.plant(everywhere, [Marked("place", 60), Marked("start", 30)])
    made.plant(previous, PREVIOUS)
    return made, {"again": again, "everywhere": everywhere, "previous": previous}


# --- stimuli ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", IDS)
def test_the_question_asks_for_the_gold_note_and_the_corrupted_one_for_another(words: Vocabulary, id: str) -> None:
    script = load_script(id)
    for prompt in script.draw("stimulus", words, "find", 8, 0).prompts:
        begin, end = prompt.spans["query"][0], prompt.spans["query"][-1] + 1
        differ = [n for n, pair in enumerate(zip(prompt.tokens, prompt.corrupted, strict=True)) if len(set(pair)) > 1]
        assert differ and begin <= differ[0] and differ[-1] < end, "the notes are the same, the question is not"
        gold, rival = (text(words, prompt, span).split() for span in ("gold", "rival"))
        told = [{note[0], note[3]} for note in (gold, rival)]
        for tokens, mine, other in ((prompt.tokens, *told), (prompt.corrupted, *reversed(told))):
            asked = set(words.tokenizer.decode(tokens[begin:end]).replace(",", "").replace("?", "").split())
            assert asked & mine and not asked & (other - mine), "words of one note and of no other"
        assert {key for _, key in prompt.pairs} == set(prompt.spans["gold"])


@pytest.mark.parametrize("id", IDS)
def test_the_answer_is_the_place_of_the_gold_note(words: Vocabulary, id: str) -> None:
    for prompt in load_script(id).draw("task", words, "test", 8, 0).prompts:
        (readout,) = prompt.readouts
        assert readout.position == len(prompt.tokens) - 1
        assert words.tokenizer.decode([readout.answer]).strip() in text(words, prompt, "gold").strip(".").split()
        others = [span for span in prompt.spans if span == "rival" or span.startswith("other")]
        places = {words.tokenizer.decode([rival]).strip() for rival in readout.rivals}
        assert len(places) == len(others) and places <= {
            word for span in others for word in text(words, prompt, span).strip(".").split()
        }


@pytest.mark.parametrize("chat", [False, True])
def test_the_empty_query_stands_in_the_place_of_the_question(words: Vocabulary, chat: bool) -> None:
    prompt = documents.prompt(words, random.Random(0), " Where is the {thing}?", 4, chat=chat)
    begin, end = prompt.spans["query"][0], prompt.spans["query"][-1] + 1
    empty = documents.without_query(words, prompt)
    asked = words.continuation(documents.EMPTY)
    assert empty == prompt.tokens[:begin] + asked + prompt.tokens[end:]
    assert words.tokenizer.decode(list(empty)).count("N/A") == 1
    assert bool(prompt.tokens[end:]) == chat


def test_notes_share_what_the_family_says(words: Vocabulary) -> None:
    drawn = load_script("contrastive-retrieval").draw("stimulus", words, "find", 8, 0)
    common = {"nothing shared": (), "same thing": (3,), "same owner": (0,), "same thing, in a chat": (3,)}
    for prompt, family in zip(drawn.prompts, drawn.families, strict=True):
        gold, rival = (text(words, prompt, span).split() for span in ("gold", "rival"))
        told = (0, 3, 6)  # the words that tell owner, thing and place
        assert tuple(place for place in told if gold[place] == rival[place]) == common[family]


# --- scores -------------------------------------------------------------------------------------------------------


def test_the_share_of_a_note_is_near_one_where_it_draws_a_little_more() -> None:
    """With a temperature of 0.001, a hundredth of the attention more is all it takes."""
    temperature = load_script("contrastive-retrieval").module.TEMPERATURE
    assert softmax(np.array([0.11, 0.1, 0.1, 0.1, 0.1]) / temperature)[0] > 0.99


def test_the_qr_score_adds_up_what_the_question_draws_without_tokens_far_below() -> None:
    score = load_script("query-focused-retrieval").module.qr_score
    looks, empty = np.full((10, 1, 2), 0.03), np.full((10, 1, 2), 0.01)
    empty[4, 0, 1] = 0.9  # one token that the empty query looks at
    assert score(looks, empty) == pytest.approx(np.array([[10 * 0.02, 9 * 0.02]]))
    assert score(looks, looks) == pytest.approx(0)


@pytest.mark.parametrize("architecture, seed", [("gpt2", 0), ("llama", 1)])
@pytest.mark.parametrize("id", IDS)
def test_finds_the_head_that_looks_at_the_right_note(id: str, architecture: Architecture, seed: int) -> None:
    made, heads = planted(architecture, seed)
    assert found(id, made) == [heads["again"]]


@pytest.mark.parametrize("id", IDS)
def test_finds_nothing_where_the_question_is_for_another_note(id: str) -> None:
    made, _ = planted("gpt2", 0)
    assert found(id, made, swapped=True) == []


def found(id: str, made: Planter, swapped: bool = False) -> list[Head]:
    """The heads that a script selects where questions share words with notes; questions and others exchanged, if so."""
    model, script, rule = made.open(), load_script(id), CATALOG.heads[id].rule
    assert rule is not None
    drawn = script.draw("stimulus", model.vocabulary, "find", 6, 0)
    drawn = drawn.only([number for number, family in enumerate(drawn.families) if family in SHARING])
    if swapped:
        exchanged = [replace(each, tokens=each.corrupted, corrupted=each.tokens) for each in drawn.prompts]
        drawn = PromptSample(exchanged, drawn.families, drawn.split)
    return sorted(selected(script, rule, model, drawn))
