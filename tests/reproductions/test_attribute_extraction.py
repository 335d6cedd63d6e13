"""Attribute extraction heads: the questions, and a planted head that reads off what goes with a name."""

import random
from dataclasses import replace

import numpy as np
import pytest

import headatlas
from conftest import selected
from headatlas.lab import OpenModel
from headatlas.notation import Head
from headatlas.protocol.script import load_script
from headatlas.stimuli import facts
from planted import OUT, PAST, START, WORD, Architecture, Copy, Marked, Planter
from planted_circuits import known

CATALOG = headatlas.load()
RULE, SCRIPT = CATALOG.heads["attribute-extraction"].rule, load_script("attribute-extraction")
READS, ALWAYS, LOOKS = Head(2, 1), Head(3, 0), Head(4, 2)


def planted(architecture: Architecture) -> OpenModel:
    """READS looks at the country and says what goes with it; the others look there and say nothing that does.

    ALWAYS moves the country's own name, and LOOKS moves nothing.
    """
    partners = known()
    made = Planter(architecture, partners, marks={"start": [START], "subject": facts.COUNTRIES}, facts=partners, seed=1)
    looks = [Marked("subject", 60), Marked("start", 30)]
    made.plant(READS, looks, [Copy(PAST, OUT, 3.0)])
    made.plant(ALWAYS, looks, [Copy(WORD, OUT, 3.0)])
    made.plant(LOOKS, looks)
    return made.open()


@pytest.mark.parametrize("architecture", ["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def test_the_head_whose_map_gives_the_attribute_is_found_and_no_other_that_looks_there(
    architecture: Architecture,
) -> None:
    model = planted(architecture)
    assert RULE
    drawn = SCRIPT.draw("stimulus", model.vocabulary, "find", 8, 0)
    assert selected(SCRIPT, RULE, model, drawn) == [READS]
    elsewhere = [replace(prompt, tokens=prompt.corrupted) for prompt in drawn.prompts]
    assert selected(SCRIPT, RULE, model, replace(drawn, prompts=elsewhere)) == []
    right = SCRIPT.module.named(model, drawn.prompts)
    assert right[:, *READS].mean() == 1 and set(np.unique(right)) <= {0, 1}
    assert right[:, *LOOKS].mean() < 0.8, "what is left is noise"


def test_the_pair_leads_to_the_end_of_the_name_and_the_rivals_are_of_the_kind_asked_for(specimen: OpenModel) -> None:
    words = specimen.vocabulary
    for family in SCRIPT.families:
        for seed in range(20):
            made = SCRIPT.module.stimulus(words, family, random.Random(seed))
            ((query, key),) = made.pairs
            assert query == len(made.tokens) - 1 and key == max(made.spans["subject"]) and not made.null_pairs
            country, other = (words.pieces([tokens[key]]).strip() for tokens in (made.tokens, made.corrupted))
            relation = words.pieces([made.tokens[place] for place in made.spans["relation"]]).strip()
            (readout,) = made.readouts
            answer, *rivals = (words.pieces([token]).strip() for token in (readout.answer, *readout.rivals))
            assert facts.BY_NAME[relation].pairs[country] == answer and len(set(rivals)) == 3
            assert set(rivals) <= set(facts.BY_NAME[relation].objects) - {answer}
            assert not set(facts.COUNTRIES[country]) & set(facts.COUNTRIES[other])
