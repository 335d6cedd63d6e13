"""The commands on methods, shipped models and the safety of a model."""

import argparse
import difflib
from typing import TYPE_CHECKING

from headatlas.cli.commands import EXIT_MISTAKE
from headatlas.cli.commands.adding import add
from headatlas.cli.commands.fetching import fetched_first
from headatlas.cli.commands.opening import add_model_options, model_options
from headatlas.cli.commands.output import print_json
from headatlas.errors import HeadatlasError

if TYPE_CHECKING:
    from headatlas.cli.commands.adding import Commands


def add_to(commands: "Commands") -> None:
    """The commands of models and methods, with their options."""
    parser = add(
        commands, "method", method, "run a method's worked example, or list the methods", "headatlas method logit-lens"
    )
    parser.add_argument("id", nargs="?", metavar="ID", help="id of a method; without an id, list all methods")
    parser.add_argument("--functions", action="store_true", help="in the list, the functions of headatlas too")
    parser.add_argument(
        "--model", default="specimen", help="'specimen' (default), a model folder, a GGUF file, or a hub id"
    )
    add_model_options(parser)

    parser = add(commands, "doctor", doctor, "check whether a model is safe to measure", "headatlas doctor specimen")
    parser.add_argument("model", metavar="MODEL", help="'specimen', a model folder, a GGUF file, or a hub id")
    add_model_options(parser)

    parser = add(
        commands,
        "specimen",
        specimen,
        "show the card of a model that ships with headatlas",
        "headatlas specimen",
        json="print the card as JSON",
    )
    parser.add_argument("name", nargs="?", default="specimen", metavar="NAME", help="a model (default 'specimen')")
    parser.add_argument("--list", action="store_true", help="list the models that ship")


def method(options: argparse.Namespace) -> int:
    """Run a method's worked example, or list the methods."""
    from headatlas import load

    entries = load().methods
    if options.id is None:
        if options.json:
            print_json([{"id": each.id, "name": each.name, "functions": each.functions} for each in entries.values()])
        else:
            from headatlas.cli.terminal import method_view

            method_view.print_methods(entries.values(), options.functions)
        return 0
    if options.id not in entries:
        near = difflib.get_close_matches(options.id, entries, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`headatlas method` lists them"
        raise HeadatlasError(f"there is no method {options.id!r}; {hint}")
    from headatlas import methods
    from headatlas.cli.terminal import method_view
    from headatlas.cli.terminal.progress import ProgressBar

    entry = entries[options.id]
    with ProgressBar("starting up") as progress:
        fetched_first(options.model, options.revision, progress)
        from headatlas.lab import open_model

        progress(f"opening {options.model}", 0, 0)
        with open_model(options.model, **model_options(options).keywords(), progress=progress) as model:
            progress(f"running {entry.id}", 0, 0)
            figures = methods.run_example(entry.id, model)
    shows = methods.shows(entry.id)
    if options.json:
        about = {"id": entry.id, "functions": entry.functions, "shows": shows, "model": options.model}
        print_json({**about, "figures": dict(figures)})
    else:
        method_view.print_method(entry, shows, figures, options.model)
    return 0


def specimen(options: argparse.Namespace) -> int:
    """Print the card of a model that ships."""
    from headatlas import specimens

    if options.list:
        names = specimens.names()
        if options.json:
            print_json(names)
        else:
            print("\n".join(names))
        return 0
    card = specimens.card(options.name)
    if options.json:
        print_json(card)
    else:
        from headatlas import locations
        from headatlas.cli.terminal import specimen_view
        from headatlas.evidence.agreement import agreement
        from headatlas.evidence.record_files import read_all

        siblings = [name for name in specimens.names() if name != options.name]
        specimen_view.print_card(
            options.name, card, agreement(read_all(locations.records()), [options.name, *siblings])
        )
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Check whether a model is safe to measure."""
    from dataclasses import asdict

    from headatlas.cli.terminal.progress import ProgressBar

    with ProgressBar("starting up") as progress:
        fetched_first(options.model, options.revision, progress)
        from headatlas.lab.safety.doctor import doctor

        progress(f"examining {options.model}", 0, 0)
        diagnosis = doctor(options.model, **model_options(options).keywords(), progress=progress)
    if options.json:
        print_json({**asdict(diagnosis), "safe": diagnosis.safe, "conclusion": diagnosis.conclusion})
    else:
        from headatlas.cli.terminal import doctor_view

        doctor_view.print_diagnosis(diagnosis)
    return 0 if diagnosis.safe else EXIT_MISTAKE
