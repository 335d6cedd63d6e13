"""Prompt types: tokens, corrupted prompt, attention pairs, and readouts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

from headatlas.errors import HeadatlasError
from headatlas.stimuli.vocabulary import HasVocabulary
from headatlas.stimuli.vocabulary import UntestableError as UntestableError
from headatlas.stimuli.vocabulary import Vocabulary as Vocabulary


@dataclass(frozen=True)
class Readout:
    """A position where the model must answer, with the right and wrong answers.

    Attributes:
        position: where the logits are read.
        answer: the right token.
        rivals: wrong tokens.
        alike: number of rivals, from the first, in the answer's category; None if categories are not distinguished.
    """

    position: int
    answer: int
    rivals: tuple[int, ...] = ()
    alike: int | None = None


Pairs = tuple[tuple[int, int], ...]  # (query position, key position), any number


@dataclass(frozen=True)
class ProbeLabel:
    """Label that a linear probe must predict, and the group that must not be split between training and test."""

    value: int
    group: str = ""


@dataclass(frozen=True)
class Prompt:
    """One stimulus, in token ids.

    Attributes:
        tokens: the prompt.
        corrupted: the corrupted (counterfactual) prompt, of equal length and without the feature under study. Patching
            and ablation take activations from it.
        pairs: (query, key) positions where a head of this type has its attention weight.
        null_pairs: positions in the corrupted prompt for the null of the score, if they differ from `pairs`.
        readouts: where the behaviour is read from the logits.
        alternatives: further prompts of equal length, named by what they change.
        spans: positions by role, such as 'subject' or 'relation'.
        probe: label and group, for probes.
    """

    tokens: tuple[int, ...]
    corrupted: tuple[int, ...]
    pairs: Pairs = ()
    null_pairs: Pairs = ()
    readouts: tuple[Readout, ...] = ()
    alternatives: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    spans: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    probe: ProbeLabel | None = None

    def __post_init__(self) -> None:
        length = len(self.tokens)
        for name, tokens in (("the corrupted prompt", self.corrupted), *self.alternatives.items()):
            if len(tokens) != length:
                raise ValueError(f"{name} has {len(tokens)} tokens, the prompt {length}; they must align")
        for query, key in (*self.pairs, *self.null_pairs):
            if not 0 <= key <= query < length:
                raise ValueError(f"pair ({query}, {key}) does not lie in a causal prompt of {length} tokens")
        for readout in self.readouts:
            if not 0 <= readout.position < length:
                raise ValueError(f"readout at {readout.position} lies outside a prompt of {length} tokens")
        for role, positions in self.spans.items():
            if any(not 0 <= position < length for position in positions):
                raise ValueError(f"the span of {role!r} lies outside a prompt of {length} tokens")
        if (lowest := min(self.ids, default=0)) < 0:
            raise ValueError(f"{lowest} is no token; token ids count from 0")

    @classmethod
    def from_text(
        cls,
        model: Vocabulary | HasVocabulary,
        clean: str,
        corrupted: str,
        answer: str,
        rival: str | None = None,
    ) -> "Prompt":
        """A prompt from two texts, read out at its last position.

        Both begin with BOS where the tokenizer has one.

        Args:
            model: an open model, or its vocabulary.
            clean, corrupted: texts of as many tokens.
            answer: the text that should follow the clean one, a single token; most tokenizers want ' Mary', not 'Mary'.
            rival: the wrong text, a single token too.

        Raises:
            HeadatlasError: where the texts differ in their number of tokens, or an answer is not one token.
        """
        vocabulary = model if isinstance(model, Vocabulary) else model.vocabulary
        first, second = (vocabulary.prompt(text) for text in (clean, corrupted))
        if len(first) != len(second):
            raise HeadatlasError(
                f"the clean text has {len(first)} tokens ({vocabulary.pieces(first)}) and the corrupted "
                f"{len(second)} ({vocabulary.pieces(second)}); write them so that they align"
            )
        right, *wrong = (vocabulary.one_token(text) for text in (answer, rival) if text is not None)
        return cls(first, second, readouts=(Readout(len(first) - 1, right, tuple(wrong)),))

    @property
    def ids(self) -> Iterable[int]:
        """Every token id of the prompt, the corrupted prompt, the alternatives, the answers and their rivals."""
        answers = (id for readout in self.readouts for id in (readout.answer, *readout.rivals))
        return chain(self.tokens, self.corrupted, *self.alternatives.values(), answers)


def probe_labels(prompts: Iterable[Prompt]) -> list[int]:
    """The probe label of each prompt.

    Raises:
        ValueError: if a prompt has none.
    """
    return [_labelled(prompt).value for prompt in prompts]


def probe_groups(prompts: Iterable[Prompt]) -> list[str]:
    """The probe group of each prompt; groups are not split between training and test.

    Raises:
        ValueError: if a prompt has no label.
    """
    return [_labelled(prompt).group for prompt in prompts]


def _labelled(prompt: Prompt) -> ProbeLabel:
    if prompt.probe is None:
        raise ValueError("a prompt has no probe label; give it one")
    return prompt.probe
