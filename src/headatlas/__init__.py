"""headatlas: a catalog of the attention heads that papers describe, and a laboratory that tests each finding.

>>> import headatlas
>>> catalog = headatlas.load()
>>> catalog.heads["induction"].stage
'latent-reasoning'
"""

from headatlas.api import Rerun, rerun
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.loading import load
from headatlas.errors import HeadatlasError
from headatlas.notation import Head
from headatlas.session import open
from headatlas.specimens import specimen

__all__ = ["Catalog", "Head", "HeadatlasError", "Rerun", "load", "open", "rerun", "specimen"]
