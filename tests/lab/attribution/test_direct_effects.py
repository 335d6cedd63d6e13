"""What heads write directly, against sums written out by hand; and weights at pairs, against full patterns."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import roughen
from headatlas.lab import OpenModel, open_model, record
from headatlas.lab.attention import pair_weights
from headatlas.lab.attribution import direct_effects, direct_effects_with_patched_input, head_logit_lens
from headatlas.stimuli import Prompt, Readout
from operations import Work

Tiny = Callable[[str], Path]
ROWS = torch.randint(1, 299, (3, 12), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.fixture(params=["gpt2", "llama", "gemma2"])
def model(request: pytest.FixtureRequest, tiny: Tiny) -> OpenModel:
    found = open_model(str(tiny(request.param)))
    roughen(found.model)
    return found


def prompts(changed: int) -> list[Prompt]:
    """Prompts of two lengths whose controls differ from them at one place, counted from the end."""
    made = []
    for row, length in zip(ROWS, (12, 9, 12), strict=True):
        tokens, control = row[:length], list(row[:length])
        control[changed] = 300 - control[changed]
        made.append(Prompt(tuple(tokens), tuple(control), readouts=(Readout(length - 1, 5, (6, 7)),)))
    return made


def test_heads_of_the_first_layer_see_another_stream_only_where_the_last_token_is_another(model: OpenModel) -> None:
    before = prompts(changed=-3)
    own, followed = direct_effects(model, before), direct_effects_with_patched_input(model, before)
    assert np.allclose(followed[:, 0], own[:, 0], atol=1e-6)
    assert not np.allclose(followed[:, 1], own[:, 1], atol=1e-6)

    last = prompts(changed=-1)
    own, followed = direct_effects(model, last), direct_effects_with_patched_input(model, last)
    other = direct_effects(model, last, corrupted=True)
    assert not np.allclose(followed[:, 0], own[:, 0], atol=1e-6)
    for prompt in range(3) if model.anatomy.family != "gemma2" else ():  # which also norms what all heads write
        ratio = followed[prompt, 0] / other[prompt, 0]  # the two are held at other scales of the final norm
        assert np.allclose(ratio, ratio[0], rtol=1e-3) and ratio[0] > 0


def test_heads_do_as_usual_where_the_stream_is_their_own(model: OpenModel) -> None:
    same = [Prompt(each.tokens, each.tokens, readouts=each.readouts) for each in prompts(-1)]
    assert np.allclose(direct_effects_with_patched_input(model, same), direct_effects(model, same), atol=1e-5)


def test_the_lens_of_a_head_is_its_output_through_norm_and_unembedding(model: OpenModel) -> None:
    made = prompts(changed=-2)
    for control in (False, True):
        found = head_logit_lens(model, made, control)
        for number, prompt in enumerate(made):
            seen = record(model, [prompt.corrupted if control else prompt.tokens], ["result"], [len(prompt.tokens) - 1])
            for layer in range(model.anatomy.layers):
                with torch.no_grad():
                    likely = model.anatomy.logits(seen["result", layer][0, 0]).softmax(-1)  # [head vocabulary]
                expected = likely[:, 5] - likely[:, [6, 7]].mean(-1)
                assert np.allclose(found[number, layer], expected, atol=1e-6)


def test_no_probabilities_of_the_whole_vocabulary_are_held(tiny: Tiny) -> None:
    model = open_model(str(tiny("gemma2")))
    unembed = model.anatomy.confirmed_unembed
    states = 3 * torch.randn(900, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), Work() as work:
        found = unembed.log_partition(unembed.normed(states))
        expected = unembed.logits(states[:50]).logsumexp(-1)
    assert torch.allclose(found[:50], expected, atol=1e-5)
    assert work.bytes < 4 * 900 * 4096 / 10


def test_weights_are_read_pair_by_pair_in_prompt_or_control(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    made = [
        Prompt(each.tokens, each.corrupted, pairs=((8, 3), (8, 0), (5, 5))[: 2 + number % 2], null_pairs=((7, 2),))
        for number, each in enumerate(prompts(-9))
    ]
    found, control = pair_weights(model, made), pair_weights(model, made, corrupted=True)
    for number, prompt in enumerate(made):
        pattern, other = (
            [record(model, [tokens], ["pattern"])["pattern", layer][0] for layer in range(2)]
            for tokens in (prompt.tokens, prompt.corrupted)
        )
        for layer in range(2):  # [head query key]
            expected = torch.stack([pattern[layer][:, query, key] for query, key in prompt.pairs], -1)
            assert np.allclose(found[number][layer], expected, atol=1e-6)
            assert np.allclose(control[number][layer], other[layer][:, 7, [2]], atol=1e-6)
