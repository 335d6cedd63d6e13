"""One attention pattern per head type: the specimen's head with the highest score, on the first held-out prompt."""

from collections.abc import Iterable
from dataclasses import dataclass

from headatlas import specimens
from headatlas.evidence.record_parts import padded
from headatlas.evidence.records import Record
from headatlas.lab import OpenModel, open_model, record
from headatlas.protocol.script import load_script
from headatlas.stimuli.prompts import Prompt, UntestableError

_LEAST = 0.005  # weights below are not written


@dataclass(frozen=True)
class Example:
    """The data of the attention viewer.

    Attributes:
        head: whose attention it is.
        tokens: of the prompt, as text.
        query, key: the first pair of positions between which the head type should have its attention.
        weights: for each query, {key: weight}; weights that would read 0.00 are left out.
        start: weight from `query` to each token, before anything is chosen.
    """

    head: str
    tokens: list[str]
    query: int
    key: int
    weights: list[dict[int, float]]
    start: list[float]


def examples(runs: Iterable[Record]) -> dict[str, Example]:
    """An example for each of the specimen's runs that scored heads by their attention between pairs of tokens."""
    with open_model(specimens.SPECIMEN) as model:
        made = {run.entry.id: _example(model, run) for run in runs if run.detection}
    return {id: example for id, example in made.items() if example}


def _example(model: OpenModel, run: Record) -> Example | None:
    script = load_script(run.entry.id)
    if script.detect is not None or run.detection is None:
        return None
    try:
        prompt: Prompt = script.draw("stimulus", model.vocabulary, "test", 1, 0).prompts[0]
    except UntestableError:
        return None
    score = padded(run.detection.score)  # [layer head]
    head = model.anatomy.strongest(score)
    pattern = record(model, [prompt.tokens], ["pattern"], layers=[head.layer])["pattern", head.layer][0, head.head]
    weights = [
        {key: round(float(weight), 2) for key, weight in enumerate(row[: query + 1]) if weight >= _LEAST}
        for query, row in enumerate(pattern)
    ]
    query, key = prompt.pairs[0]
    tokens = [model.vocabulary.tokenizer.decode([token]) for token in prompt.tokens]
    start = [weights[query].get(place, 0.0) for place in range(len(tokens))]
    return Example(str(head), tokens, query, key, weights, start)
