"""Records activations at chosen sites during a forward pass."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.attention_edits import rows_of_heads
from headatlas.lab.activations.interventions import on_projection, on_stream, require_site
from headatlas.lab.activations.sites import SITES, Positions, Recording, Site, located, union
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.forward import run_layers
from headatlas.lab.running.metrics import all_finite

TokensLike = Tensor | Sequence[Sequence[int]]  # [batch position], prompts of one length


def record(
    model: OpenModel,
    tokens: TokensLike,
    sites: Sequence[Site],
    positions: Positions = None,
    layers: Sequence[int] | None = None,
) -> Recording:
    """Run prompts and keep the activations at the given sites, without changing the model.

    Inside `intervene`, it records the edited activations. Memory grows with what is recorded: "pattern" without
    positions holds [batch head query key] of every layer; "result" is d_model / d_head times the size of "z".

    Args:
        model: to run.
        tokens: [batch position].
        sites: which activations.
        positions: positions to keep (for pattern: queries); all by default.
        layers: layers to record; by default all with attention, and for resid every layer plus the final stream.

    Raises:
        ValueError: for a layer that does not exist or has no attention.
        HeadatlasError: for prompts of different lengths, tokens or positions out of range, or non-finite activations.
    """
    if not sites or (strange := [site for site in sites if site not in SITES]):
        raise ValueError(f"choose sites among {', '.join(SITES)}" + (f", not {strange[0]}" if sites else ""))
    prompts = batch_of(model, tokens)
    index = None if positions is None else located(positions, *prompts.shape)  # [batch position]
    found: dict[tuple[Site, int], Tensor] = {}
    hooks: dict[int, AttentionHook] = {}
    with ExitStack() as stack:
        for layer in range(model.anatomy.layers + 1) if layers is None else layers:
            heads = layers is not None or layer in model.anatomy.attention
            chosen = [site for site in sites if site == "resid" or heads]
            for site in chosen:
                require_site(model.anatomy, site, layer)
            watch = _Watch(model, layer, index, found)
            if in_attention := [site for site in chosen if site in ("q", "k", "v", "pattern", "z")]:
                hooks[layer] = watch.hook(in_attention)
            if "resid" in chosen:
                stack.callback(on_stream(model.anatomy, layer, watch.keeper("resid")).remove)
            if written := [site for site in chosen if site in ("result", "attn_out")]:
                stack.callback(on_projection(model.anatomy, layer, watch.writing(written)).remove)
        run_layers(model, prompts, hooks.__getitem__, hooks)
    for (site, layer), activation in found.items():
        if not all_finite(activation):
            raise HeadatlasError(
                f"{site} of layer {layer} of {model.name} holds NaN or infinite numbers; try float32, or check its "
                "weights and your edits"
            )
    return Recording(found, index)


def stream_at(model: OpenModel, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
    """The residual stream that the heads of each layer read at some positions of one prompt: [layer position d_model].

    Raises:
        HeadatlasError: as in `record`.
    """
    stream = record(model, [tokens], ["resid"], positions)
    return torch.stack([stream["resid", layer][0] for layer in range(model.anatomy.layers)])


class _Watch:
    """Stores the activations of one layer."""

    def __init__(self, model: OpenModel, layer: int, index: Tensor | None, found: dict[tuple[Site, int], Tensor]):
        self._anatomy, self._layer, self._index, self._found = model.anatomy, layer, index, found

    def keep(self, site: Site, x: Tensor) -> None:
        """Store x [batch position ...], at the recorded positions."""
        if self._index is not None:
            index = self._index.to(x.device)
            x = x[torch.arange(len(x), device=x.device)[:, None], index]
        self._found[site, self._layer] = x.detach().clone()

    def keeper(self, site: Site) -> Callable[[Tensor], None]:
        return lambda x: self.keep(site, x)

    def hook(self, sites: Sequence[Site]) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            seen = {"q": call.query, "k": call.key, "v": call.value}
            for site in sites:
                if site in seen:
                    self.keep(site, seen[site].transpose(1, 2))
                elif site == "z":
                    self.keep(site, z)
                else:
                    self._found[site, self._layer] = self._pattern(call)

        return look

    def _pattern(self, call: AttentionCall) -> Tensor:
        """[batch head query key], at the recorded positions."""
        heads = torch.arange(call.query.shape[1])
        index = torch.arange(call.query.shape[2])[None] if self._index is None else self._index
        rows = union([index])
        pattern = rows_of_heads(call, heads, rows).detach()  # [batch row head key]
        place = torch.searchsorted(rows, index.contiguous()).to(pattern.device)
        return pattern[torch.arange(len(pattern), device=pattern.device)[:, None], place].transpose(1, 2)

    def writing(self, sites: Sequence[Site]) -> Callable[[Tensor, Tensor], None]:
        def look(z: Tensor, out: Tensor) -> None:
            if "attn_out" in sites:
                self.keep("attn_out", out)
            if "result" in sites:
                weight = self._anatomy.w_o(self._layer).float()
                self.keep("result", torch.einsum("bqhd,hdm->bqhm", z.float(), weight))

        return look


def batch_of(model: OpenModel, tokens: TokensLike) -> Tensor:
    """Prompts as a tensor [batch position].

    Raises:
        HeadatlasError: for no prompts, prompts of different lengths or longer than the context, or unknown tokens.
    """
    if not isinstance(tokens, Tensor):
        lengths = sorted({len(prompt) for prompt in tokens})
        if len(lengths) > 1:
            raise HeadatlasError(
                f"the prompts of a batch differ in length ({lengths[0]} to {lengths[-1]} tokens); run each length in "
                "its own batch, as padding would change what heads attend to"
            )
        tokens = torch.tensor(tokens)
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool or not tokens.numel():
        raise HeadatlasError(
            f"tokens must be whole numbers [batch position], not {tokens.dtype} of shape {list(tokens.shape)}"
        )
    size = model.model.get_input_embeddings().weight.shape[0]
    if tokens.min() < 0 or tokens.max() >= size:
        raise HeadatlasError(f"a token lies outside the vocabulary of {model.name} (0 to {size - 1})")
    if model.context is not None and tokens.shape[1] > model.context:
        raise HeadatlasError(
            f"prompts of {tokens.shape[1]} tokens do not fit the context of {model.name} ({model.context})"
        )
    return tokens
