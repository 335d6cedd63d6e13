"""Heads that bring the word to be translated, or the language asked for: stimuli, and planted heads."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import transformers

import headatlas
from conftest import selected
from headatlas import specimens
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, load_script
from headatlas.stimuli import Prompt, Vocabulary, lexicon, second_language, word_translation
from planted import OUT, PREVIOUS, START, Architecture, Marked, Note, Planter, Turn, tokenizer
from planted_circuits import spots, words_in

CATALOG = headatlas.load()
NEUTRAL = [thing for thing in lexicon.THINGS if thing not in second_language.WORDS][:15]
FRAME = words_in(["has the English In is for Lumi French German Spanish"])
FOREIGN = [word for row in word_translation.WORDS.values() for word in row.values()]


@pytest.fixture(scope="module", params=["Lumi", "three languages"])
def words(request: pytest.FixtureRequest) -> Vocabulary:
    if request.param == "Lumi":
        known = transformers.AutoTokenizer.from_pretrained(specimens.folder())
    else:
        every = [*FRAME, *lexicon.NAMES[:20], *NEUTRAL, *word_translation.WORDS, *FOREIGN]
        known, _ = tokenizer(dict.fromkeys(every), spelling=True)
    return Vocabulary(known, len(known))


def text(words: Vocabulary, tokens: tuple[int, ...]) -> str:
    return str(words.tokenizer.decode(tokens[len(words.bos) :]))


def changed(prompt: Prompt, other: tuple[int, ...]) -> set[int]:
    return {place for place, (mine, its) in enumerate(zip(prompt.tokens, other, strict=True)) if mine != its}


def planted(architecture: Architecture, seed: int) -> tuple[Planter, dict[str, Head]]:
    """A head that says the translation of the word, one that says that it is Lumi, and one at the token before."""
    source, indicator, previous = spots(seed, 3, first=1)
    lumi = {noun: second_language.WORDS[noun] for noun in second_language.NOUNS}
    made = Planter(
        architecture,
        dict.fromkeys([*FRAME, *lexicon.NAMES[:20], *NEUTRAL, *lumi, *second_language.WORDS.values()]),
        marks={"start": [START], "noun": list(lumi), "Lumi": ["Lumi"]},
        says={"say Lumi": list(lumi.values())},
        seed=seed,
    )
    made.plant(source, [Marked("noun", 60), Marked("start", 30)], [Turn(lumi, OUT, 3.0)])
    made.plant(indicator, [Marked("Lumi", 60), Marked("start", 30)], [Note("Lumi", "say Lumi", 3.0)])
    made.plant(previous, PREVIOUS)
    return made, {"translation-source": source, "translation-indicator": indicator}


# --- stimuli ------------------------------------------------------------------------------------------------------


def test_the_table_has_three_translations_of_each_word_and_none_begins_like_it() -> None:
    assert len(word_translation.WORDS) == 50
    for english, row in word_translation.WORDS.items():
        assert len(row) == 3 and all(each[0].lower() != english[0] for each in row.values())


def test_a_source_prompt_differs_from_its_corrupted_prompt_in_the_word_alone(words: Vocabulary) -> None:
    for prompt in load_script("translation-source").draw("task", words, "find", 8, 0).prompts:
        end = len(prompt.tokens) - 1
        assert changed(prompt, prompt.corrupted) == set(prompt.spans["word"]) == {key for _, key in prompt.pairs}
        assert {query for query, _ in prompt.pairs} == {end} == {readout.position for readout in prompt.readouts}
        word, language = (text(words, words.bos + each).strip() for each in spans(prompt, prompt.tokens))
        right = word_translation.Request(word, language)
        other = word_translation.Request(text(words, words.bos + spans(prompt, prompt.corrupted)[0]).strip(), language)
        (readout,) = prompt.readouts
        assert readout.answer == words.continuation(right.answer)[0] and len(readout.rivals) == word_translation.RIVALS
        assert words.continuation(other.answer)[0] in readout.rivals


def test_an_indicator_prompt_differs_from_its_corrupted_prompt_in_the_language_alone(words: Vocabulary) -> None:
    for prompt in load_script("translation-indicator").draw("task", words, "find", 8, 0).prompts:
        assert changed(prompt, prompt.corrupted) == set(prompt.spans["language"]) == {key for _, key in prompt.pairs}
        word, language = (text(words, words.bos + each).strip() for each in spans(prompt, prompt.tokens))
        other = text(words, words.bos + spans(prompt, prompt.corrupted)[1]).strip()
        (readout,) = prompt.readouts
        answers = [word_translation.Request(word, each).answer for each in (language, other)]
        assert [readout.answer, *readout.rivals] == [words.continuation(each)[0] for each in answers]


@pytest.mark.parametrize("id", ["translation-source", "translation-indicator"])
def test_the_alternative_differs_in_the_opening_alone(words: Vocabulary, id: str) -> None:
    for prompt in load_script(id).draw("task", words, "find", 8, 0).prompts:
        differ = changed(prompt, prompt.alternatives["other opening"])
        opening = text(words, prompt.tokens).index(".")
        before = len(words.bos) + len(words.encode(text(words, prompt.tokens)[: opening + 1]))
        assert differ and max(differ) < before <= min(*prompt.spans["word"], *prompt.spans["language"])


def spans(prompt: Prompt, tokens: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of the word and of the language."""
    word, language = (tuple(tokens[place] for place in prompt.spans[role]) for role in ("word", "language"))
    return word, language


# --- planted heads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture, seed", [("gpt2", 0), ("llama", 1)])
@pytest.mark.parametrize("id", ["translation-source", "translation-indicator"])
def test_finds_exactly_the_planted_head(id: str, architecture: Architecture, seed: int) -> None:
    made, heads = planted(architecture, seed)
    assert found(id, made) == [heads[id]]


@pytest.mark.parametrize("id", ["translation-source", "translation-indicator"])
def test_finds_nothing_where_nothing_is_exchanged(id: str) -> None:
    """With the control's prompt as the corrupted prompt, both are exchanged for what does not matter."""
    made, _ = planted("gpt2", 0)
    assert found(id, made, lambda prompt: replace(prompt, corrupted=prompt.alternatives["other opening"])) == []


def found(id: str, made: Planter, change: Callable[[Prompt], Prompt] = lambda prompt: prompt) -> list[Head]:
    """The heads that a script selects on a few prompts, each changed first."""
    model, script, rule = made.open(), load_script(id), CATALOG.heads[id].rule
    assert rule is not None
    drawn = script.draw("stimulus", model.vocabulary, "find", 6, 0)
    sample = PromptSample([change(prompt) for prompt in drawn.prompts], drawn.families, drawn.split)
    return sorted(selected(script, rule, model, sample))
