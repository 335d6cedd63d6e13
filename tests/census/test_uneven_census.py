"""Models whose layers differ: some without attention, some with fewer heads. All scores are drawn by hand."""

import csv
import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from headatlas import HeadatlasError
from headatlas.census import exchange, page
from headatlas.census.comparing import compare
from headatlas.census.labelling import joint_q
from headatlas.census.schema import Census
from headatlas.cli.terminal.census_view import print_census
from headatlas.pages.figures.heatmap import heatmap, top_of
from headatlas.pages.figures.training import HEADS, SKILLS, training_picture
from made_census import CATALOG, census, model_record, part, uneven_record

UNEVEN = uneven_record([0, 4, 0, 2], [0, 2, 0, 1])
HYBRID = uneven_record([0, 4, 0, 4], [0, 2, 0, 2])
THRESHOLD = 0.4  # of induction heads


@pytest.fixture
def taken() -> Census:
    found = {"L1H1": (0.8, 1e-9), "L1H2": (0.2, 1e-9), "L3H1": (0.6, 1e-6)}
    return census(UNEVEN, part("induction", UNEVEN, found), part("previous-token", UNEVEN, {"L3H0": (0.9, 1e-9)}))


class TestCensus:
    def test_heads_are_those_that_exist_with_the_models_own_layers(self, taken: Census) -> None:
        assert [each.head for each in taken.heads] == ["L1H0", "L1H1", "L1H2", "L1H3", "L3H0", "L3H1"]
        assert [each.group for each in taken.heads] == [0, 0, 1, 1, 0, 0]
        assert [each.depth for each in taken.heads] == [1 / 3] * 4 + [1.0] * 2
        groups = [(each.layer, each.group, each.heads) for each in taken.groups]
        assert groups == [(1, 0, ["L1H0", "L1H1"]), (1, 1, ["L1H2", "L1H3"]), (3, 0, ["L3H0", "L3H1"])]

    def test_shares_are_of_the_heads_that_exist(self, taken: Census) -> None:
        assert (taken.summary.heads, taken.summary.labelled, taken.summary.unknown) == (6, 3, 3)
        assert taken.summary.unknown_share == 0.5
        assert taken.types[0].heads == ["L1H1", "L3H1"]
        assert taken.types[0].mean_depth == pytest.approx(2 / 3)
        other = census(model_record(4, 4), part("induction", model_record(4, 4), {"L0H0": (0.9, 1e-9)}))
        side = compare(taken, other)[0]
        assert (side.first.share, side.second.share) == (2 / 6, 1 / 16)
        assert side.deeper == pytest.approx(-2 / 3)

    def test_q_is_over_the_heads_that_exist(self, taken: Census) -> None:
        parts = [part("induction", UNEVEN, {"L3H1": (0.6, 0.001)}), part("previous-token", UNEVEN, {})]
        q = joint_q(parts)["induction"]
        assert q[3, 1] == pytest.approx(0.001 * 12)  # 2 types x 6 heads
        assert np.isnan(q[[0, 2]]).all() and np.isnan(q[3, 2:]).all() and q[1].tolist() == [1.0] * 4
        rows = taken.types[0].q
        assert rows is not None and [len(row) for row in rows] == [0, 4, 0, 2]

    def test_it_is_read_as_it_was_written(self, taken: Census) -> None:
        again = Census.model_validate_json(taken.model_dump_json())
        assert again.model == UNEVEN and again.types[0].find == taken.types[0].find

    def test_a_census_whose_heads_are_not_those_of_its_model(self, taken: Census) -> None:
        made = json.loads(taken.model_dump_json())
        made["model"]["head_counts"], made["model"]["kv_head_counts"] = [4, 0, 2, 0], [2, 0, 1, 0]
        with pytest.raises(ValueError, match="scores do not match 4 layers"):
            Census.model_validate(made)
        made = json.loads(taken.model_dump_json())
        made["heads"].pop()
        with pytest.raises(ValueError, match="not those of its model"):
            Census.model_validate(made)

    def test_the_terminal_says_what_the_model_is_like(self, taken: Census, capsys: pytest.CaptureFixture[str]) -> None:
        print_census(CATALOG, taken, [])
        said = capsys.readouterr().out
        assert "3 of 6 heads have a name, 50% are unknown" in said
        assert "4 layers (2 with attention) x 2 to 4 heads, 1 to 2 key/value groups per layer" in said


class TestExports:
    def test_table_has_no_row_for_a_head_that_is_not_there(self, taken: Census) -> None:
        rows = list(csv.DictReader(io.StringIO(page.table(taken))))
        assert [(row["head"], row["layer"], row["kv_group"], row["type"]) for row in rows] == [
            ("L1H0", "1", "0", "unknown"),
            ("L1H1", "1", "0", "induction"),
            ("L1H2", "1", "1", "unknown"),
            ("L1H3", "1", "1", "unknown"),
            ("L3H0", "3", "0", "previous-token"),
            ("L3H1", "3", "0", "induction"),
        ]

    def test_lists_name_the_models_own_layers(self, taken: Census) -> None:
        made = json.loads(exchange.text(taken, "induction", "json"))
        assert [(each["head"], each["kv_group"]) for each in made["heads"]] == [("L1H1", 0), ("L3H1", 0)]
        assert [(each["layer"], each["kv_group"]) for each in made["kv_groups"]] == [(1, 0), (3, 0)]
        assert made["rule"]["heads_in_all"] == 6
        rows = csv.DictReader(io.StringIO(exchange.text(taken, "induction", "csv")))
        assert [(row["head"], row["layer"], row["index"]) for row in rows] == [("L1H1", "1", "1"), ("L3H1", "3", "1")]
        assert json.loads(exchange.text(taken, "induction", "transformerlens")) == [[1, 1], [3, 1]]
        assert 'attn_head_set: "1-1,3-1"' in exchange.text(taken, "induction", "qrhead")

    def test_headkv_has_as_many_numbers_for_every_layer(self, taken: Census) -> None:
        """Its reader reshapes the numbers to layers x heads, whatever their keys say."""
        made = json.loads(exchange.text(taken, "induction", "headkv"))
        assert np.array([score for (score,) in made.values()]).reshape(4, 4).tolist() == [
            [0, 0, 0, 0],
            [0, 0.8, 0.2, 0],
            [0, 0, 0, 0],
            [0, 0.6, 0, 0],
        ]
        assert list(made) == [f"{layer}-{head}" for layer in range(4) for head in range(4)]

    def test_duoattention_has_a_row_for_every_layer(self) -> None:
        found = {"L1H1": (0.8, 1e-9), "L1H2": (0.2, 1e-9), "L3H3": (2 * THRESHOLD, 1e-6)}
        text = exchange.text(census(HYBRID, part("induction", HYBRID, found)), "induction", "duoattention")
        rows = np.loadtxt(io.StringIO(text), delimiter="\t")
        assert rows.tolist() == [[0, 0], [0.5 * 0.8 / THRESHOLD, 0.5 * 0.2 / THRESHOLD], [0, 0], [0, 1]]

    def test_duoattention_cannot_say_that_layers_have_different_groups(self, taken: Census) -> None:
        with pytest.raises(HeadatlasError, match=r"layers of made have 1 or 2; --format json"):
            exchange.text(taken, "induction", "duoattention")


class TestPictures:
    SCORES = ([], [0.1, 0.9, 0.2, 0.0], [], [0.3, 0.4])

    def test_heatmap_draws_the_heads_that_exist_and_names_layers_without(self) -> None:
        drawn = ElementTree.fromstring(heatmap(self.SCORES, found=[(1, 1)], title="t"))
        titles = [each.text for each in drawn.iter("title")]
        assert titles == [
            "L1H0: 0.10", "L1H1: 0.90, found", "L1H2: 0.20", "L1H3: 0", "L3H0: 0.30", "L3H1: 0.40",
        ]  # fmt: skip
        assert drawn[0].get("d", "").count("z") == 6
        texts = [(each.text, each.get("y")) for each in drawn.iter("text")]
        layers = {text: y for text, y in texts if text and text.startswith("L")}
        assert list(layers) == ["L0", "L1", "L2", "L3"]
        assert [y for text, y in texts if text == "no attention"] == [layers["L0"], layers["L2"]]
        assert top_of(self.SCORES, 0.4) == 1.0

    def test_heatmap_of_one_narrow_layer_has_room_for_the_words(self) -> None:
        drawn = ElementTree.fromstring(heatmap([[], [0.5]], found=[], title="t"))
        assert int(drawn.get("width", "0")) >= 46 + 12 * 7

    def test_training_picture_takes_layers_as_they_are(self) -> None:
        steps = [
            {
                "tokens": 10**power,
                "accuracy": dict.fromkeys(SKILLS, 0.5),
                "heads": {kind: [[], [0.1, 0.1 * power], []] for kind in HEADS},
            }
            for power in (5, 6, 7)
        ]
        drawn = training_picture(steps, "t")
        assert "induction L1H1" in drawn and "L1H0" not in drawn and "L0H0" not in drawn


class TestPage:
    def test_a_row_for_each_layer(self, taken: Census) -> None:
        text = page.page(CATALOG, taken)
        rows = text.partition("<tbody>")[2].partition("</tbody>")[0].split("<tr>")[1:]
        assert [row.count("<button") for row in rows] == [0, 4, 0, 2]
        assert ["no attention" in row for row in rows] == [True, False, True, False]
        assert all(f'<th scope="row">L{layer}</th>' in row for layer, row in enumerate(rows))
        assert "4 layers (2 with attention) x 2 to 4 heads, 1 to 2 key/value groups per layer" in text

    def test_arrows_lead_over_layers_without_heads(
        self, taken: Census, browser: object, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.mktemp("uneven") / "census.html"
        path.write_text(page.page(CATALOG, taken))
        tab = browser.new_page()  # type: ignore[attr-defined]
        tab.goto(path.as_uri())
        tab.locator("#L1H3").focus()
        said = []
        for key in ("ArrowDown", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowUp"):
            tab.keyboard.press(key)
            said.append(tab.evaluate("document.activeElement.id"))
        tab.close()
        assert said == ["L3H1", "L3H1", "L3H1", "L3H0", "L1H0", "L1H0"]
