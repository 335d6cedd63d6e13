"""Trains the specimen: the small open model that ships with headatlas.

    python tools/train_specimen.py --arch gpt2 --seed 0 --out build/specimen

Training is deterministic: every step has its own seed, the schedule counts steps instead of seconds, one thread does
the work (two trainings use two cores better than one does), and oneDNN uses the same kernels on all processors that
have them. You can interrupt the program at any time; the next call continues from the last checkpoint. On an
accelerator, give --device cuda.

At the end the program writes the weights, the tokenizer, the card (card.json) and the training log (training.json) into
--out; --install NAME copies them to where the package looks. --compare NAME writes no card: it compares the weights
with those that ship under that name, and notes on their card whether they are identical.

This module is long because it is one program, which must not change while a training goes on.
"""

import argparse
import dataclasses
import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

import exits
import specimen_card
from headatlas import HeadatlasError, specimens
from headatlas.quiet import quiet
from specimen_rows import BOS, Rows, Schedule, train_tokenizer

ATTENTION = "causal"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that determines the weights."""

    arch: str = "gpt2"
    seed: int = 0
    steps: int = 8000
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    layers: int = 6
    heads: int = 8
    kv_heads: int = 4  # of the llama architecture
    head_size: int = 16
    width: int = 128
    hidden: int = 384  # of the llama architecture; gpt2 has four times its width
    embedding_scale: float = 5.0  # times transformers' initial 0.02
    muon_rate: float = 4e-3
    adam_rate: float = 3e-3
    warm_up: int = 100
    cool_down: float = 0.4  # share of the steps in which the rate falls to a fiftieth
    threads: int = 1
    # How far oneDNN may use what a processor has; empty: left free. Where it multiplies otherwise, sums come out
    # otherwise rounded, and after 8,000 steps the weights are another model's.
    kernels: str = "AVX512_CORE_AMX"


# After these steps the weights are kept, for the picture of training.
KEPT: tuple[int, ...] = (
    *(50, 100, 200, 300, 400, 500, 600, 700, 800, 1000, 1200, 1400, 1600, 1800, 2000, 2500, 3000, 4000, 5000, 7000),
    *(8000, 10000, 15000),
)


def build(recipe: Recipe, vocabulary: int) -> Any:
    """The untrained model, in a standard architecture of transformers."""
    common: dict[str, Any] = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0}
    if recipe.arch == "gpt2":
        config: Any = transformers.GPT2Config(
            n_positions=recipe.schedule.length,
            n_embd=recipe.width,
            n_layer=recipe.layers,
            n_head=recipe.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            activation_function="gelu_pytorch_tanh",  # GPT-2's own, in one kernel
            **common,
        )
    else:
        config = transformers.LlamaConfig(
            max_position_embeddings=recipe.schedule.length,
            hidden_size=recipe.width,
            intermediate_size=recipe.hidden,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.kv_heads,
            head_dim=recipe.head_size,
            tie_word_embeddings=True,
            **common,
        )
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(recipe.embedding_scale)
    return model


def attend(_module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **keywords: Any) -> tuple[Tensor, None]:
    """Causal attention, written out: on a CPU and short bfloat16 rows, forward and backward take half the time."""
    rows, heads, length, size = query.shape
    scale = keywords.get("scaling") or size**-0.5
    key, value = (each.repeat_interleave(heads // each.shape[1], 1).flatten(0, 1) for each in (key, value))
    hidden = torch.full((length, length), -torch.inf, dtype=query.dtype, device=query.device).triu(1)
    scores = torch.baddbmm(hidden, query.flatten(0, 1), key.transpose(1, 2), alpha=scale)  # [row*head query key]
    z = torch.bmm(scores.softmax(-1).to(value.dtype), value)
    return z.view(rows, heads, length, size).transpose(1, 2), None


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, lambda *_args, **_keywords: None)


def optimizers(recipe: Recipe, model: Any) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    blocks = [p for name, p in model.named_parameters() if p.ndim == 2 and (".h." in name or ".layers." in name)]
    chosen = {id(parameter) for parameter in blocks}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    return [
        torch.optim.Muon(blocks, lr=recipe.muon_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=recipe.adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def rate(recipe: Recipe, step: int) -> float:
    """The share of the full learning rate at a step: warm-up, plateau, linear fall."""
    left = (recipe.steps - step) / (recipe.cool_down * recipe.steps)
    return min(1.0, (step + 1) / recipe.warm_up, max(0.02, left))


def save(folder: Path, model: Any, tokenizer: Tokenizer, recipe: Recipe) -> None:
    """Write the folder in the format of transformers."""
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS, model_max_length=recipe.schedule.length
    )
    with quiet():
        model.save_pretrained(folder)
        wrapped.save_pretrained(folder)


def _checkpoint(
    path: Path, recipe: Recipe, step: int, model: Any, optims: list[torch.optim.Optimizer], log: list[Any]
) -> None:
    state = {
        "recipe": dataclasses.asdict(recipe),
        "step": step,
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optims],
        "log": log,
    }
    _save(state, path)


def _save(state: Any, path: Path) -> None:
    """Write a checkpoint completely or not at all.

    Raises:
        HeadatlasError: if the checkpoint cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
    except (OSError, RuntimeError) as error:  # torch tells of a full disk by the latter
        path.with_suffix(".tmp").unlink(missing_ok=True)
        first = str(error).splitlines()[0]
        raise HeadatlasError(
            f"cannot write {path} ({first}); free space, and repeat the command to continue from the last checkpoint"
        ) from None


def train(
    recipe: Recipe, out: Path, device: str = "cpu", every: int = 500, until: int | None = None
) -> list[dict[str, Any]]:
    """Train to the end (or `until` a step), from the last checkpoint if there is one. Returns the log.

    Raises:
        HeadatlasError: if the folder has a checkpoint of another recipe, or cannot be written.
    """
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    tokenizer = train_tokenizer()
    rows = Rows(tokenizer, recipe.schedule)
    vocabulary = tokenizer.get_vocab_size()
    model = build(recipe, vocabulary).to(device)
    optims = optimizers(recipe, model)
    full = [[group["lr"] for group in optimizer.param_groups] for optimizer in optims]
    path, start, log = out / "checkpoint.pt", 0, []
    if path.is_file():
        state = torch.load(path, weights_only=True, map_location=device)
        if state.get("recipe") != dataclasses.asdict(recipe):
            raise HeadatlasError(f"{out} holds a training of another recipe; give another --out, or delete that folder")
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optims, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start, log = state["step"], state["log"]
    own = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)
    for step in _shown(range(start, until or recipe.steps), recipe.steps):
        for optimizer, rates in zip(optims, full, strict=True):
            for group, base in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = base * rate(recipe, step)
        tokens, mask = (each.to(device) for each in rows.batch(recipe.seed, step))
        loss = _step(model, optims, tokens, mask, positions(recipe, step).to(device))
        done = step + 1
        if done in KEPT or done == recipe.steps:
            _save({name: each.half() for name, each in model.state_dict().items()}, out / "kept" / f"{done}.pt")
        if done % every == 0 or done in (until, recipe.steps):
            model.eval()
            log.append(
                {"step": done, "loss": round(loss, 4), **specimen_card.held_out_accuracy(model, rows, vocabulary, 32)}
            )
            print(json.dumps(log[-1]), file=sys.stderr, flush=True)
            model.train()
            _checkpoint(path, recipe, done, model, optims, log)
    model.set_attn_implementation(own)
    save(out, model, tokenizer, recipe)
    return log


def positions(recipe: Recipe, step: int) -> Tensor:
    """The positions of the rows of a step; short rows shift, so that all positions are trained."""
    plan = recipe.schedule
    length = plan.short_length if step < plan.short else plan.length
    start = random.Random(f"{recipe.seed}/start/{step}").randrange(plan.length // length) * length
    return torch.arange(start, start + length)[None]


def _step(model: Any, optims: list[torch.optim.Optimizer], tokens: Tensor, mask: Tensor, where: Tensor) -> float:
    with torch.autocast(tokens.device.type, torch.bfloat16):
        states = model.base_model(tokens, position_ids=where.expand_as(tokens)).last_hidden_state
        logits = model.lm_head(states[:, :-1][mask[:, 1:]])  # [asked vocabulary]
    loss = functional.cross_entropy(logits.float(), tokens[:, 1:][mask[:, 1:]])
    for optimizer in optims:
        optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optims:
        optimizer.step()
    return float(loss.item())


def _shown(steps: range, total: int) -> Iterator[int]:
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=total, completed=steps.start)
        for step in steps:
            yield step
            bar.update(task, completed=step + 1)


def main() -> int:
    defaults = Recipe()
    parser = argparse.ArgumentParser(description="Train the specimen.")
    parser.add_argument("--arch", choices=("gpt2", "llama"), default=defaults.arch)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--kernels",
        metavar="ISA",
        help="how far oneDNN may use the processor (its ONEDNN_MAX_CPU_ISA); '' leaves it free "
        f"(default: {defaults.kernels}; with --compare what that model was trained with)",
    )
    parser.add_argument("--out", type=Path, default=Path("build/specimen"))
    parser.add_argument("--until", type=int, metavar="STEP", help="stop after this step, to go on another time")
    parser.add_argument("--install", metavar="NAME", help="put the result into the package under this name")
    parser.add_argument("--compare", metavar="NAME", help="say whether the weights of this model came out again")
    options = parser.parse_args()
    return exits.code_of(
        lambda: run(options), "train_specimen", "repeat the command to continue from the last checkpoint"
    )


def run(options: argparse.Namespace) -> None:
    """Train; then compare with the shipped weights, or write the card and the training log, and install."""
    kernels = options.kernels
    if kernels is None:
        kernels = specimen_card.kernels(options.compare) if options.compare else Recipe.kernels
    recipe = Recipe(arch=options.arch, seed=options.seed, steps=options.steps, kernels=kernels)
    os.environ.pop("ONEDNN_MAX_CPU_ISA", None)  # or the card would say what was not so
    if recipe.kernels:
        os.environ["ONEDNN_MAX_CPU_ISA"] = recipe.kernels  # oneDNN reads it when it first multiplies
    if options.compare:
        specimen_card.check_recipe(options.compare, dataclasses.asdict(recipe), "this training")
    log = train(recipe, options.out, options.device, until=options.until)
    if options.until and options.until < options.steps:
        return
    specimen_card.store(recipe, options.out, log)
    if options.compare:
        found = specimen_card.compare(options.compare, options.out)
        print(f"{options.compare}: {specimens.retrained(found)}")
        return
    specimen_card.measure(options.out)
    specimen_card.dynamics(recipe, options.out)
    if options.install:
        specimen_card.install(options.out, options.install)


if __name__ == "__main__":
    sys.exit(main())
