"""Scores by another group's definitions, on drawn weights; and the page that sets both side by side."""

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

import headatlas
import outside_check
from headatlas.catalog.schema.entities import PublishedScores
from headatlas.errors import HeadatlasError
from headatlas.lab import OpenModel, record
from pages import atlas as atlas_module
from pages import outside

TOKENS = torch.tensor([9, 4, 7, 4, 7, 4])  # 4 comes back at 3 and 5, 7 at 4


def weights(*rows: list[float]) -> torch.Tensor:
    made = torch.zeros(1, len(TOKENS), len(TOKENS))
    for query, row in enumerate(rows):
        made[0, query, : len(row)] = torch.tensor(row)
    return made


UNIFORM = weights(*([1 / (query + 1)] * (query + 1) for query in range(len(TOKENS))))
ITSELF = weights(*([0.0] * query + [1.0] for query in range(len(TOKENS))))
BEFORE = weights([1.0], *([0.0] * (query - 1) + [1.0, 0.0] for query in range(1, len(TOKENS))))


@pytest.mark.parametrize(
    "name, drawn, expected",
    [
        ("previous-token", BEFORE, [1.0] * 5),
        ("previous-token", ITSELF, [0.0] * 5),
        ("self-attention", ITSELF, [1.0] * 6),
        ("entropy", ITSELF, [0.0] * 6),
        ("entropy", UNIFORM, [float(np.log(count)) for count in range(1, 7)]),
        ("mean-distance", BEFORE, [0.0] + [1.0] * 5),
        ("mean-distance", UNIFORM, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        # queries 3, 4 and 5; the tokens after earlier copies are at 2, at 3, and at 2 and 4
        ("induction", UNIFORM, [1 / 4, 1 / 5, 2 / 6]),
        ("induction", BEFORE, [1.0, 1.0, 1.0]),
        ("induction", ITSELF, [0.0, 0.0, 0.0]),
    ],
)
def test_scores_on_drawn_weights(name: str, drawn: torch.Tensor, expected: list[float]) -> None:
    assert outside_check.SCORES[name](drawn, TOKENS)[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_weights_under_a_hundredth_are_no_induction() -> None:
    faint = weights([1.0], [1.0], [1.0], [0.991, 0.0, 0.009], [0.98, 0.0, 0.0, 0.02], [1.0])
    assert outside_check.induction(faint, TOKENS)[0].tolist() == pytest.approx([0.0, 0.02, 0.0])


def test_a_model_is_measured_over_all_queries(specimen: OpenModel) -> None:
    prompts = [tuple(specimen.vocabulary.ordinary[:20]), tuple(specimen.vocabulary.ordinary[30:40])]
    found = outside_check.measured(specimen, prompts)
    rows = [record(specimen, [prompt], ["pattern"])["pattern", 2][0].diagonal(-1, 1, 2) for prompt in prompts]
    assert found["previous-token"][2].tolist() == pytest.approx(torch.cat(rows, 1).mean(1).tolist(), abs=1e-6)


class TestPage:
    @pytest.fixture
    def published(self) -> list[list[float]]:
        return np.random.default_rng(0).random((18, 4)).round(3).tolist()

    def made(self, published: list[list[float]], ours: dict[str, list[list[float]]], folder: Path) -> str:
        whole = atlas_module.gather()
        score = PublishedScores.model_validate_json(
            json.dumps(
                {
                    "source": "neuronpedia2026headvis",
                    "at": "a",
                    "checked": "primary",
                    "name": "induction",
                    "definition": "d",
                    "scores": published,
                }
            )
        )
        entity = whole.catalog.models["gemma-3-270m"].model_copy(update={"published": (score,)})
        models = MappingProxyType({**whole.catalog.models, entity.id: entity})
        data = {"model": {"name": "Gemma (Q4)"}, "texts": 3, "tokens": 99, "scores": ours}
        (folder / "gemma-3-270m.json").write_text(json.dumps(data))
        return outside.outside_page(replace(whole, catalog=replace(whole.catalog, models=models)), folder)

    def test_equal_scores_agree(self, published: list[list[float]], tmp_path: Path) -> None:
        page = self.made(published, {"induction": published}, tmp_path)
        assert "<td>1.000</td><td>1.000</td><td>10</td>" in page and page.count("<circle") == 72

    def test_opposite_scores_do_not(self, published: list[list[float]], tmp_path: Path) -> None:
        page = self.made(published, {"induction": (1 - np.array(published)).tolist()}, tmp_path)
        assert "<td>-1.000</td>" in page.replace("&#8722;", "-")

    def test_scores_of_another_shape_are_refused(self, published: list[list[float]], tmp_path: Path) -> None:
        for ours in ({}, {"induction": published[1:]}):
            with pytest.raises(HeadatlasError, match="induction"):
                self.made(published, ours, tmp_path)


def test_published_tables_fit_their_models() -> None:
    for model in headatlas.load().models.values():
        for each in model.published:
            assert np.array(each.scores).shape == (model.layers, model.heads) and each.name in outside_check.SCORES
