"""Metrics of logits, against sums that can be done in the head."""

import torch

from headatlas.lab import (
    accuracy,
    log_probability,
    logit_difference,
)
from headatlas.lab.running import accuracy_among_rivals
from headatlas.lab.running.readouts import read_metric


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


def test_copies_that_are_read_a_few_at_a_time_give_the_metric_of_all() -> None:
    """As many logits as a sweep of a large vocabulary holds, in parts; the last part is smaller."""
    drawn = torch.Generator().manual_seed(0)
    logits = torch.randn(11, 2, 3, 200_000, generator=drawn)  # [copy prompt kept vocabulary]
    where, answers = torch.tensor([[0, 2], [1, 1]]), torch.tensor([[5, 6], [7, 8]])
    rivals = torch.tensor([[[1], [-1]], [[2], [3]]])
    found = read_metric(log_probability, logits, (torch.arange(3), where, answers, rivals))
    each = [log_probability(one[torch.arange(2)[:, None], where], answers, rivals) for one in logits]
    assert found.shape == (11, 2) and torch.allclose(torch.from_numpy(found).float(), torch.stack(each))
