"""Prompt families: prompts in tokens, with right and wrong answers and a corrupted prompt."""

from headatlas.stimuli.prompts import (
    ProbeLabel,
    Prompt,
    Readout,
    UntestableError,
    Vocabulary,
    probe_groups,
    probe_labels,
)

__all__ = ["ProbeLabel", "Prompt", "Readout", "UntestableError", "Vocabulary", "probe_groups", "probe_labels"]
