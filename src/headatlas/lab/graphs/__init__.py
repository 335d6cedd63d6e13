"""Circuits as graphs, one module per published method."""

from headatlas.lab.graphs.acdc import prune_edges
from headatlas.lab.graphs.flow import flow_scores, information_flow

__all__ = [
    "flow_scores",
    "information_flow",
    "prune_edges",
]
