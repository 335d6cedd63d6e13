"""Figures: what they draw is what they are given, and they are well-formed."""

from xml.etree import ElementTree

import pytest

from headatlas.pages.figures.depths import DepthPlace, depths_picture, mean_depth, shares
from headatlas.pages.figures.effects import effects_picture
from headatlas.pages.figures.heatmap import heatmap, top_of


class TestHeatmap:
    def test_marks_the_heads_found_and_those_reported(self) -> None:
        drawn = heatmap([[0.0, 0.5], [1.0, 2.0]], found=[(1, 0)], reported=[(0, 1)], title="t")
        assert drawn.count('class="atlas-found"') == 1 and "L1H0: 1.00, found" in drawn
        assert drawn.count('class="atlas-reported"') == 1 and "L0H1: 0.50, named by papers" in drawn
        assert 'fill-opacity="1.00"' in drawn and 'fill-opacity="2' not in drawn

    def test_small_scores_are_drawn_against_the_largest(self) -> None:
        scores = [[0.02, 0.01], [0.0, -0.5]]
        assert top_of(scores, threshold=0.01) == 0.02 and top_of(scores, threshold=0.05) == 0.05
        assert top_of([[0.1, 0.7]], threshold=0.4) == 1.0 and top_of([[0.1, 7.0]], threshold=0.4) == 7.0
        drawn = heatmap(scores, found=[], title="t", top=0.02)
        assert [drawn.count(f'fill-opacity="{shade}"') for shade in ("1.00", "0.50", "0.00")] == [1, 1, 2]

    def test_is_well_formed_and_says_what_it_shows(self) -> None:
        root = ElementTree.fromstring(heatmap([[0.1] * 12] * 12, found=[], title='a "quoted" <title>'))
        assert root.attrib["aria-label"] == 'a "quoted" <title>' and root.attrib["role"] == "img"
        assert len(root.findall("g/path/title")) == 144


class TestDepths:
    DEEP, WIDE = DepthPlace("a", "LR", (0.75, 1.0)), DepthPlace("b", "LR", tuple([0.0] * 8))

    def test_every_type_has_the_same_weight(self) -> None:
        assert mean_depth([self.DEEP, self.WIDE]) == pytest.approx(0.4375) and mean_depth([]) is None
        found = shares([self.DEEP, self.WIDE])
        assert (found[0], found[7], found[9]) == (0.5, 0.25, 0.25) and sum(found) == 1

    def test_reported_stands_above_measured_and_what_lacks_is_said(self) -> None:
        drawn = depths_picture({"LR": "Latent reasoning", "EP": "Expression"}, [self.DEEP], [self.WIDE], "t")
        root = ElementTree.fromstring(drawn)
        bars = {bar[0].text: float(bar.attrib["y"]) for bar in root.findall("rect")}
        above = max(y for title, y in bars.items() if "reported" in title)
        below = min(y for title, y in bars.items() if "measured" in title)
        assert above < below and "nothing reported" in drawn and "nothing measured" in drawn


def test_the_picture_of_a_cause_has_a_dot_for_every_random_set() -> None:
    root = ElementTree.fromstring(effects_picture(2.0, 1.0, 3.0, [0.0, 0.0, 0.5, -1.0], "t"))
    path = root.find(".//path")
    assert path is not None and path.attrib["d"].count("M") == 4
