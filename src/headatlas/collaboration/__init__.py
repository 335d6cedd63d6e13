"""Measures edges between the heads found in a model, and compares them with the published circuits.

schema: the JSON of the result. found: the heads of each type, from a model's records. patching: path patching from
senders to receivers, compared with other heads. measuring: all circuits of the catalog, and the graph of all heads
found. drawing: from a result to its figures.
"""
