"""Models whose weights are written by hand, so that it is known which head does what, and that no other does.

The residual stream is cut into parts. Each token of the vocabulary has a code, a fixed direction, and four parts hold
such codes: WORD, the token itself (written by the embedding and once more by the first MLP); PAST and HELD, what heads
bring from elsewhere; OUT, what the logits are read from. Beside them stand marks, one dimension each, which tell what
kind of token it is or what heads have found; the position, where it is learned; and two large constants, so that norms
divide by nearly the same number everywhere.

A head is planted by saying where it looks, as a sum of attention scores, and what it moves. All other weights are
small noise.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tokenizers
import torch
import transformers
from torch import Tensor

from headatlas.lab import OpenModel, open_model
from headatlas.notation import Head

Architecture = Literal["gpt2", "gpt_neo", "llama"]

LAYERS, HEADS, WIDTH, CONTEXT = 6, 4, 384, 256
CODE = 64  # dimensions of a token's code
WORD, PAST, HELD, OUT = (CODE * part for part in range(4))
PLACE = 4 * CODE  # where a learned position stands, as PAIRS points on circles
PAIRS = 12
MARKS = PLACE + 2 * PAIRS
CONSTANT, OPPOSITE = WIDTH - 2, WIDTH - 1  # the last ones
LARGE = 40.0  # the constants
LOUD = 20.0  # of the unembedding
NOISE = 0.002
RULED = 1 / (LARGE * math.sqrt(2.0 / WIDTH))  # what a norm makes of 1
CIRCLES = 3.1 * (torch.arange(1, PAIRS + 1) / PAIRS) ** 1.3  # by how much a learned position turns each pair
CIRCLES[0] = 0.01
FEW = 6  # pairs, the slowest of a rotary head, that look for marks
SIZE = {"gpt2": WIDTH // HEADS, "gpt_neo": WIDTH // HEADS, "llama": 128}
THETA = 3e6
START = "<s>"
SPACE = "▁"  # as the tokenizer writes it


# --- where a head looks ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Same:
    """Where the code in a part at the key is that in a part at the query."""

    query: int
    key: int
    score: float


@dataclass(frozen=True)
class Marked:
    """Where the key bears a mark; or, given another mark, only from queries that bear that one."""

    mark: str
    score: float
    seen_from: str | None = None


@dataclass(frozen=True)
class Back:
    """So many positions back; also near it, as far as positions turn too slowly to tell.

    Elsewhere the score swings to less than half of it, either way; at the start it is 0, as with `Decay`.
    """

    offset: int
    score: float


@dataclass(frozen=True)
class Decay:
    """Less by so much for every position back."""

    score: float


Look = Same | Marked | Back | Decay


# --- what it moves -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Copy:
    """The code in one part at the key, into another part at the query."""

    source: int
    target: int
    gain: float = 1.0


@dataclass(frozen=True)
class Turn:
    """The words of the table in WORD, each into another word in a part."""

    table: Mapping[str, str]
    target: int
    gain: float = 1.0


@dataclass(frozen=True)
class Note:
    """A mark at the key into a mark at the query."""

    mark: str
    target: str
    gain: float = 1.0


Move = Copy | Turn | Note


@dataclass
class Planter:
    """A model in the making.

    Args:
        architecture: 'gpt2' (learned positions, fused qkv, layer norms), 'gpt_neo' (the same with q, k and v apart,
            and scores that are not scaled) or 'llama' (rotary positions, two query heads to a key/value head, RMS
            norms).
        words: that are one token, with a space before them; one that begins with '+' is one without.
        marks: which words bear which mark; '<s>' may be among them. A mark without words is for heads to write.
        says: which words are likelier where a mark is at the end of the stream.
        facts: what else the embedding of a word holds in PAST: the codes of these words.
        apart: words whose codes have nothing in common, so that a head treats them alike; those of others have little.
        spelling: whether all other words are spelled; else the tokenizer has no tokens for them.
        seed: of the codes and of the noise.
        layers: how many.
    """

    architecture: Architecture
    words: Iterable[str]
    marks: Mapping[str, Iterable[str]] = field(default_factory=dict)
    says: Mapping[str, Iterable[str]] = field(default_factory=dict)
    facts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    apart: Sequence[str] = ()
    spelling: bool = True
    seed: int = 0
    layers: int = LAYERS

    @torch.no_grad()
    def __post_init__(self) -> None:
        self.tokenizer, self.ids = tokenizer(self.words, self.spelling)
        drawn = torch.Generator().manual_seed(self.seed)
        codes = _unit(torch.randn(len(self.tokenizer), CODE, generator=drawn))
        self.codes = _spread(codes, [self.ids[word] for word in self.apart])
        assert (self.codes @ self.codes.T - torch.eye(len(codes))).max() < 0.3, "too many words to tell apart"
        self.codes[: len((START, "<unk>"))] = 0.0  # so that a head that rests on the start brings nothing
        self.mark = {
            name: MARKS + number for number, name in enumerate(dict.fromkeys(("placed", *self.marks, *self.says)))
        }
        assert MARKS + len(self.mark) <= CONSTANT, "too many marks"
        self.model = self._blank(len(self.tokenizer))
        for parameter in self.model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(NOISE * torch.randn(parameter.shape, generator=drawn))
        for layer, head in itertools.product(range(self.layers), range(HEADS)):
            for part in self._parts(Head(layer, head))[:2]:
                part[CONSTANT:] = 0.0  # else heads of noise would prefer one distance by a hair
        self._embed()
        self._first_mlp()
        self.planted: set[tuple[int, int]] = set()

    @property
    def learned(self) -> bool:
        """Whether positions are learned."""
        return self.architecture != "llama"

    # --- the model without heads ---------------------------------------------------------------------------------

    def _blank(self, vocabulary: int) -> Any:
        common = {
            "vocab_size": vocabulary,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
            "tie_word_embeddings": False,
        }
        if self.architecture == "gpt2":
            config: Any = transformers.GPT2Config(
                n_positions=CONTEXT, n_embd=WIDTH, n_layer=self.layers, n_head=HEADS, n_inner=2 * CODE, **common
            )
        elif self.architecture == "gpt_neo":
            config = transformers.GPTNeoConfig(
                max_position_embeddings=CONTEXT,
                hidden_size=WIDTH,
                num_layers=self.layers,
                num_heads=HEADS,
                intermediate_size=2 * CODE,
                attention_types=[[["global", "local"], self.layers // 2]],
                window_size=CONTEXT,
                **common,
            )
        else:
            config = transformers.LlamaConfig(
                max_position_embeddings=CONTEXT,
                hidden_size=WIDTH,
                intermediate_size=CODE,
                num_hidden_layers=self.layers,
                num_attention_heads=HEADS,
                num_key_value_heads=HEADS // 2,
                head_dim=SIZE["llama"],
                rope_parameters={"rope_type": "default", "rope_theta": THETA},
                **common,
            )
        return transformers.AutoModelForCausalLM.from_config(config).eval()

    def _embed(self) -> None:
        embedding = self.model.get_input_embeddings().weight
        embedding.zero_()
        embedding[:, WORD : WORD + CODE] = self.codes
        embedding[:, CONSTANT], embedding[:, OPPOSITE] = LARGE, -LARGE
        embedding[1:, self.mark["placed"]] = 1.0
        for name, words in self.marks.items():
            for word in words:
                embedding[self.ids[word], self.mark[name]] = 1.0
        for word, others in self.facts.items():
            embedding[self.ids[word], PAST : PAST + CODE] = sum(self.codes[self.ids[other]] for other in others)
        if self.learned:
            positions = self.model.transformer.wpe.weight
            positions.zero_()
            turned = torch.arange(CONTEXT)[:, None] * CIRCLES
            positions[1:, PLACE:MARKS] = torch.cat([turned.cos(), turned.sin()], 1)[1:]
        unembedding = self.model.get_output_embeddings().weight
        unembedding[:, OUT : OUT + CODE] = LOUD * self.codes
        for name, words in self.says.items():
            unembedding[[self.ids[word] for word in words], self.mark[name]] = LOUD

    def _first_mlp(self) -> None:
        """WORD once more: x = gelu(x) - gelu(-x), and x = silu(g) x / silu(g)."""
        code, hidden = torch.arange(CODE), slice(0, CODE)
        if self.learned:
            mlp = self.model.transformer.h[0].mlp
            linear = self.architecture == "gpt_neo"  # GPT-2 stores its maps the other way round
            reads, writes = (each.weight.T if linear else each.weight for each in (mlp.c_fc, mlp.c_proj))
            for weight in (reads, writes):
                weight.zero_()
            reads[WORD + code, code] = 1.0
            reads[WORD + code, CODE + code] = -1.0
            writes[code, WORD + code] = 1 / RULED
            writes[CODE + code, WORD + code] = -1 / RULED
            return
        mlp = self.model.model.layers[0].mlp
        for weight in (mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight):
            weight.zero_()
        mlp.gate_proj.weight[hidden, CONSTANT] = 1.0
        gate = RULED * LARGE
        mlp.up_proj.weight[code, WORD + code] = 1.0
        mlp.down_proj.weight[WORD + code, code] = (1 + math.exp(-gate)) / gate / RULED

    # --- heads ---------------------------------------------------------------------------------------------------

    def open(self) -> OpenModel:
        """The model as it is now."""
        return open_model(self.model, tokenizer=self.tokenizer, called=f"planted {self.architecture}")

    def save(self, folder: Path) -> None:
        """Write the model and its tokenizer to a folder."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @torch.no_grad()
    def plant(self, head: Head, look: Sequence[Look], moves: Sequence[Move] = ()) -> Head:
        """Write the weights of one head. Without a reason to look elsewhere it looks at all alike.

        So do heads that share its keys: with queries of noise they would not quite.
        """
        group = head if self.learned else Head(head.layer, head.head // 2)
        assert group not in self.planted, f"{head} shares its keys with a head that is planted already"
        self.planted.add(group)
        q, k, v, o = self._parts(head)
        for part in (q, k, v, o):
            part.zero_()
        if self.architecture == "llama":
            self._parts(Head(head.layer, head.head ^ 1))[0].mul_(1e-6)
        used: dict[int, Look] = {}
        for each in look:
            for place in self._look(head, q, k, each, set(used)):
                other = used.setdefault(place, each)
                shared = isinstance(each, Same) and isinstance(other, Same) and each.key == other.key
                assert other is each or shared, f"{other} and {each} would read each other"
        dimension = iter(range(v.shape[1]))
        for move in moves:
            self._move(head, v, o, move, dimension)
        return head

    def _parts(self, head: Head) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Views of q, k and v, [width size], and of o, [size width]."""
        size = SIZE[self.architecture]
        if self.architecture == "gpt_neo":
            attention = self.model.transformer.h[head.layer].attn.attention
            maps = (attention.q_proj, attention.k_proj, attention.v_proj)
            q, k, v = (each.weight[head.head * size :][:size].T for each in maps)
            return q, k, v, attention.out_proj.weight[:, head.head * size :][:, :size].T
        if self.architecture == "gpt2":
            attention = self.model.transformer.h[head.layer].attn
            fused = attention.c_attn.weight
            q, k, v = (fused[:, part * WIDTH + head.head * size :][:, :size] for part in range(3))
            return q, k, v, attention.c_proj.weight[head.head * size :][:size]
        attention = self.model.model.layers[head.layer].self_attn
        q = attention.q_proj.weight[head.head * size :][:size].T
        k, v = (each.weight[head.head // 2 * size :][:size].T for each in (attention.k_proj, attention.v_proj))
        return q, k, v, attention.o_proj.weight[:, head.head * size :][:, :size].T

    def _size_of(self, part: int, layer: int) -> float:
        """How long a code in a part is before a layer: the first MLP doubles WORD."""
        return 2.0 if part == WORD and layer > 0 else 1.0

    def _look(self, head: Head, q: Tensor, k: Tensor, look: Look, used: set[int]) -> list[int]:
        """Write one score into dimensions of the head, and say which."""
        root = 1.0 if self.architecture == "gpt_neo" else math.sqrt(q.shape[1])  # scores are divided by it
        if isinstance(look, Same):
            code, places = torch.arange(CODE), self._comparing
            k[look.key + code, places] = math.sqrt(root) / RULED / self._size_of(look.key, head.layer)
            q[look.query + code, places] = look.score * math.sqrt(root) / RULED / self._size_of(look.query, head.layer)
            return places.tolist()
        if isinstance(look, Marked):
            place = next(place for place in self._looking if place not in used)
            asked = (self.mark[look.seen_from], 1.0) if look.seen_from else (CONSTANT, LARGE)
            q[asked[0], place] = look.score * math.sqrt(root) / RULED / asked[1]
            k[self.mark[look.mark], place] = math.sqrt(root) / RULED
            return [place]
        return self._turning(q, k, *(each * root for each in self._distance(look)))

    @property
    def _comparing(self) -> Tensor:
        """The dimensions of a head that compare codes."""
        if self.learned:
            return torch.arange(CODE)
        half = SIZE["llama"] // 2
        pairs = torch.arange(half - FEW - CODE // 2, half - FEW)
        return torch.cat([pairs, half + pairs])

    @property
    def _looking(self) -> Iterator[int]:
        """The dimensions that look for marks, best first."""
        if self.learned:
            return iter(range(SIZE[self.architecture] - 1, -1, -1))
        half = SIZE["llama"] // 2
        return (place for pair in range(half - 1, half - 1 - FEW, -1) for place in (pair, half + pair))

    @property
    def _angles(self) -> Tensor:
        """By how much one position turns each pair that heads may use to tell positions."""
        if self.learned:
            return CIRCLES.double()
        half = SIZE["llama"] // 2
        return THETA ** (-torch.arange(half - FEW - CODE // 2).double() / half)

    def _distance(self, look: Back | Decay) -> tuple[Tensor, Tensor]:
        """A score that depends on the distance d, as cosine cos(a d) + sine sin(a d), summed over the angles a."""
        angles = self._angles
        if isinstance(look, Back):
            weight = angles ** (0.8 if self.architecture == "llama" else 0.23)  # these leave the lowest side lobes
            weight = look.score * weight / weight.sum()
            return weight * (angles * look.offset).cos(), weight * (angles * look.offset).sin()
        distance = torch.arange(CONTEXT // 2).double()[:, None]
        waves = torch.cat([(distance * angles).cos(), (distance * angles).sin()], 1)
        ridge = 1e-3 * torch.eye(waves.shape[1]).double()
        found = torch.linalg.solve(waves.T @ waves + ridge, -look.score * waves.T @ distance[:, 0])
        return found[: len(angles)], found[len(angles) :]

    def _turning(self, q: Tensor, k: Tensor, cosine: Tensor, sine: Tensor) -> list[int]:
        """Write what `_distance` gives: queries are turned by their position, and keys by theirs and by a phase."""
        count, entry = len(cosine), (cosine.square() + sine.square()).sqrt().sqrt()
        phase = torch.atan2(sine, cosine)
        ahead, aside = ((entry * part / RULED).float() for part in (phase.cos(), phase.sin()))
        if self.learned:
            pair = torch.arange(count)
            here, there, first, second = PLACE + pair, PLACE + count + pair, CODE + pair, CODE + count + pair
            q[here, first] = q[there, second] = (entry / RULED).float()
            k[here, first] = k[there, second] = ahead
            k[there, first], k[here, second] = -aside, aside
            return [*first.tolist(), *second.tolist()]
        half, placed = SIZE["llama"] // 2, self.mark["placed"]
        q[CONSTANT, :count] = (entry / LARGE / RULED).float()
        k[placed, :count], k[placed, half : half + count] = ahead, aside
        return [*range(count), *range(half, half + count)]

    def _move(self, head: Head, v: Tensor, o: Tensor, move: Move, dimension: Any) -> None:
        code = torch.arange(CODE)
        if isinstance(move, Note):
            place = next(dimension)
            v[self.mark[move.mark], place] = 1 / RULED
            o[place, self.mark[move.target]] = move.gain
            return
        places = torch.tensor([next(dimension) for _ in range(CODE)])
        if isinstance(move, Copy):
            v[move.source + code, places] = 1 / RULED / self._size_of(move.source, head.layer)
            o[places, move.target + code] = move.gain
            return
        v[WORD + code, places] = 1 / RULED / self._size_of(WORD, head.layer)
        one, other = ([self.ids[word] for word in words] for words in (move.table, move.table.values()))
        assert len(one) <= CODE, "more words than a code has dimensions cannot be told apart"
        o[places, move.target : move.target + CODE] = move.gain * torch.linalg.pinv(self.codes[one]) @ self.codes[other]


# --- circuits ----------------------------------------------------------------------------------------------------

PREVIOUS = [Back(1, 300), Marked("start", 275)]  # the score is up to 252 one place off


def induction_circuit(architecture: Architecture, previous: Head, induction: Head, seed: int = 0) -> Planter:
    """A head that brings the previous token, and one that finds the current token there and copies what it finds."""
    words = [f"w{number}" for number in range(64)]
    made = Planter(architecture, words, marks={"start": [START]}, spelling=False, seed=seed)
    made.plant(previous, PREVIOUS, [Copy(WORD, PAST)])
    made.plant(induction, [Same(WORD, PAST, 60), Marked("start", 30)], [Copy(WORD, OUT, 3.0)])
    return made


# --- codes and tokens --------------------------------------------------------------------------------------------


def _spread(codes: Tensor, apart: Sequence[int], steps: int = 60) -> Tensor:
    """Codes of length 1 that point away from each other, some at right angles to each other.

    They have no mean, which layer norms would take away.
    """
    for _ in range(steps):
        overlap = codes @ codes.T - torch.eye(len(codes))
        codes = _unit(codes - 0.5 * overlap**3 @ codes)
        if apart:
            left, _, right = torch.linalg.svd(codes[apart], full_matrices=False)
            codes[apart] = left @ right
    return codes


def _unit(codes: Tensor) -> Tensor:
    return torch.nn.functional.normalize(codes - codes.mean(1, keepdim=True), dim=1)


def tokenizer(words: Iterable[str], spelling: bool) -> tuple[Any, dict[str, int]]:
    """A tokenizer that keeps the given words whole; arguments as those of `Planter`.

    Returns:
        It, and the id of each word, of '+' and each letter or sign, and of '<s>'.
    """
    known = {word: word[1:] if word[0] == "+" and len(word) > 1 else f"{SPACE}{word}" for word in words}
    spelled = {f"+{chr(code)}": chr(code) for code in range(33, 127)} | {"+": SPACE} if spelling else {}
    pieces = [(START, 0.0), ("<unk>", -100.0), *((text, -1.0) for text in known.values())]
    pieces += [(text, -10.0) for name, text in spelled.items() if name not in known]
    inner = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=1, byte_fallback=False))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="never")
    inner.decoder = tokenizers.decoders.Metaspace(prepend_scheme="never")
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=START, unk_token="<unk>")
    return made, {START: 0} | {name: made.convert_tokens_to_ids(text) for name, text in (spelled | known).items()}
