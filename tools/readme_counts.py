"""Writes the counts of README.md anew, from the catalog and from the records that ship.

python tools/readme_counts.py           # what `make readme` does
python tools/readme_counts.py --check   # exit code 1 where a count is out of date; nothing is written
"""

import argparse
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import headatlas
from headatlas import locations
from headatlas.catalog.catalog import Catalog
from headatlas.evidence.agreement import agreement
from headatlas.evidence.record_files import read_all
from headatlas.evidence.records import Record

README = Path(__file__).parent.parent / "README.md"
MODELS = (
    "specimen",
    "specimen-gpt2-1",
    "specimen-gpt2-2",
    "specimen-llama-0",
    "specimen-llama-1",
    "specimen-llama-2",
)
PRETRAINED = {"smollm2": "smollm2-135m-instruct"}  # by the name of their counts: models that others trained
# What README.md says, with the name of a count in place of each; every one of them stands there exactly once.
SENTENCES = (
    "what is known: {types} head types (the {survey} of",
    "{rerun} of its {types} head types can be rerun (`headatlas list --reproduction`): {survey_rerun} of the survey's "
    "{survey} and {rerun_beyond} more",
    "SmolLM2-135M-Instruct, a model that others trained, shows {smollm2_reproduced} of {smollm2} types as papers "
    "report them, {smollm2_partly} partly, {smollm2_not_reproduced} not; {smollm2_inconclusive} are `inconclusive`",
    "{reproduced} types `reproduced`, e.g.",
    "{partly} types `partly`, e.g.",
    "{not_reproduced} types `not-reproduced`, e.g.",
    "{inconclusive} types `inconclusive`, mostly",
    "In the records that ship, {same_specimen_gpt2_1} and {same_specimen_gpt2_2} of {recorded} types have the "
    "specimen's verdict in the other GPT-2 models, and {same_specimen_llama_0}, {same_specimen_llama_1} and "
    "{same_specimen_llama_2} in the Llama models. {everywhere} types are `reproduced` in all six models",
)


def counts(catalog: Catalog, records: list[Record]) -> dict[str, int]:
    """Every count that README.md has, by its name."""
    survey, rerun = set(catalog.taxonomy.survey_heads), set(catalog.find(reproduction=True))
    together = agreement(records, MODELS)
    labels = Counter(record.verdict.label for record in records if record.model.id == MODELS[0])
    return {
        **_of_pretrained(records),
        "types": len(catalog.heads),
        "survey": len(survey),
        "rerun": len(rerun),
        "survey_rerun": len(rerun & survey),
        "rerun_beyond": len(rerun - survey),
        **{label.replace("-", "_"): labels[label] for label in ("reproduced", "partly", "inconclusive")},
        "not_reproduced": labels["not-reproduced"],
        "recorded": labels.total(),
        **{f"same_{model.replace('-', '_')}": together.same(model)[0] for model in MODELS[1:]},
        "everywhere": sum(set(row) == {"reproduced"} for row in together.labels.values()),
    }


def _of_pretrained(records: list[Record]) -> dict[str, int]:
    """The verdicts of models that others trained, by catalog id, and how many there are."""
    found = {}
    for name, model in PRETRAINED.items():
        labels = Counter(record.verdict.label for record in records if record.model.catalog_id == model)
        found[name] = labels.total()
        for label in ("reproduced", "partly", "not-reproduced", "inconclusive"):
            found[f"{name}_{label.replace('-', '_')}"] = labels[label]
    return found


def counted(text: str, numbers: Mapping[str, int]) -> str:
    """The text with its counts written anew.

    Raises:
        SystemExit: where one of SENTENCES does not stand there exactly once.
    """
    for sentence in SENTENCES:
        names = re.findall(r"{(\w+)}", sentence)
        words = [re.escape(part) for part in re.split(r"{\w+}", sentence)]
        pattern = r"(\d+)".join(words).replace(r"\ ", r"\s+")
        found = list(re.finditer(pattern, text))
        if len(found) != 1:
            raise SystemExit(
                f"README.md has {len(found)} times: {sentence}; correct the README, or tools/readme_counts.py"
            )
        for place in range(len(names), 0, -1):
            start, end = found[0].span(place)
            text = text[:start] + str(numbers[names[place - 1]]) + text[end:]
    return text


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--check", action="store_true", help="write nothing")
    check = options.parse_args().check
    old = README.read_text(encoding="utf-8")
    new = counted(old, counts(headatlas.load(), read_all(locations.records())))
    if new == old:
        return 0
    if check:
        print("the counts of README.md are out of date; run: make readme")
        return 1
    README.write_text(new, encoding="utf-8")
    print("wrote README.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
