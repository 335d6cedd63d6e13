"""The routes of one prediction: which heads the information went through, from one run without a second prompt.

Edges above the threshold are walked back from the last position. Nearness to a sum is not an effect.
"""

from headatlas.lab import OpenModel
from headatlas.lab.graphs import information_flow
from headatlas.methods import two_names


def example(model: OpenModel) -> dict[str, float | str]:
    """One sentence with two names, one of them said twice."""
    graph = information_flow(model, two_names(model.vocabulary, 1)[0].tokens, threshold=0.03, most=1000)
    heads = [(float(each["importance"]), node) for node, each in graph.nodes.items() if "importance" in each]
    return {
        "heads on the routes": float(len(heads)),
        "edges between them": float(graph.number_of_edges()),
        "most important head": max(heads)[1] if heads else "none",
        "its importance (sum of edge weights)": max(heads)[0] if heads else 0.0,
        "walks that reach the embedding (share)": float(graph.graph["reached"]),
    }
