"""Lists of heads: every format is read back, published lists get their names, and random lists get none."""

import json
import random
from pathlib import Path

import pytest

import headatlas
from headatlas.census import exchange, head_lists, identifying, reading
from headatlas.census.head_lists import ModelShape, read_heads
from headatlas.census.schema import Census
from headatlas.cli.program import main
from headatlas.errors import HeadatlasError
from headatlas.notation import Head

CATALOG = headatlas.load()
GPT2 = ModelShape("GPT-2 small", 12, 12, 12)
GROUPED = ModelShape("grouped", 2, 6, 3)


@pytest.fixture(scope="module")
def census() -> Census:
    place = reading.find("specimen")
    assert place
    return reading.read(place)


@pytest.mark.parametrize(
    "text",
    [
        "L5H1 L11H10",
        "L5H1\nL11H10\n",
        "# from my paper\n5.1, 11.10  # late",
        "(5, 1), (11, 10)",
        "5-1;11-10",
        '["L5H1", "11.10"]',
        "[[5, 1], [11, 10]]",
        '{"heads": [{"head": "L5H1"}, {"head": "L11H10"}]}',
        "layer,head,score\n5,1,0.3\n11,10,0.2",
        "layer\tindex\n5\t1\n11\t10",
        "head,score\nL5H1,0.3\nL11H10,0.2",
        'attn_head_set: "5-1,11-10"\nmodel_base_class: "gpt2"',
    ],
)
def test_every_way_to_write_a_list_is_read(text: str) -> None:
    assert read_heads(text, GPT2) == [Head(5, 1), Head(11, 10)]


def test_of_scores_of_every_head_the_highest_are_taken() -> None:
    text = json.dumps({"0-1": [0.1, 0.3], "5-1": [0.9], "11-10": 0.8, "3-3": [0.0]})
    assert read_heads(text, GPT2, top=2) == [Head(5, 1), Head(11, 10)]
    with pytest.raises(HeadatlasError, match="--top N"):
        read_heads(text, GPT2)


def test_a_group_that_keeps_its_context_is_all_heads_that_read_it() -> None:
    assert read_heads("0.1\t0.7\t0\n0\t0\t0.5", GROUPED) == [Head(0, 2), Head(0, 3), Head(1, 4), Head(1, 5)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no head"),
        ("hello", "is not a head"),
        ("L12H0", "is not a head of GPT-2 small, which has 12 x 12 heads"),
        ("[1, 2", "is not JSON"),
        ("3", "is not a head"),
        ('{"a": {"b": 1}}', "no list of heads and no scores"),
        ("layer,score\n1,2", "needs layer and head"),
        ("0.1\t0.2\n0.3\t0.4", "needs 12 of 12 numbers"),
        ("attn_head_set: [", "attn_head_set"),
    ],
)
def test_what_is_no_list_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(HeadatlasError, match=said) as caught:
        read_heads(text, GPT2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", exchange.FORMATS)
def test_what_the_program_writes_it_reads(format: exchange.HeadFormat, census: Census) -> None:
    model, wanted = census.model, exchange.type_in(census, "induction").heads
    shape = ModelShape(model.name, model.layers, model.heads, model.kv_heads)
    text = exchange.text(census, "induction", format)
    found = read_heads(text, shape, top=len(wanted) if format == "headkv" else None)
    assert {str(head) for head in found} == set(wanted)
    best = identifying.identify(found, len(census.heads), census, {})[0]
    assert (best.type, best.stands, len(best.shared)) == ("induction", True, len(wanted))


def test_p_is_that_of_drawing_as_many_heads() -> None:
    """Two of two named heads of four: one draw in six."""
    (found,) = identifying.identify([Head(0, 0), Head(0, 1)], 4, None, {"a": {Head(0, 0), Head(0, 1)}})
    assert found.p == pytest.approx(1 / 6) and found.share == 1.0 and found.background == 0.5


def test_published_lists_of_gpt2_get_the_name_under_which_they_are_published() -> None:
    """Every type of which papers name at least three heads of GPT-2 small."""
    reported = identifying.reported_heads(CATALOG, "gpt2")
    lists = {id: heads for id, heads in reported.items() if len(heads) >= 3}
    assert len(lists) > 8
    for id, heads in lists.items():
        found = identifying.identify(sorted(heads), 144, None, reported)
        mine = next(each for each in found if each.type == id)
        assert mine.stands and mine.share == 1.0 and mine.p == min(each.p for each in found), id


def test_random_lists_get_no_name(census: Census) -> None:
    """At most one list in ten, of 200, as names of types that share heads are not independent; without a census too."""
    reported = identifying.reported_heads(CATALOG, "gpt2")
    every = [Head(layer, head) for layer in range(12) for head in range(12)]
    mine = [Head.parse(head.head) for head in census.heads]
    named = 0
    for number in range(100):
        rng = random.Random(number)
        named += identifying.identify(rng.sample(every, 6), 144, None, reported)[0].stands
        named += identifying.identify(rng.sample(mine, 6), len(mine), census, {})[0].stands
    assert named <= 20


def test_the_command_names_the_name_movers_of_gpt2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "heads.txt"
    path.write_text("L9H9 L9H6 L10H0\n")
    assert main(["identify", "gpt2", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("3 heads of GPT-2 small: more often than chance they are") and "name-mover" in out
    assert main(["identify", "gpt2", str(path), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["types"][0]
    assert (first["type"], first["source"], first["share"]) == ("name-mover", "papers", 1.0)


def test_mistakes_of_the_command_end_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "heads.txt"
    path.write_text("L99H9")
    for given in (["gpt2", str(path)], ["gpt2", str(tmp_path / "none")], ["no-such-model", str(path)]):
        assert main(["identify", *given]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") <= 3 and "Traceback" not in said


def test_a_file_that_is_no_text_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(HeadatlasError, match="give a text file"):
        head_lists.read_file(path)
