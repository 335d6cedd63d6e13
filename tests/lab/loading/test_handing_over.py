"""A model handed over to other processes is the same model, in one copy that nobody can change for the others."""

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import peft
import pytest
import torch
import transformers

from conftest import EACH_FAMILY, GQA, roughen, save_config
from headatlas.lab import OpenModel, open_model
from headatlas.lab.loading.handing_over import hand_over, own_bytes, take_over
from headatlas.lab.loading.identifying import identity
from headatlas.notation import Head

TOKENS = torch.randint(5, 299, (2, 24), generator=torch.Generator().manual_seed(1))
needs_maps = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not tell what is mapped")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "handed")


def logits(model: OpenModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.model(input_ids=TOKENS, use_cache=False).logits
        return found


def handed(model: OpenModel, place: str) -> OpenModel:
    """The model taken over, once it is known to be the one that was handed over."""
    before, what, heads = logits(model), identity(model), model.anatomy.all_heads
    own, done = hand_over(model, place)
    assert done
    other = take_over(place)
    for each in (own, other):
        assert torch.equal(logits(each), before) and identity(each) == what
        assert each.anatomy.all_heads == heads
        assert (each.name, each.revision, each.implementation, each.id) == (
            model.name,
            model.revision,
            model.implementation,
            model.id,
        )
        assert not any(parameter.requires_grad for parameter in each.model.parameters())
    return other


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_it_is_the_same_model(family: str, tiny: Callable[[str], Path], place: str) -> None:
    model = open_model(str(tiny(family)), dtype="bfloat16")  # cast: in memory, not in the file
    other = handed(model, place)
    assert type(other.model) is type(model.model) and other.dtype == torch.bfloat16
    if Path("/proc/self/maps").exists():
        assert own_bytes(model) > 0 and own_bytes(other) == 0


def test_with_a_merged_adapter(tiny: Callable[[str], Path], tmp_path: Path, place: str) -> None:
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny("llama"))
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(base, config)
        roughen(model)
        model.save_pretrained(str(tmp_path / "adapter"))
    merged = open_model(str(tiny("llama")), adapter=str(tmp_path / "adapter"))
    assert handed(merged, place).opened.adapter == merged.opened.adapter is not None


def test_inside_a_multimodal_model(tmp_path: Path, place: str) -> None:
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**GQA).to_dict(),
        vision_config=transformers.CLIPVisionConfig(**vision, image_size=28, patch_size=14).to_dict(),
        image_token_index=4000,
    )
    torch.manual_seed(0)
    save_config(transformers.LlamaConfig(**GQA), tmp_path / "model")  # for its tokenizer
    transformers.LlavaForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    model = open_model(str(tmp_path / "model"))
    assert handed(model, place).architecture == "language model of LlavaForConditionalGeneration"


def test_tied_weights_stay_one_tensor(tmp_path: Path, place: str) -> None:
    config = transformers.LlamaConfig(**GQA, tie_word_embeddings=True)
    other = handed(open_model(str(save_config(config, tmp_path / "model")), dtype="bfloat16"), place)
    assert other.model.get_input_embeddings().weight is other.model.get_output_embeddings().weight


@torch.no_grad()
def test_what_one_writes_the_others_do_not_see(tiny: Callable[[str], Path], place: str) -> None:
    first = handed(open_model(str(tiny("llama")), dtype="bfloat16"), place)
    second, before = take_over(place), logits(first)
    for parameter in first.model.parameters():
        parameter.add_(1.0)
    assert not torch.equal(logits(first), before)
    assert torch.equal(logits(second), before) and torch.equal(logits(take_over(place)), before)


@needs_maps
def test_weights_of_a_file_that_is_mapped_are_nobodys_own(tiny: Callable[[str], Path]) -> None:
    """As long as this holds for safetensors, models in the dtype of their file need not be handed over."""
    mapped, cast = open_model(str(tiny("llama"))), open_model(str(tiny("llama")), dtype="float16")
    total = sum(each.nbytes for each in mapped.model.parameters())
    assert own_bytes(mapped) < 0.01 * total  # rotary frequencies
    assert own_bytes(cast) >= total / 2


PSS = """
import sys
from headatlas.lab.loading.handing_over import take_over
model = take_over(sys.argv[1])
print(sum(float(each.double().sum()) for each in model.model.parameters()), flush=True)
place, found = "", 0
for line in open("/proc/self/smaps"):
    if "-" in line.split(" ")[0]:
        place = line
    elif line.startswith("Private_") and "handed" in place:
        found += int(line.split()[1])
print(found, flush=True)
sys.stdin.readline()
"""


@needs_maps
def test_processes_share_its_pages(tmp_path: Path) -> None:
    """A process that has read all weights holds next to none of them alone, where another has read them too."""
    config = transformers.LlamaConfig(**(GQA | {"hidden_size": 256, "vocab_size": 8192}))
    model = open_model(str(save_config(config, tmp_path / "model")), dtype="bfloat16")
    place, size = str(tmp_path / "handed"), sum(each.nbytes for each in model.model.parameters())
    mine, done = hand_over(model, place)
    assert done
    total = sum(float(each.double().sum()) for each in mine.model.parameters())
    command = [sys.executable, "-c", PSS, place]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        found, alone = (float(other.stdout.readline()) for _ in range(2))
        other.communicate("\n")
    assert found == total and size > 2**22
    assert 1024 * alone < 0.1 * size


def test_where_it_cannot_be_written_the_model_goes_on_as_it_was(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    model = open_model(str(tiny("llama")), dtype="bfloat16")
    before, what = logits(model), identity(model)
    other, done = hand_over(model, str(tmp_path / "no" / "such" / "folder"))
    assert not done and torch.equal(logits(other), before) and identity(other) == what


def test_code_that_cannot_be_pickled_is_not_handed_over(tiny: Callable[[str], Path], place: str) -> None:
    model = open_model(str(tiny("llama")), dtype="bfloat16")
    model.model.extra = lambda: Head(0, 0)
    other, done = hand_over(model, place)
    assert not done and torch.isfinite(logits(other)).all()
