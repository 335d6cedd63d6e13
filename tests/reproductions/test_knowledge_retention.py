"""Knowledge-retention heads: the facts, and a small model in which one head has what there is to learn."""

import random
from functools import cache

import numpy as np
import pytest
import torch

import headatlas
from headatlas.evidence import statistics
from headatlas.lab import OpenModel, log_probability, metric_per_prompt
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, load_script
from headatlas.stimuli import facts, new_facts
from planted import OUT, START, WORD, Copy, Marked, Planter
from planted_circuits import words_in

CATALOG = headatlas.load()
RULE, SCRIPT = CATALOG.heads["knowledge-retention"].rule, load_script("knowledge-retention")
READER, RESTING = Head(1, 2), Head(1, 0)


@cache
def planted() -> OpenModel:
    """READER gives the end half a look at the subject, and could look more; RESTING looks at the start."""
    texts = [part for fact in new_facts.NEW_FACTS.values() for part in (fact.new, fact.old)]
    words = {*words_in(texts), *facts.COUNTRIES, *facts.BY_NAME["kind"].pairs} - {"subject"}
    words |= {word for fact in new_facts.NEW_FACTS.values() for word in fact.objects}
    subjects = [*facts.COUNTRIES, *facts.BY_NAME["kind"].pairs]
    made = Planter("gpt2", sorted(words), marks={"start": [START], "subject": subjects}, layers=2)
    made.plant(READER, [Marked("subject", 3), Marked("start", 3)], [Copy(WORD, OUT, 1.0)])
    made.plant(RESTING, [Marked("start", 3)])
    return made.open()


def test_the_head_whose_attention_serves_what_is_learned_is_found() -> None:
    model = planted()
    assert RULE and SCRIPT.detect
    sample = SCRIPT.draw("stimulus", model.vocabulary, "find", 8, 0)
    scores = SCRIPT.detect(model, sample)
    assert np.nanmean(scores.score) == pytest.approx(1)
    q = statistics.q_values(statistics.p_above_null(scores.score, scores.null))
    assert statistics.select(scores.score.mean(0), q, RULE.detection.threshold, RULE.detection.fdr) == [READER]


def test_scores_stand_in_the_order_of_the_prompts() -> None:
    model = planted()
    assert SCRIPT.detect
    sample = SCRIPT.draw("stimulus", model.vocabulary, "find", 3, 0)
    order = [0, 3, 6, 1, 4, 7, 2, 5, 8]  # the families take turns, and come in the same order
    mixed = PromptSample([sample.prompts[n] for n in order], [sample.families[n] for n in order], "find")
    one, other = SCRIPT.detect(model, sample), SCRIPT.detect(model, mixed)
    assert other.score == pytest.approx(one.score[order], rel=1e-4)


def test_the_new_facts_are_learned_and_the_edit_takes_the_attention_that_was_learned() -> None:
    model = planted()
    assert SCRIPT.edit
    sample = SCRIPT.draw("stimulus", model.vocabulary, "find", 4, 0)
    learned = SCRIPT.module.learned(model, sample).model
    last = [sample.prompts[number] for number in sample.of_family(SCRIPT.families[-1])]
    gained = metric_per_prompt(learned, last, log_probability) - metric_per_prompt(model, last, log_probability)
    assert gained.mean() > 0.1, "those learned last"
    patch = SCRIPT.edit(model, sample)
    assert not isinstance(patch, dict) and callable(patch)
    z = patch(last[:1]).z
    assert all(torch.isfinite(each).all() for each in z.values())


@pytest.mark.parametrize("name", new_facts.NEW_FACTS)
def test_new_facts_are_not_true_ones_and_do_not_change(name: str, specimen: OpenModel) -> None:
    words, fact = specimen.vocabulary, new_facts.NEW_FACTS[name]
    told: dict[tuple[int, ...], int] = {}
    for seed in range(60):
        made = new_facts.to_learn(words, random.Random(seed), fact)
        (readout,) = made.readouts
        assert readout.position == len(made.tokens) - 1 and made.corrupted == made.tokens
        assert told.setdefault(made.tokens, readout.answer) == readout.answer
        assert words.pieces([readout.answer]).strip() in fact.objects
    assert len(told) > 15 and len(set(told.values())) > 3


@pytest.mark.parametrize("name", new_facts.NEW_FACTS)
def test_old_facts_are_true_and_of_the_form_of_the_new_ones(name: str, specimen: OpenModel) -> None:
    words, fact = specimen.vocabulary, new_facts.NEW_FACTS[name]
    relation = facts.BY_NAME[fact.relation]
    for seed in range(30):
        made = new_facts.known(words, random.Random(seed), fact)
        (readout,) = made.readouts
        answer, *rivals = (words.pieces([token]).strip() for token in (readout.answer, *readout.rivals))
        subject, other = (
            words.pieces([tokens[place] for place in made.spans["subject"]]).strip()
            for tokens in (made.tokens, made.corrupted)
        )
        assert relation.pairs[subject] == answer != relation.pairs[other]
        assert set(rivals) == set(relation.objects) - {answer}
