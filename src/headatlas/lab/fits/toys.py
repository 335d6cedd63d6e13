"""Toy models: small transformers trained on the fly for findings that were made on such a model."""

import hashlib
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from headatlas.errors import HeadatlasError
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.loading.opening import open_model
from headatlas.progress import Progress
from headatlas.quiet import quiet
from headatlas.stimuli.cases import Segment

TOY = "toy"  # name of such a model in records
_BOS = "<s>"
_PIECES = Regex(r" ?[^\s.,:]+|[.,:]")  # words with their leading space, and punctuation


@dataclass(frozen=True)
class Toy:
    """How a toy model is trained.

    Attributes:
        draw: (rng) -> a document. The loss is on segments marked as known; anything after the last of them is dropped.
        steps, batch, rate: of AdamW without weight decay. The rate warms up over the first twentieth of the steps and
            decays to 0 over the last half.
        shape: GPT-2 configuration, where it differs from two layers, one head, width 128 and context 128.
    """

    draw: Callable[[random.Random], Sequence[Segment]]
    steps: int
    batch: int = 128
    rate: float = 1e-3
    shape: Mapping[str, Any] = field(default_factory=dict)


def trained(id: str, toy: Toy, seed: int, version: str, report: Progress) -> OpenModel:
    """Train the toy model of a method, or load it from the user's cache.

    Args:
        id: of the method.
        toy: how it is trained.
        seed: of weights and documents; equal seeds give equal weights on the same machine.
        version: of the script and its stimuli; a new version is trained anew.
        report: progress callback.

    Raises:
        HeadatlasError: if the cache cannot be written.
    """
    parts = (version, Path(__file__).read_text(encoding="utf-8"), seed, torch.__version__, transformers.__version__)
    key = hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]
    folder = _cache() / "toys" / f"{id}-{seed}-{key}"
    if not (folder / "tokenizer_config.json").is_file():  # the file written last
        model, tokenizer = _train(id, toy, seed, report)
        try:
            with quiet():
                model.save_pretrained(folder)
                tokenizer.save_pretrained(folder)
        except OSError as error:
            raise HeadatlasError(f"cannot write the toy model to {folder} ({error.strerror}); free space") from None
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return open_model(model, tokenizer=transformers.AutoTokenizer.from_pretrained(folder), called=TOY)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headatlas"


def _train(id: str, toy: Toy, seed: int, report: Progress) -> tuple[Any, Any]:
    rng = random.Random(f"{id}/{seed}")
    tokenizer = _tokenizer(toy, random.Random(f"{id}/words"))
    config = transformers.GPT2Config(
        **{"vocab_size": len(tokenizer), "n_positions": 128, "n_embd": 128, "n_layer": 2, "n_head": 1, **toy.shape},
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(seed)
    model = transformers.GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=toy.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_rate(step, toy.steps))
    rows = _Rows(tokenizer)
    for step in range(toy.steps):
        tokens, known = _batch([rows(toy.draw(rng)) for _ in range(toy.batch)])
        due = known[:, 1:]
        states = model.transformer(tokens).last_hidden_state[:, :-1]
        loss = torch.nn.functional.cross_entropy(model.lm_head(states[due]), tokens[:, 1:][due])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        report(f"training its toy model, loss {loss.item():.3f}", step + 1, toy.steps)
    return model.eval(), tokenizer


def _share_of_rate(step: int, steps: int) -> float:
    return min(1.0, 20 * (step + 1) / steps, 2 * (1 - step / steps))


def _tokenizer(toy: Toy, rng: random.Random) -> Any:
    """A tokenizer with one token per word (including the leading space) and per punctuation mark."""
    inner = Tokenizer(models.WordLevel({_BOS: 0}, unk_token=_BOS))
    inner.pre_tokenizer = pre_tokenizers.Split(_PIECES, "isolated")
    texts = ["".join(segment.text for segment in toy.draw(rng)) for _ in range(2000)]
    words = sorted({piece for text in texts for piece, _ in inner.pre_tokenizer.pre_tokenize_str(text)} | {"."})
    inner.model = models.WordLevel({_BOS: 0} | {word: number for number, word in enumerate(words, 1)}, unk_token=_BOS)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=_BOS)


class _Rows:
    """Documents as token ids up to the last known segment, and which of the tokens are known."""

    def __init__(self, tokenizer: Any) -> None:
        self._encode = cache(lambda text: tokenizer.encode(text, add_special_tokens=False))

    def __call__(self, document: Sequence[Segment]) -> tuple[list[int], list[bool]]:
        tokens, known, end = [0], [False], 1
        for segment in document:
            pieces = self._encode(segment.text)
            tokens += pieces
            known += [segment.known] * len(pieces)
            end = len(tokens) if segment.known else end
        return tokens[:end], known[:end]


def _batch(rows: Sequence[tuple[list[int], list[bool]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [row position], short rows padded at the end, and which of them are known."""
    width = max(len(tokens) for tokens, _ in rows)
    tokens = torch.tensor([tokens + [0] * (width - len(tokens)) for tokens, _ in rows])
    known = torch.tensor([sure + [False] * (width - len(sure)) for _, sure in rows])
    return tokens, known
