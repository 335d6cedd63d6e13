"""Metrics of logits, against sums that can be done in the head."""

import torch

from headatlas.lab import (
    accuracy,
    log_probability,
    logit_difference,
)
from headatlas.lab.running import accuracy_among_rivals


class TestChosenLogits:
    logits = torch.tensor([[[0.0, 3.0, 1.0, -1.0]], [[2.0, 0.0, 0.0, 0.0]]])  # [prompt readout vocabulary]
    answers = torch.tensor([[1], [1]])
    rivals = torch.tensor([[[0, 2]], [[0, -1]]])

    def test_accuracy(self) -> None:
        assert accuracy(self.logits, self.answers, self.rivals).tolist() == [1.0, 0.0]

    def test_accuracy_among_rivals_counts_a_tie_as_wrong(self) -> None:
        assert accuracy_among_rivals(self.logits, self.answers, self.rivals).tolist() == [1.0, 0.0]
        tied = torch.tensor([[[1.0, 1.0]]])
        assert accuracy_among_rivals(tied, torch.tensor([[0]]), torch.tensor([[[1]]])).tolist() == [0.0]

    def test_logit_difference_leaves_missing_rivals_out(self) -> None:
        assert logit_difference(self.logits, self.answers, self.rivals).tolist() == [2.5, -2.0]

    def test_log_probability(self) -> None:
        expected = torch.log_softmax(self.logits, -1)[:, 0, 1]
        assert torch.allclose(log_probability(self.logits, self.answers, self.rivals), expected)
