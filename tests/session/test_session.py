"""A session: text in, and the numbers of plain transformers and of the lab out."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import transformers

import headatlas
from headatlas import Head, HeadatlasError, lab, specimens
from headatlas.census import reading
from headatlas.lab import OpenModel, forward, intervene, open_model, record
from headatlas.session.opening import Session
from headatlas.session.tokens import words_of
from tiny_prompts import plain

TEXT = "When Mary and John went to the store, John gave a drink to"
PROJECTIONS = {"gpt2": "transformer.h.{}.attn.c_proj", "llama": "model.layers.{}.self_attn.o_proj"}


@pytest.fixture(scope="module")
def opened(specimen: OpenModel) -> Session:
    return headatlas.open(specimen)


def by_hand(folder: Path, text: str) -> tuple[Any, torch.Tensor]:
    """A model as transformers opens it, eagerly, and the ids of a text after BOS."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
    return plain(folder, attn_implementation="eager"), torch.tensor([ids])


@contextmanager
def zeroed(model: Any, family: str, heads: list[Head]) -> Iterator[None]:
    """While active, the output projections read zeros where these heads' z would be."""

    def hook(head: int, width: int) -> Callable[..., tuple[torch.Tensor]]:
        def change(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
            z = args[0].clone()
            z[..., head * width : (head + 1) * width] = 0
            return (z,)

        return change

    width = model.config.hidden_size // model.config.num_attention_heads
    with ExitStack() as stack:
        for layer, head in heads:
            module = model.get_submodule(PROJECTIONS[family].format(layer))
            stack.callback(module.register_forward_pre_hook(hook(head, width)).remove)
        yield


@pytest.fixture(scope="module", params=["specimen", "gpt2", "llama"])
def place(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> tuple[Path, str]:
    """The folder of a model, and its family."""
    name = request.param
    return (specimens.folder(), "gpt2") if name == "specimen" else (tiny(name), name)


class TestNumbers:
    """Equal to plain transformers in eager mode, on the specimen and on untrained models."""

    def test_attention_logits_and_ablation(self, place: tuple[Path, str]) -> None:
        folder, family = place
        model, ids = by_hand(folder, TEXT)
        with torch.no_grad():
            whole = model(ids, output_attentions=True)
        with headatlas.open(folder) as session:
            assert session.tokens(TEXT).ids == tuple(ids[0].tolist())
            attention = session.attention(TEXT)
            expected = torch.cat(whole.attentions).numpy()  # [layer head query key]
            assert attention.weights.dtype == np.float32
            assert attention.weights == pytest.approx(expected, abs=1e-5)
            assert attention["L1H2"].weights == pytest.approx(expected[1, 2], abs=1e-5)
            assert session.logits(TEXT) == pytest.approx(whole.logits[0].numpy(), abs=1e-3)
            off = [Head(0, 1), Head(1, 3)]
            with zeroed(model, family, off), torch.no_grad():
                damaged = model(ids, output_attentions=True)
            assert abs(damaged.logits - whole.logits).max() > 1e-3
            without = session.without("L0H1", Head(1, 3))
            assert without.logits(TEXT) == pytest.approx(damaged.logits[0].numpy(), abs=1e-3)
            assert without.attention(TEXT).weights == pytest.approx(torch.cat(damaged.attentions).numpy(), abs=1e-5)
            assert session.logits(TEXT) == pytest.approx(whole.logits[0].numpy(), abs=1e-3), "and it is whole again"

    def test_equal_to_the_lab_bit_by_bit(self, opened: Session) -> None:
        tokens = opened.model.tokens(TEXT)
        seen = record(opened.model, tokens, ["pattern"])
        attention = opened.attention(TEXT)
        for head in opened.model.anatomy.all_heads:
            assert torch.equal(torch.from_numpy(attention[head].weights), seen["pattern", str(head)][0])
        with intervene(opened.model, [lab.edits.zero("z", "L4H5")]):
            expected = forward(opened.model, tokens)[0].numpy()
        assert np.array_equal(opened.without("L4H5").logits(TEXT), expected)

    def test_next_tokens_are_those_of_the_logits(self, opened: Session) -> None:
        p = torch.from_numpy(opened.logits(TEXT))[-1].softmax(-1)
        found = opened.next(TEXT, top=3)
        assert [each.id for each in found] == p.topk(3).indices.tolist() and found[0].word == " Mary"
        assert [each.probability for each in found] == pytest.approx(p.topk(3).values.tolist(), abs=1e-6)
        without = opened.without("L4H3", "L4H5").next(TEXT, top=3)
        q = torch.from_numpy(opened.without("L4H3", "L4H5").logits(TEXT))[-1].softmax(-1)
        assert {each.id for each in without} == {*p.topk(3).indices.tolist(), *q.topk(3).indices.tolist()}
        for each in without:
            assert each.probability == pytest.approx(q[each.id].item(), abs=1e-6)
            assert each.intact == pytest.approx(p[each.id].item(), abs=1e-6)
        assert list(without.to_frame().probability) == sorted((each.probability for each in without), reverse=True)


class TestWithout:
    def test_in_a_block_the_session_is_without(self, opened: Session) -> None:
        whole, without = opened.logits(TEXT), opened.without("L4H5", "L4H3").logits(TEXT)
        with opened.without("L4H5"):
            assert opened.removed == (Head(4, 5),)
            with opened.without("L4H3") as inner:
                assert np.array_equal(opened.logits(TEXT), without) and np.array_equal(inner.logits(TEXT), without)
                assert opened.next(TEXT)[0].intact == pytest.approx(opened.next(TEXT).to_frame().intact[0])
            assert opened.removed == (Head(4, 5),) and repr(opened).endswith("without L4H5>")
        assert opened.removed == () and np.array_equal(opened.logits(TEXT), whole)

    def test_after_an_error_the_session_is_whole(self, opened: Session) -> None:
        with pytest.raises(HeadatlasError, match="give a text, not list"), opened.without("L4H5"):
            opened.next([1, 2])  # type: ignore[arg-type]
        assert opened.removed == ()

    def test_a_rerun_is_of_the_intact_model(self, opened: Session) -> None:
        with pytest.raises(HeadatlasError, match="outside without"):
            opened.without("L4H5").rerun("induction")


class TestNames:
    def test_measured_names_are_those_of_the_census(self, opened: Session) -> None:
        census = next(each for each in reading.recorded() if each.model.id == "specimen")
        head = next(each for each in census.heads if len(each.labels) > 2)
        found = opened.names(head.head)
        assert list(found.measured) == head.labels and found.reported == () and found.known
        said = repr(found)
        assert said.index("reported by papers:") < said.index("no name") < said.index("measured, census of")
        assert f"{head.labels[0].type} {head.labels[0].score:.2f}" in said.partition("measured")[2]

    def test_changed_weights_have_no_measured_names(self, tmp_path: Path) -> None:
        with headatlas.open("specimen") as session:
            session.model.model.get_submodule("transformer.h.0.mlp.c_fc").weight.data[0, 0] += 1
            found = session.names("L4H5")
        assert found.measured == () and found.census is None and not found.known
        assert "no census of this model" in repr(found) and "does not know this model" in repr(found)

    def test_reported_names_are_those_of_papers(self, monkeypatch: pytest.MonkeyPatch, opened: Session) -> None:
        """No model that ships is named by papers: as if this one were GPT-2 small."""
        from headatlas.session import naming

        monkeypatch.setattr(naming, "catalog_id", lambda catalog, model: "gpt2")
        found = headatlas.open(opened.model).names("L5H5")
        assert "induction" in [each.head_type.id for each in found.reported]
        assert "induction (" in repr(found).partition("measured")[0]


class TestWords:
    def test_tokens_are_words(self, opened: Session) -> None:
        tokens = opened.tokens(TEXT)
        assert len(tokens) == 15 and list(tokens)[:3] == ["<|endoftext|>", "When", " Mary"] and tokens[2] == " Mary"
        assert repr(tokens).startswith("<15 tokens: <|endoftext|>|When| Mary|")

    @pytest.mark.parametrize("text", ["café", "☃ and ☃", "naïve 日本 🙂!"])
    def test_characters_of_several_tokens_are_whole(self, opened: Session, text: str) -> None:
        words = opened.tokens(text).words[1:]
        assert len(words) == len(opened.tokens(text)) - 1
        assert "".join(word for word in words if word != "…") == text and "\ufffd" not in "".join(words)

    def test_a_broken_character_stays_broken(self, opened: Session) -> None:
        ids = opened.tokens("☃").ids[1:]
        words = words_of(opened.model.tokenizer, ids[:-1])
        assert len(words) == len(ids) - 1 and "\ufffd" in "".join(words)

    def test_without_bos_where_prompts_have_none(self, tiny: Callable[[str], Path]) -> None:
        model = open_model(tiny("gpt2"))
        model.tokenizer.bos_token = None
        with headatlas.open(model) as session:
            assert session.tokens("When").words == ("When",)
            with pytest.raises(HeadatlasError, match="no tokens, and prompts of this model start without BOS"):
                session.tokens("")


class TestMistakes:
    def test_are_one_line(self, opened: Session) -> None:
        asked: list[Callable[[], object]] = [
            lambda: opened.names("L9H9"),
            lambda: opened.without("L9H9"),
            lambda: opened.without(),
            lambda: opened.attention(TEXT)["L9H9"],
            lambda: opened.attention(TEXT)["nonsense"],
            lambda: opened.tokens("word " * 2000),
            lambda: opened.rerun("no-such-type"),
        ]
        for each in asked:
            with pytest.raises(HeadatlasError) as error:
                each()
            assert "\n" not in str(error.value)

    def test_an_open_model_takes_no_options(self, specimen: OpenModel) -> None:
        with pytest.raises(ValueError, match="leave out dtype"):
            headatlas.open(specimen, dtype="bfloat16")

    def test_patterns_that_would_fill_the_memory_are_refused(
        self, opened: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from headatlas.session import attention

        monkeypatch.setattr(attention, "_MOST_BYTES", 48 * 15 * 15 * 4)
        assert opened.attention(TEXT)
        with pytest.raises(HeadatlasError, match=r"17 tokens take .* shorten the text"):
            opened.attention(TEXT + " her")


class TestPictures:
    def test_a_head_is_drawn_with_its_words_and_its_weights(self, opened: Session) -> None:
        head = opened.attention(TEXT)["L4H5"]
        picture = ElementTree.fromstring(head.svg)
        texts = ["".join(each.itertext()) for each in picture.iter("text")]
        assert texts.count("Mary") == 2 and texts.count("<|endoftext|>") == 2
        titles = [each.text or "" for each in picture.iter("title")]
        query, key = len(head.tokens) - 1, 2
        assert f"“ to” (14) attends to “ Mary” (2): {head.weights[query, key]:.2f}" in titles
        assert len(titles) == int((head.weights >= 0.005).sum())

    def test_without_the_style_sheet_of_the_site(self, opened: Session) -> None:
        attention = opened.attention(TEXT)
        for shown in (attention["L4H5"]._repr_html_(), attention._repr_html_()):
            assert "var(" not in shown and "currentColor" in shown and "<script" not in shown

    def test_a_text_cannot_put_markup_on_a_page(self, opened: Session) -> None:
        attention = opened.attention("<script>alert(1)</script> & <b>")
        for shown in (attention["L0H0"]._repr_html_(), attention._repr_html_(), attention.tokens._repr_html_()):
            assert "<script" not in shown and "<b>" not in shown
        ElementTree.fromstring(attention["L0H0"].svg)

    def test_a_long_text_says_what_is_left_out(self, opened: Session) -> None:
        long = opened.attention("the store " * 60)["L0H0"]
        assert "the first 80 of 122 tokens" in long._repr_html_() and len(long.weights) == 122

    def test_all_heads_are_drawn(self, opened: Session) -> None:
        html = opened.attention(TEXT)._repr_html_()
        assert all(f"<title>{head}</title>" in html for head in opened.model.anatomy.all_heads) and len(html) < 100_000

    def test_outside_a_notebook_show_prints(self, opened: Session, capsys: pytest.CaptureFixture[str]) -> None:
        opened.attention(TEXT)["L4H5"].show()
        last = capsys.readouterr().out.rstrip().splitlines()[-1]
        assert last.split() == ["14", "“", "to”", "“", "Mary”", "(2)", "1.00"]

    def test_in_a_notebook_show_displays(self, opened: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        from types import SimpleNamespace

        displayed: list[object] = []
        shell = SimpleNamespace(has_trait=lambda name: name == "kernel")
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=displayed.append))
        head = opened.attention(TEXT)["L4H5"]
        head.show()
        assert displayed == [head]


def test_reprs_are_short(opened: Session, specimen: OpenModel) -> None:
    seen = record(specimen, specimen.tokens(TEXT), ["pattern", "z"])
    for each in (opened, specimen, seen, opened.attention(TEXT), opened.attention(TEXT)["L0H0"], reading.recorded()[0]):
        assert len(repr(each)) < 160 and "\n" not in repr(each)


def test_a_rerun_says_how_far_it_is(opened: Session, capsys: pytest.CaptureFixture[str]) -> None:
    found = opened.rerun("correct-letter")
    assert repr(found) == f"<rerun of correct-letter in specimen: reproduced, {len(found.heads)} heads>"
    said = capsys.readouterr().err
    assert "correct-letter: scores of all heads" in said and "correct-letter: interventions" in said
    assert opened.rerun("correct-letter", progress=False).record.verdict == found.verdict
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "package, heavy",
    [
        ("headatlas", {"torch", "transformers", "numpy", "pandas", "tqdm"}),
        ("headatlas.lab", {"scipy.stats", "networkx", "pandas", "sklearn", "matplotlib"}),
    ],
)
def test_nothing_heavy_is_imported_needlessly(package: str, heavy: set[str]) -> None:
    code = f"import sys, {package}; print(*({heavy!r} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
