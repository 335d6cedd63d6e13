"""The heads that match prefixes are replaced by their mean, and copying suffers.

The mean is over the corrupted prompts, random tokens that are not repeated. As many heads with the lowest scores are
ablated for comparison; among them are heads that copying rests on too, so that they may cost as much: a loss by itself
does not single out the heads that were ablated.
"""

from headatlas.lab import OpenModel, ablate_sets, attention_scores, log_probability
from headatlas.methods import repeated_spans


def example(model: OpenModel) -> dict[str, float | str]:
    """16 prompts of 25 random tokens written twice."""
    prompts = repeated_spans(model.vocabulary, 16)
    score = attention_scores(model, prompts).score.mean(0)  # [layer head]
    order = sorted(model.anatomy.all_heads, key=lambda head: -score[head])
    count = int((score > 0.5).sum())
    sets = [(), order[:count], order[len(order) - count :]]
    intact, without, others = ablate_sets(model, prompts, log_probability, sets, "mean")
    return {
        "induction heads": count,
        "intact, log-probability of the right token (nats)": float(intact.mean()),
        "with them ablated (nats)": float(without.mean()),
        "with as many other heads ablated instead (nats)": float(others.mean()),
    }
