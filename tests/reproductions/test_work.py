"""What scores that patch heads cost: tokens through all blocks, as a multiple of the tokens of their prompts.

A score that runs a head's patched position from the head's layer to the end, for every head, costs
layers x heads / 2 such tokens for each prompt and source: 24 on these models. The bounds are what the scores cost, so
that a run that is taken twice, a position that is not needed, or a trial for each length of the prompts is seen.
"""

import pytest

import headatlas
from headatlas.lab import open_model
from headatlas.lab.running.passes import count_passes
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.measure import measure_scores
from headatlas.protocol.script import load_script

MOST = {  # with 4 prompts of each family
    "amplification": 4.3,
    "arithmetic": 11.2,
    "backup-name-mover": 11.0,
    "concept-induction": 6.0,
    "content-gatherer": 8.5,
    "inhibition": 14.3,
    "mover": 9.2,
    "name-mover": 7.5,
    "negative-name-mover": 4.7,
    "self-suppressing": 1.0,
    "sentiment-summarizer": 11.1,
    "summary-reader": 4.8,
    "translation-indicator": 9.9,
    "translation-source": 9.9,
}


@pytest.mark.parametrize("name", ["specimen", pytest.param("specimen-llama-0", marks=pytest.mark.slow)])
@pytest.mark.parametrize("id", MOST)
def test_a_score_costs_no_more_than_it_must(id: str, name: str) -> None:
    model, rule = open_model(name), headatlas.load().heads[id].rule  # opened anew: nothing is known of it yet
    assert rule
    script = load_script(id)
    find = draw(script, rule, model, 0, prompts=4).find
    with count_passes(model) as work:
        measure_scores(script, model, find)
    assert work.tokens <= MOST[id] * sum(len(prompt.tokens) for prompt in find.prompts)


def test_the_test_half_of_a_detection_knows_the_movers_of_the_first() -> None:
    model, rule = open_model("specimen"), headatlas.load().heads["backup-name-mover"].rule
    assert rule
    script, spent = load_script("backup-name-mover"), []
    drawn = draw(script, rule, model, 0, prompts=4)
    for sample in (drawn.find, drawn.test):
        with count_passes(model) as work:
            measure_scores(script, model, sample)
        spent.append(work.tokens / sum(len(prompt.tokens) for prompt in sample.prompts))
    assert spent[1] < 4 < spent[0] / 2
