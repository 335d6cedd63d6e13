"""The command that writes all attention patterns of a text as one HTML file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.cli.commands.adding import add
from headatlas.cli.commands.fetching import fetched_first
from headatlas.cli.commands.opening import add_model_options, model_options
from headatlas.cli.commands.output import print_json
from headatlas.errors import HeadatlasError

if TYPE_CHECKING:
    from headatlas.cli.commands.adding import Commands


def add_to(commands: "Commands") -> None:
    """The command, with its options."""
    parser = add(
        commands,
        "view",
        view,
        "write all attention patterns of a text to one HTML file",
        'headatlas view specimen "Anna gave a book to Peter. Anna gave a book to"',
        json="print what was written as JSON",
    )
    parser.add_argument("model", metavar="MODEL", help="'specimen', a model folder, a GGUF file, or a hub id")
    parser.add_argument("text", metavar="TEXT", help="the text, in quotes")
    parser.add_argument("--head", metavar="L5H1", help="head to show large at first (default: one that looks back)")
    parser.add_argument("--out", type=Path, default=Path("view.html"), metavar="FILE", help="default view.html")
    add_model_options(parser)


def view(options: argparse.Namespace) -> int:
    """Write the page, and say where it is and how large."""
    from headatlas import Head
    from headatlas.cli.terminal.progress import ProgressBar

    if not options.text.strip():
        raise HeadatlasError('the text is empty; give some words in quotes, such as "Anna gave a book to"')
    if options.head is not None:
        Head.parse(options.head)  # before anything is opened
    with ProgressBar("starting up") as progress:
        fetched_first(options.model, options.revision, progress)
        import headatlas
        from headatlas.session.viewing import most_tokens

        progress(f"opening {options.model}", 0, 0)
        with headatlas.open(options.model, **model_options(options).keywords(), progress=progress) as session:
            path = session.view(options.text, options.out, options.head)
            heads, total = len(session.model.anatomy.all_heads), len(session.model.vocabulary.prompt(options.text))
            most = min(total, most_tokens(session.model))
    size = path.stat().st_size
    if options.json:
        print_json({"file": str(path), "bytes": size, "heads": heads, "tokens": total, "shown": most})
        return 0
    print(f"wrote {path} ({size / 1e6:.1f} MB): {heads} heads, {most} tokens")
    if total > most:
        print(f"the text has {total} tokens, of which the file shows the first {most}; shorten it to see others")
    return 0
