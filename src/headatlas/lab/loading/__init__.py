"""Finding, opening and identifying a model, its tokenizer and its adapter; refusing what could not be measured."""

from headatlas.lab.loading.provenance import Opened

__all__ = [
    "Opened",
]
