"""An open model: what was opened, its anatomy, and its tokenizer as stimuli see it."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from types import TracebackType
from typing import Any

import torch

from headatlas.evidence.identity import folder_id, title
from headatlas.lab.anatomy.anatomy import Anatomy
from headatlas.lab.loading import (
    multimodal,
)
from headatlas.lab.loading.provenance import Opened
from headatlas.stimuli.prompts import Vocabulary


@dataclass(frozen=True, repr=False)
class OpenModel:
    """A model ready to be measured, and a record of exactly what was opened.

    `close`, or leaving a `with` block, restores the model's own attention implementation and training mode.

    Attributes:
        name: the name or path the user gave.
        revision: the hub's commit, or None for a local folder.
        sha256: of the weight files in order of their names, including a merged adapter's; of the GGUF file for a model
            dequantised from one; of the weights in memory for a model that was already loaded.
        implementation: the attention implementation that plain transformers would use.
        opened: provenance, file by file.
    """

    name: str
    revision: str | None
    sha256: str
    implementation: str
    model: Any  # a transformers model: it has get_input_embeddings and returns logits
    tokenizer: Any
    anatomy: Anatomy
    opened: Opened
    _restore: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)

    def __repr__(self) -> str:
        size = f"{self.anatomy.layers} layers x {self.anatomy.heads} heads"
        return f"<{self.title}: {size}, {self.architecture}, {str(self.dtype).removeprefix('torch.')} on {self.device}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>"

    def close(self) -> None:
        """Restore the model's own attention implementation and training mode; repeated calls do nothing."""
        self._restore.close()

    def __enter__(self) -> "OpenModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def id(self) -> str:
        """A name fit for a folder: 'specimen', 'EleutherAI--pythia-70m', 'SmolLM2-135M-Instruct-Q4_1'."""
        return folder_id(self.name, self._quantisation)

    @property
    def title(self) -> str:
        """What records call it: 'specimen', 'EleutherAI/pythia-70m', 'SmolLM2-135M-Instruct (Q4_1)'."""
        return title(self.name, self._quantisation)

    @property
    def _quantisation(self) -> str | None:
        return self.opened.gguf.quantisation if self.opened.gguf else None

    @property
    def device(self) -> torch.device:
        """The device of the embeddings, to which prompts must be moved."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        dtype: torch.dtype = self.model.get_input_embeddings().weight.dtype
        return dtype

    @property
    def context(self) -> int | None:
        """The maximum prompt length in tokens, or None if the configuration does not say."""
        config = multimodal.text_config(self.model.config)
        return getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)

    @property
    def architecture(self) -> str:
        """The class of the model: 'LlamaForCausalLM', 'language model of Gemma3ForConditionalGeneration'."""
        name = type(self.model).__name__
        return f"language model of {name}" if multimodal.is_wrapper(self.model) else name

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer as stimuli use it."""
        return Vocabulary(self.tokenizer, self.model.get_input_embeddings().weight.shape[0])

    def tokens(self, text: str) -> torch.Tensor:
        """Token ids of a text, after BOS if the tokenizer has one: [1 position].

        Raises:
            HeadatlasError: if the tokenizer has no tokens for it.
        """
        return torch.tensor([self.vocabulary.prompt(text)])

    def text(self, tokens: torch.Tensor) -> str:
        """Decode the tokens of one prompt, without BOS.

        Args:
            tokens: [position] or [1 position].
        """
        ids, bos = tokens.flatten().tolist(), self.vocabulary.bos
        return str(self.tokenizer.decode(ids[1:] if bos and ids[:1] == [*bos] else ids))
