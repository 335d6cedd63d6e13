"""Models the tests share: the specimen, planted circuits, and tiny untrained models of many families."""

import gc
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers

import planted
import real_model
from headatlas import locations, specimens
from headatlas.catalog.schema import HeadType, Rule
from headatlas.evidence import record_files, records, statistics
from headatlas.lab import OpenModel, attention_scores, open_model
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, Script
from places import ROOT

# Models this small are many times slower on several threads than on one; so are processes that a test starts.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = {
    "vocab_size": 4096,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "intermediate_size": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
GQA = TINY | {"num_key_value_heads": 2}

# One tiny configuration per family; those marked eager have attention that only the eager implementation has.
FAMILIES: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=4096, n_positions=128, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**TINY),
    "llama": lambda: transformers.LlamaConfig(**GQA),
    "qwen2": lambda: transformers.Qwen2Config(**GQA),
    "qwen3": lambda: transformers.Qwen3Config(**GQA, head_dim=16),
    "mistral": lambda: transformers.MistralConfig(**GQA, sliding_window=16),
    "mixtral": lambda: transformers.MixtralConfig(**GQA, num_local_experts=2, num_experts_per_tok=1),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **GQA, head_dim=16, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=32
    ),
    "gemma": lambda: transformers.GemmaConfig(**GQA, head_dim=16),
    "gemma2": lambda: transformers.Gemma2Config(**GQA, head_dim=16, sliding_window=16, query_pre_attn_scalar=16),
    "gemma3": lambda: transformers.Gemma3TextConfig(**GQA, head_dim=16, sliding_window=16),
    "phi3": lambda: transformers.Phi3Config(**GQA),
    "phi": lambda: transformers.PhiConfig(**GQA, qk_layernorm=True),
    "olmo2": lambda: transformers.Olmo2Config(**GQA),
    "stablelm": lambda: transformers.StableLmConfig(**GQA, qk_layernorm=True),
    "starcoder2": lambda: transformers.Starcoder2Config(**GQA, sliding_window=16),
    "smollm3": lambda: transformers.SmolLM3Config(**GQA),
    "gpt_bigcode": lambda: transformers.GPTBigCodeConfig(
        vocab_size=4096, n_positions=128, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    ),
    "opt": lambda: transformers.OPTConfig(
        vocab_size=4096, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64,
        max_position_embeddings=128, word_embed_proj_dim=32, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    ),
    "gpt_oss": lambda: transformers.GptOssConfig(
        **GQA, head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=16
    ),
    # Outside transformers' registry, led through the seam by headatlas.lab.families.
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        vocab_size=4096, hidden_size=32, num_layers=2, num_heads=4, intermediate_size=64, max_position_embeddings=128,
        attention_types=[[["global", "local"], 1]], window_size=16, bos_token_id=0, eos_token_id=0,
    ),
    "gptj": lambda: transformers.GPTJConfig(
        vocab_size=4096, n_positions=128, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_inner=64, bos_token_id=0,
        eos_token_id=0,
    ),
    "codegen": lambda: transformers.CodeGenConfig(
        vocab_size=4096, n_positions=128, n_ctx=128, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_inner=64,
        bos_token_id=0, eos_token_id=0,
    ),
    "falcon": lambda: transformers.FalconConfig(
        vocab_size=4096, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=128,
        bos_token_id=0, eos_token_id=0,
    ),
    "falcon_new": lambda: transformers.FalconConfig(
        vocab_size=4096, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=128,
        num_kv_heads=2, new_decoder_architecture=True, bos_token_id=0, eos_token_id=0,
    ),
    "bloom": lambda: transformers.BloomConfig(
        vocab_size=4096, hidden_size=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    ),
    "mpt": lambda: transformers.MptConfig(
        vocab_size=4096, d_model=32, n_layers=2, n_heads=4, max_seq_len=128, expansion_ratio=2, bos_token_id=0,
        eos_token_id=0,
    ),
    # Gated between attention and the output projection.
    "qwen3_next": lambda: transformers.Qwen3NextConfig(
        **GQA, head_dim=16, layer_types=["full_attention"] * 2, num_experts=2, num_experts_per_tok=1,
        moe_intermediate_size=32, shared_expert_intermediate_size=32,
    ),
    "qwen3_5_text": lambda: transformers.Qwen3_5TextConfig(**GQA, head_dim=16, layer_types=["full_attention"] * 2),
}  # fmt: skip

# Families whose attention, norms and weights are laid out as in others of the list: they are left to the slow tests.
ALIKE = {
    "qwen2": "llama",
    "qwen3": "olmo2",
    "mixtral": "qwen3_moe",
    "gemma": "gemma2",
    "gemma3": "gemma2",
    "stablelm": "phi",
    "starcoder2": "mistral",
    "smollm3": "llama",
    "codegen": "gptj",
    "qwen3_5_text": "qwen3_next",
}
FIRST = ("gpt2", "llama", "gemma2", "falcon", "qwen3_next")  # those that `make test` looks at
# Those that `make test-all` looks at too; test_every_family and test_families show their kinds in every run.
WIDE = ("gpt_neox", "gpt_oss", "olmo2", "bloom", "gptj", "qwen3_moe")
EACH_FAMILY = [
    pytest.param(family, marks=() if family in FIRST else pytest.mark.wide if family in WIDE else pytest.mark.slow)
    for family in FAMILIES
]

ROUTED = ("gpt_neo", "gptj", "codegen", "falcon", "falcon_new", "bloom", "mpt")
GATED = ("qwen3_next", "qwen3_5_text")


def load_tool(name: str) -> ModuleType:
    """A maintainers' program, tools/<name>.py, as a module."""
    path = ROOT / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def save_tiny(family: str, folder: Path, seed: int = 0) -> Path:
    """An untrained model of a family, with the byte tokens of the specimen's tokenizer."""
    return save_config(FAMILIES[family](), folder, seed=seed)


def save_config(
    config: Any, folder: Path, change: Callable[[torch.nn.Module], object] = lambda model: None, seed: int = 0
) -> Path:
    """An untrained model of a configuration, changed, with the byte tokens of the specimen's tokenizer."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    change(model)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(specimens.folder() / name, folder / name)
    return folder


@torch.no_grad()
def roughen(model: torch.nn.Module) -> None:
    """Untrained weights have no biases and equal norms, behind which mistakes hide."""
    drawn = torch.Generator().manual_seed(0)
    for _, parameter in sorted(model.named_parameters()):
        parameter.add_(torch.randn(parameter.shape, generator=drawn), alpha=0.15)


@torch.no_grad()
def louden(model: torch.nn.Module, times: float = 4.0) -> None:
    """Make the heads of an untrained model matter: at their usual size, random weights hardly move a logit."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(times)


def loud(folder: Path) -> OpenModel:
    """The untrained model of a folder, loudened."""
    model = open_model(str(folder))
    louden(model.model)
    return model


def light(entry: HeadType, prompts: int) -> HeadType:
    """The entry with a rule that asks for so many prompts per family; its thresholds are as they were."""
    assert entry.reproduction and entry.rule
    rule = entry.rule.model_copy(update={"find": prompts, "test": prompts})
    return entry.model_copy(update={"reproduction": entry.reproduction.model_copy(update={"rule": rule})})


def selected(script: Script, rule: Rule, model: OpenModel, drawn: PromptSample) -> list[Head]:
    """The heads that a script's detection selects on some prompts, by the rule."""
    scores = script.detect(model, drawn) if script.detect else attention_scores(model, drawn.prompts)
    q = statistics.q_values(statistics.p_above_null(scores.score, scores.null))
    return statistics.select(scores.score.mean(0), q, rule.detection.threshold, rule.detection.fdr)


def held_bytes() -> int:
    """Of all tensors alive, each storage once."""
    gc.collect()
    found = (each for each in gc.get_objects() if issubclass(type(each), torch.Tensor))
    return sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in found}.values())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny untrained model of a family."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = save_tiny(family, tmp_path_factory.mktemp(family))
        return made[family]

    return folder


@pytest.fixture(scope="session")
def specimen() -> OpenModel:
    """The embedded model."""
    return open_model("specimen")


@pytest.fixture(scope="session")
def smollm2() -> Iterator[OpenModel]:
    """SmolLM2 135M Instruct, a pretrained Llama; skipped if it is not in the user's cache and no index gives it."""
    with real_model.opened() as model:
        yield model


@pytest.fixture(scope="session")
def smollm2_file() -> Path:
    """The GGUF file that SmolLM2 was converted from."""
    return real_model.gguf_file()


@pytest.fixture(scope="session")
def shipped_records() -> list[records.Record]:
    """The records that ship with the project, to be read only."""
    return record_files.read_all(locations.records())


@pytest.fixture(scope="session")
def untrained() -> list[OpenModel]:
    """Two models of each of three architectures, of two and of three layers, that have learned nothing."""
    return untrained_models(range(6))


@pytest.fixture(scope="session")
def twenty_untrained(untrained: list[OpenModel]) -> list[OpenModel]:
    """The same and 14 more, for tests that may take long."""
    return untrained + untrained_models(range(6, 20))


def untrained_models(seeds: Iterable[int]) -> list[OpenModel]:
    """Random weights of three architectures, five times as large as usual, so that attention is not flat."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(specimens.folder())
    made = []
    for seed in seeds:
        family = ("gpt2", "gpt_neox", "llama")[seed % 3]
        torch.manual_seed(seed)
        config = FAMILIES[family]()
        config.vocab_size = len(tokenizer)
        config.num_hidden_layers = 2 + seed % 2
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        louden(model, 5.0)
        made.append(open_model(model, tokenizer=tokenizer, called=f"untrained {family} {seed}"))
    return made


@pytest.fixture(scope="session", params=["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def planted_circuit(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Head, Head]:
    """A model folder, its planted previous-token head, and its planted induction head."""
    folder = tmp_path_factory.mktemp(f"planted-{request.param}")
    previous, induction = (Head(1, 2), Head(5, 1)) if request.param == "gpt2" else (Head(0, 3), Head(5, 0))
    planted.induction_circuit(request.param, previous, induction).save(folder)
    return folder, previous, induction


CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, shared by all tests of pages; skipped with a reason where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; make setup")
    if not CHROMIUM.is_file():
        pytest.skip(f"no {CHROMIUM}; install the package chromium to run the tests of pages")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()
