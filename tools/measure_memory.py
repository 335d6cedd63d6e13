"""Measures peak memory and time of scoring all heads by prompt length; target: linear, under 1 GB at 16,384 tokens.

A random Llama-shaped model (8 layers, 8 heads, 4 key/value heads, d_model 256) in float32 on the CPU reads one random
prompt. Each measurement runs in its own process. Memory is the peak resident set during the measurement, minus the
memory of the process after the model was loaded and had run once. Needs Linux.

    python tools/measure_memory.py [length ...]        default: 2048 4096 8192 16384
"""

import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from headatlas import specimens
from headatlas.lab import OpenModel, forward, open_model
from headatlas.lab.attention.streaming import ArgmaxKey, Distance, Entropy, KeyMass, PairWeight, SinkMass, score_heads
from headatlas.lab.running.forward import FIRST

LENGTHS = (2048, 4096, 8192, 16384)
ROWS = 64  # answer tokens of a retrieval test
LIMIT = 1000.0  # MB
VOCABULARY = 2048


@dataclass(frozen=True)
class Cost:
    """The cost of one measurement: seconds, and MB of peak memory above the weights."""

    seconds: float
    memory: float


def plain(model: OpenModel, tokens: torch.Tensor) -> None:
    """A forward pass without hooks, for comparison."""
    forward(model, tokens, positions=FIRST)


def retrieval(model: OpenModel, tokens: torch.Tensor) -> None:
    """The argmax key of each answer row, and its mass on a needle."""
    length = tokens.shape[1]
    needle = torch.arange(length // 2, length // 2 + ROWS)
    rows = torch.arange(length - ROWS, length)
    score_heads(model, tokens, {"argmax": ArgmaxKey(), "needle": KeyMass(needle)}, positions=rows)


def every_query(model: OpenModel, tokens: torch.Tensor) -> None:
    """Previous-token weight with and without the sink, sink mass and entropy, of every query."""
    query = torch.arange(1, tokens.shape[1])
    pairs = torch.stack([query, query - 1], -1)
    score_heads(
        model,
        tokens,
        {
            "previous": PairWeight(pairs),
            "previous, no sink": PairWeight(pairs, sinks=(0,)),
            "sink": SinkMass(),
            "entropy": Entropy(),
        },
    )


def distances(model: OpenModel, tokens: torch.Tensor) -> None:
    """Distance moments of every query, which are computed in float64."""
    score_heads(model, tokens, {"distance": Distance()})


MEASUREMENTS: dict[str, Callable[[OpenModel, torch.Tensor], None]] = {
    "plain forward pass": plain,
    f"retrieval, {ROWS} rows": retrieval,
    "weights, sinks, entropy, all rows": every_query,
    "distance moments, all rows": distances,
}


def save_model(folder: Path) -> None:
    """Write the random model, with the specimen's tokenizer."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=max(LENGTHS),
        bos_token_id=0,
        eos_token_id=0,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(specimens.folder() / name, folder / name)


def measure(folder: Path, name: str, length: int) -> Cost:
    """Run one measurement in this process."""
    model = open_model(str(folder))
    tokens = torch.randint(1, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(length))
    MEASUREMENTS[name](model, tokens[:, : 2 * ROWS])  # threads and code are loaded now
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _memory("VmRSS")
    start = time.perf_counter()
    MEASUREMENTS[name](model, tokens)
    return Cost(time.perf_counter() - start, _memory("VmHWM") - before)


def _memory(field: str) -> float:
    """A memory field of this process in MB: VmRSS is the current memory, VmHWM the peak since its reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def main(lengths: tuple[int, ...]) -> int:
    """Print the table. Returns 1 if retrieval exceeds the limit."""
    worst = 0.0
    transformers.utils.logging.disable_progress_bar()
    print(f"{'measurement':36}{'tokens':>8}{'seconds':>10}{'MB above weights':>18}{'KB per token':>14}")
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder))
        for name in MEASUREMENTS:
            for length in lengths:
                with multiprocessing.get_context("spawn").Pool(1) as fresh:
                    cost = fresh.apply(measure, (Path(folder), name, length))
                per_token = cost.memory * 1024 / length
                print(f"{name:36}{length:8}{cost.seconds:10.1f}{cost.memory:18.0f}{per_token:14.1f}", flush=True)
                worst = max(worst, cost.memory)
    print(f"the most is {worst:.0f} MB; the limit is {LIMIT:.0f} MB")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main(tuple(int(each) for each in sys.argv[1:]) or LENGTHS))
