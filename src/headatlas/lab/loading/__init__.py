"""Finds, opens and identifies a model, its tokenizer and its adapter; refuses models that cannot be measured."""

from headatlas.lab.loading.provenance import Opened

__all__ = [
    "Opened",
]
