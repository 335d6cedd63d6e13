"""Pushing heads along the direction that tells one answer from the other changes which name the model says.

The direction of each head is the difference of its mean z at the last token; it is added there, times two standard
deviations, and then taken off. Random directions of the same length in the same heads are the control.
"""

import torch

from headatlas.lab import OpenModel, intervene, logit_difference, metric_per_prompt
from headatlas.lab.activations import edits
from headatlas.lab.fits import collect_z, mean_difference
from headatlas.methods import two_names
from headatlas.notation import Head


def example(model: OpenModel) -> dict[str, float | str]:
    """Sentences about the same two people: 32 give the directions, 16 others are measured."""
    drawn = two_names(model.vocabulary, 48, same=True)
    made, prompts, last = drawn[:32], drawn[32:], len(drawn[0].tokens) - 1
    first = made[0].readouts[0].answer
    heads = model.anatomy.all_heads
    z = collect_z(model, [each.tokens for each in made])
    found = mean_difference(z, [int(each.readouts[0].answer == first) for each in made])
    noise = torch.Generator().manual_seed(0)
    widths = {head: model.anatomy.d_head_in(head.layer) for head in heads}
    steps = {head: step[: widths[head]] for head, step in found.steps(heads, 2.0).items()}
    random = {head: torch.randn(len(step), generator=noise) for head, step in steps.items()}
    random = {head: step / step.norm() * steps[head].norm() for head, step in random.items()}
    towards = [1 if each.readouts[0].answer == first else -1 for each in prompts]

    def pushed(directions: dict[Head, torch.Tensor], factor: float) -> float:
        with intervene(model, [edits.add("z", heads, directions, factor, positions=[last])]):
            return float((metric_per_prompt(model, prompts, logit_difference) * towards).mean())

    return {
        "intact, logit of the first name over the second (nats)": pushed(steps, 0.0),
        "pushed towards the first name (nats)": pushed(steps, 1.0),
        "pushed towards the second name (nats)": pushed(steps, -1.0),
        "pushed along random directions (nats)": pushed(random, 1.0),
    }
