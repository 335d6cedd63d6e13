"""The small catalog with a census of its one model, as data of the site: papers and measurements name its heads.

Papers: induction L1H0 (contradicted as suppressor), L1H1, L1H2. Measured: induction L0H3 and L1H0, previous-token L0H0.
"""

from pathlib import Path

import headatlas
import small_catalog
from headatlas.census.schema import Census
from made_census import census, model_record, part
from pages.atlas import Atlas

STRONG = (0.95, 0.0001)


def atlas(folder: Path) -> Atlas:
    """The small catalog, without runs."""
    return Atlas(headatlas.load(small_catalog.write(folder / "catalog")), [])


def tiny_census() -> Census:
    """A census of the model of the small catalog."""
    model = model_record(2, 4, name="tiny")
    return census(
        model,
        part("induction", model, {"L1H0": STRONG, "L0H3": STRONG}),
        part("previous-token", model, {"L0H0": STRONG}),
    )
