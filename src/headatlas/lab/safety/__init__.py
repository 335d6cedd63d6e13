"""The doctor: is a model safe to measure?"""

from headatlas.lab.safety.diagnosis import Check, Diagnosis

__all__ = [
    "Check",
    "Diagnosis",
]
