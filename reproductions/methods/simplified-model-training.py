"""What training the specimen reached: a small transformer, on a world of synthetic tasks.

tools/train_specimen.py trains it anew from a recipe and a seed, with checkpoints on the way; it takes long, so that
this example only reads the card the training wrote. It always speaks of the specimen, whatever model is given.
"""

from headatlas import specimens
from headatlas.lab import OpenModel


def example(model: OpenModel) -> dict[str, float | str]:
    """The first checkpoint, and what the finished model does on what it was not trained on."""
    card = specimens.card()
    first, name = card["training"][0], "period 25"
    head, score = max(card["textbook"]["induction"].items(), key=lambda each: each[1])
    return {
        f"accuracy on random spans of {name} at step {first['step']} (share)": float(first[name]),
        f"accuracy on random spans of {name} in the end (share)": float(card["families"][name]["accuracy"]),
        "accuracy on held-out names (share)": float(card["families"]["indirect object"]["accuracy"]),
        "best induction head": head,
        "its prefix-matching score (share)": float(score),
    }
