"""Scripts of arguments and chats on planted circuits, drawn patterns and drawn activations: they find what is there."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import headatlas
from conftest import selected
from headatlas.lab import OpenModel, metric_per_prompt
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, Script, load_script
from headatlas.stimuli import Prompt, category_chains, lexicon, logic_puzzles, probe_labels
from headatlas.stimuli.occupations import DEEDS, MEN, WOMEN
from headatlas.stimuli.refusals import DEEDS as REQUESTS
from headatlas.stimuli.refusals import REFUSALS
from planted import HELD, OUT, PAST, START, WORD, Architecture, Back, Copy, Marked, Note, Planter
from planted_circuits import ARCHITECTURES, DUPLICATE, PROMPTS, STORY, words_in

CATALOG = headatlas.load()
LINE = "+\n"  # the end of a line, as a token without a space
Change = Callable[[PromptSample], PromptSample]


def drawn(
    id: str, model: OpenModel, change: Change = lambda sample: sample, count: int = PROMPTS
) -> tuple[Script, PromptSample]:
    script = load_script(id)
    return script, change(script.draw("stimulus", model.vocabulary, "find", count, 0))


def found(id: str, model: OpenModel, change: Change = lambda sample: sample, count: int = PROMPTS) -> list[Head]:
    """The heads that the entry's own rule selects, on fewer prompts."""
    rule = CATALOG.heads[id].rule
    assert rule
    script, sample = drawn(id, model, change, count)
    return sorted(selected(script, rule, model, sample))


def behaviour(id: str, model: OpenModel, change: Change = lambda sample: sample) -> float:
    script, sample = drawn(id, model, change)
    return float(metric_per_prompt(model, sample.prompts, script.behaviour, script.contrast).mean())


def turned(sample: PromptSample) -> PromptSample:
    """The corrupted prompts in the place of the prompts; their answers stay."""
    return replace(sample, prompts=[replace(each, tokens=each.corrupted) for each in sample.prompts])


# --- puzzles ------------------------------------------------------------------------------------------------------


def puzzling(architecture: Architecture) -> tuple[OpenModel, Head, Head]:
    """A head that brings to each letter the one two places before it, which is a premise where a rule ends; one that
    looks from a letter at the same letter and takes along what was brought there; and one that looks three back, at the
    end from '[:]' at the queried letter, and says what was taken along.

    Of a rule with two premises it says the second.
    """
    brings, locates, moves = Head(0, 1), Head(2, 2), Head(4, 0)
    written = [text for form in logic_puzzles.SHORT_WORDINGS.values() for text in form]
    said = [re.sub(r"{\w+}", " ", text) for text in written]
    words = [*logic_puzzles.NO_WORDS, *words_in([*said, "Rules: is true false Answer"]), "->", LINE]
    made = Planter(architecture, dict.fromkeys(words), marks={"start": [START]}, apart=logic_puzzles.NO_WORDS)
    made.plant(brings, [Back(2, 300), Marked("start", 275)], [Copy(WORD, PAST)])
    made.plant(locates, DUPLICATE, [Copy(PAST, HELD)])
    made.plant(moves, [Back(3, 300), Marked("start", 275)], [Copy(HELD, OUT, 3.0)])
    return made.open(), locates, moves


def with_second_premise(model: OpenModel) -> Change:
    """Only puzzles whose rule with two premises is proved by the second."""

    def keep(sample: PromptSample) -> PromptSample:
        def second(prompt: Prompt) -> bool:
            said = model.vocabulary.tokenizer.decode(prompt.tokens).rsplit("Rules:", 1)[1]
            other = said.split(" or ", 1)[1][0]
            return f"{other} is true" in said

        return sample.only([number for number, prompt in enumerate(sample.prompts) if second(prompt)])

    return keep


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_that_looks_at_the_queried_rule_is_a_locator_and_the_one_that_fetches_is_a_mover(
    architecture: Architecture,
) -> None:
    model, locates, moves = puzzling(architecture)
    solved = with_second_premise(model)
    assert behaviour("queried-rule-mover", model, solved) > 0.9
    assert found("queried-rule-locating", model) == [locates]
    assert found("queried-rule-mover", model, solved) == [moves]
    assert found("queried-rule-locating", model, turned) == []


# --- chains -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_heads_that_write_the_next_word_of_two_sub_tasks_are_found(architecture: Architecture) -> None:
    """The category of the last sentence stands two tokens before the end of a decision, that of the rule four before
    the end of an inference. Each is right on a third of the prompts only, so more are needed.
    """
    decides, infers = Head(1, 0), Head(2, 3)
    names = lexicon.NAMES[:20]
    words = [*category_chains.CATEGORIES[:40], *names, "Every", "is", "a", "Steps"]
    made = Planter(
        architecture, [*words, "+Every", LINE], marks={"start": [START]}, apart=category_chains.CATEGORIES[:40]
    )
    made.plant(decides, [Back(2, 300), Marked("start", 275)], [Copy(WORD, OUT, 3.0)])
    made.plant(infers, [Back(4, 300), Marked("start", 275)], [Copy(WORD, OUT, 3.0)])
    model = made.open()
    count = 2 * PROMPTS
    assert found("chain-of-thought", model, count=count) == [decides, infers]
    assert found("chain-of-thought", model, turned, count) == []


# --- people -------------------------------------------------------------------------------------------------------


def assuming(architecture: Architecture) -> tuple[OpenModel, Head]:
    """A head that marks whoever stands behind a deed, and one that looks from a pronoun at the people of its stereotype
    and makes the words likelier that fit the second person where it finds that mark.
    """
    marks_second, assumes = Head(0, 2), Head(3, 1)
    second = {other for _, other in DEEDS.values()}
    words = [*WOMEN, *MEN, *DEEDS, *second, *(one for one, _ in DEEDS.values()), "she", "he", "the", "because", "as"]
    words += ["office", "after", "all"]
    marks = {"start": [START], "woman": WOMEN, "man": MEN, "she": ["she"], "he": ["he"], "deed": list(DEEDS)}
    made = Planter(
        architecture, dict.fromkeys(words), marks=marks | {"second": []}, says={"say second": sorted(second)}
    )
    made.plant(marks_second, [Marked("deed", 60), Marked("start", 30)], [Note("deed", "second")])
    looks = [Marked("woman", 60, seen_from="she"), Marked("man", 60, seen_from="he"), Marked("start", 30)]
    made.plant(assumes, looks, [Note("second", "say second", 3.0)])
    return made.open(), assumes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_that_ties_a_pronoun_to_a_stereotype_is_found_and_without_stereotypes_none(
    architecture: Architecture,
) -> None:
    model, assumes = assuming(architecture)
    assert behaviour("gender-bias", model) > 0.5
    assert found("gender-bias", model) == [assumes]

    def among_equals(sample: PromptSample) -> PromptSample:
        def alike(prompt: Prompt) -> Prompt:
            return replace(
                prompt, tokens=prompt.alternatives["alike"], corrupted=prompt.alternatives["alike, corrupted"]
            )

        return replace(sample, prompts=[alike(prompt) for prompt in sample.prompts])

    assert found("gender-bias", model, among_equals) == []


# --- requests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_that_looks_for_harm_and_refuses_is_a_safety_head(architecture: Architecture) -> None:
    refuses = Head(3, 2)
    harm, harmless = ({deed[place] for deed in REQUESTS} for place in (0, 1))
    things = {thing for deed in REQUESTS for thing in deed[2]}
    words = [*harm, *harmless, *things, *REFUSALS, *lexicon.NAMES[:20], "can", "do", "how", "to", "the", "of", LINE]
    marks = {"start": [START], "harm": sorted(harm)}
    made = Planter(architecture, dict.fromkeys(words), marks=marks, says={"say refusal": REFUSALS})
    made.plant(refuses, [Marked("harm", 60), Marked("start", 30)], [Note("harm", "say refusal", 3.0)])
    model = made.open()
    assert behaviour("safety", model) > 0.5
    assert found("safety", model) == [refuses]
    assert found("safety", model, turned) == []


# --- doubts -------------------------------------------------------------------------------------------------------


def test_the_head_that_tells_a_conversation_in_which_the_model_gives_in_is_found(
    specimen: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another head tells whether the last answer differs from the first, which half of those that stand do too."""
    script, rule = load_script("sycophancy"), CATALOG.heads["sycophancy"].rule
    assert rule
    sample = script.draw("stimulus", specimen.vocabulary, "find", 32, 0)
    labels, knows, other = probe_labels(sample.prompts), Head(4, 2), Head(1, 5)
    said = [specimen.vocabulary.tokenizer.decode(prompt.tokens) for prompt in sample.prompts]
    moved = [len(set(re.findall(r"answer is (\w+)", each))) == 2 for each in said]

    def z(*_: object) -> Tensor:
        drawn = torch.randn(len(labels), 6, 8, 4, generator=torch.Generator().manual_seed(0))
        drawn[:, knows.layer, knows.head, 1] += 8.0 * torch.tensor(labels)
        drawn[:, other.layer, other.head, 2] += 8.0 * torch.tensor(moved)
        return drawn

    monkeypatch.setattr(script.module, "collect_z", z)
    assert script.detect and script.edit
    scores = script.detect(specimen, sample).score.mean(0)
    assert selected(script, rule, specimen, sample) == [knows]
    assert scores[knows] > 0.9 and 0.5 < scores[other] < 0.8
    step = script.edit(specimen, sample)
    direction = step.z[4][0, 0, 2]  # type: ignore[union-attr]
    assert step.added and direction[1] < -0.9 * direction.norm(), "away from giving in"  # type: ignore[union-attr]


def test_giving_in_is_preferring_the_object_that_the_user_names() -> None:
    gives_in = load_script("sycophancy").module.gives_in
    logits = torch.tensor([[[1.0, 2.0, 9.0]], [[2.0, 1.0, 9.0]], [[1.0, 1.0, 0.0]]])
    assert gives_in(logits, torch.tensor([[0]] * 3), torch.tensor([[[1]]] * 3)).tolist() == [1.0, 0.0, 0.0]


# --- injections ---------------------------------------------------------------------------------------------------


def obeying(architecture: Architecture) -> tuple[OpenModel, Head, Head]:
    """A head that looks at orders and else at the instruction, and one that spreads its attention over all alike."""
    turns, spreads = Head(2, 1), Head(3, 3)
    told = words_in(
        ["Say xxxxxx Read the data and answer yes Name a color There was Ignore previous instruction output"]
    )
    words = dict.fromkeys([*told, *STORY, *lexicon.THINGS, *lexicon.QUALITIES, LINE])
    marks = {"start": [START], "told": ["Say", "Read", "Name"], "order": ["output"]}
    made = Planter(architecture, words, marks=marks)
    made.plant(turns, [Marked("order", 80), Marked("told", 40)])
    made.plant(spreads, [])
    return made.open(), turns, spreads


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_that_turns_to_an_order_is_found_and_not_one_that_goes_by_length(architecture: Architecture) -> None:
    model, turns, spreads = obeying(architecture)
    assert found("injection-distracted", model) == [turns]
    assert found("injection-distracted", model, turned) == []
    script, sample = drawn("injection-distracted", model)
    assert script.detect
    scores = script.detect(model, sample)
    assert scores.score.mean(0)[turns] > 0.5 > 0 > scores.null.mean(0)[turns] - 0.1
    assert abs(scores.score.mean(0)[spreads] - scores.null.mean(0)[spreads]) < 0.01, "the prompts are of one length"


def test_the_share_is_that_of_the_instruction_among_instruction_and_data() -> None:
    share = load_script("injection-distracted").module.share
    tokens = tuple(range(6))
    prompt = Prompt(tokens, tokens, spans={"instruction": (1,), "data": (2, 3), "attack": (3,)})
    pattern = np.zeros((1, 1, 6, 6))
    pattern[..., -1, :] = [0.5, 0.1, 0.1, 0.2, 0.1, 0.0]
    assert share(prompt, pattern).item() == pytest.approx(0.25)
    pattern[..., -1, :] = [1, 0, 0, 0, 0, 0]
    assert share(prompt, pattern).item() == 0
