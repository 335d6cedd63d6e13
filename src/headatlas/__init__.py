"""headatlas: which kinds of attention heads are known, on what evidence, and does it hold on your model.

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
from headatlas.specimens import specimen

__all__ = ["Catalog", "Head", "HeadatlasError", "Rerun", "load", "rerun", "specimen"]
