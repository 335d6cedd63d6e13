"""Sweeps that skip what an ablation cannot change, against running everything; estimates against derivatives."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from conftest import EACH_FAMILY, held_bytes, loud, save_tiny
from headatlas import HeadatlasError
from headatlas.lab import (
    OpenModel,
    accuracy,
    forward,
    intervene,
    log_probability,
    logit_difference,
    metric_per_prompt,
    open_model,
)
from headatlas.lab.ablation import ZValues, mean_z, sweep_engine
from headatlas.lab.ablation.batched_copies import CopyEdit
from headatlas.lab.ablation.clean_run import CleanRun, run_clean
from headatlas.lab.ablation.first_order import attribution_patching
from headatlas.lab.ablation.partial_rerun import rerun_from
from headatlas.lab.ablation.screening import screen
from headatlas.lab.ablation.sweeps import Sweep, ablate_sets, sweep
from headatlas.lab.activations import edits
from headatlas.lab.hooks import attention_interface
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout
from oracles import ablated_metric, naive_sweep

Tiny = Callable[[str], Path]
LENGTH = 24  # beyond the windows of 16
LAST = LENGTH - 1
READ = (Readout(LAST, answer=5, rivals=(7, 9)), Readout(20, answer=6, rivals=(7,)))
KINDS = ("zero", "mean", "position mean", "resample")


def drawn(count: int, length: int = LENGTH, readouts: tuple[Readout, ...] = READ, seed: int = 1) -> list[Prompt]:
    tokens = torch.randint(1, 299, (2, count, length), generator=torch.Generator().manual_seed(seed)).tolist()
    return [Prompt(tuple(one), tuple(other), readouts=readouts) for one, other in zip(*tokens, strict=True)]


PROMPTS = drawn(3)


def plain_effect(model: OpenModel, head: Head, at: list[int]) -> torch.Tensor:
    """Logits [prompt position vocabulary] with a head's part of the output projection's input set to zero."""
    part = slice(head.head * model.anatomy.d_head, (head.head + 1) * model.anatomy.d_head)

    def silence(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        z = inputs[0].clone()
        z[:, at, part] = 0.0
        return (z,)

    handle = model.anatomy.projections[head.layer].register_forward_pre_hook(silence)
    try:
        with torch.no_grad():
            logits: torch.Tensor = model.model(torch.tensor([prompt.tokens for prompt in PROMPTS])).logits
    finally:
        handle.remove()
    return logits


@pytest.mark.parametrize("family", EACH_FAMILY)
class TestEveryFamily:
    def test_sweeps_equal_running_everything_for_every_head(self, family: str, tiny: Tiny) -> None:
        model = loud(tiny(family))
        for kind in KINDS:
            for positions, way in (("all", "layers"), ("last", "tokens"), ([LAST - 1, LAST], "tokens")):
                fast = sweep(model, PROMPTS, logit_difference, kind, positions)
                slow = naive_sweep(model, PROMPTS, logit_difference, kind, positions)
                assert (fast.ways, fast.notes, slow.ways) == ((way,), (), ("naive",))
                assert np.abs(fast.clean - slow.clean).max() < 1e-5
                assert np.abs(fast.ablated - slow.ablated).max() < 1e-5
                assert np.abs(slow.effect).max() > 1e-3, "an effect too small to compare"

    @pytest.mark.parametrize("at", [list(range(LENGTH)), [LAST]])
    def test_the_naive_sweep_equals_a_hook_on_the_output_projection(
        self, family: str, tiny: Tiny, at: list[int]
    ) -> None:
        model = loud(tiny(family))
        found = naive_sweep(model, PROMPTS, log_probability, "zero", at)
        answers = torch.tensor([[each.answer for each in READ]]).expand(len(PROMPTS), -1)
        for head in (Head(0, 3), Head(1, 1)):
            logits = plain_effect(model, head, at)[:, [each.position for each in READ]]
            expected = log_probability(logits, answers, answers[..., None])
            assert np.abs(found.ablated[head][:] - expected.numpy()).max() < 1e-5

    def test_attribution_equals_the_derivative(self, family: str, tiny: Tiny) -> None:
        model = loud(tiny(family))
        prompts = PROMPTS[:1]
        estimate = attribution_patching(model, prompts, answer_logit, "zero").at[0]  # [layer head position]
        step = 0.02  # norms work in float32, whatever the weights are
        for head, position in ((Head(0, 1), 5), (Head(0, 2), LAST), (Head(1, 3), 20)):

            def scaled(by: float, head: Head = head, position: int = position) -> float:
                def tap(call: attention_interface.AttentionCall, z: torch.Tensor) -> torch.Tensor:
                    z = z.clone()
                    z[:, position, head.head] *= by
                    return z

                with attention_interface.attention_hooks({model.anatomy.attention[head.layer]: tap}), torch.no_grad():
                    logits = model.model(torch.tensor([prompts[0].tokens])).logits
                return sum(logits[0, each.position, each.answer].item() for each in READ) / len(READ)

            slope = (scaled(1 + step) - scaled(1 - step)) / (2 * step)  # per unit of z itself; zeroing takes one off
            assert estimate[head][position] == pytest.approx(-slope, rel=1e-2, abs=2e-5)


def answer_logit(logits: torch.Tensor, answers: torch.Tensor, rivals: torch.Tensor) -> torch.Tensor:
    return logits.gather(-1, answers[..., None]).squeeze(-1).mean(-1)


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_sets_of_heads_are_what_behave_says_of_them(family: str, tiny: Tiny) -> None:
    model = loud(tiny(family))
    sets = [[], [Head(1, 2)], [Head(0, 0), Head(0, 3)], [Head(1, 1), Head(0, 1)], [], [Head(0, 1), Head(0, 1)]]
    for kind in ("zero", "mean", "resample"):
        found = ablate_sets(model, PROMPTS, logit_difference, sets, kind)
        expected = ablated_metric(model, PROMPTS, logit_difference, sets, kind)
        assert np.abs(found - expected).max() < 1e-5
        assert (found[0] == found[4]).all() and len(np.unique(found.mean(1).round(7))) >= 5
    contrast = ablate_sets(model, PROMPTS, logit_difference, sets, minus_corrupted=True)
    assert np.abs(contrast - ablated_metric(model, PROMPTS, logit_difference, sets, minus_corrupted=True)).max() < 1e-5


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "phi", "gpt_oss"])
@pytest.mark.parametrize("positions", ["all", "last"])
def test_what_is_added_to_a_set_of_heads_is_what_an_edit_adds(family: str, positions: str, tiny: Tiny) -> None:
    model = loud(tiny(family))
    anatomy = model.anatomy
    drawn_z = torch.Generator().manual_seed(0)
    steps = [torch.randn(1, 1, anatomy.heads, anatomy.d_head, generator=drawn_z) for _ in range(anatomy.layers)]
    sets = [[Head(0, 1), Head(0, 2), Head(1, 3)], [Head(1, 0)], []]
    found = ablate_sets(model, PROMPTS, logit_difference, sets, ZValues(tuple(steps), added=True), positions)
    for heads, values in zip(sets[:2], found, strict=False):
        added = edits.add(
            "z", heads, {head: steps[head.layer][0, 0, head.head] for head in heads},
            positions=None if positions == "all" else [LAST],
        )  # fmt: skip
        with intervene(model, [added]):
            expected = metric_per_prompt(model, PROMPTS, logit_difference)
        assert np.abs(values - expected).max() < 1e-5 < np.abs(values - found[2]).max()


def test_sets_that_are_empty_or_of_another_model_are_refused(tiny: Tiny) -> None:
    model = loud(tiny("gpt2"))
    with pytest.raises(ValueError, match="no heads to ablate"):
        ablate_sets(model, PROMPTS, logit_difference, [[], []])
    with pytest.raises(ValueError, match="L2H0 is not in a model of 2 layers x 4 heads"):
        ablate_sets(model, PROMPTS, logit_difference, [[Head(0, 0), Head(2, 0)]])


class TestSweep:
    def test_at_all_positions_it_is_what_behave_says_of_each_head(self, tiny: Tiny) -> None:
        model = loud(tiny("llama"))
        heads = [Head(0, 1), Head(1, 2)]
        for kind in ("zero", "mean", "resample"):
            for contrast in (False, True):
                found = sweep(model, PROMPTS, logit_difference, kind, heads=heads, minus_corrupted=contrast)
                expected = ablated_metric(
                    model, PROMPTS, logit_difference, [[], *[[head] for head in heads]], kind, contrast
                )
                assert np.abs(found.clean - expected[0]).max() < 1e-5
                assert np.abs(np.stack([found.ablated[head] for head in heads]) - expected[1:]).max() < 1e-5

    def test_contrast_at_the_last_position(self, tiny: Tiny) -> None:
        model = loud(tiny("gpt_oss"))
        fast, slow = (
            each(model, PROMPTS, logit_difference, "mean", "last", minus_corrupted=True)
            for each in (sweep, naive_sweep)
        )
        assert np.abs(fast.ablated - slow.ablated).max() < 1e-5

    def test_only_the_heads_asked_for(self, tiny: Tiny) -> None:
        model = loud(tiny("gpt2"))
        whole, part = (sweep(model, PROMPTS, logit_difference, heads=heads) for heads in (None, [Head(1, 2)]))
        assert np.isfinite(part.ablated).sum() == len(PROMPTS)
        assert np.abs(part.ablated[1, 2] - whole.ablated[1, 2]).max() < 1e-6
        assert np.allclose(part.effect[1, 2], part.ablated[1, 2] - part.clean)

    def test_prompts_of_several_lengths_and_batches(self, tiny: Tiny) -> None:
        model = loud(tiny("qwen2"))
        prompts = [
            *drawn(18, 9, (Readout(8, 5, (7,)),)), *PROMPTS, *drawn(2, 9, (Readout(8, 5, (7,)), Readout(3, 4, (8,)))),
        ]  # fmt: skip
        prompts = prompts[::2] + prompts[1::2]
        for kind in KINDS:
            fast, slow = (each(model, prompts, logit_difference, kind, "last") for each in (sweep, naive_sweep))
            assert np.abs(fast.ablated - slow.ablated).max() < 1e-5

    def test_patching_from_a_chosen_run(self, tiny: Tiny) -> None:
        model = loud(tiny("llama"))
        controls = [prompt.corrupted for prompt in PROMPTS]
        own = sweep(model, PROMPTS, logit_difference, "resample")
        same = sweep(model, PROMPTS, logit_difference, "resample", source=controls)
        self_patched = sweep(model, PROMPTS, logit_difference, "resample", source=[p.tokens for p in PROMPTS])
        assert np.array_equal(own.ablated, same.ablated)
        assert np.abs(self_patched.effect).max() < 1e-6 < np.abs(own.effect).min()

    def test_the_normalized_effect_counts_from_the_prompt_to_its_source(self) -> None:
        clean, sources = np.array([2.0, -1.0]), np.array([-2.0, 1.0])
        ablated = np.stack([np.stack([sources, clean, (clean + sources) / 2])])  # all of the way, nothing, half
        found, control = (Sweep(clean, ablated, each, ("naive",), ()) for each in (sources, clean + 0.1))
        share = np.array([[4.0, 0.0, 2.0], [-2.0, 0.0, -1.0]]) / 3.0  # distances 4 and 2, whose signs differ
        assert np.allclose(found.normalized_effect()[:, 0], share)
        assert np.allclose(control.normalized_effect(found)[:, 0], share)

    def test_a_reference_of_ones_own(self, tiny: Tiny) -> None:
        model = loud(tiny("gpt2"))
        mean = mean_z(model, [prompt.corrupted for prompt in PROMPTS])
        found = sweep(model, PROMPTS, logit_difference, mean)
        assert np.array_equal(found.ablated, sweep(model, PROMPTS, logit_difference, "mean").ablated)

    def test_the_position_mean_is_over_sources_of_the_same_length(self, tiny: Tiny) -> None:
        model = loud(tiny("llama"))
        seen: list[torch.Tensor] = []
        with (
            attention_interface.attention_hooks({model.anatomy.attention[0]: lambda call, z: seen.append(z.clone())}),
            torch.no_grad(),
        ):
            model.model(torch.tensor([prompt.corrupted for prompt in PROMPTS]))
        by_hand = ZValues(tuple(seen[0].mean(0, keepdim=True) for _ in range(2)))
        prompts = [*PROMPTS, *drawn(2, 9, (Readout(8, 5, (7,)),))]
        found = sweep(model, prompts, logit_difference, "position mean").ablated[0][:, :3]
        assert np.abs(found - sweep(model, PROMPTS, logit_difference, by_hand).ablated[0]).max() < 1e-5

    def test_positions_from_the_end_are_those_counted_from_the_start(self, tiny: Tiny) -> None:
        model = loud(tiny("llama"))
        behind, counted, last = (
            sweep(model, PROMPTS, logit_difference, "zero", where).ablated for where in ([-2], [LAST - 1], [-1])
        )
        assert np.array_equal(behind, counted) and np.abs(behind - last).max() > 1e-4
        with pytest.raises(HeadatlasError, match=f"position -{LENGTH + 1} is outside"):
            sweep(model, PROMPTS, logit_difference, "zero", [-LENGTH - 1])

    def test_an_edit_after_the_readout_changes_nothing(self, tiny: Tiny) -> None:
        model = loud(tiny("llama"))
        prompts = drawn(2, readouts=(Readout(10, answer=5, rivals=(7,)),))
        assert np.array_equal(sweep(model, prompts, logit_difference, "zero", "last").effect, np.zeros((2, 4, 2)))

    def test_how_many_heads_run_together_does_not_matter(self, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
        model = loud(tiny("gemma2"))
        for positions in ("all", "last"):
            together = sweep(model, PROMPTS, logit_difference, "mean", positions)
            alone = sweep(model, PROMPTS, logit_difference, "mean", positions, memory=1)
            monkeypatch.setattr(sweep_engine, "_ROWS", 10**9)  # several layers in one rerun
            mixed = sweep(model, PROMPTS, logit_difference, "mean", positions)
            monkeypatch.undo()
            assert np.abs(together.ablated - alone.ablated).max() < 1e-5
            assert np.abs(together.ablated - mixed.ablated).max() < 1e-5

    def test_progress_counts_heads_times_prompts(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("gpt2")))
        done: list[int] = []
        sweep(model, PROMPTS, logit_difference, "zero", minus_corrupted=True, progress=done.append)
        assert sum(done) == 2 * 4 * len(PROMPTS)

    def test_each_ablation_is_applied_exactly_once(self, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
        model = loud(tiny("llama"))
        for positions in ("all", "last"):
            sweep(model, PROMPTS, logit_difference, "mean", positions)  # what the model allows is known now
        calls: list[tuple[int, int]] = []  # copy and head
        for name in ("put", "write"):
            plain = getattr(CopyEdit, name)

            def counted(self: CopyEdit, *given: Any, plain: Any = plain) -> None:
                calls.extend(self.pairs)
                plain(self, *given)

            monkeypatch.setattr(CopyEdit, name, counted)
        for positions in ("all", "last"):
            calls.clear()
            sweep(model, PROMPTS, logit_difference, "mean", positions)
            assert sorted(head for _, head in calls) == [0, 0, 1, 1, 2, 2, 3, 3]


class TestMistakes:
    @pytest.mark.parametrize(
        "options, complaint",
        [
            ({"positions": [LENGTH]}, "outside a prompt"),
            ({"positions": [-LENGTH - 1]}, "outside a prompt"),
            ({"source": [PROMPTS[0].tokens]}, "differ in number or length"),
            ({"source": [prompt.tokens[1:] for prompt in PROMPTS]}, "differ in number or length"),
        ],
    )
    def test_of_users(self, tiny: Tiny, options: dict[str, Any], complaint: str) -> None:
        model = open_model(str(tiny("gpt2")))
        for each in (sweep, attribution_patching):
            with pytest.raises(HeadatlasError, match=complaint):
                each(model, PROMPTS, logit_difference, **options)

    @pytest.mark.parametrize(
        "options, complaint",
        [
            ({"heads": []}, "no heads"),
            ({"heads": [Head(2, 0)]}, "L2H0 is not in a model"),
            ({"positions": []}, "no positions"),
            ({"positions": "first"}, "no positions"),
            ({"ablation": "noise"}, "no kind of ablation"),
        ],
    )
    def test_of_programmers(self, tiny: Tiny, options: dict[str, Any], complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            sweep(open_model(str(tiny("gpt2"))), PROMPTS, logit_difference, **options)

    def test_prompts_that_read_nothing(self, tiny: Tiny) -> None:
        with pytest.raises(HeadatlasError, match="no readout"):
            sweep(open_model(str(tiny("gpt2"))), drawn(1, readouts=()), logit_difference)

    def test_a_behaviour_that_counts_has_no_gradient(self, tiny: Tiny) -> None:
        with pytest.raises(HeadatlasError, match="no gradient"):
            attribution_patching(open_model(str(tiny("gpt2"))), PROMPTS, accuracy)


class TestHygiene:
    @pytest.mark.parametrize("positions", ["all", "last"])
    def test_an_exception_leaves_the_model_as_it_was(self, tiny: Tiny, positions: str) -> None:
        model = open_model(str(tiny("llama")))
        tokens = torch.tensor([prompt.tokens for prompt in PROMPTS])
        before = forward(model, tokens, {})

        def explode(*_: torch.Tensor) -> torch.Tensor:
            raise KeyError("inside")

        def explode_in_layer_1(call: attention_interface.AttentionCall, z: torch.Tensor) -> None:
            raise KeyError("inside")

        sweep(model, PROMPTS, logit_difference, "zero", positions)  # so that the next one gets to its reruns
        clean = run_clean(model, tokens, torch.tensor([LAST]), LAST if positions == "last" else 0)
        with (
            pytest.raises(KeyError),
            attention_interface.attention_hooks({model.anatomy.attention[1]: explode_in_layer_1}),
        ):
            rerun_from(model, clean, 0, 2, {})
        for each in (sweep, attribution_patching):
            with pytest.raises(KeyError):
                each(model, PROMPTS, explode, "zero", positions)
        for module in model.model.modules():
            assert not module._forward_hooks and not module._forward_pre_hooks and "forward" not in vars(module)
        assert torch.equal(forward(model, tokens, {}), before)

    def test_a_model_whose_blocks_cannot_be_skipped_is_run_in_full(
        self, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second block reads what the first left beside the stream, as models with shared layers do."""
        model = loud(tiny("llama"))
        first, second = model.anatomy.blocks
        left: list[torch.Tensor] = []
        first.mlp.register_forward_hook(lambda _m, _i, output: left.append(output))
        second.mlp.register_forward_hook(lambda _m, _i, output: output + 10 * left[-1][0, -1, 0])
        found = sweep(model, PROMPTS, logit_difference, "zero", "last")
        slow = naive_sweep(model, PROMPTS, logit_difference, "zero", "last")
        assert found.ways == ("naive",) and "no layers" in found.notes[-1]
        assert np.array_equal(found.ablated, slow.ablated)

    @pytest.mark.parametrize("positions", ["all", "last"])
    def test_nothing_is_skipped_while_other_edits_are_in_force(self, tiny: Tiny, positions: str) -> None:
        model = loud(tiny("llama"))
        sweep(model, PROMPTS, logit_difference, "zero", positions)  # what the model allows is known now
        for edit in (edits.zero("attn_out", [0], [5, LAST]), edits.scale("z", [Head(1, 2)], 3.0, [LAST])):
            with intervene(model, [edit]):
                found, slow = (
                    each(model, PROMPTS, logit_difference, "zero", positions) for each in (sweep, naive_sweep)
                )
            assert found.ways == ("naive",) and "in force" in found.notes[0]
            assert np.array_equal(found.ablated, slow.ablated)

    def test_an_unedited_rerun_gives_the_clean_logits(self, tiny: Tiny) -> None:
        model = loud(tiny("gemma3"))
        tokens = torch.tensor([prompt.tokens for prompt in PROMPTS])
        for start in (0, 18, LAST):
            clean = run_clean(model, tokens, torch.tensor([3, 20, LAST]), start)
            for layer in (0, 1):
                assert (rerun_from(model, clean, layer, 3, {}) - clean.logits).abs().max() < 1e-5

    @pytest.mark.parametrize("family", ["llama", "phi"])
    def test_a_rerun_computes_no_more_than_it_must(self, family: str, tiny: Tiny) -> None:
        model = loud(tiny(family))
        clean = run_clean(model, torch.tensor([prompt.tokens for prompt in PROMPTS]), torch.tensor([20, LAST]))
        modules = {
            "norm": [block.input_layernorm for block in model.anatomy.blocks],
            "projection": model.anatomy.projections.values(),
            "mlp": [block.mlp for block in model.anatomy.blocks],
        }
        rows: dict[tuple[str, int], list[int]] = {}
        for name, each in modules.items():
            for layer, module in enumerate(each):
                seen = rows.setdefault((name, layer), [])
                module.register_forward_hook(lambda _m, read, _o, seen=seen: seen.append(read[0][..., 0].numel()))
        copies, whole = 5, len(PROMPTS) * LENGTH
        rerun_from(model, clean, 0, copies, {})
        parallel = family == "phi"  # its MLP reads the stream as its attention does, so the first one is not copied
        assert rows["norm", 0] == rows["projection", 0] == [whole]
        assert rows["mlp", 0] == [whole if parallel else copies * whole]
        assert rows["projection", 1] == rows["mlp", 1] == [copies * len(PROMPTS) * 2]

    def test_an_edit_before_the_first_layer_that_runs_is_refused(self, tiny: Tiny) -> None:
        model = open_model(str(tiny("llama")))
        clean = run_clean(model, torch.tensor([PROMPTS[0].tokens]), torch.tensor([LAST]))
        with pytest.raises(ValueError, match="where the rerun starts"):
            rerun_from(model, clean, 1, 1, {0: [CopyEdit([(0, 0)], torch.tensor([0]), torch.zeros(1, 1, 1, 1))]})

    def test_memory_that_is_short_is_asked_for_in_halves(self, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
        model = loud(tiny("llama"))
        expected = sweep(model, PROMPTS, logit_difference).ablated

        def short(at_most: int, error: type[RuntimeError], message: str) -> Callable[..., torch.Tensor]:
            def limited(model: OpenModel, clean: CleanRun, layer: int, copies: int, edits: Any) -> torch.Tensor:
                if copies * len(clean.tokens) > at_most:
                    raise error(message)
                return rerun_from(model, clean, layer, copies, edits)

            return limited

        for at_most, complaint in ((6, "sets of heads at once"), (2, "prompts at once")):
            monkeypatch.setattr(
                sweep_engine, "rerun_from", short(at_most, RuntimeError, "can't allocate memory: you tried")
            )
            found = sweep(model, PROMPTS, logit_difference)
            assert np.abs(found.ablated - expected).max() < 1e-5
            assert any(complaint in note for note in found.notes)
        monkeypatch.setattr(sweep_engine, "rerun_from", short(0, torch.OutOfMemoryError, "CUDA"))
        with pytest.raises(HeadatlasError, match="not enough memory for one prompt"):
            sweep(model, PROMPTS, logit_difference)
        monkeypatch.setattr(sweep_engine, "rerun_from", short(0, RuntimeError, "something else"))
        found = sweep(model, PROMPTS, logit_difference)  # whatever it was, full runs are right
        assert np.abs(found.ablated - expected).max() < 1e-5
        assert found.ways == ("naive",) and "something else" in found.notes[-1]


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["all", "last"])
def test_memory_stays_flat_over_twenty_batches(tiny: Tiny, positions: str) -> None:
    model, held = loud(tiny("llama")), []
    for batch in range(20):
        sweep(model, drawn(2, seed=batch), logit_difference, "resample", positions)
        if batch in (1, 19):
            held.append(held_bytes())
    assert held[0] == held[1]


def test_two_models_swept_at_once_do_not_mix(tiny: Tiny, tmp_path: Path) -> None:
    """A sweep of one inside a sweep of the other."""
    one, two = loud(tiny("llama")), loud(save_tiny("llama", tmp_path, seed=1))
    inside: list[np.ndarray] = []

    def plain(*given: torch.Tensor) -> torch.Tensor:
        return logit_difference(*given)

    def behaviour(*given: torch.Tensor) -> torch.Tensor:
        if not inside:
            inside.append(sweep(two, PROMPTS, plain, "zero").ablated)
        return logit_difference(*given)

    alone = [sweep(model, PROMPTS, plain, "zero").ablated for model in (one, two)]
    outside = sweep(one, PROMPTS, behaviour, "zero").ablated
    assert np.array_equal(outside, alone[0]) and np.array_equal(inside[0], alone[1])
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


class TestScreening:
    def linear(self, tiny: Tiny) -> OpenModel:
        """A GPT-2 whose last layer's z reaches the logits through matrices only."""
        model = loud(tiny("gpt2"))
        model.model.transformer.ln_f = torch.nn.Identity()
        with torch.no_grad():
            model.anatomy.blocks[1].mlp.c_proj.weight.zero_()
        return model

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("positions", ["all", "last"])
    def test_attribution_is_exact_where_the_model_is_linear(self, tiny: Tiny, kind: str, positions: str) -> None:
        model = self.linear(tiny)
        for contrast in (False, True):
            options = {"ablation": kind, "positions": positions, "minus_corrupted": contrast}
            exact = sweep(model, PROMPTS, logit_difference, **options).effect
            estimate = attribution_patching(model, PROMPTS, logit_difference, **options).estimate
            assert np.abs(exact[1] - estimate[1]).max() < 1e-5 * max(1, np.abs(exact[1]).max())
            assert np.abs(exact[1]).max() > 1e-3
            if not (contrast and kind == "resample" and positions == "last"):
                assert np.abs(exact[0] - estimate[0]).max() > 1e-5, "the first layer is not linear"

    def test_estimates_are_zero_where_nothing_is_replaced(self, tiny: Tiny) -> None:
        (estimate,) = attribution_patching(loud(tiny("llama")), PROMPTS[:1], logit_difference, positions=[4, 9]).at
        assert estimate.shape == (2, 4, LENGTH)
        assert set(np.flatnonzero(np.abs(estimate).sum((0, 1)))) == {4, 9}

    def test_estimates_are_never_measurements(self, tiny: Tiny) -> None:
        model = loud(tiny("llama"))
        found = screen(model, PROMPTS, logit_difference, top=3, sample=2)
        verified = {*found.top, *found.sample}
        assert (len(found.top), len(found.sample), len(verified)) == (3, 2, 5)
        measured = sweep(model, PROMPTS, logit_difference, "resample").ablated
        for layer in range(2):
            for head in range(4):
                if Head(layer, head) in verified:
                    assert np.abs(found.exact.ablated[layer, head] - measured[layer, head]).max() < 1e-5
                else:
                    assert np.isnan(found.exact.ablated[layer, head]).all()
        sizes = np.abs(found.estimate)
        assert {*found.top} == {Head(*divmod(int(each), 4)) for each in np.argsort(-sizes.ravel())[:3]}
        assert found.threshold == pytest.approx(min(abs(found.exact.effect[head].mean()) for head in found.top))
        assert screen(model, PROMPTS, logit_difference, top=3, sample=2).sample == found.sample

    def test_a_screen_that_verifies_everything_misses_nothing(self, tiny: Tiny) -> None:
        found = screen(self.linear(tiny), PROMPTS, logit_difference, top=8)
        assert (found.sample, found.missed) == ((), ())
        assert np.isnan(found.miss_rate) and found.miss_interval == (0.0, 0.0)
        assert 0.5 < found.rank_correlation <= 1.0

    def test_misses_are_counted(self, tiny: Tiny) -> None:
        model = loud(tiny("llama"))
        every = screen(model, PROMPTS, logit_difference, top=1, sample=7, threshold=0.0)
        assert (every.miss_rate, every.miss_interval, len(every.missed)) == (1.0, (1.0, 1.0), 7)
        none = screen(model, PROMPTS, logit_difference, top=1, sample=3, threshold=np.inf)
        assert none.miss_rate == 0.0 and none.missed == ()
        low, high = none.miss_interval
        assert low == 0.0 and 0.0 < high < 1.0

    def test_the_interval_has_every_share_that_a_test_does_not_reject(self, tiny: Tiny) -> None:
        """Of 7 heads that are not among the top, 4 are drawn: how many of the 7 could be misses, by counting draws."""

        def likely(hits: int, misses: int) -> bool:
            counts = [sum(each < misses for each in draw) for draw in itertools.combinations(range(7), 4)]
            return all(np.mean(side) > 0.025 for side in (np.less_equal(counts, hits), np.greater_equal(counts, hits)))

        model = loud(tiny("llama"))
        strength = screen(model, PROMPTS, logit_difference, top=1, sample=4)
        sizes = sorted(abs(strength.exact.effect[head].mean()) for head in strength.sample)
        for hits, least in ((0, np.inf), (2, (sizes[1] + sizes[2]) / 2), (4, 0.0)):
            found = screen(model, PROMPTS, logit_difference, top=1, sample=4, threshold=least)
            kept = [misses / 7 for misses in range(8) if hits <= misses <= 7 - (4 - hits) and likely(hits, misses)]
            assert len(found.missed) == hits and found.miss_interval == pytest.approx((min(kept), max(kept)))

    def test_rank_correlation_is_spearmans(self, tiny: Tiny) -> None:
        model = loud(tiny("llama"))
        found = screen(model, PROMPTS, logit_difference, top=4, sample=4)
        heads = [*found.top, *found.sample]
        pairs = [[each[head] for head in heads] for each in (found.estimate, found.exact.effect.mean(-1))]
        assert found.rank_correlation == pytest.approx(spearmanr(*pairs).statistic) and found.rank_correlation < 1
        assert np.isnan(screen(model, PROMPTS, logit_difference, top=2, sample=0).rank_correlation), "of two heads"


def test_a_model_spread_by_its_own_forward_is_left_with_it(tiny: Tiny) -> None:
    """Libraries that spread a model over devices put a forward of their own on each block."""
    model = loud(tiny("llama"))
    own = {}
    for block in model.anatomy.blocks:
        own[block] = block.forward
        block.forward = own[block]
    sweep(model, PROMPTS, logit_difference, "zero", "last")
    assert all(vars(block)["forward"] is own[block] for block in model.anatomy.blocks)


def test_logits_of_bfloat16_models_are_rerun_too(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")), dtype=torch.bfloat16)
    fast, slow = (each(model, PROMPTS, logit_difference, "zero") for each in (sweep, naive_sweep))
    assert fast.ways == ("layers",)
    assert np.abs(fast.ablated - slow.ablated).max() < 0.05
