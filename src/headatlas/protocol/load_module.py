"""Loads programs that lie beside the package: reproductions, and the worked examples of methods."""

import importlib.util
from pathlib import Path
from types import ModuleType

from headatlas.errors import HeadatlasError
from headatlas.protocol.script_faults import failed


def load(path: Path, missing: str) -> ModuleType:
    """A program as a module of its own.

    Args:
        path: of the file.
        missing: what to say where there is none.

    Raises:
        HeadatlasError: where there is none, or it does not import.
    """
    if not path.is_file():
        raise HeadatlasError(missing)
    spec = importlib.util.spec_from_file_location(f"headatlas_{path.parent.name}_{path.stem.replace('-', '_')}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise HeadatlasError(f"{path.stem} does not import: {failed(error, path)}") from error
    return module
