"""Taking away the direction that tells one answer from the other makes the model less sure of the name.

The direction of each head is the difference of its mean z at the last token; the component along it is put at its mean,
in all heads together. Random directions in the same heads are the control.
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
    random = {head: torch.randn(width, generator=noise) for head, width in widths.items()}
    mean, vectors = (
        {head: each[head][:width] for head, width in widths.items()} for each in (z.mean(0), found.vectors)
    )

    def without(directions: dict[Head, torch.Tensor]) -> float:
        with intervene(model, [edits.project_out("z", heads, directions, mean, positions=[last])]):
            return float(metric_per_prompt(model, prompts, logit_difference).mean())

    return {
        "intact, logit difference of the names (nats)": float(
            metric_per_prompt(model, prompts, logit_difference).mean()
        ),
        "without the directions (nats)": without(vectors),
        "without random directions instead (nats)": without(random),
    }
