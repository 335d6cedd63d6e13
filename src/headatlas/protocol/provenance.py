"""What a record says of the model that was run, and of where and how it ran."""

import platform
import resource
import sys
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import transformers

from headatlas import specimens
from headatlas.catalog.catalog import Catalog
from headatlas.evidence import record_parts, records
from headatlas.lab import OpenModel
from headatlas.lab.fits.toys import TOY
from headatlas.lab.loading.identifying import edited, identity, weights_read
from headatlas.protocol.budget import Budget

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux only


def catalog_id(catalog: Catalog, model: OpenModel) -> str | None:
    """The catalog's id of this model: its name where headatlas ships or trains it, else by hub id or by its weights.

    None where an adapter was merged into it, or its weights were changed in memory.
    """
    if model.opened.adapter is not None or edited(model):
        return None  # another model than the one it was made of
    if model.name in specimens.names():
        return model.name if model.name in catalog.models else None
    if model.name == TOY and model.opened.source == "loaded":  # a folder of that name is another model
        return TOY
    whole = model.revision is not None and model.opened.gguf is None  # a quantised copy may lie beside the weights
    for known in catalog.models.values():
        sums = (known.sha256, known.packages and known.packages.sha256)
        if model.sha256 in sums or (whole and model.name in known.hub):
            return known.id
    return None


def model_record(model: OpenModel, known: str | None) -> record_parts.ModelRecord:
    """What a record says of the model as it is now; `known` is its id in the catalog."""
    what = identity(model)
    layers = range(model.anatomy.layers)
    heads, kv_heads = (
        [count(layer) for layer in layers] for count in (model.anatomy.heads_in, model.anatomy.kv_heads_in)
    )
    alike = len(set(heads)) == len(set(kv_heads)) == 1
    return record_parts.ModelRecord(
        id=model.id,
        name=model.title,
        revision=model.revision,
        sha256=model.sha256 if what.weights == weights_read(model.opened) else what.weights,
        architecture=model.architecture,
        layers=model.anatomy.layers,
        heads=model.anatomy.heads,
        kv_heads=model.anatomy.kv_heads,
        d_head=model.anatomy.d_head,
        catalog_id=known,
        identity=what,
        head_counts=None if alike else heads,
        kv_head_counts=None if alike else kv_heads,
        dequantised=_dequantised(model),
    )


def _dequantised(model: OpenModel) -> record_parts.DequantisedPart | None:
    """The GGUF file that the weights came from; None for other models."""
    said = model.opened.gguf
    if said is None:
        return None
    return record_parts.DequantisedPart(
        file=said.file,
        sha256=said.sha256,
        quantisation=said.quantisation,
        name=said.name,
        dtype=said.dtype,
        transformers=said.transformers,
        gguf=said.gguf,
    )


def environment(
    model: OpenModel, seed: int, started: datetime, seconds: float, budget: Budget | None = None
) -> records.Environment:
    """What a record says of where and how it ran."""
    return records.Environment(
        headatlas=version("headatlas"),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        numpy=np.__version__,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        attention=model.implementation,
        threads=torch.get_num_threads(),
        seed=seed,
        started=started.isoformat(timespec="seconds"),
        seconds=seconds,
        peak_memory_mb=peak_memory_mb(),
        budget=budget,
    )


def peak_memory_mb() -> float:
    """The most memory that this process has held since `forget_peak_memory`, in MiB, with weights that it shares.

    Where the system cannot forget a peak, it is that since the process started.
    """
    with suppress(OSError, ValueError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 1024)


def forget_peak_memory() -> None:
    """Start to measure the peak of the memory anew, so that it is that of one finding."""
    with suppress(OSError):
        _FORGET.write_text("5")
