"""Counts what the score of every head type costs on some models; plans and the time left go by these counts.

Work is counted in tokens that pass all layers, as in tools/type_seconds.py, for the prompts that select heads and for
those that test them. Counts do not depend on the machine. Seconds do: a score whose seconds per token of work exceed
those of the other types on the same model (it trains, or ranks whole vocabularies) is planned at its own pace.

    python tools/count_work.py MODEL … [--types TYPE …] [--prompts 4]

Types that are counted replace what src/headatlas/protocol/work.json says of them on this model.
"""

import argparse
import json
import sys
import time
from typing import Any

import torch

import headatlas
from headatlas.errors import HeadatlasError
from headatlas.lab import OpenModel, open_model
from headatlas.lab.running.passes import count_passes
from headatlas.protocol import work
from headatlas.protocol.budget import Amount
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.measure import measure_scores
from headatlas.protocol.script import load_script


def counted(id: str, model: OpenModel, prompts: int) -> work.Count:
    """What the scores of one type cost on `prompts` prompts of each family, for selection and test together.

    Raises:
        HeadatlasError: where the prompts cannot be made for this model.
    """
    rule = headatlas.load().heads[id].rule
    assert rule
    script, amount = load_script(id), Amount(prompts, None, 0, 0)
    torch.manual_seed(0)
    stimuli = draw(script, rule, model, 0, amount.drawn(rule))
    clock = time.perf_counter()
    with count_passes(model) as count:
        for sample in (stimuli.find, stimuli.test):
            measure_scores(script, model, sample)
    both = [*stimuli.find.prompts, *stimuli.test.prompts]
    return work.Count(
        model=model.name,
        heads=len(model.anatomy.all_heads),
        prompts=len(both),
        tokens=sum(len(prompt.tokens) for prompt in both),
        work=round(count.tokens, 1),
        passes=count.passes,
        seconds=round(time.perf_counter() - clock, 2),
    )


def main() -> None:
    """Read the command line, count, and write after every type."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--types", nargs="*", default=[])
    parser.add_argument("--prompts", type=int, default=4, help="of each family (default 4)")
    options = parser.parse_args()
    catalog = headatlas.load()
    ids = options.types or [id for id, entry in catalog.heads.items() if entry.rule]
    for name in options.models:
        for id in ids:
            model = open_model(name)  # anew, so that nothing is known of it that another type has found out
            try:
                found = counted(id, model, options.prompts)
            except HeadatlasError as error:
                print(f"{id} on {model.name}: {error}", file=sys.stderr, flush=True)
                continue
            keep(id, found)
            said = f"{id} on {model.name}: {found.work / found.tokens:.1f}, {found.seconds} s"
            print(said, file=sys.stderr, flush=True)


def keep(id: str, found: work.Count) -> None:
    """Write a count in place of what is known of this type on this model."""
    known: dict[str, list[dict[str, Any]]] = json.loads(work.FILE.read_text()) if work.FILE.is_file() else {}
    others = [each for each in known.get(id, []) if each["model"] != found.model]
    known[id] = sorted([*others, found._asdict()], key=lambda each: each["heads"])
    lines = [
        f' "{id}": [\n' + ",\n".join(f"  {json.dumps(each)}" for each in rows) + "\n ]"
        for id, rows in sorted(known.items())
    ]
    work.FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
