"""How many head types select a head by chance: on prompts in no order, or in a model whose weights are in no order.

    python tools/chance.py MODEL {tokens,weights} [--prompts 4] [--seed 0]

With `tokens`, the tokens of every prompt, corrupted prompt and alternative are shuffled, each on its own; BOS stays.
With `weights`, the numbers of every weight tensor are shuffled, so that a model of the same shape and scale is left,
which has learned nothing. Everything else is as in a quick run: the behaviour first, heads selected on some prompts
and held on others. The result goes to reproductions/chance/<model>.json; the site shows it.

Some types make no claim about the order of words. They are named in ANY_ORDER, with the reason, and what they select in
shuffled prompts is shown apart: a head that looks one token back does so in any text.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import headatlas
from headatlas import locations
from headatlas.catalog.schema import Rule
from headatlas.lab import OpenModel, open_model
from headatlas.protocol.assess import behaviour_of, heads_that_hold, selection_of
from headatlas.protocol.draw_stimuli import DrawnStimuli, draw
from headatlas.protocol.measure import measure_behaviour, measure_scores, why_unscored
from headatlas.protocol.provenance import catalog_id, model_record
from headatlas.protocol.script import PromptSample, Script, load_script
from headatlas.stimuli import Prompt, UntestableError

CHANCE = locations.reproductions() / "chance"

ANY_ORDER = {
    "attention-sink": "the first token is looked at whatever follows",
    "coherence": "words in any order are in the same language",
    "local-context": "near tokens are near in any text",
    "positional": "it goes by distance alone",
    "previous-token": "it goes by distance alone",
    "self-suppressing": "its prompts are rows of words in random order",
    "sentiment-summarizer": "opinion words have their mood in any order",
    "truthfulness": "which country and capital are named together tells true from false in any order",
}


def shuffled(tokens: tuple[int, ...], fixed: int, rng: random.Random) -> tuple[int, ...]:
    """The tokens in another order, but for the first `fixed`."""
    return tokens[:fixed] + tuple(rng.sample(tokens[fixed:], len(tokens) - fixed))


def in_no_order(sample: PromptSample, fixed: int, rng: random.Random) -> PromptSample:
    """Every text of every prompt in an order of its own."""

    def of(prompt: Prompt) -> Prompt:
        others = {name: shuffled(tokens, fixed, rng) for name, tokens in prompt.alternatives.items()}
        first, second = (shuffled(tokens, fixed, rng) for tokens in (prompt.tokens, prompt.corrupted))
        return replace(prompt, tokens=first, corrupted=second, alternatives=others)

    return replace(sample, prompts=[of(prompt) for prompt in sample.prompts])


def redrawn(model: OpenModel, seed: int) -> OpenModel:
    """The model with the numbers of every weight tensor shuffled; tensors that two modules share are shuffled once."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.model.parameters():
            flat = weight.flatten()
            weight.copy_(flat[torch.randperm(len(flat))].view_as(weight))
    return open_model(model.model, tokenizer=model.tokenizer, called=f"{model.name}, redrawn")


def measured(script: Script, rule: Rule, model: OpenModel, drawn: DrawnStimuli) -> dict[str, Any]:
    """What one type selects: its heads, or why there is no score."""
    behaviour = behaviour_of(rule, measure_behaviour(script, model, drawn.task))
    found: dict[str, Any] = {"behaviour": behaviour.passed}
    if not behaviour.passed and (why := why_unscored(script, "quick")):
        return found | {"unscored": why}
    find, test = (measure_scores(script, model, drawn.of(split)) for split in ("find", "test"))
    heads, _ = heads_that_hold(rule, selection_of(find), test)
    return found | {"heads": [str(head) for head in heads]}


def all_types(model: OpenModel, shuffle: bool, prompts: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each type with a script, and what it selects."""
    catalog, fixed = headatlas.load(), len(model.vocabulary.bos)
    for id, entry in catalog.heads.items():
        if entry.rule is None:
            continue
        script = load_script(id, rule=entry.rule)
        rng = random.Random(f"{seed}/{id}")
        try:
            drawn = draw(script, entry.rule, model, seed, None if entry.rule.detection.fitted else prompts)
            if shuffle:
                drawn = DrawnStimuli(*(in_no_order(each, fixed, rng) for each in (drawn.find, drawn.test, drawn.task)))
            yield id, measured(script, entry.rule, model, drawn)
        except UntestableError as error:
            yield id, {"unscored": str(error)}


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("what", choices=("tokens", "weights"), help="what is put in no order")
    parser.add_argument("--prompts", type=int, default=4, help="of each family (default 4, as in a quick run)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = open_model(options.model)
    about = model_record(model, catalog_id(headatlas.load(), model))
    if options.what == "weights":
        model = redrawn(model, options.seed)
    types: dict[str, dict[str, Any]] = {}
    for id, found in all_types(model, options.what == "tokens", options.prompts, options.seed):
        types[id] = found
        if options.what == "tokens" and id in ANY_ORDER:
            found["any_order"] = ANY_ORDER[id]
        heads = found.get("heads", [])
        said = ", ".join(heads[:8]) + (f" and {len(heads) - 8} more" if len(heads) > 8 else "")
        print(f"{time.strftime('%H:%M:%S')} {id}: {found.get('unscored') or said or 'no head'}", file=sys.stderr)
    write(
        about.catalog_id or about.id, options.what, {"prompts": options.prompts, "seed": options.seed, "types": types}
    )


def write(name: str, what: str, found: dict[str, Any]) -> None:
    """Keep what was found beside what was found before, and say it in a line."""
    path: Path = CHANCE / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(kept | {what: found}, indent=1) + "\n", encoding="utf-8")
    counted = {id: each for id, each in found["types"].items() if "any_order" not in each}
    scored = [each for each in counted.values() if "heads" in each]
    chosen = sorted(id for id, each in counted.items() if each.get("heads"))
    print(f"{len(chosen)} of {len(counted)} types select a head by chance ({len(scored)} have scores): {chosen}")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
