"""Random tokens, prompts of them, and the plain model beside ours: for tests on tiny random models."""

from pathlib import Path

import torch
import transformers

from headatlas.stimuli import Prompt

TOKENS = torch.randint(1, 299, (3, 24), generator=torch.Generator().manual_seed(1))


def plain(folder: Path, **options: object) -> transformers.PreTrainedModel:
    """The model as transformers opens it, without us."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()


def prompt(tokens: torch.Tensor, corrupted: torch.Tensor | None = None, **parts: object) -> Prompt:
    """A prompt of tokens, [position]; without corrupted ones, they stand in their own place."""
    return Prompt(tuple(tokens.tolist()), tuple((tokens if corrupted is None else corrupted).tolist()), **parts)
