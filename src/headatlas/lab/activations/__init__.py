"""Records and edits activations at named sites of a running model."""

from headatlas.lab.activations.sites import SITES, Recording, Site

__all__ = [
    "SITES",
    "Recording",
    "Site",
]
