"""The logit difference between two names, split into what each head and each MLP writes towards it.

The parts add up to the difference, which is the check. The one head that writes most is named.
"""

import torch

from headatlas.lab import OpenModel, direct_logit_attribution, logit_difference, metric_per_prompt
from headatlas.methods import two_names


def example(model: OpenModel) -> dict[str, float | str]:
    """16 sentences with two names, one of them said twice."""
    prompts = two_names(model.vocabulary, 16)
    answers = [each.readouts[0].answer for each in prompts]
    rivals = [each.readouts[0].rivals for each in prompts]
    found = direct_logit_attribution(model, torch.tensor([each.tokens for each in prompts]), answers, rivals)
    heads = found.heads.mean(0)  # [layer head]
    most = model.anatomy.strongest(heads)
    return {
        "head that writes most": str(most),
        "its part (nats)": heads[most].item(),
        "all heads (nats)": heads.nansum().item(),
        "all MLPs (nats)": found.mlps.sum(1).mean().item(),
        "all parts together (nats)": found.total.mean().item(),
        "logit difference of the model (nats)": float(metric_per_prompt(model, prompts, logit_difference).mean()),
    }
