"""The catalog that ships: complete, sourced, and consistent."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import headatlas
from headatlas import locations
from headatlas.catalog.loading import check

CATALOG = headatlas.load()
FINDINGS = CATALOG.findings()


def test_it_has_no_problem() -> None:
    assert [str(problem) for problem in check()[1]] == []


class TestCoverage:
    """The figures the catalog promises. What each entry must have is the schema's business."""

    def test_every_type_of_the_survey_is_there_and_more(self) -> None:
        survey = CATALOG.find(placed_by="survey")
        assert len(survey) == 41 and set(survey) == set(CATALOG.taxonomy.survey_heads)
        assert len(CATALOG.find(placed_by="headatlas")) >= 25

    def test_somebody_has_reported_every_type(self) -> None:
        assert [head.id for head in CATALOG.heads.values() if not head.findings] == []

    def test_the_groups_of_the_survey_are_as_large_as_in_the_survey(self) -> None:
        sizes = {stage.short: [len(group.heads) for group in stage.groups] for stage in CATALOG.taxonomy.stages}
        assert sizes == {"KR": [2, 3], "ICI": [6, 7, 6], "LR": [4, 4, 4], "EP": [1, 2, 2]}

    def test_the_survey_beside_head_types(self) -> None:
        assert len(CATALOG.parallels) == 7 and len(CATALOG.glossary) >= 43
        assert len(CATALOG.limitations) == 4 and len(CATALOG.directions) == 5
        assert len(CATALOG.errata) >= 6
        assert Counter(topic.part for topic in CATALOG.topics.values()) == {
            "feed-forward": 7, "machine-psychology": 5, "scope": 4, "cognitive-models": 3, "related-surveys": 3
        }  # fmt: skip
        assert sum(family.placed_by == "survey" for family in CATALOG.taxonomy.methods) == 4
        assert [len(family.members) for family in CATALOG.taxonomy.benchmarks] == [11, 10]

    def test_the_survey_draws_31_of_its_types_and_leaves_out_ten(self) -> None:
        figure = CATALOG.taxonomy.depths
        assert figure and [len(column.heads) for column in figure.columns] == [5, 3, 10, 8, 5]
        assert len(figure.not_drawn) == 10
        assert figure.layers_of("memory") == CATALOG.heads["memory"].survey.layers == ("shallow", "middle")
        assert figure.layers_of("iteration") == ()

    def test_its_additional_topics_have_nine_of_their_ten_sources(self) -> None:
        # The tenth, Krichmar and Edelman 2002, is named in a statement.
        cited = {
            topic.source for topic in CATALOG.topics.values() if topic.part in ("feed-forward", "machine-psychology")
        }
        assert len(cited - {"zheng2024attention"}) == 9

    def test_in_context_learning_has_its_two_parts(self) -> None:
        group = CATALOG.taxonomy.stage("latent-reasoning").group("in-context-learning")
        assert [part.heads for part in group.parts] == [
            ("summary-reader", "function-vector"),
            ("induction", "in-context"),
        ]


@pytest.mark.parametrize("head", CATALOG.heads.values(), ids=list(CATALOG.heads))
class TestEachHeadType:
    def test_a_rule_and_a_script_go_together(self, head) -> None:
        assert (locations.reproductions() / f"{head.id}.py").is_file() == (head.rule is not None)

    def test_says_what_it_expects_of_the_specimen_and_of_real_models(self, head) -> None:
        if head.rule:
            models = [each.model for each in head.reproduction.expected]
            assert {"specimen", "smollm2-135m-instruct", "gemma-3-270m"} <= set(models) and len(models) == len(
                {*models}
            )

    def test_the_rule_was_fixed_no_later_than_its_records(self, head, shipped_records) -> None:
        for record in shipped_records:
            if record.entry.id == head.id:
                assert record.entry.rule_version <= head.rule.version  # an older one is stale, and said to be
                if record.entry.rule_version == head.rule.version:
                    assert record.environment.started[:10] >= head.rule.fixed.isoformat()

    def test_every_name_it_goes_by_leads_to_it_or_to_a_choice(self, head) -> None:
        for name in (head.id, head.name, *(alias.name for alias in head.aliases)):
            try:
                assert CATALOG.head(name).id == head.id
            except headatlas.HeadatlasError as error:
                assert head.id in str(error) and "could be" in str(error)

    def test_its_smallest_model_can_be_had(self, head) -> None:
        if model := head.reproduction.smallest_model:
            assert CATALOG.models[model].access in ("open", "gated")


@pytest.mark.parametrize("path", sorted(locations.catalog().rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_file_keeps_to_its_lines_and_to_its_subject(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 120
    assert not re.search(r"/work/|/tmp/|fact sheet|\[V\]|\[R\]|stored page|snapshot of the store", text), path


def test_figures_of_scores_are_what_they_are_called() -> None:
    """A share of attention lies between 0 and 1; nothing is given to a head twice in one finding."""
    for head, finding in FINDINGS:
        if finding.unit == "share of attention" and finding.value is not None:
            assert 0 <= finding.value <= 1, (head.id, finding.id)
        if finding.scores and finding.value is not None and len(finding.scores) == 1:
            assert list(finding.scores.values()) == [finding.value], (head.id, finding.id)


def test_every_reference_can_be_written_out() -> None:
    for reference in CATALOG.references.values():
        assert reference.link.startswith(("https://", "http://"))
        assert reference.short.endswith(reference.year)
        assert reference.bibtex.startswith("@") and reference.key in reference.bibtex


def test_arxiv_ids_and_dois_have_their_form() -> None:
    for reference in CATALOG.references.values():
        if reference.eprint:
            assert re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7}", reference.eprint), reference.key
            if re.match(r"\d{4}\.", reference.eprint):
                # A preprint may follow the proceedings, but not by years.
                assert int(reference.year) >= 2000 + int(reference.eprint[:2]) - 1, reference.key
        if reference.doi:
            assert re.fullmatch(r"10\.\d{4,9}/\S+", reference.doi), reference.key


@pytest.mark.parametrize("model", CATALOG.models.values(), ids=list(CATALOG.models))
def test_a_models_shape_adds_up(model) -> None:
    if model.heads and model.kv_heads:
        assert model.heads % model.kv_heads == 0
    for finding in (finding for _, finding in FINDINGS if finding.model == model.id and finding.heads):
        assert model.layers and model.heads, f"{finding.id} names heads of {model.id}, whose shape is not given"


def test_neither_the_package_nor_catalog_commands_import_torch() -> None:
    commands = (
        ["list"],
        ["list", "--json"],
        ["show", "induction"],
        ["search", "induction"],
        ["who", "gpt2", "L5H5"],
        ["cite", "induction"],
        ["export"],
        ["validate"],
        ["models"],
    )
    code = (
        "import sys, headatlas.cli.program as c\n"
        f"for words in {commands!r}: assert c.main(words) == 0\n"
        "assert not {'torch', 'transformers', 'scipy', 'pandas', 'networkx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
