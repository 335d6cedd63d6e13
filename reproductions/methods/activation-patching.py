"""The strongest head by noising, and how much of the answer it restores by denoising.

Noising puts each head's z of the corrupted prompt (three other names) into the clean run; denoising puts the clean z
of the strongest one into the corrupted run. The two need not agree.
"""

import torch

from headatlas.lab import OpenModel, intervene, logit_difference, metric_per_prompt, record, sweep
from headatlas.lab.activations import edits
from headatlas.methods import two_names
from headatlas.stimuli import Prompt


def example(model: OpenModel) -> dict[str, float | str]:
    """16 sentences with two names, one of them said twice."""
    prompts = two_names(model.vocabulary, 16)
    corrupted = [Prompt(each.corrupted, each.tokens, readouts=each.readouts) for each in prompts]
    noised = sweep(model, prompts, logit_difference, "resample")
    effect = noised.effect.mean(2)  # [layer head]
    head = model.anatomy.strongest(effect, largest=False)
    clean, low = noised.clean.mean(), metric_per_prompt(model, corrupted, logit_difference).mean()
    seen = record(model, torch.tensor([each.tokens for each in prompts]), ["z"])
    with intervene(model, [edits.patch("z", [head], seen)]):
        denoised = metric_per_prompt(model, corrupted, logit_difference).mean()
    return {
        "strongest head": str(head),
        "clean logit difference of the names (nats)": float(clean),
        "corrupted logit difference (nats)": float(low),
        "noising it loses (share of clean - corrupted)": float(-effect[head] / (clean - low)),
        "denoising it restores (share of clean - corrupted)": float((denoised - low) / (clean - low)),
    }
