"""The census: every head of a model, with every catalogued type that it is.

Rooms: budget (how much is asked, settled by the size of the model), parts (one type on one model, kept in a file of its
own), measuring (how a part comes about), taking (many types, in shards, resumed, on several processes), planning (what
it will cost), labelling (from all parts to the names of heads), schema (the JSON that comes out), page (HTML and CSV),
exchange (head sets in the formats of other tools), comparing (two models, or many).
"""
