"""Models trained on activations: linear probes, steering directions, learned scales; and toy models."""

from headatlas.lab.fits.lofit import learn_each, learn_vectors, scaling_slopes
from headatlas.lab.fits.probes import HeadDirections, Probes, collect_z, mean_difference, probe_directions
from headatlas.lab.fits.retention import Retention, learn_in_turn

__all__ = [
    "HeadDirections",
    "Probes",
    "Retention",
    "collect_z",
    "learn_each",
    "learn_in_turn",
    "learn_vectors",
    "mean_difference",
    "probe_directions",
    "scaling_slopes",
]
