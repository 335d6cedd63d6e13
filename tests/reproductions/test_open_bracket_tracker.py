"""Open-bracket trackers: a head that counts was planted beside one that always says the same."""

import functools
import math
import random
from collections.abc import Sequence

import headatlas
from conftest import selected
from headatlas import specimens
from headatlas.lab import metric_per_prompt, open_model, record
from headatlas.lab.running import accuracy_among_rivals
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, load_script
from headatlas.stimuli import Prompt, parentheses
from planted import START, Marked, Note, Planter
from planted_circuits import spots

SCRIPT = load_script("open-bracket-tracker")
FAMILY, PROMPTS = "print a string", 24
GAIN = 20.0
SCORE = 10.0  # of the start


def built(shares: Sequence[float]) -> tuple[Planter, Head, Head]:
    """A model with a head that counts, and one that always promotes ")".

    The first head gives open parentheses a share m of its attention that grows with their number, and the rest to the
    start. The token that closes k has the logit 2 m(k) m - m(k)^2, the tangent of m^2 at m(k), which is the largest of
    the four where m = m(k). `shares` are m(1) to m(4).
    """
    constant, counting = spots(0, 2)
    names = ["+" + each for each in (*parentheses.CLOSERS, *parentheses.OPENERS)]
    marks = {"start": [START], "open": ["+("], "twice": ["+(("]}
    says = {f"say {number}": [f"+{text}"] for number, text in enumerate(parentheses.CLOSERS, 1)}
    made = Planter("gpt2", [*names, "+\n", "+print", "+str"], marks=marks, says=says, seed=0)
    made.plant(constant, [Marked("start", 30)], [Note("start", "say 1", 0.05)])
    moves = []
    for number, share in enumerate(shares, 1):
        moves += [Note(mark, f"say {number}", GAIN * (2 * share - share**2)) for mark in ("open", "twice")]
        moves += [Note("start", f"say {number}", -GAIN * share**2)]
    looks = [Marked("start", SCORE), Marked("open", SCORE - 1), Marked("twice", SCORE - 1 + math.log(2))]
    made.plant(counting, looks, moves)
    return made, constant, counting


@functools.cache
def planted() -> tuple[Planter, Head, Head]:
    """The model whose logits fit the shares that its attention has."""
    made, _, counting = built((0.2, 0.4, 0.6, 0.8))
    model, shares = made.open(), []
    for text in ("print(160", "print(str(160", "print(str(str(160", "print(str(str(str(160"):
        tokens = model.tokens(f"#print the string 160\n{text}")
        row = record(model, tokens, ["pattern"])["pattern", counting.layer][0, counting.head, -1]
        shares.append(float(row[tokens[0] == made.ids["+("]].sum()))
    return built(shares)


def drawn(count: int) -> list[Prompt]:
    words = planted()[0].open().vocabulary
    return [SCRIPT.module.stimulus(words, FAMILY, random.Random(seed)) for seed in range(count)]


def test_finds_the_head_that_counts_and_not_the_constant_one() -> None:
    made, constant, counting = planted()
    model, rule = made.open(), headatlas.load().heads["open-bracket-tracker"].rule
    assert rule and SCRIPT.detect
    sample = PromptSample(drawn(PROMPTS), [FAMILY] * PROMPTS, "find")
    assert metric_per_prompt(model, sample.prompts, accuracy_among_rivals).mean() == 1.0, "the model can do it"
    assert selected(SCRIPT, rule, model, sample) == [counting]
    scores = SCRIPT.detect(model, sample)
    assert scores.score[:, *counting].mean() == 1.0 and scores.null[:, *counting].mean() == 0.0
    assert (scores.score[:, *constant] == scores.null[:, *constant]).all(), "the control shows that it is constant"
    assert 0.2 < scores.score[:, *constant].mean() < 0.5


def test_the_answer_closes_what_is_open_and_the_control_opens_one_more() -> None:
    words = planted()[0].open().vocabulary
    seen = set()
    for prompt in drawn(60):
        text, other = (words.tokenizer.decode(tokens[len(words.bos) :]) for tokens in (prompt.tokens, prompt.corrupted))
        missing, others = (each.count("(") - each.count(")") for each in (text, other))
        [readout] = prompt.readouts
        assert readout.answer == words.continuation(")" * missing)[0]
        assert set(readout.rivals) == {words.continuation(")" * n)[0] for n in range(1, 5) if n != missing}
        assert others == missing + 1
        assert text.replace("(", "") == other.replace("(", ""), "functions and argument are the same"
        assert "((" not in text
        assert sum(one != two for one, two in zip(prompt.tokens, prompt.corrupted, strict=True)) == 1
        assert all("(" in words.pieces(prompt.tokens[place : place + 1]) for place in prompt.spans["open"])
        seen.add(missing)
    assert seen == {1, 2, 3}


def test_a_tokenizer_that_writes_every_parenthesis_apart_is_asked_whether_another_follows() -> None:
    words = open_model(specimens.folder()).vocabulary
    assert len(words.continuation("))")) == 2
    another, end = (words.continuation(text)[0] for text in (")", "\n"))
    answers = []
    for seed in range(40):
        prompt = SCRIPT.module.stimulus(words, FAMILY, random.Random(seed))
        [readout] = prompt.readouts
        missing, others = (
            text.count("(") - text.count(")")
            for text in (words.tokenizer.decode(tokens) for tokens in (prompt.tokens, prompt.corrupted))
        )
        assert sorted((missing, others)) == [0, 1]
        assert (readout.answer, readout.rivals) == ((another, (end,)) if missing else (end, (another,)))
        assert sum(one != two for one, two in zip(prompt.tokens, prompt.corrupted, strict=True)) == 1
        answers.append(readout.answer)
    assert 10 < answers.count(another) < 30
