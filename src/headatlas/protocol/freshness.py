"""Whether a record still speaks of what is there: the rule, the script, the code of its stimuli, the model."""

import ast
import copy
import hashlib
from functools import cache
from pathlib import Path

from headatlas import locations, specimens, stimuli
from headatlas.catalog.catalog import Catalog
from headatlas.evidence.records import Entry, ModelRecord, Record

_STIMULI = "headatlas.stimuli"


def stimuli_sha256(script: Path) -> str:
    """A hash of the code that draws a script's stimuli: every module of headatlas.stimuli it leads to.

    Comments, docstrings and layout do not count. Nothing is imported, so this is cheap.
    """
    digest = hashlib.sha256()
    for name in sorted(_reached(script)):
        digest.update(f"{name}\n{_code(name)}\n".encode())
    return digest.hexdigest()


def _reached(script: Path) -> set[str]:
    waiting = _imports(ast.parse(script.read_text(encoding="utf-8")))
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting |= _imports(_tree(name))
    return reached


def _imports(tree: ast.AST) -> set[str]:
    """The modules of headatlas.stimuli that code names, without the package itself."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == _STIMULI:
            found |= {alias.name if _path(alias.name).is_file() else "prompts" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{_STIMULI}."):
            found.add(node.module.removeprefix(f"{_STIMULI}."))
    return found


def _path(name: str) -> Path:
    return Path(stimuli.__file__).parent / f"{name}.py"


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(_path(name).read_text(encoding="utf-8"))


@cache
def _code(name: str) -> str:
    tree = copy.deepcopy(_tree(name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                del node.body[0]
    return ast.dump(tree)


def entry_of(id: str, rule_version: int, script: Path) -> Entry:
    """What a record keeps of an entry, so that a change of rule, script or stimuli shows later."""
    return Entry(
        id=id,
        rule_version=rule_version,
        script_sha256=hashlib.sha256(script.read_bytes()).hexdigest(),
        stimuli_sha256=stimuli_sha256(script),
    )


class Present:
    """Rules, scripts, stimuli and models as they are now, each looked up once."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        known = {model.id: model.sha256 for model in catalog.models.values() if model.sha256}
        self._weights = known | {name: str(specimens.card(name)["sha256"]) for name in specimens.names()}
        self._entries: dict[str, Entry | None] = {}

    def changes(self, record: Record, model: ModelRecord | None = None) -> list[str]:
        """What has changed since a run; nothing where the record is current.

        Args:
            record: of the run.
            model: as it is now, where it is open. Without it only weights can be compared, and only where the model
                ships with headatlas or the catalog knows their hash.

        Returns:
            'rule', 'script', 'stimuli', and of the model the names of the parts that differ, such as 'weights' or
            'configuration' (`headatlas.evidence.identity.PARTS`); 'identity' where the record was made before these
            were kept.
        """
        now = self._entry(record.entry.id)
        if now is None:
            return ["script"]
        differs = {
            "rule": record.entry.rule_version != now.rule_version,
            "script": record.entry.script_sha256 != now.script_sha256,
            "stimuli": record.entry.stimuli_sha256 != now.stimuli_sha256,
        }
        return [name for name, changed in differs.items() if changed] + self._of_model(record.model, model)

    def _of_model(self, before: ModelRecord, now: ModelRecord | None) -> list[str]:
        if now is not None:
            return before.differs(now)
        known = self._weights.get(before.id, before.sha256)
        return ["weights"] * (before.sha256 != known) + ["identity"] * (before.identity is None)

    def _entry(self, id: str) -> Entry | None:
        """What a record of an entry would keep now; None where it cannot be rerun."""
        if id not in self._entries:
            entry, script = self._catalog.heads.get(id), locations.reproductions() / f"{id}.py"
            rule = entry.rule if entry and script.is_file() else None
            self._entries[id] = entry_of(id, rule.version, script) if rule else None
        return self._entries[id]
