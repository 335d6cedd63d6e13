"""The doctor: checks whether a model is safe to measure."""

from headatlas.lab.safety.diagnosis import Check, Diagnosis

__all__ = [
    "Check",
    "Diagnosis",
]
