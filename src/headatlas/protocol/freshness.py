"""Decides whether a record is stale: whether rule, script, stimuli, measuring code or model have changed since."""

from pathlib import Path

from headatlas import locations, specimens
from headatlas.catalog.catalog import Catalog
from headatlas.evidence.record_parts import ModelRecord
from headatlas.evidence.records import Entry, Record
from headatlas.protocol.code_hash import script_sha256, stimuli_sha256

# The version of the code between a script and its numbers: headatlas.lab, headatlas.protocol, headatlas.evidence. Raise
# it when a change there moves a number of some record: `tools/golden.py` says whether it does, and a test asks.
MEASUREMENT = 4


def entry_of(id: str, rule_version: int, script: Path) -> Entry:
    """What a record keeps of an entry, so that a later change of rule, script, stimuli or measurement shows."""
    return Entry(
        id=id,
        rule_version=rule_version,
        script_sha256=script_sha256(script),
        stimuli_sha256=stimuli_sha256(script),
        measurement=MEASUREMENT,
    )


class CurrentVersions:
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
            'rule', 'script', 'stimuli', 'measurement'; and of the model the names of the parts that differ, such as
            'weights' or 'configuration' (`headatlas.evidence.identity.PARTS`), or 'identity' where the record was made
            before these were kept.
        """
        now = self._entry(record.entry.id)
        if now is None:
            return ["script"]
        differs = {
            "rule": record.entry.rule_version != now.rule_version,
            "script": record.entry.script_sha256 != now.script_sha256,
            "stimuli": record.entry.stimuli_sha256 != now.stimuli_sha256,
            "measurement": record.entry.measurement != now.measurement,
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
