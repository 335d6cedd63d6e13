"""Collaboration: measured edges between the heads that were found, beside the published circuits.

Rooms: schema (the JSON that comes out), found (the heads of each type, from the records of a model), patching (what a
path carries, against other heads), measuring (the circuits of the catalog and the graph of all found heads), drawing
(from a record to what the figure draws).
"""
