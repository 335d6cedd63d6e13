"""What the scores of head types cost, from counts on some models."""

from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("work.json")  # written by tools/count_work.py


class Count(NamedTuple):
    """What the scores of one type cost on one model.

    Attributes:
        model: its name.
        heads: of the model.
        prompts, tokens: read: their number, and their length together.
        work: tokens that passed all layers.
        seconds: that it took.
    """

    model: str
    heads: int
    prompts: int
    tokens: int
    work: float
    seconds: float
