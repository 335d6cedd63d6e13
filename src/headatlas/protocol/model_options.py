"""How a model is opened, as a user asks for it: plain values that go to other processes; no torch here."""

from dataclasses import dataclass
from typing import Any, Literal

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ModelOptions:
    """What `headatlas.lab.open_model` is asked for beside the name of a model.

    Attributes:
        revision: commit, tag or branch, for a hub id.
        dtype: of the weights; measurements are made in float32.
        device: where to put the model; the CPU if not given.
        allow_pickle: read pickled weights where there are no others.
        trust_remote_code: run the code that comes with the model.
        adapter: a peft adapter that is merged into the weights, a folder or a hub id; 'none' leaves out one that lies
            beside them.
        ignore_unused: open the model although its files hold weights that it does not use.
    """

    revision: str | None = None
    dtype: Dtype = "float32"
    device: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    adapter: str | None = None
    ignore_unused: bool = False

    def keywords(self) -> dict[str, Any]:
        """The keyword arguments of `open_model` that say the same; torch is loaded here."""
        import torch

        return {
            "revision": self.revision,
            "dtype": getattr(torch, self.dtype),
            "device": self.device,
            "allow_pickle": self.allow_pickle,
            "trust_remote_code": self.trust_remote_code,
            "adapter": self.adapter,
            "ignore_unused": self.ignore_unused,
        }
