"""Edges between six heads, the embedding and the logits are removed one by one unless the output changes.

The six heads are those with the largest effects when patched; edges of all others stay as they are.
"""

from headatlas.lab import OpenModel, logit_difference, sweep
from headatlas.lab.graphs import prune_edges
from headatlas.methods import two_names


def example(model: OpenModel) -> dict[str, float | str]:
    """Four sentences with two names; removed edges carry what they carry where there are three other names."""
    prompts = two_names(model.vocabulary, 4)
    size = abs(sweep(model, prompts, logit_difference, "resample").effect.mean(2))  # [layer head]
    order = sorted(model.anatomy.all_heads, key=lambda head: -size[head])
    graph = prune_edges(model, prompts, tau=0.1, heads=order[:6])
    weights = [(float(each["weight"]), f"{writer} -> {reader}") for (writer, reader), each in graph.edges.items()]
    return {
        "edges tried": float(graph.graph["tried"]),
        "edges kept": float(graph.number_of_edges()),
        "edge that costs most": max(weights)[1] if weights else "none",
        "divergence of the circuit from the model (nats)": float(graph.graph["divergence"]),
    }
