"""The options that several commands share: how to open a model, and where its census lies."""

import argparse
from pathlib import Path

from headatlas.locations import DEFAULT_CENSUS
from headatlas.protocol.model_options import ModelOptions

DTYPES = ("float32", "bfloat16", "float16")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how to open a model; `model_options` reads them."""
    group = parser.add_argument_group("how the model is opened")
    group.add_argument("--revision", help="commit, tag or branch, for a hub id")
    group.add_argument("--dtype", choices=DTYPES, help="dtype of the weights (default float32)")
    group.add_argument("--device", help="device, such as cuda or cuda:1 (default the CPU)")
    group.add_argument("--allow-pickle", action="store_true", help="read pickled weights if there are no safetensors")
    group.add_argument("--trust-remote-code", action="store_true", help="run the code that comes with the model")
    group.add_argument(
        "--adapter",
        metavar="FOLDER",
        help="peft adapter to merge into the weights; 'none' ignores an adapter beside them",
    )
    group.add_argument(
        "--ignore-unused", action="store_true", help="open the model even if its files hold unused weights"
    )


def add_census_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where censuses lie that were taken here."""
    parser.add_argument(
        "--census",
        type=Path,
        default=DEFAULT_CENSUS,
        metavar="FOLDER",
        help=f"folder of censuses, beside those that ship (default {DEFAULT_CENSUS})",
    )


def model_options(options: argparse.Namespace) -> ModelOptions:
    """The model options of a parsed command line."""
    return ModelOptions(
        revision=options.revision,
        dtype=options.dtype or "float32",
        device=options.device,
        allow_pickle=options.allow_pickle,
        trust_remote_code=options.trust_remote_code,
        adapter=options.adapter,
        ignore_unused=options.ignore_unused,
    )
