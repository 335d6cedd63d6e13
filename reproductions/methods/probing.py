"""A linear probe on every head tells whether the text repeats; shuffled labels are the corrupted prompt.

The best of all heads is too high by selection, so that the mean over heads stands beside it.
"""

from headatlas.lab import OpenModel, probe_heads
from headatlas.lab.fits import collect_z
from headatlas.methods import repeated_spans


def example(model: OpenModel) -> dict[str, float | str]:
    """32 pairs of 25 random tokens written twice and 50 fresh ones, read one token before the end."""
    prompts = repeated_spans(model.vocabulary, 32)
    z = collect_z(model, [tokens for each in prompts for tokens in (each.tokens, each.corrupted)], position=-2)
    found = probe_heads(z, [1, 0] * len(prompts), [pair for pair in range(len(prompts)) for _ in range(2)], draws=20)
    best = model.anatomy.strongest(found.accuracy)
    return {
        "best head": str(best),
        "its held-out accuracy (share)": found.accuracy[best].item(),
        "its accuracy on shuffled labels (share)": found.control[:, best.layer, best.head].mean().item(),
        "mean accuracy of all heads (share)": found.accuracy.nanmean().item(),
    }
