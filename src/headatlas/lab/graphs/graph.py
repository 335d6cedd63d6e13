"""Circuits as networkx graphs: how they begin, the names of nodes that are no heads, and how large they may be."""

from typing import TYPE_CHECKING

from headatlas.errors import HeadatlasError

EMBEDDING, LOGITS = "embedding", "logits"

if TYPE_CHECKING:
    import networkx

    Graph = networkx.DiGraph[str]


def new_graph(**attributes: float) -> "Graph":
    """A networkx graph without edges."""
    import networkx

    graph: Graph = networkx.DiGraph()
    graph.graph.update(attributes)
    return graph


def require_readable(edges: int, most: int, advice: str) -> None:
    """Raise a HeadatlasError if a graph has more edges than the user wants."""
    if edges > most:
        raise HeadatlasError(f"the graph has {edges} edges, more than the maximum of {most}; {advice}")
