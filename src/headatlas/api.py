"""Rerunning a finding from Python, in one call. Nothing heavy is imported before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.progress import Progress, no_progress

if TYPE_CHECKING:
    import pandas as pd

    from headatlas.catalog.catalog import Catalog
    from headatlas.evidence.records import Record, Verdict
    from headatlas.lab import OpenModel
    from headatlas.notation import Head


_COLUMNS = (
    *("layer", "index", "score", "low", "high", "null", "find", "find_null", "q"),
    *("selected", "did_not_hold", "reported"),
)


@dataclass(frozen=True, repr=False)
class Rerun:
    """What a rerun of one finding gave.

    Attributes:
        record: everything that was measured, as `headatlas run` writes it.
    """

    record: Record

    @property
    def verdict(self) -> Verdict:
        """The label and the reasons for it."""
        return self.record.verdict

    @property
    def heads(self) -> list[Head]:
        """The heads found, best first: selected on some prompts, and holding on others."""
        return self.record.selected

    @property
    def frame(self) -> pd.DataFrame:
        """One row per head, with its name as index; no rows where no head could be scored.

        Columns: layer, index (the head's number in its layer); score, low, high and null on the prompts that test
        heads, low and high being the score's 95% interval; find, find_null and q on the prompts that select them;
        selected, did_not_hold and reported (by papers, for this model).
        """
        import pandas as pd

        found, reported = self.record.detection, set(self.record.literature.reported_heads)
        if found is None:
            return pd.DataFrame(columns=_COLUMNS)
        grids = (found.score, found.low, found.high, found.control, found.find, found.find_control, found.q)
        rows = {
            str(head): (
                *head,
                *(grid[head.layer][head.head] for grid in grids),
                str(head) in found.selected,
                str(head) in found.did_not_hold,
                str(head) in reported,
            )
            for head in self.record.model.every_head
        }
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=_COLUMNS)
        frame.index.name = "head"
        return frame

    @property
    def figures(self) -> dict[str, str]:
        """SVG by name: 'scores' of all heads, and 'effect' of intervening on those found; what was measured of both."""
        from headatlas.pages.report import cause_picture, heads_picture

        drawn = {"scores": heads_picture(self.record), "effect": cause_picture(self.record)}
        return {name: str(picture) for name, picture in drawn.items() if picture is not None}

    def save(self, folder: str | Path) -> Path:
        """Write the record where `headatlas results --out FOLDER` finds it, and return its path.

        Raises:
            HeadatlasError: where the folder cannot be written.
        """
        from headatlas.evidence import record_files

        record_files.require_writable(Path(folder))
        return record_files.write(self.record, Path(folder))

    def __repr__(self) -> str:
        return repr(self.record).replace("record", "rerun", 1)

    def __str__(self) -> str:
        reasons = "".join(f"\n  {reason}" for reason in self.verdict.reasons)
        return f"{self.record.entry.id} in {self.record.model.name}: {self.verdict.label}{reasons}"

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict with its reasons, and the pictures."""
        return self.record._repr_html_() + "".join(self.figures.values())


def rerun(
    finding: str,
    model: str | Path | OpenModel = "specimen",
    seeds: Sequence[int] = (0,),
    *,
    catalog: Catalog | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Rerun:
    """Rerun the finding behind a head type on a model, as `headatlas run` does.

    Args:
        finding: id, name or alias of a head type.
        model: one that is open, or whatever `headatlas.lab.open_model` opens.
        seeds: of the stimuli, at least one. The first gives the record; of the others it keeps the verdict.
        catalog: the shipped one if not given.
        progress: told what is being done, and how far it is.
        options: of `headatlas.lab.open_model`, for a model that is not open yet, such as dtype="bfloat16".

    Raises:
        HeadatlasError: for an unknown head type, one without a reproduction, or a model that cannot be measured.
        ValueError: for no seeds, or options for a model that is open already.
    """
    from headatlas.catalog.loading import load
    from headatlas.errors import HeadatlasError

    known = catalog or load()
    entry = known.head(finding)
    if entry.rule is None:
        raise HeadatlasError(
            f"no reproduction yet for {entry.id}; `headatlas list --reproduction` shows which have one"
        )
    if not seeds:
        raise ValueError("no seeds; give at least one, such as seeds=(0,)")
    from headatlas.lab import OpenModel, open_model
    from headatlas.protocol.run import run

    with ExitStack() as stack:
        if isinstance(model, OpenModel):
            if options:
                raise ValueError(f"the model is open already; leave out {', '.join(options)}")
            opened = model
        else:
            opened = stack.enter_context(open_model(model, **options))
        return Rerun(run(known, entry, opened, seeds, progress))
