"""The positions where path patching follows the senders' change, as rows without an order.

With z of all heads held, no position affects another, so the positions of prompts of any lengths can be computed
together. Only receivers' positions that a change can reach become rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headatlas.lab.ablation.clean_run import CleanRun
from headatlas.lab.activations.sites import Positions, located
from headatlas.lab.hooks.module_hooks import states_of, with_states
from headatlas.lab.paths.clean_and_corrupted import PathRuns


@dataclass(frozen=True)
class PathRows:
    """Rows of one or several batches of clean prompts, and how the senders change there.

    Attributes:
        clean: cache of the clean run: one prompt, [1 row ...], whose positions are the rows.
        positions: [row], of each row in its prompt.
        changes: by layer, corrupted minus clean z for each source of corruption, [source row head d_head]; 0 where no
            sender is patched.
    """

    clean: CleanRun
    positions: Tensor
    changes: Mapping[int, Tensor]

    def __len__(self) -> int:
        return len(self.positions)


def reached(runs: PathRuns, to_heads: bool, sent: Positions, received: Positions) -> tuple[Tensor, Tensor]:
    """The positions that the senders' change can reach and the measurement needs, and those where it is sent.

    Args:
        runs: of a batch.
        to_heads: whether the receivers are heads; otherwise they are the logits, at the kept positions.
        sent: the senders' positions.
        received: the positions of receiving heads.

    Returns:
        [batch reached], possibly none; and [batch sent].
    """
    batch, length = runs.tokens.shape
    sending = located(sent, batch, length)
    if not to_heads:
        return runs.kept.expand(batch, -1), sending
    at = located(received, batch, length)
    return at[:, (at >= sending.min()).any(0)], sending  # before the first patched position all is clean


def rows_of(runs: Sequence[PathRuns], at: Tensor, sending: Tensor) -> PathRows:
    """The rows of a batch.

    Args:
        runs: one for each source of corruption, all of the same clean prompts.
        at: [batch reached]
        sending: [batch sent]
    """
    trace = runs[0].trace
    sent = (at[:, :, None] == sending[:, None, :]).any(-1)  # [batch reached], whether a sender is there too

    def rows(x: Tensor) -> Tensor:
        """Select positions: [batch position ...] -> [1 row ...]."""
        return x[torch.arange(len(x), device=x.device)[:, None], at.to(x.device)].flatten(0, 1)[None]

    clean = replace(
        trace,
        tokens=rows(trace.tokens),
        keep=torch.arange(at.numel()),
        start=0,
        logits=trace.logits[:0],
        layers={
            layer: replace(each, stream=rows(each.stream), z=rows(each.z), attended=None)
            for layer, each in trace.layers.items()
        },
        outputs=tuple(with_states(each, rows(states_of(each))) for each in trace.outputs),
        norm=None,
    )
    changes = {}
    for layer in trace.layers:
        change = torch.cat([rows(each.corrupted["z", layer] - each.clean["z", layer]).float() for each in runs])
        changes[layer] = change * sent.reshape(-1, 1, 1).to(change)
    return PathRows(clean, at.flatten(), changes)


def joined(parts: Sequence[PathRows]) -> PathRows:
    """The rows of several batches, one after the other."""
    first = parts[0].clean
    if len(parts) == 1:
        return parts[0]

    def cat(each: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(each), 1)

    outputs = zip(*(part.clean.outputs for part in parts), strict=True)
    clean = replace(
        first,
        tokens=cat([part.clean.tokens for part in parts]),
        keep=torch.arange(sum(map(len, parts))),
        layers={
            layer: replace(
                each,
                stream=cat([part.clean.layers[layer].stream for part in parts]),
                z=cat([part.clean.layers[layer].z for part in parts]),
            )
            for layer, each in first.layers.items()
        },
        outputs=tuple(with_states(each[0], cat([states_of(output) for output in each])) for each in outputs),
    )
    changes = {layer: cat([part.changes[layer] for part in parts]) for layer in parts[0].changes}
    return PathRows(clean, torch.cat([part.positions for part in parts]), changes)
