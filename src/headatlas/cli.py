"""The command line: parse, call the library, print."""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from headatlas.errors import HeadatlasError

EXIT_FAILED, EXIT_MISTAKE = 1, 2
DEFAULT_OUT = Path("headatlas-records")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 where a finding failed to reproduce; 2 for a mistake the user can mend, printed as one clear line.
    """
    options = parser().parse_args(arguments)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        return int(options.command(options))
    except HeadatlasError as error:
        print(f"headatlas: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("headatlas: interrupted; what is written is kept", file=sys.stderr)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return EXIT_MISTAKE


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; in a destructor, where Python would swallow it, a moment later."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            threading.Timer(0.05, signal.raise_signal, (signal.SIGINT,)).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(
        prog="headatlas",
        description="Which kinds of attention heads are known, on what evidence, and does it hold on your model?",
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

    listing = add("list", _list, "list the head types", "headatlas list --stage LR --model gpt2")
    listing.add_argument("--stage", help="id, name or short form (KR, ICI, LR, EP)")
    listing.add_argument("--group", help="id of a group of the survey")
    listing.add_argument("--model", help="types with a finding about this model (id or hub id)")
    listing.add_argument("--method", help="types studied with this method")
    listing.add_argument("--benchmark", help="types studied on this benchmark")
    listing.add_argument("--circuit", help="types that take part in this circuit")
    listing.add_argument("--status", help="established, supported, contested or single-source")
    listing.add_argument("--placed-by", choices=("survey", "headatlas"), help="in the survey, or beyond it")
    listing.add_argument("--reproduction", action="store_true", default=None, help="types that `run` can rerun")
    listing.add_argument("--text", help="types that match these words, best first")

    show = add("show", _show, "show one head type in full", "headatlas show induction")
    show.add_argument("id", metavar="ID", help="id, name or alias of a head type")

    search = add("search", _search, "search names and full text", 'headatlas search "needle in a haystack"')
    search.add_argument("words", nargs="+", metavar="WORD", help="words; typing errors are forgiven")

    who = add("who", _who, "tell what one head of a model is called, and by whom", "headatlas who gpt2 L10H7")
    who.add_argument("model", metavar="MODEL", help="id or hub id of a model")
    who.add_argument("head", metavar="HEAD", help="such as L10H7 or 10.7; layers and heads count from 0")

    cite = add("cite", _cite, "cite the sources behind entries", "headatlas cite induction wang2023interpretability")
    cite.add_argument("ids", nargs="+", metavar="ID", help="ids of entries of any kind, or BibTeX keys")
    cite.add_argument("--format", choices=("bibtex", "text"), default="bibtex", help="default bibtex")

    export = add("export", _export, "write the catalog out", "headatlas export --format csv > findings.csv",
                 json="the same as --format json")  # fmt: skip
    export.add_argument("--format", choices=("json", "jsonl", "csv", "bibtex"), default="json", help="default json")
    export.add_argument("--of", choices=("findings", "heads"), default="findings", help="rows of csv and jsonl")
    export.add_argument("--out", type=Path, metavar="FILE", help="file to write instead of the terminal")

    run = add("run", _run, "rerun findings on a model", "headatlas run induction --model gpt2",
              json="print the records as JSON lines instead of tables")  # fmt: skip
    run.add_argument("ids", nargs="*", metavar="ID", help="ids of head types")
    run.add_argument("--all", action="store_true", help="every head type that has a reproduction")
    run.add_argument("--model", default="specimen", help="'specimen' (default), a folder, a hub id, or 'toy'")
    run.add_argument("--revision", help="commit, tag or branch, for a hub id")
    run.add_argument("--seed", type=int, default=0, help="seed of the stimuli (default 0)")
    run.add_argument("--seeds", type=int, default=1, help="how many seeds, counted from it, to run (default 1)")
    run.add_argument("--jobs", type=int, default=1, help="processes that share the work (default 1)")
    run.add_argument("--again", action="store_true", help="with --all, run also what is recorded and has not changed")
    run.add_argument("--out", type=Path, default=DEFAULT_OUT, help=f"folder for the records (default {DEFAULT_OUT})")

    listed = add("results", _results, "show what is recorded: head types against models", "headatlas results")
    listed.add_argument("--model", action="append", metavar="ID", help="only of this model; may be given again")
    listed.add_argument("--out", type=Path, metavar="FOLDER", help="of records; default those that ship")

    report = add("report", _report, "write the recorded results as one HTML file", "headatlas report results.html")
    report.add_argument("file", type=Path, metavar="FILE", help="to write")
    report.add_argument("--model", action="append", metavar="ID", help="only of this model; may be given again")
    report.add_argument("--out", type=Path, metavar="FOLDER", help="of records; default those that ship")

    method = add("method", _method, "run a method's worked example, or list the methods",
                 "headatlas method logit-lens")  # fmt: skip
    method.add_argument("id", nargs="?", metavar="ID", help="id of a method; without one the methods are listed")
    method.add_argument("--model", default="specimen", help="'specimen' (default), a model folder, or a hub id")
    method.add_argument("--revision", help="commit, tag or branch, for a hub id")

    doctor = add("doctor", _doctor, "say whether a model is safe to measure", "headatlas doctor specimen")
    doctor.add_argument("model", metavar="MODEL", help="'specimen', a model folder, or a hub id")
    doctor.add_argument("--revision", help="commit, tag or branch, for a hub id")
    doctor.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the weights")
    doctor.add_argument("--allow-pickle", action="store_true", help="read pickled weights where there are no others")
    doctor.add_argument("--trust-remote-code", action="store_true", help="run the code that comes with the model")

    specimen = add("specimen", _specimen, "show the card of a model that ships with headatlas", "headatlas specimen",
                   json="print the card as JSON")  # fmt: skip
    specimen.add_argument("name", nargs="?", default="specimen", metavar="NAME", help="which (default 'specimen')")
    specimen.add_argument("--list", action="store_true", help="name the models that ship")

    validate = add("validate", _validate, "check every file of the catalog", "headatlas validate",
                   json="print the problems as JSON")  # fmt: skip
    validate.add_argument("--catalog", type=Path, metavar="FOLDER", help="another catalog folder")

    new = add("new", _new, "start a new head type from a commented template", "headatlas new quotation-mark")
    new.add_argument("id", metavar="ID", help="lower case, words joined by hyphens")
    new.add_argument("--catalog", type=Path, metavar="FOLDER", help="another catalog folder")
    return top


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def _list(options: argparse.Namespace) -> int:
    from headatlas import load

    catalog = load()
    names = ("stage", "group", "model", "method", "benchmark", "circuit", "status", "placed_by", "reproduction", "text")
    heads = catalog.find(**{name: getattr(options, name) for name in names})
    if options.json:
        _print_json(heads.rows())
    else:
        from headatlas.terminal import catalog_view

        catalog_view.print_list(catalog, heads)
    return 0


def _show(options: argparse.Namespace) -> int:
    from headatlas import load

    catalog = load()
    head = catalog.head(options.id)
    if options.json:
        _print_json(head.model_dump(mode="json"))
    else:
        from headatlas.terminal import catalog_view

        catalog_view.print_head(catalog, head)
    return 0


def _search(options: argparse.Namespace) -> int:
    from headatlas import load

    query = " ".join(options.words)
    hits = load().search(query)
    if options.json:
        rows = [{"id": h.head_type.id, "score": round(h.score, 3), "where": h.where, "text": h.excerpt} for h in hits]
        _print_json(rows)
    else:
        from headatlas.terminal import catalog_view

        catalog_view.print_hits(hits, query)
    return 0


def _who(options: argparse.Namespace) -> int:
    from headatlas import Head, load

    catalog = load()
    model, head = catalog.model(options.model), Head.parse(options.head)
    namings = catalog.who(model.id, head)
    if options.json:
        _print_json(
            [
                {
                    "type": naming.head_type.id,
                    "name": naming.head_type.name,
                    "sources": naming.sources,
                    "findings": [each.model_dump(mode="json") for each in naming.findings],
                    "disputing": [each.model_dump(mode="json") for each in naming.disputing],
                    "circuits": [circuit.id for circuit, _ in naming.roles],
                }
                for naming in namings
            ]
        )
    else:
        from headatlas.terminal import catalog_view

        catalog_view.print_who(catalog, model, head, namings)
    return 0


def _cite(options: argparse.Namespace) -> int:
    from headatlas import load

    catalog = load()
    references = catalog.cite(options.ids)
    if options.json:
        _print_json([reference.model_dump(mode="json") for reference in references])
    elif options.format == "text":
        for reference in references:
            print(reference.text)
    else:
        print(catalog.bibtex(options.ids), end="")
    return 0


def _export(options: argparse.Namespace) -> int:
    from headatlas import load
    from headatlas.catalog import exporting

    text = exporting.export(load(), "json" if options.json else options.format, options.of)
    if options.out is None:
        sys.stdout.write(text)
        return 0
    try:
        options.out.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise HeadatlasError(f"cannot write {options.out} ({error.strerror}); give another --out") from error
    return 0


def _validate(options: argparse.Namespace) -> int:
    from headatlas.catalog.loading import check

    catalog, problems = check(options.catalog)
    if options.json:
        _print_json([problem._asdict() for problem in problems])
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


def _new(options: argparse.Namespace) -> int:
    from headatlas.catalog import scaffold

    path = scaffold.new(options.id, options.catalog)
    if options.json:
        _print_json({"file": str(path)})
    else:
        print(f"wrote {path}\nfill it in, add its sources to references.bib, then: headatlas validate")
    return 0


def _run(options: argparse.Namespace) -> int:
    from headatlas import load

    catalog = load()
    if bool(options.ids) == options.all:
        raise HeadatlasError("give the ids to run, or --all; `headatlas list` shows them")
    if options.jobs < 1 or options.seeds < 1:
        raise HeadatlasError("--jobs and --seeds count from 1")
    entries = [catalog.head(id) for id in dict.fromkeys(options.ids)]
    if options.all:
        entries = [entry for entry in catalog.heads.values() if entry.rule]
    if missing := [entry.id for entry in entries if entry.rule is None]:
        raise HeadatlasError(f"no reproduction yet for {', '.join(missing)}; `headatlas show` says what one needs")
    from headatlas.evidence import records
    from headatlas.terminal import record_view
    from headatlas.terminal.progress import Progress

    records.require_writable(options.out)
    with Progress("running") as progress:
        from headatlas import batch

        seeds = tuple(range(options.seed, options.seed + options.seeds))
        job = batch.Job(options.model, options.revision, seeds, options.out)
        outcomes = {}
        for outcome in batch.run_all(catalog, entries, job, options.again or not options.all, options.jobs, progress):
            outcomes[outcome.entry] = outcome
            if outcome.record is None:
                print(f"headatlas: {outcome.entry}: {outcome.error}", file=sys.stderr)
            elif options.json:
                print(json.dumps(outcome.record.model_dump(mode="json")), flush=True)
            elif outcome.path and not outcome.kept:
                record_view.print_record(catalog, catalog.head(outcome.entry), outcome.record, outcome.path)
    done = [outcomes[entry.id] for entry in entries]
    if len(entries) > 1 and not options.json:
        record_view.print_verdicts(catalog, done)
    if any(outcome.record is None for outcome in done):
        return EXIT_MISTAKE
    return EXIT_FAILED if any(o.record and o.record.verdict.label == "not-reproduced" for o in done) else 0


def _results(options: argparse.Namespace) -> int:
    from headatlas import load, paths
    from headatlas.evidence import results
    from headatlas.terminal import results_view

    catalog = load()
    found, damaged = results.collect(catalog, options.out or paths.records(), options.model)
    for line in damaged:
        print(f"headatlas: {line}", file=sys.stderr)
    if options.json:
        _print_json([result.as_dict() for result in found])
    else:
        results_view.print_results(catalog, found, options.out or paths.records())
    return EXIT_MISTAKE if damaged else 0


def _report(options: argparse.Namespace) -> int:
    from headatlas import load, paths
    from headatlas.evidence import results
    from headatlas.report import report

    catalog, folder = load(), options.out or paths.records()
    found, damaged = results.collect(catalog, folder, options.model)
    for line in damaged:
        print(f"headatlas: {line}", file=sys.stderr)
    if not found:
        raise HeadatlasError(f"no records in {folder}; `headatlas run --all --out {folder}` makes some")
    try:
        options.file.write_text(report(catalog, found), encoding="utf-8")
    except OSError as error:
        raise HeadatlasError(f"cannot write {options.file} ({error.strerror}); give another file") from None
    print(f"wrote {options.file}: {len(found)} records")
    return EXIT_MISTAKE if damaged else 0


def _method(options: argparse.Namespace) -> int:
    from headatlas import load

    entries = load().methods
    if options.id is None:
        if options.json:
            _print_json([{"id": each.id, "name": each.name, "functions": each.functions} for each in entries.values()])
        else:
            from headatlas.terminal import method_view

            method_view.print_methods(entries.values())
        return 0
    if options.id not in entries:
        raise HeadatlasError(f"there is no method {options.id!r}; `headatlas method` lists them")
    from headatlas import methods
    from headatlas.terminal import method_view
    from headatlas.terminal.progress import Progress

    entry = entries[options.id]
    with Progress("starting up") as progress:
        from headatlas.lab import open_model

        progress(f"opening {options.model}", 0, 0)
        with open_model(options.model, options.revision) as model:
            progress(f"running {entry.id}", 0, 0)
            figures = methods.run_example(entry.id, model)
    shows = methods.shows(entry.id)
    if options.json:
        about = {"id": entry.id, "functions": entry.functions, "shows": shows, "model": options.model}
        _print_json({**about, "figures": dict(figures)})
    else:
        method_view.print_method(entry, shows, figures, options.model)
    return 0


def _specimen(options: argparse.Namespace) -> int:
    from headatlas import specimens

    if options.list:
        names = specimens.names()
        if options.json:
            _print_json(names)
        else:
            print("\n".join(names))
        return 0
    card = specimens.card(options.name)
    if options.json:
        _print_json(card)
    else:
        from headatlas import paths
        from headatlas.evidence.agreement import agreement
        from headatlas.evidence.records import read_all
        from headatlas.terminal import specimen_view

        siblings = [name for name in specimens.names() if name != options.name]
        specimen_view.print_card(options.name, card, agreement(read_all(paths.records()), [options.name, *siblings]))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from headatlas.terminal.progress import Progress

    with Progress("starting up") as progress:
        import torch

        from headatlas.lab.doctor import doctor

        progress(f"examining {options.model}", 0, 0)
        diagnosis = doctor(
            options.model,
            options.revision,
            dtype=getattr(torch, options.dtype),
            allow_pickle=options.allow_pickle,
            trust_remote_code=options.trust_remote_code,
        )
    if options.json:
        _print_json({**asdict(diagnosis), "safe": diagnosis.safe, "conclusion": diagnosis.conclusion})
    else:
        from headatlas.terminal import doctor_view

        doctor_view.print_diagnosis(diagnosis)
    return 0 if diagnosis.safe else EXIT_MISTAKE


if __name__ == "__main__":
    sys.exit(main())
