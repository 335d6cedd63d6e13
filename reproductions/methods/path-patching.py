"""Which head acts on the logits directly, and not by way of other heads.

Each head in turn gives what it gave where there are three other names; all other heads are held at their clean values.
"""

import torch
from torch import Tensor

from headatlas.lab import OpenModel, path_sweep
from headatlas.lab.paths import path_runs
from headatlas.methods import two_names


def example(model: OpenModel) -> dict[str, float | str]:
    """16 sentences with two names, one of them said twice."""
    prompts = two_names(model.vocabulary, 16)
    tokens, corrupted = ([getattr(each, side) for each in prompts] for side in ("tokens", "corrupted"))
    answers = torch.tensor([[each.readouts[0].answer, *each.readouts[0].rivals] for each in prompts])
    runs = path_runs(model, torch.tensor(tokens), torch.tensor(corrupted))

    def metric(logits: Tensor) -> Tensor:
        chosen = logits[:, -1].gather(1, answers.to(logits.device))
        return chosen[:, 0] - chosen[:, 1]

    effects = path_sweep(runs, "logits", metric).effect.mean(-1)  # [layer head]
    strongest = model.anatomy.strongest(effects, largest=False)
    return {
        "clean logit difference of the names (nats)": metric(runs.logits).mean().item(),
        "strongest head": str(strongest),
        "change by its path to the logits (nats)": effects[strongest].item(),
        "mean change over all heads (nats)": effects.nanmean().item(),
    }
