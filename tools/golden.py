"""Writes the golden numbers: what every script measures on small models, held by a test.

A record says by which version of the measuring code it was made (`headatlas.protocol.freshness.MEASUREMENT`). The
golden numbers show whether a change of the code moves a number: if it does, raise that version, and run this again. A
script or its stimuli that change make their records stale by themselves, and need no new version.

Scores that are fitted count prompts, and a prompt at the edge may fall on either side with another processor: there the
difference that one prompt makes is none.

    python tools/golden.py           # says what has moved
    python tools/golden.py --write   # writes the numbers; refused where some have moved and the version has not
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import headatlas
from headatlas.lab import OpenModel, open_model
from headatlas.protocol.code_hash import script_sha256, stimuli_sha256
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.freshness import MEASUREMENT
from headatlas.protocol.interventions import measure_effects
from headatlas.protocol.measure import measure_behaviour, measure_scores
from headatlas.protocol.script import load_script
from headatlas.stimuli import UntestableError

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden.json"
MODELS = ("specimen", "specimen-llama-0", "untrained-gemma3")
PROMPTS, FITTED = 2, 8  # of each family; for scores that are fitted
TOLERANCE = 1e-3  # of the largest number of an array

MEASURED = ("behaviour", "score", "null", "effect")
Numbers = dict[str, Any]  # by what was measured, or a sentence that says why nothing was


def opened(name: str) -> OpenModel:
    """One of the small models; the last is built here, so that sliding windows and shared keys are covered too."""
    specimen = open_model("specimen")
    if name != "untrained-gemma3":
        return specimen if name == "specimen" else open_model(name)
    torch.manual_seed(0)
    tokenizer = specimen.vocabulary.tokenizer
    config = transformers.Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention"] * 2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    model = transformers.Gemma3ForCausalLM(config).eval()
    return open_model(model, tokenizer=tokenizer, called=name)


def measured(id: str, model: OpenModel) -> Numbers:
    """What a script measures of a model, on few prompts: behaviour, scores and null of every head, one intervention."""
    script, rule = load_script(id), headatlas.load().heads[id].rule
    assert rule
    torch.manual_seed(0)
    try:
        stimuli = draw(script, rule, model, 0, FITTED if rule.detection.fitted else PROMPTS)
        found = measure_scores(script, model, stimuli.find)
        head = next(iter(model.anatomy.all_heads))
        effects = measure_effects(script, rule, model, stimuli.find, stimuli.task, [head], 0, random_sets=2, alone=0)
    except UntestableError as error:
        return {"untestable": str(error)}
    assert effects
    return {
        "code": (script_sha256(script.path)[:8] + stimuli_sha256(script.path)[:8]),
        "slack": round(1.01 / len(found.score), 4) if rule.detection.fitted else 0.0,
        "behaviour": _figures(measure_behaviour(script, model, stimuli.task).mean()),
        "score": _figures(found.score.mean(0)),
        "null": _figures(found.null.mean(0)),
        "effect": _figures([effects.selected.mean(), *effects.random_means()]),
    }


def moved(before: Numbers, now: Numbers) -> list[str]:
    """What differs by more than rounding."""
    if "untestable" in before or "untestable" in now:
        return [] if before == now else ["whether it can be tested"]
    slack = {"score": now["slack"], "null": now["slack"]}
    return [name for name in MEASURED if not _close(before[name], now[name], slack.get(name, 0.0))]


def _close(before: object, now: object, slack: float) -> bool:
    one, two = np.array(before, dtype=float), np.array(now, dtype=float)
    scale = max(float(np.abs(one).max()), 1e-2)
    return one.shape == two.shape and bool(np.abs(one - two).max() <= max(TOLERANCE * scale, slack))


def _figures(values: Any) -> Any:
    return np.vectorize(lambda value: float(f"{value:.5g}"))(np.asarray(values)).tolist()


def every() -> Iterator[tuple[str, str]]:
    """Every model with every entry that has a script."""
    return ((model, id) for model in MODELS for id in headatlas.load().find(reproduction=True))


def main() -> int:
    """Compare, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the numbers as they are now")
    options = parser.parse_args()
    before: Mapping[str, Any] = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    models = {name: opened(name) for name in MODELS}
    now = {f"{model}/{id}": measured(id, models[model]) for model, id in every()}
    known = before.get("numbers", {})
    changes = {name: what for name, numbers in now.items() if name in known and (what := moved(known[name], numbers))}
    own = {name for name in changes if known[name].get("code") != now[name].get("code")}
    for name, what in changes.items():
        print(f"{name}: {', '.join(what)} moved{', with its script or stimuli' if name in own else ''}")
    changes = {name: what for name, what in changes.items() if name not in own}
    if not options.write:
        return 1 if changes else 0
    if changes and before.get("measurement") == MEASUREMENT:
        print("numbers have moved; raise MEASUREMENT in headatlas/protocol/freshness.py, then write", file=sys.stderr)
        return 1
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in now.items())
    GOLDEN.write_text(f'{{\n "measurement": {MEASUREMENT},\n "numbers": {{\n{lines}\n }}\n}}\n')
    return 0


if __name__ == "__main__":
    sys.exit(main())
