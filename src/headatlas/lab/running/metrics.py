"""Metrics computed from logits; pure functions that refuse NaN and infinite logits.

Behaviour metrics take the logits at each prompt's readouts and the right answers; `loss_per_position` takes the logits
of whole prompts.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError

# A metric takes logits [prompt readout vocabulary], answers [prompt readout] and rivals [prompt readout rival] (padded
# with -1), and returns one value per prompt: [prompt].
Metric = Callable[[Tensor, Tensor, Tensor], Tensor]


def accuracy(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """Share of readouts at which the answer has the largest logit in the vocabulary, 0 to 1."""
    return (_finite(logits).argmax(-1) == answers).float().mean(-1)


def accuracy_among_rivals(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """Share of readouts at which the answer's logit exceeds that of every rival, 0 to 1. A tie counts as wrong."""
    return (_answer(_finite(logits), answers) > _rivals(logits, rivals).amax(-1)).float().mean(-1)


def logit_difference(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """Logit of the answer minus the mean logit of its rivals, averaged over readouts, in nats."""
    missing = rivals < 0
    each = _rivals(logits, rivals).masked_fill(missing, 0.0)
    return (_answer(_finite(logits), answers) - each.sum(-1) / (~missing).sum(-1)).mean(-1)


def log_probability(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """Log-probability of the answer, averaged over readouts, in nats."""
    return _answer(_finite(logits).float().log_softmax(-1), answers).mean(-1)


def probability(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """Probability of the answer, averaged over readouts, 0 to 1."""
    return _answer(_finite(logits).float().softmax(-1), answers).mean(-1)


def predicted_candidate(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """The token id with the largest logit among the answer and its rivals, at the last readout."""
    candidates = torch.cat([answers[..., None], torch.where(rivals < 0, answers[..., None], rivals)], -1)[:, -1]
    place = _finite(logits)[:, -1].gather(-1, candidates).argmax(-1, keepdim=True)
    return candidates.gather(-1, place)[:, 0]


def log_odds_of_candidates(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """Log-odds that the next token is the answer or a rival rather than any other token, averaged over readouts."""
    candidate = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device).scatter(-1, answers[..., None], True)
    for rival in rivals.unbind(-1):  # padding is replaced by the answer
        candidate.scatter_(-1, torch.where(rival < 0, answers, rival)[..., None], True)
    every = _finite(logits).float()
    inside, outside = (every.masked_fill(left, float("-inf")).logsumexp(-1) for left in (~candidate, candidate))
    return (inside - outside).mean(-1)


def probability_difference(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """Probability of all right tokens minus probability of all wrong tokens, -1 to 1 (hanna2023how).

    Needs prompts with two readouts: answer and rivals of the first are the right tokens, those of the second the wrong
    ones.
    """
    if answers.shape[-1] != 2:
        raise ValueError(f"a prompt has {answers.shape[-1]} readouts; give it two, the right tokens and the wrong ones")
    likely = _finite(logits).float().softmax(-1)
    others = likely.gather(-1, rivals.clamp_min(0)).masked_fill(rivals < 0, 0.0).sum(-1)
    right, wrong = (_answer(likely, answers) + others).unbind(-1)
    return right - wrong


# Metrics that read no logits but those of answers and rivals; the others are spared, see `few_logits`.
CANDIDATES_ONLY: frozenset[Metric] = frozenset({accuracy_among_rivals, logit_difference})


def loss_per_position(logits: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy of each next token, in nats.

    Args:
        logits: [batch position vocabulary]
        tokens: [batch position], the prompts themselves.

    Returns:
        [batch position - 1]: entry t is the loss of predicting token t + 1.
    """
    if logits.shape[:-1] != tokens.shape or tokens.ndim != 2 or tokens.shape[1] < 2:
        raise ValueError(
            f"logits {list(logits.shape)} are not those of prompts {list(tokens.shape)} of two tokens or more"
        )
    likely = _finite(logits)[:, :-1].float().log_softmax(-1)  # [batch position-1 vocabulary]
    return -_answer(likely, tokens[:, 1:].to(logits.device))


def all_finite(numbers: Tensor) -> bool:
    """Whether all numbers are finite.

    A finite sum implies it, and summing is thirty times faster than testing each number; the slow test runs only if the
    sum overflows or is not finite.
    """
    return bool(torch.isfinite(numbers.sum(dtype=torch.float32))) or bool(torch.isfinite(numbers).all())


def _finite(logits: Tensor) -> Tensor:
    if not all_finite(logits):
        raise HeadatlasError("the logits hold NaN or infinite numbers, so nothing can be read; try float32")
    return logits


def _answer(logits: Tensor, answers: Tensor) -> Tensor:
    return logits.float().gather(-1, answers[..., None]).squeeze(-1)


def _rivals(logits: Tensor, rivals: Tensor) -> Tensor:
    """Logits of the rivals, [prompt readout rival]; -inf at padding."""
    if rivals.shape[-1] == 0:
        raise ValueError("this behaviour compares the answer with rivals, and the prompts name none")
    return logits.float().gather(-1, rivals.clamp_min(0)).masked_fill(rivals < 0, float("-inf"))
