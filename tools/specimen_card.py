"""Measures the specimen's card: accuracy per family, the heads that each family needs, textbook heads.

Every figure comes from the finished folder; only the sentences in TRIED are written by hand. The trainer writes the
card. If a measurement has changed and the weights have not, this program measures the card again on the weights that
ship:

    python tools/specimen_card.py specimen
"""

import argparse
import dataclasses
import hashlib
import json
import platform
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from rich.progress import track
from tokenizers import Tokenizer

import exits
from headatlas import HeadatlasError, specimens
from headatlas.evidence import files, record_parts, statistics
from headatlas.lab import (
    OpenModel,
    ablate_sets,
    accuracy,
    attention_scores,
    copying_scores,
    log_probability,
    open_model,
    sweep,
)
from headatlas.lab.running import Metric, accuracy_among_rivals
from headatlas.notation import Head
from headatlas.protocol.script import load_script
from headatlas.quiet import quiet
from headatlas.stimuli import Prompt, Readout, Vocabulary, indirect_object, world
from headatlas.stimuli.cases import Case, Partition, document_prompt, prompt, tokenize
from specimen_rows import PERIODS, WEIGHTS, Asked, Rows, Schedule, held_out, spans

AIM: dict[str, float] = {
    **dict.fromkeys(("indirect object", "ordinals", "facts", "key-value", "multiple choice", "colored objects"), 0.95),
    **{f"period {period}": 0.95 for period in PERIODS},
}
OTHER_AIM = 0.80
# What was tried where an aim was missed.
TRIED: tuple[str, ...] = (
    "Colored objects: one answer in a long document is a thin signal (0.40). With the thing alone as a question "
    "('dog:') in half of the documents, and lists of random pairs looked up both ways from the start, it is "
    "learned (0.99).",
    "Multiple choice: the question right before the answer in four of ten documents, and more of them, brought it "
    "from 0.58 to 0.69 in the training looked at (0.66 to 0.88 in others); options asked for by a bare word ('dog:') "
    "are learned, the question in between is hard.",
    "True or false, yes or no: with the fact stated right before in about half of the documents. They rise late, "
    "after the facts are known, and were still rising when training ended.",
    "Sums: 400 pairs of numbers, one in six held out (0.34 after 6,000 steps, 0.7 and more after 8,000); sums in "
    "steps, of smaller numbers, are learned.",
    "Years: any later year is right, so that a high one always is, and the model hardly looks at the first year. A "
    "family that made the first year matter was not tried.",
    "Name movers: in the trainings looked at, names are attended to by their place in the sentence (first or second, "
    "0.9 each and more), whoever is meant, and heads of the first layer attend to the repeated name (0.8). Attention "
    "that prefers the right name, as in GPT-2, appeared in one of seven trainings: the one that ships as the specimen.",
    "Rounding: of seed 0 there are two trainings, which differ only in the kernels by which a processor multiplies. "
    "With tile units (AMX) came the one that ships as the specimen; held to kernels without them, one with name movers "
    "at 0.11, sums 0.71, multiple choice 0.69, true or false 0.66. That other one was trained twice, the second time "
    "on a processor with tile units, to the same weights byte for byte (sha256 9ca3ff2a9d89fd51...). The better of the "
    "two was taken, by accuracy and textbook heads, before any verdict was looked at. For the siblings there was no "
    "choice.",
)
DOCUMENTS = 200  # held out, per family
SETS = 100  # random sets per family
COALITIONS = 160  # random quarters of the heads, per family
MOST = 16  # carrying heads of a family
LOOKED_FOR = ("previous token", "duplicate token", "induction", "name mover", "name copying")
PRESENT = 0.3  # the best head of a kind scores at least this, or the model has none
NAMES = (("io",), ("s1", "s2"))  # where a name mover looks, and where it does not


@torch.no_grad()
def share_right(model: Any, asked: Sequence[Asked]) -> float:
    """The share of questions that the model's most likely token answers correctly."""
    width = max(len(each.tokens) for each in asked)
    tokens = torch.tensor([[*each.tokens, *[0] * (width - len(each.tokens))] for each in asked], device=model.device)
    guess = model(tokens).logits.argmax(-1).cpu()
    hits = [int(guess[row, place - 1]) in right for row, each in enumerate(asked) for place, right in each.right]
    return sum(hits) / len(hits)


def held_out_accuracy(model: Any, rows: Rows, vocabulary: int, count: int) -> dict[str, float]:
    """Accuracy on held-out documents of every family with something to know, and on spans of every period."""
    found = {}
    for family in WEIGHTS:
        asked = [each for each in held_out(rows, family, count) if each.right]
        if asked:
            found[family] = round(share_right(model, asked), 4)
    for period in PERIODS:
        found[f"period {period}"] = round(share_right(model, spans(vocabulary, period, max(8, 4 * count // period))), 4)
    return found


def chance(family: str, rows: Rows) -> float:
    """Accuracy without reading: always the most common answer, or a guess among an answer and its rivals."""
    asked = held_out(rows, family, DOCUMENTS)
    counts = Counter(token for each in asked for _, right in each.right for token in right)
    most = counts.most_common(1)[0][1] / sum(len(each.right) for each in asked)
    rng = random.Random(f"held-out/{family}")
    drawn = [world.FAMILIES[family]("held-out", rng) for _ in range(DOCUMENTS)]
    pools = [(len(case.answers), len(case.rivals)) for case in drawn if isinstance(case, Case) and case.rivals]
    guess = sum(right / (right + wrong) for right, wrong in pools) / len(pools) if pools else 0.0
    return round(min(1.0, max(most, guess)), 4)


# --- the heads that carry a family ------------------------------------------------------------------------------


def prompts_of(family: str, words: Vocabulary, split: Partition, count: int) -> tuple[list[Prompt], Metric]:
    """`count` prompts of a family and their metric.

    If several answers are right, one of them must be more likely than every wrong answer.

    Raises:
        ValueError: if nothing in the family's documents is predictable.
    """
    rng = random.Random(f"carriers/{split}/{family}")
    if family.startswith("period "):
        return [_span(words, int(family.split()[1]), rng) for _ in range(count)], accuracy
    drawn = [world.FAMILIES[family](split, rng) for _ in range(12 * count)]
    if any(isinstance(each, Case) and len(each.answers) > 1 for each in drawn):
        # Controls are not used here, and need not align.
        cases = [replace(each, corrupted=()) for each in drawn if isinstance(each, Case)]
        return [prompt(words, case) for case in cases[:count]], accuracy_among_rivals
    documents = (each.document if isinstance(each, Case) else each for each in drawn)
    known = [parts for parts in documents if any(segment.known for segment in parts)]
    if len(known) < count:
        raise ValueError(f"hardly anything in documents of {family!r} can be known")
    return [document_prompt(words, parts) for parts in known[:count]], accuracy


def _span(words: Vocabulary, period: int, rng: random.Random) -> Prompt:
    span = words.draw(rng, period)
    tokens = (*words.bos, *span, *span)
    start = len(words.bos) + period
    readouts = tuple(Readout(start + place - 1, span[place]) for place in range(1, period))
    return Prompt(tokens[:-1], tokens[:-1], readouts=readouts)


def needed_by_all(model: OpenModel, families: Sequence[str]) -> list[Head]:
    """Heads among the six most costly single heads in more than half of the families.

    Cost is the drop of the answers' mean log-probability on training documents if the head is mean-ablated.
    """
    counts: Counter[Head] = Counter()
    for family in track(families, "taking out every head"):
        prompts, _ = prompts_of(family, model.vocabulary, "train", 48)
        effect = sweep(model, prompts, log_probability).effect.mean(-1)  # [layer head]
        counts.update(sorted(model.anatomy.all_heads, key=lambda head: effect[head])[:6])
    return sorted(head for head, count in counts.items() if 2 * count > len(families))


def costs(model: OpenModel, family: str, left_out: Sequence[Head]) -> list[Head]:
    """Rank heads by how much a family needs them, even if heads can back each other up.

    Random quarters of the heads are mean-ablated on training documents. The cost of a head is the mean drop of the
    answers' log-probability over the quarters with the head, minus that over the quarters without it.

    Args:
        model: the model.
        family: the family to test.
        left_out: heads that every family needs.
    """
    prompts, _ = prompts_of(family, model.vocabulary, "train", 48)
    heads = [head for head in model.anatomy.all_heads if head not in left_out]
    rng = random.Random(f"coalitions/{family}")
    sets = [rng.sample(heads, len(heads) // 4) for _ in range(COALITIONS)]
    values = ablate_sets(model, prompts, log_probability, sets).mean(1)
    within = np.array([[head in chosen for head in heads] for chosen in map(set, sets)])  # [set head]
    effect = [values[member].mean() - values[~member].mean() for member in within.T]
    return [heads[place] for place in np.argsort(effect)]


def carriers(
    model: OpenModel, family: str, ranked: Sequence[Head], left_out: Sequence[Head], chance: float
) -> dict[str, Any]:
    """The heads that a family needs, and its held-out accuracy without them and without random sets.

    These are the fewest top-ranked heads whose mean-ablation takes accuracy on training documents more than half of the
    way to chance, at most MOST.

    Args:
        model: the model.
        family: the family to test.
        ranked: heads, most needed first.
        left_out: heads that every family needs; in no random set.
        chance: accuracy without reading.
    """
    shown, reading = prompts_of(family, model.vocabulary, "train", 48)
    first = [ranked[:count] for count in range(MOST + 1)]
    clean, *left = ablate_sets(model, shown, reading, first).mean(1).tolist()
    enough = [count for count, value in enumerate(left, 1) if value < (clean + chance) / 2]
    heads = list(ranked[: enough[0] if enough else MOST])
    matched = statistics.matched_sets(heads, model.anatomy.all_heads, seed=0, count=SETS, left_out=left_out)
    asked, reading = prompts_of(family, model.vocabulary, "held-out", 64)
    clean, without, *others = ablate_sets(model, asked, reading, [(), heads, *matched.sets]).mean(1).tolist()
    return {
        "heads": [str(head) for head in heads],
        "clean": round(clean, 4),
        "without_them": round(without, 4),
        "without_random": round(float(np.median(others)), 4),
        "without_random_worst_5_percent": round(float(np.quantile(others, 0.05)), 4),
        "sets": len(others),
        "matching": matched.matching,
        "p": round((1 + sum(other <= without for other in others)) / (1 + len(others)), 4),
    }


# --- textbook heads ---------------------------------------------------------------------------------------------


def _names(words: Vocabulary, rng: random.Random) -> Prompt:
    """An indirect-object sentence: from its end to the name that is right; the corrupted prompt looks at both of the
    other.
    """
    drawn = indirect_object.sentence(rng.choice(indirect_object.ORDERS), rng, world.HELD_OUT_NAMES)
    read = tokenize(words, drawn.segments)
    last = len(read.ids) - 1
    pairs, others = (tuple((last, key) for role in roles for key in read.at(role)) for roles in NAMES)
    return Prompt(read.ids, read.ids, pairs, others)


def textbook(model: OpenModel, count: int = 24) -> dict[str, np.ndarray]:
    """Scores of the textbook heads as their papers define them: name -> [layer head].

    Previous token, duplicate token and induction as the reproductions score them; for name movers the attention from
    the end to the right name, less that to both mentions of the other (Wang et al. 2023); and the share of names among
    the five likeliest that the head writes when it reads the name (their copying score).
    """
    words = model.vocabulary
    rng = random.Random("textbook")
    scripts = {name: load_script(name.replace(" ", "-")) for name in ("previous token", "duplicate token", "induction")}
    drawn = {name: script.draw("stimulus", words, "find", count, seed=99).prompts for name, script in scripts.items()}
    drawn["name mover"] = [_names(words, rng) for _ in range(4 * count)]
    found = {}
    for name, prompts in drawn.items():
        scores = attention_scores(model, prompts)
        found[name] = scores.score.mean(0) - (scores.null.mean(0) if name == "name mover" else 0)
        if name == "previous token" and scores.sink is not None:
            found["sink"] = scores.sink.mean(0)
    names = [words.continuation(f" {name}")[0] for name in world.HELD_OUT_NAMES]
    found["name copying"] = copying_scores(model, names, states="mlp0").copying.numpy()
    return found


def best(scores: np.ndarray, count: int = 3) -> dict[str, float]:
    """The heads with the highest scores."""
    places = [Head(*map(int, place)) for place in np.argwhere(~np.isnan(scores))]
    return {str(head): round(float(scores[head]), 3) for head in sorted(places, key=lambda head: -scores[head])[:count]}


# --- the card ---------------------------------------------------------------------------------------------------


def store(recipe: Any, out: Path, log: list[dict[str, Any]]) -> None:
    """Round the weights to float16 precision, store them, and begin the card with the training recipe."""
    from safetensors.torch import load_file, save_file

    weights = {name: tensor.half() for name, tensor in load_file(out / "model.safetensors").items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    card = {
        "recipe": dataclasses.asdict(recipe),
        "tokens": tokens_seen(recipe, recipe.steps),
        "sha256": hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest(),
        "commit": _commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "machine": processor(),
        "training": log,
    }
    _write(out, card)


def measure(folder: Path) -> None:
    """Write the measurements into the card; leave its recipe unchanged."""
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    log = card.pop("training")
    schedule: dict[str, Any] = card["recipe"]["schedule"]
    plan: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in schedule.items()}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    _write(folder, {**card, **measured(folder, Rows(tokenizer, Schedule(**plan))), "training": log})


def measured(folder: Path, rows: Rows) -> dict[str, Any]:
    """Measure the weights in a folder: accuracy, needed heads, textbook heads, and limits."""
    model = open_model(str(folder))
    vocabulary = len(model.tokenizer)
    accuracies = held_out_accuracy(model.model, rows, vocabulary, DOCUMENTS)
    general = needed_by_all(model, list(accuracies))
    families = {}
    for family, value in track(list(accuracies.items()), "taking out sets"):
        guess = round(1 / vocabulary, 4) if family.startswith("period ") else chance(family, rows)
        ranked = costs(model, family, general)
        families[family] = {
            "accuracy": value,
            "chance": guess,
            "aim": AIM.get(family, OTHER_AIM),
            **carriers(model, family, ranked, general, guess),
        }
    heads = {name: best(scores) for name, scores in textbook(model).items()}
    return {
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
        "vocabulary": vocabulary,
        "measured_commit": _commit(),
        "families": families,
        "needed_by_all": [str(head) for head in general],
        "textbook": heads,
        "limits": limits(families, heads),
        "tried": list(TRIED),
    }


def _commit() -> str | None:
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def processor() -> str:
    """What decides how sums are rounded: the processor, and its units for short floats."""
    kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    try:
        first, *_ = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")
    except OSError:
        return kind
    said = {key.strip(): each.strip() for key, _, each in (line.partition(":") for line in first.splitlines())}
    units = sorted({"amx_bf16", "amx_fp16", "avx512_bf16", "avx512_fp16"} & set(said.get("flags", "").split()))
    which = [f"{key} {said[name]}" for key, name in (("family", "cpu family"), ("model", "model")) if name in said]
    return ", ".join([kind, *which, *units])


def _write(folder: Path, card: dict[str, Any]) -> None:
    files.write(folder / "card.json", json.dumps(card, indent=1) + "\n")


def tokens_seen(recipe: Any, step: int) -> int:
    """The number of tokens in the first `step` batches."""
    plan: Schedule = recipe.schedule
    return min(step, plan.short) * plan.short_tokens + max(0, step - plan.short) * plan.tokens


def limits(families: dict[str, dict[str, Any]], heads: dict[str, dict[str, float]]) -> list[str]:
    """Sentences about families below their target accuracy and missing textbook heads."""
    found = []
    for family, each in families.items():
        places = 2 if round(each["accuracy"], 2) != each["aim"] else 4  # 0.7967 is not 0.80
        said = f"{family}: {each['accuracy']:.{places}f} held out"
        if each["accuracy"] < each["aim"]:
            found.append(f"{said}, below the aim of {each['aim']:.2f} (chance {each['chance']:.2f})")
        elif each["accuracy"] <= each["chance"]:
            found.append(f"{said}, which needs no reading (chance {each['chance']:.2f}): it shows nothing")
    for kind in LOOKED_FOR:
        head, score = max(heads[kind].items(), key=lambda item: item[1])
        if score < PRESENT:
            found.append(f"{kind} heads: none; the best, {head}, scores {score:.2f} (at least {PRESENT:.2f})")
    return found


def kernels(name: str) -> str:
    """The oneDNN kernels with which a shipped model was trained (see `Recipe.kernels`).

    Models whose card does not say were trained on processors without tile units.
    """
    found: str = specimens.card(name)["recipe"].get("kernels", "AVX512_CORE_BF16")
    return found


def check_recipe(name: str, recipe: dict[str, Any], what: str) -> None:
    """Check that two trainings have the same recipe, except the kernels.

    Raises:
        HeadatlasError: if no model with this name ships, or its recipe differs.
    """
    ours, theirs = specimens.card(name)["recipe"], json.loads(json.dumps(recipe))
    differ = [key for key in ours if key != "kernels" and ours[key] != theirs.get(key)]
    if other := [f"{key} {theirs.get(key)} for {ours[key]}" for key in differ]:
        raise HeadatlasError(f"{what} has another recipe than {name} ({'; '.join(other)}); give the options of {name}")


def compare(name: str, again: Path) -> dict[str, Any]:
    """Compare a second training of the same recipe with the weights that ship, and note the result on their card.

    The note replaces an earlier one from the same kind of processor.

    Args:
        name: name of a model that ships.
        again: folder of the finished second training.

    Returns:
        Whether the weights are identical, and where the second training ran. If the weights differ: their largest
        difference, the share of held-out questions with the same most likely token, and accuracies.

    Raises:
        HeadatlasError: if the second training is not finished, or used another recipe or other code.
    """
    from safetensors.torch import load_file

    card, folder = specimens.card(name), specimens.folder(name)
    try:
        other = json.loads((again / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise HeadatlasError(f"{again} holds no finished training; train it to the end first") from None
    check_recipe(name, other["recipe"], str(again))
    one, two = (load_file(each / "model.safetensors") for each in (folder, again))
    if one.keys() != two.keys() or any(one[key].shape != two[key].shape for key in one):
        raise HeadatlasError(f"{again} has other weights than {name}: the code of recipe or data has changed since")
    found: dict[str, Any] = {"identical": card["sha256"] == other["sha256"], "sha256": other["sha256"]}
    if not found["identical"]:
        found["largest_difference"] = max(float((one[key].float() - two[key].float()).abs().max()) for key in one)
        found |= _differences(open_model(str(folder)), open_model(str(again)), card["families"])
    found |= {key: other[key] for key in ("commit", "versions", "machine")}
    found["kernels"] = other["recipe"].get("kernels")
    where = ("machine", "kernels")
    earlier = [each for each in card.get("retrained", ()) if any(each[key] != found[key] for key in where)]
    same_first = sorted([*earlier, found], key=lambda each: not each["identical"])
    _write(folder, {**card, "retrained": same_first})
    return found


@torch.no_grad()
def _differences(one: OpenModel, two: OpenModel, families: dict[str, Any]) -> dict[str, Any]:
    """The share of equal answers, and the accuracy of the second model, by family."""
    rows = Rows(one.tokenizer.backend_tokenizer, Schedule())
    accuracies = held_out_accuracy(two.model, rows, len(two.tokenizer), DOCUMENTS)
    same: list[bool] = []
    for asked in (each for family in WEIGHTS for each in held_out(rows, family, 32)):
        before = [place - 1 for place, _ in asked.right]
        guesses = (each.model(torch.tensor([asked.tokens])).logits[0, before].argmax(-1) for each in (one, two))
        same += torch.eq(*guesses).tolist()
    gaps = {family: round(value - families[family]["accuracy"], 4) for family, value in accuracies.items()}
    return {
        "same_answers": round(sum(same) / len(same), 4),
        "accuracy": accuracies,
        "mean_gap": round(float(np.abs(list(gaps.values())).mean()), 4),
        "largest_gaps": dict(sorted(gaps.items(), key=lambda item: -abs(item[1]))[:3]),
    }


def dynamics(recipe: Any, out: Path) -> None:
    """Write head scores and accuracy at every kept step to training.json."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    rows = Rows(tokenizer.backend_tokenizer, recipe.schedule)
    steps = []
    for path in track(sorted((out / "kept").glob("*.pt"), key=lambda path: int(path.stem)), "reading the checkpoints"):
        with quiet():
            plain = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
        plain.load_state_dict({name: each.float() for name, each in torch.load(path, weights_only=True).items()})
        with open_model(plain, tokenizer=tokenizer, called=f"step {path.stem}") as model:
            scores = textbook(model, 12)
            behaviour = held_out_accuracy(model.model, rows, len(tokenizer), 64)
        steps.append(
            {
                "step": int(path.stem),
                "tokens": tokens_seen(recipe, int(path.stem)),
                "accuracy": {name: round(value, 3) for name, value in behaviour.items()},
                "heads": {
                    name: [[round(x, 2) for x in row] for row in record_parts.grid(each)]
                    for name, each in scores.items()
                },
            }
        )
    files.write(out / "training.json", json.dumps({"steps": steps}, separators=(",", ":")) + "\n")


SHIPPED = (
    *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("card.json", "training.json"),
)


def install(out: Path, name: str) -> None:
    """Copy the folder to where the package looks for it."""
    folder = specimens.place(name)
    folder.mkdir(parents=True, exist_ok=True)
    for each in SHIPPED:
        shutil.copy(out / each, folder / each)
        (folder / each).chmod(0o644)
    print(f"installed into {folder}")


def measure_again(names: Sequence[str]) -> None:
    """Measure the cards of the named models again; none if a name is wrong."""
    for folder in [specimens.folder(name) for name in names]:
        measure(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the cards of models that ship again.")
    parser.add_argument("names", nargs="+", metavar="NAME", help="a model that ships")
    names = parser.parse_args().names
    return exits.code_of(lambda: measure_again(names), "specimen_card", "cards that are not finished are as they were")


if __name__ == "__main__":
    sys.exit(main())
