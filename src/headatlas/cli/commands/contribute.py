"""The commands that add to the catalog: start an entry, look at its stimuli, check it, check the whole."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.cli.commands import EXIT_MISTAKE
from headatlas.cli.commands.adding import add
from headatlas.cli.commands.output import print_json
from headatlas.errors import HeadatlasError

if TYPE_CHECKING:
    from headatlas.cli.commands.adding import Commands
    from headatlas.protocol.script import PromptSample
    from headatlas.stimuli.prompts import Vocabulary

_MODEL = "'specimen' (default), a model folder, a GGUF file, or a hub id"


def add_to(commands: "Commands") -> None:
    """The commands of contributors, with their options."""
    parser = add(commands, "new", new, "start a new head type: an entry and a script", "headatlas new quotation-mark")
    parser.add_argument("id", metavar="ID", help="lower case, words joined by hyphens")
    _add_catalog(parser)

    parser = add(
        commands,
        "stimuli",
        stimuli,
        "show prompts of a script, token by token",
        "headatlas stimuli induction --model gpt2",
        json="print the prompts as JSON, with token ids",
    )
    parser.add_argument("id", metavar="ID", help="id, name or alias of a head type")
    parser.add_argument("--model", default="specimen", help=f"whose tokenizer: {_MODEL}; weights are not loaded")
    parser.add_argument("--revision", help="commit, tag or branch, for a hub id")
    parser.add_argument("--family", metavar="NAME", help="only prompts of this family")
    parser.add_argument("--number", type=int, default=3, metavar="N", help="how many, over all families (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the stimuli, as in `run` (default 0)")
    parser.add_argument("--task", action="store_true", help="the prompts of behaviour and cause, not of the score")

    parser = add(
        commands,
        "check",
        check,
        "check one entry: its file, script and prompts, and a small run",
        "headatlas check quotation-mark",
        json="print the steps as JSON",
    )
    parser.add_argument("id", metavar="ID", help="id of a head type")
    parser.add_argument("--model", default="specimen", help=_MODEL)
    _add_catalog(parser)

    parser = add(
        commands,
        "validate",
        validate,
        "check every file of the catalog, and every script",
        "headatlas validate",
        json="print the problems as JSON",
    )
    _add_catalog(parser)


def _add_catalog(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--catalog", type=Path, metavar="FOLDER", help="use another catalog folder")


def new(options: argparse.Namespace) -> int:
    """Start a new head type from a template."""
    from headatlas.catalog import scaffold

    started = scaffold.new(options.id, options.catalog)
    if options.json:
        print_json({"file": str(started.entry), "script": str(started.script)})
    else:
        print(
            f"wrote {started.entry}\nwrote {started.script}\n"
            "fill in both, add the sources to references.bib, then:\n"
            f"  headatlas check {options.id}\n  headatlas run {options.id}\n  make readme check"
        )
    return 0


def stimuli(options: argparse.Namespace) -> int:
    """Print prompts of a script as the tokenizer of a model writes them."""
    from headatlas import load

    head = load().head(options.id)
    if options.number < 1:
        raise HeadatlasError("--number must be at least 1")
    from headatlas.cli.terminal.progress import ProgressBar

    with ProgressBar("starting up") as progress:
        from headatlas.lab.loading.vocabulary_alone import open_vocabulary
        from headatlas.protocol.script import load_script

        script = load_script(head.id, rule=head.rule)
        if options.family is not None and options.family not in script.families:
            has = ", ".join(map(repr, script.families))
            raise HeadatlasError(f"{head.id} has no family {options.family!r}; it has {has}")
        vocabulary = open_vocabulary(options.model, options.revision, progress=progress)
        families = [options.family] if options.family is not None else script.families
        each = -(-options.number // len(families))
        drawn = script.draw("task" if options.task else "stimulus", vocabulary, "find", each, options.seed)
        sample = drawn.only(_in_turn(drawn, families)[: options.number])
    if options.json:
        print_json(_as_json(vocabulary, sample))
    else:
        from headatlas.cli.terminal import stimuli_view

        stimuli_view.print_stimuli(vocabulary, sample, script)
    return 0


def _in_turn(sample: "PromptSample", families: list[str]) -> list[int]:
    """The numbers of the prompts: the first of each family, then the second of each."""
    columns = [sample.of_family(family) for family in families]
    return [number for row in zip(*columns, strict=True) for number in row]


def _as_json(vocabulary: "Vocabulary", sample: "PromptSample") -> list[dict[str, Any]]:
    from dataclasses import asdict

    from headatlas.cli.terminal.stimuli_view import words_of

    return [
        {"family": family, "words": words_of(vocabulary, prompt.tokens), **asdict(prompt)}
        for family, prompt in zip(sample.families, sample.prompts, strict=True)
    ]


def check(options: argparse.Namespace) -> int:
    """Check one entry, step by step."""
    from headatlas.catalog.loading import load

    if options.catalog is None or (options.catalog / "heads").is_dir():
        _require_entry(options.id, options.catalog)
    else:
        load(options.catalog)  # says what is wrong with the folder
    from headatlas.cli.terminal.check_view import print_step
    from headatlas.cli.terminal.progress import ProgressBar

    done = []
    with ProgressBar("checking") as progress:
        from headatlas.protocol import entry_check

        for step in entry_check.steps(options.id, options.model, options.catalog):
            done.append(step)
            if not options.json:
                with progress.paused():
                    print_step(step)
    if options.json:
        print_json([step._asdict() for step in done])
    return 0 if all(step.passed for step in done) else EXIT_MISTAKE


def _require_entry(id: str, folder: Path | None) -> None:
    """Raise HeadatlasError if no file has this id; suggests similar ids."""
    import difflib

    from headatlas import locations

    ids = [path.stem for path in ((folder or locations.catalog()) / "heads").glob("*.yaml")]
    if id not in ids:
        near = difflib.get_close_matches(id, ids, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"`headatlas new {id}` starts one"
        raise HeadatlasError(f"no entry heads/{id}.yaml; {hint}")


def validate(options: argparse.Namespace) -> int:
    """Check the catalog and every reproduction script, and print every problem of every file."""
    from headatlas import locations
    from headatlas.catalog import loading
    from headatlas.protocol import script_check

    catalog, problems = loading.check(options.catalog)
    if catalog is not None:
        problems += script_check.scripts(catalog, loading.reproductions_of(options.catalog or locations.catalog()))
    if options.json:
        print_json([problem._asdict() for problem in problems])
        return EXIT_MISTAKE if problems else 0
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the catalog"
        raise HeadatlasError("\n".join([count, *map(str, problems)]))
    assert catalog is not None
    findings = catalog.findings()
    named = sum(bool(finding.heads) for _, finding in findings)
    print(
        f"catalog is valid: {len(catalog.heads)} head types, {len(findings)} findings ({named} name heads), "
        f"{len(catalog.methods)} methods, {len(catalog.benchmarks)} benchmarks, {len(catalog.circuits)} circuits, "
        f"{len(catalog.models)} models, {len(catalog.references)} sources"
    )
    return 0
