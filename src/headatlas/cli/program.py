"""The command line: parse, call the library, print."""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from headatlas.cli.commands import (
    DEFAULT_CENSUS,
    DEFAULT_COLLABORATION,
    DEFAULT_OUT,
    HEAD_FORMATS,
    catalog,
    census,
    mistakes,
    model,
    run,
    streams,
)
from headatlas.cli.commands.opening import add_model_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 if a finding failed to reproduce; 2 for an error the user can fix, printed as one line.
    """
    streams.prepare()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        try:
            options = parser().parse_args(arguments)
            code = int(options.command(options))
        finally:
            sys.stdout.flush()  # a full disk is noticed here, not after the end
        return code
    except BrokenPipeError:
        streams.drop(sys.stdout)
        return 0
    except (Exception, KeyboardInterrupt) as error:
        return mistakes.tell(error)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; inside a destructor, where Python would swallow the exception, raise it 50 ms later."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            main_thread = threading.main_thread().ident  # only a signal to this thread ends a wait
            threading.Timer(0.05, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands and their options."""
    top = argparse.ArgumentParser(
        prog="headatlas",
        description="Look up the attention heads that papers describe, and test each finding on your model.",
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(
        name: str, command: Callable[[argparse.Namespace], int], help: str, example: str, json: str = "print JSON"
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=help, description=f"{help[0].upper()}{help[1:]}.", epilog=f"example: {example}"
        )
        made.add_argument("--json", action="store_true", help=json)
        made.set_defaults(command=command)
        return made

    listing = add("list", catalog.list_heads, "list the head types", "headatlas list --stage LR --model gpt2")
    listing.add_argument("--stage", help="id, name or short form (KR, ICI, LR, EP)")
    listing.add_argument("--group", help="id of a group of the survey")
    listing.add_argument("--model", help="types with a finding about this model (id or hub id)")
    listing.add_argument("--method", help="types studied with this method")
    listing.add_argument("--benchmark", help="types studied on this benchmark")
    listing.add_argument("--circuit", help="types that take part in this circuit")
    listing.add_argument("--status", help="established, supported, contested or single-source")
    listing.add_argument("--placed-by", choices=("survey", "headatlas"), help="types of the survey, or all others")
    listing.add_argument("--reproduction", action="store_true", default=None, help="types that `run` can rerun")
    listing.add_argument("--text", help="types that match these words, best first")

    show = add("show", catalog.show, "show one head type in full", "headatlas show induction")
    show.add_argument("id", metavar="ID", help="id, name or alias of a head type")

    search = add("search", catalog.search, "search names and full text", 'headatlas search "needle in a haystack"')
    search.add_argument("words", nargs="+", metavar="WORD", help="words to search for; typing errors are tolerated")

    who = add("who", catalog.who, "list the names that papers give one head of a model", "headatlas who gpt2 L10H7")
    who.add_argument("model", metavar="MODEL", help="id or hub id of a model")
    who.add_argument("head", metavar="HEAD", help="such as L10H7 or 10.7; layers and heads count from 0")

    cite = add("cite", catalog.cite, "cite the sources of entries", "headatlas cite induction wang2023interpretability")
    cite.add_argument("ids", nargs="+", metavar="ID", help="ids of entries of any kind, or BibTeX keys")
    cite.add_argument("--format", choices=("bibtex", "text"), default="bibtex", help="default bibtex")

    export = add("export", catalog.export, "export the catalog as data", "headatlas export --format csv > findings.csv",
                 json="the same as --format json")  # fmt: skip
    export.add_argument("--format", choices=("json", "jsonl", "csv", "bibtex"), default="json", help="default json")
    export.add_argument("--of", choices=("findings", "heads"), default="findings", help="rows of csv and jsonl")
    export.add_argument("--out", type=Path, metavar="FILE", help="file to write, instead of the terminal")

    rerun = add("run", run.run, "rerun findings on a model", "headatlas run induction --model gpt2",
              json="print the records as JSON lines instead of tables")  # fmt: skip
    rerun.add_argument("ids", nargs="*", metavar="ID", help="ids of head types")
    rerun.add_argument("--all", action="store_true", help="every head type that has a reproduction")
    rerun.add_argument("--model", default="specimen", help="'specimen' (default), a folder, a hub id, or 'toy'")
    rerun.add_argument("--seed", type=int, default=0, help="seed of the stimuli (default 0)")
    rerun.add_argument("--seeds", type=int, default=1, help="number of seeds to run, from --seed on (default 1)")
    rerun.add_argument("--jobs", type=int, default=1, help="number of processes (default 1)")
    rerun.add_argument("--again", action="store_true", help="with --all, also rerun findings whose record is current")
    rerun.add_argument("--out", type=Path, default=DEFAULT_OUT, help=f"folder for the records (default {DEFAULT_OUT})")

    listed = add("results", run.results, "show the recorded verdicts: head types x models", "headatlas results")
    listed.add_argument("--model", action="append", metavar="ID", help="only this model; may be repeated")
    listed.add_argument("--out", type=Path, metavar="FOLDER", help="folder of records (default the records that ship)")

    report = add("report", run.report, "write the recorded verdicts to one HTML file", "headatlas report results.html")
    report.add_argument("file", type=Path, metavar="FILE", help="file to write")
    report.add_argument("--model", action="append", metavar="ID", help="only this model; may be repeated")
    report.add_argument("--out", type=Path, metavar="FOLDER", help="folder of records (default the records that ship)")

    taken = add("census", census.census, "name every head of a model", "headatlas census gpt2",
                json="print the census, or with --dry-run the plan, as JSON")  # fmt: skip
    taken.add_argument("model", metavar="MODEL", help="'specimen', a model folder, or a hub id")
    taken.add_argument("--dry-run", action="store_true", help="print only the cost: passes, tokens, time, memory")
    taken.add_argument("--budget", choices=("quick", "full"), default="quick",
                       help="number of prompts; full: as the rules of the entries say (default quick)")  # fmt: skip
    taken.add_argument("--prompts", type=int, metavar="N", help="prompts per family, instead of the budget's number")
    taken.add_argument("--types", metavar="ID,ID", help="only these head types")
    taken.add_argument("--no-cause", dest="cause", action="store_false", help="do not intervene on the heads found")
    taken.add_argument("--seed", type=int, default=0, help="seed of the stimuli (default 0)")
    taken.add_argument(
        "--shard", default="1/1", metavar="I/N", help="only this share of the work; `merge` joins shares"
    )
    taken.add_argument("--jobs", type=int, help="number of processes (default one per core for small models, else 1)")
    taken.add_argument("--out", type=Path, default=DEFAULT_CENSUS, help=f"folder to write (default {DEFAULT_CENSUS})")
    taken.add_argument("--pages", metavar="URL", help="URL of the catalog's pages, to link types to them")

    merge = add("merge", census.merge, "join the shards of a census", "headatlas merge shard-1 shard-2",
                json="print the census as JSON")  # fmt: skip
    merge.add_argument("shards", nargs="+", type=Path, metavar="FOLDER", help="the --out folder of each shard")
    merge.add_argument("--out", type=Path, metavar="FOLDER", help="folder for the census (default the first folder)")
    merge.add_argument("--pages", metavar="URL", help="URL of the catalog's pages, to link types to them")

    where = f"folder of censuses; a missing census is taken (default {DEFAULT_CENSUS})"
    compare = add("compare", census.compare, "compare the head types of two models", "headatlas compare specimen gpt2")
    compare.add_argument("first", metavar="A", help="a model, or a census file")
    compare.add_argument("second", metavar="B", help="another model, or a census file")
    compare.add_argument("--census", type=Path, default=DEFAULT_CENSUS, metavar="FOLDER", help=where)

    heads = add("heads", census.heads, "export the heads of a type to other tools",
                "headatlas heads specimen --type retrieval --format headkv",
                json="the same as --format json")  # fmt: skip
    heads.add_argument("model", metavar="MODEL", help="a model, or a census file")
    heads.add_argument("--type", required=True, metavar="ID", help="id, name or alias of a head type")
    heads.add_argument("--format", choices=HEAD_FORMATS, default="json", help="default json")
    heads.add_argument("--out", type=Path, metavar="FILE", help="file to write; FILE.rule.json beside it gets the rule")
    heads.add_argument("--census", type=Path, default=DEFAULT_CENSUS, metavar="FOLDER", help=where)

    together = add("collaborate", run.collaborate, "measure how the heads found in a model work together",
                   "headatlas collaborate specimen", json="print the record as JSON instead of tables")  # fmt: skip
    together.add_argument("model", metavar="MODEL", help="'specimen', a model folder, or a hub id")
    together.add_argument("--seed", type=int, default=0, help="seed of prompts and random sets (default 0)")
    together.add_argument("--records", type=Path, metavar="FOLDER", help="folder of records of this model (default "
                          f"{DEFAULT_OUT} if it has this model, else the records that ship)")  # fmt: skip
    together.add_argument("--out", type=Path, default=DEFAULT_COLLABORATION, metavar="FOLDER",
                          help=f"folder for the record (default {DEFAULT_COLLABORATION})")  # fmt: skip

    method = add("method", model.method, "run a method's worked example, or list the methods",
                 "headatlas method logit-lens")  # fmt: skip
    method.add_argument("id", nargs="?", metavar="ID", help="id of a method; without an id, list all methods")
    method.add_argument("--model", default="specimen", help="'specimen' (default), a model folder, or a hub id")

    doctor = add("doctor", model.doctor, "check whether a model is safe to measure", "headatlas doctor specimen")
    doctor.add_argument("model", metavar="MODEL", help="'specimen', a model folder, or a hub id")

    specimen = add("specimen", model.specimen, "show the card of a model that ships with headatlas",
                   "headatlas specimen", json="print the card as JSON")  # fmt: skip
    specimen.add_argument("name", nargs="?", default="specimen", metavar="NAME", help="a model (default 'specimen')")
    specimen.add_argument("--list", action="store_true", help="list the models that ship")

    validate = add("validate", catalog.validate, "check every file of the catalog", "headatlas validate",
                   json="print the problems as JSON")  # fmt: skip
    validate.add_argument("--catalog", type=Path, metavar="FOLDER", help="use another catalog folder")

    new = add("new", catalog.new, "start a new head type: an entry and a script", "headatlas new quotation-mark")
    new.add_argument("id", metavar="ID", help="lower case, words joined by hyphens")
    new.add_argument("--catalog", type=Path, metavar="FOLDER", help="use another catalog folder")

    for opens_a_model in (rerun, taken, compare, heads, together, method, doctor):
        add_model_options(opens_a_model)
    return top
