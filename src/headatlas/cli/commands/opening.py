"""How a command is told to open a model: one group of options for all that open one."""

import argparse

from headatlas.protocol.model_options import ModelOptions

DTYPES = ("float32", "bfloat16", "float16")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options of how a model is opened; `model_options` reads them."""
    group = parser.add_argument_group("how the model is opened")
    group.add_argument("--revision", help="commit, tag or branch, for a hub id")
    group.add_argument("--dtype", choices=DTYPES, help="of the weights (default float32)")
    group.add_argument("--device", help="where to put it, such as cuda or cuda:1 (default the CPU)")
    group.add_argument("--allow-pickle", action="store_true", help="read pickled weights where there are no others")
    group.add_argument("--trust-remote-code", action="store_true", help="run the code that comes with the model")
    group.add_argument(
        "--adapter",
        metavar="FOLDER",
        help="peft adapter to merge into the weights; 'none' leaves out one beside them",
    )
    group.add_argument("--ignore-unused", action="store_true", help="open it although it does not use all its weights")


def model_options(options: argparse.Namespace) -> ModelOptions:
    """What the options say."""
    return ModelOptions(
        revision=options.revision,
        dtype=options.dtype or "float32",
        device=options.device,
        allow_pickle=options.allow_pickle,
        trust_remote_code=options.trust_remote_code,
        adapter=options.adapter,
        ignore_unused=options.ignore_unused,
    )
