"""Reports files of the catalog and the reproductions that nothing reads, so that no file is silently ignored.

Hidden files (their name begins with a dot) and Python's `__pycache__` are ignored on purpose.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.catalog.problems import Problem

if TYPE_CHECKING:
    from headatlas.catalog.catalog import Catalog

ENDING = ".yaml"
# Other files in catalog/.
_BESIDE = frozenset({"LICENSE", "README.md", "references.bib", "schema", "taxonomy.yaml"})
# Folders of reproductions/ with machine-written records, and the depth of their files.
_RECORDS = {"results": 2, "census": 1, "collaboration": 1, "outside": 1, "patterns": 1, "chance": 1}


def entries(folder: Path) -> list[Path]:
    """The entry files of a folder, sorted by name."""
    return sorted(path for path in folder.glob(f"*{ENDING}") if not (_left_alone(path) or path.is_dir()))


def files(folder: Path, kinds: Collection[str], lists: Collection[str]) -> Iterator[Problem]:
    """Files in the catalog's folder that nothing reads.

    Args:
        folder: the catalog's folder.
        kinds: its folders with one entry per file.
        lists: its files with many entries each, without their ending.
    """
    known = {*_BESIDE, *kinds, *(f"{name}{ENDING}" for name in lists)}
    for path in _inside(folder):
        if path.name not in known:
            yield _stray(folder, path, f"this folder holds {', '.join(sorted(kinds))} and the list files")
    for kind in sorted(kinds):
        for path in _inside(folder / kind) if (folder / kind).is_dir() else ():
            if path.is_dir() or path.suffix != ENDING:
                yield _stray(folder, path, f"an entry is a file {kind}/<id>{ENDING}")


def programs(catalog: "Catalog", folder: Path) -> Iterator[Problem]:
    """Scripts and records without an entry, and rules without a script.

    Args:
        catalog: its head types and methods have the scripts.
        folder: the reproductions' folder; a missing folder gives no problems.
    """
    if not folder.is_dir():
        return
    yield from _scripts(folder, catalog.file_ids["heads"], "heads", {"methods", *_RECORDS})
    if (folder / "methods").is_dir():
        yield from _scripts(folder / "methods", catalog.file_ids["methods"], "methods", ())
    for head in catalog.heads.values():
        script = folder / f"{head.id}.py"
        if head.rule is not None and not script.is_file():
            yield Problem(
                f"heads/{head.id}.yaml", "reproduction.rule", f"has no script; add reproductions/{script.name}"
            )
        if head.rule is None and script.is_file():
            yield Problem(
                f"../reproductions/{script.name}", "", f"heads/{head.id}.yaml has no rule for this script; add one"
            )
    for name, depth in _RECORDS.items():
        yield from _records(folder / name, folder, depth)


def _scripts(folder: Path, ids: Collection[str], kind: str, folders: Collection[str]) -> Iterator[Problem]:
    for path in _inside(folder):
        if path.is_dir() and path.name in folders:
            continue
        if path.is_dir() or path.suffix != ".py":
            yield _stray(folder, path, "a script is a file <id>.py", _beside(folder, path))
        elif path.stem not in ids:
            yield Problem(
                _beside(folder, path), "", f"belongs to no entry; add {kind}/{path.stem}{ENDING} or remove it"
            )


def _records(folder: Path, top: Path, depth: int) -> Iterator[Problem]:
    """Files among the machine-written records that are not records."""
    for path in _inside(folder) if folder.is_dir() else ():
        if depth > 1 and path.is_dir():
            yield from _records(path, top, depth - 1)
        elif path.is_dir() or path.suffix != ".json" or depth > 1:
            place = "../reproductions/" + path.relative_to(top).as_posix()
            yield _stray(folder, path, "a record is <model>/<id>.json in results, or <model>.json elsewhere", place)


def _beside(folder: Path, path: Path) -> str:
    return f"../reproductions/{'methods/' if folder.name == 'methods' else ''}{path.name}"


def _stray(folder: Path, path: Path, here: str, place: str = "") -> Problem:
    name = place or path.relative_to(folder).as_posix()
    if path.is_dir():
        return Problem(name, "", f"is a folder, and nothing in it is read: {here}; move its files or remove the folder")
    wanted = path.with_suffix(ENDING).name
    if path.suffix.lower() in (".yml", ENDING, ".json") and path.name != wanted:
        return Problem(name, "", f"is not read: {here}; rename it to {wanted}, or remove it")
    return Problem(name, "", f"is not read: {here}; rename it or remove it")


def _inside(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.iterdir() if not _left_alone(path))


def _left_alone(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__pycache__"
