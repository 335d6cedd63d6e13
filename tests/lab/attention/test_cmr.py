"""Recall curves against the cases that can be worked out by hand, and the fit against curves of known likeness."""

import numpy as np
import pytest

from headatlas.lab.attention.cmr import LAGS, cmr_curves, cmr_fit

LAG = np.arange(-LAGS, LAGS + 1)


def curve(reading: float, share: float, again: float) -> np.ndarray:
    """The grid's curve of these parameters."""
    steps = (round(20 * reading) - 1, round(10 * share), round(20 * again) - 1)
    return cmr_curves()[np.ravel_multi_index(steps, (20, 11, 20))]


class TestCurves:
    @pytest.mark.parametrize("reading", [0.25, 0.5, 1.0])
    def test_an_item_that_brings_only_itself_recalls_what_came_after(self, reading: float) -> None:
        expected = np.where(LAG > 0, (1 - reading) ** np.maximum(LAG - 1.0, 0), 0)
        assert np.allclose(curve(reading, 0.0, 1.0), expected)

    def test_an_item_that_brings_its_place_recalls_itself_most_and_both_sides_alike(self) -> None:
        found = curve(0.5, 1.0, 1.0)
        assert found.argmax() == LAGS and np.allclose(found, found[::-1])

    def test_items_read_before_it_recall_it_too(self) -> None:
        """A context of which half is left after each item: the item before brings the item itself, at half the rate."""
        found = curve(1.0, 0.0, 0.5)
        assert np.allclose(found, np.where(LAG <= 1, 0.5 ** (1.0 - LAG), 0), atol=0.01)

    def test_every_curve_goes_from_nought_to_one(self) -> None:
        curves = cmr_curves()
        assert curves.shape == (4400, 2 * LAGS + 1)
        assert (curves.min(-1) == 0).all() and np.allclose(curves.max(-1), 1)


class TestFit:
    def test_a_curve_of_the_model_fits_at_any_height_and_scale(self) -> None:
        assert np.allclose(cmr_fit(0.01 * cmr_curves()[::97] - 7.0), 1.0)

    def test_it_is_one_minus_the_error_over_the_variance(self) -> None:
        noise = np.random.default_rng(0).random((4, 2 * LAGS + 1))
        for one, found in zip(noise, cmr_fit(noise), strict=True):
            scaled = (one - one.min()) / np.ptp(one)
            distance = ((cmr_curves() - scaled) ** 2).mean(-1).min() / scaled.var()
            assert found == pytest.approx(max(0.0, 1 - distance))

    def test_attention_on_two_far_places_or_everywhere_but_there_does_not_fit(self) -> None:
        two = np.isin(LAG, (-5, 4)).astype(float)
        hole = (LAG != 0).astype(float)
        assert (cmr_fit(np.stack([two, hole])) < 0.5).all()

    def test_attention_to_one_place_and_to_nothing(self) -> None:
        assert cmr_fit((LAG == 1).astype(float)) == pytest.approx(1.0)
        assert cmr_fit(np.full(2 * LAGS + 1, 0.2)) == 0.0
