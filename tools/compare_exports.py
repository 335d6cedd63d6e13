"""Says which facts of one export of the findings another export lacks.

    headatlas export --of findings --format jsonl > before.jsonl   # and again after a change
    python tools/compare_exports.py before.jsonl after.jsonl

A fact is a head that a source names in a model, the score or value that a source gives for a head, the value, the error
and the sample size of a finding, and the places in its source. Facts may move to other findings of the same type.
Exit code 1 where one is lost.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PLACE = re.compile(r"[\w.-]+/[\w.-]+@\w{6,}|[\w.-]+\.(?:json|npy|pkl|yaml|safelock|py|csv)\b")
Fact = tuple[str, ...]


def facts(row: dict[str, Any]) -> Iterator[Fact]:
    """The facts of one finding, each with the type, the source and the model that it is about."""
    about = (str(row["type"]), str(row["source"]), str(row["model"]))
    scores = dict(pair.split("=") for pair in (row["scores"] or "").split())
    heads = (row["heads"] or "").split()
    value = row["value"]
    for head in heads:
        yield (*about, "head", head)
    for head, score in scores.items():
        yield (*about, "score", head, f"{float(score):g}")
    if value is not None and len(heads) == 1:
        yield (*about, "score", heads[0], f"{value:g}")
    elif value is not None:
        yield (*about, "value", f"{value:g}")
    for name in ("error", "n"):
        if row[name] is not None:
            yield (*about, name, f"{row[name]:g}")
    for place in _PLACE.findall(row["at"]):
        yield (*about, "place", place)


def lost(before: Path, after: Path) -> list[Fact]:
    """Facts of the first export that the second lacks."""
    first, second = (
        {fact for line in path.read_text(encoding="utf-8").splitlines() for fact in facts(json.loads(line))}
        for path in (before, after)
    )
    return sorted(first - second)


def main() -> int:
    """Read the command line, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args()
    missing = lost(options.before, options.after)
    for fact in missing:
        print(" ".join(fact))
    print(f"{len(missing)} facts are lost" if missing else "nothing is lost")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
