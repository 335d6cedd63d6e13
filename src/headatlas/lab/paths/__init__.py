"""Path patching: the effect of a head through another head's input, or directly on the logits."""

from headatlas.lab.paths.clean_and_corrupted import PathRuns, path_runs
from headatlas.lab.paths.copying_movers import find_copying_movers
from headatlas.lab.paths.path_patching import Receiver
from headatlas.lab.paths.path_sweeps import PathSweep
from headatlas.lab.paths.paths_to_attention import attention_paths
from headatlas.lab.paths.prompt_effects import (
    PathEffects,
    indirect_effects,
    path_effects,
    path_effects_from,
    set_path_effects,
)

__all__ = [
    "PathEffects",
    "PathRuns",
    "PathSweep",
    "Receiver",
    "attention_paths",
    "find_copying_movers",
    "indirect_effects",
    "path_effects",
    "path_effects_from",
    "path_runs",
    "set_path_effects",
]
