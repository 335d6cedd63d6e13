"""The whole things that inputs are broken from: tiny models, a small catalog, records. Made once, in a folder."""

import json
import shutil
from pathlib import Path
from typing import Any

from headatlas import locations, specimens
from headatlas.catalog.schema import FILES

SIZES = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
TINY = SIZES | {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 64,
}


def models(folder: Path) -> list[Path]:
    """Untrained models of a few families, with a tokenizer of bytes."""
    import torch
    import transformers

    torch.manual_seed(0)
    configs = {
        "gpt2": transformers.GPT2Config(n_positions=64, n_embd=16, n_layer=2, n_head=4, **SIZES),
        "llama": transformers.LlamaConfig(**TINY),
        "gemma3": transformers.Gemma3TextConfig(**TINY, head_dim=8, sliding_window=8),
        "qwen3_moe": transformers.Qwen3MoeConfig(
            **TINY, head_dim=4, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8
        ),
    }
    made = []
    for name, config in configs.items():
        place = folder / name
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(place)
        tokenizer(place)
        made.append(place)
    return made


def tokenizer(folder: Path) -> None:
    """Write a small byte-level tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", *signs, "th", "he", "the", "Ġa", "an", "and"]
    merges = [("t", "h"), ("h", "e"), ("th", "e"), ("Ġ", "a"), ("a", "n"), ("an", "d")]
    made = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<s>"])
    made.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


def catalog(folder: Path) -> Path:
    """A small catalog: a few entries of each kind, and the bibliography that they cite."""
    whole = locations.catalog()
    folder.mkdir(parents=True)
    for name in ("taxonomy", *FILES):
        shutil.copy(whole / f"{name}.yaml", folder)
    for kind, names in (
        ("heads", ("induction", "safety", "previous-token")),
        ("methods", ("scoring",)),
        ("benchmarks", ("ioi",)),
        ("circuits", ("ioi",)),
        ("models", ("gpt2", "specimen")),
    ):
        (folder / kind).mkdir()
        for name in names:
            shutil.copy(whole / kind / f"{name}.yaml", folder / kind)
    text = (whole / "references.bib").read_text(encoding="utf-8")
    (folder / "references.bib").write_text("@".join(text.split("@")[:12]), encoding="utf-8")
    return folder


def record(name: str = "induction") -> Any:
    """A run record that ships."""
    return json.loads((locations.records() / "specimen" / f"{name}.json").read_bytes())


def census() -> Any:
    """A census that ships."""
    return json.loads((locations.censuses() / "specimen.json").read_bytes())


def collaboration() -> Any:
    """Measured edges that ship."""
    return json.loads((locations.collaborations() / "specimen.json").read_bytes())


def names() -> list[str]:
    """Words that commands take: ids of entries and models."""
    return [*sorted(path.stem for path in (locations.catalog() / "heads").glob("*.yaml")), *specimens.names(), "gpt2"]
