"""The heads that matter most to two names each get their z from the same sentence with three other names.

The four heads with the largest losses when resampled singly are then resampled together, and for comparison the four at
the other end of the order. Heads are chosen on the prompts that are measured, so the effect is flattered.
"""

from headatlas.lab import OpenModel, ablate_sets, logit_difference, sweep
from headatlas.methods import two_names


def example(model: OpenModel) -> dict[str, float | str]:
    """16 sentences with two names, one of them said twice."""
    prompts = two_names(model.vocabulary, 16)
    score = -sweep(model, prompts, logit_difference, "resample").effect.mean(2)  # [layer head]
    order = sorted(model.anatomy.all_heads, key=lambda head: -score[head])
    intact, without, others = ablate_sets(model, prompts, logit_difference, [(), order[:4], order[-4:]], "resample")
    return {
        "heads ablated": ", ".join(map(str, order[:4])),
        "intact, logit difference of the names (nats)": float(intact.mean()),
        "with the four heads ablated (nats)": float(without.mean()),
        "with the four at the other end ablated instead (nats)": float(others.mean()),
    }
