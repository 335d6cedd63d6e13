"""The pages as text: everything is on them, and nothing an entry says can become markup."""

import re
from collections import Counter
from html import unescape

import pytest

from headatlas.catalog.schema import CHECKED
from headatlas.notation import Head
from pages import render
from pages.coverage import coverage_page
from pages.examples import Example
from pages.heads import head_page
from pages.news import gather_news, news_page
from pages.overviews import depths_page, home_page, matrix_page, table_page
from site_pages import ATLAS, CATALOG, HOSTILE, hostile_atlas


def without_links_to_heads(page: str) -> str:
    return re.sub(r'<a href="[./]+models/[^"]+/L\d+H\d+/">(L\d+H\d+)</a>', r"\1", page)


@pytest.mark.parametrize("head", CATALOG.heads.values(), ids=list(CATALOG.heads))
def test_a_page_shows_every_finding_and_every_run(head) -> None:
    page = without_links_to_heads(head_page(ATLAS, head))
    for finding in head.findings:
        assert f'id="{finding.id}"' in page
        assert finding.published_list or str(render.text(finding.statement)) in page
        if finding.figure and not finding.published_list:
            assert f"<strong>{render.text(finding.figure)}</strong> {render.text(finding.metric)}" in page
        assert f'title="{render.text(CHECKED[finding.checked])}">{finding.checked}</a>' in page
        for name in finding.heads:
            score = f" {finding.score(name)}" if finding.scores else ""
            assert f">{name}{score}<" in page or f"{name}{score}, " in page or f", {name}{score}<" in page
    for published in head.published_lists:
        assert str(render.text(published.title)) in page
        for row in published.models:
            assert all(str(render.text(part)) in page for part in (row.file, row.note) if part)
            assert row.reach is None or f"<td>{row.reach}" in page
    for result in ATLAS.runs_of(head.id):
        assert f'<tr id="on-{result.record.model.id}">' in page
        for reason in result.record.verdict.reasons:
            assert str(render.text(reason)) in page
    for expected in head.reproduction.expected:
        assert str(render.text(expected.why)) in page
    for other in (*head.distinct_from, *head.relations):
        assert f'href="../../heads/{other.head}/"' in page


def test_a_page_says_bound_and_total_of_a_value() -> None:
    head = CATALOG.heads["previous-token"]
    whole = {"metric": "m", "value": 4.0, "unit": "heads", "of": 10, "bound": "at least", "checked": "abstract"}
    bounded = {"model": "gpt2", "heads": (Head(0, 1),), "scores": {"L0H1": 0.5}, "metric": "m", "bound": "about"}
    findings = [head.findings[0].model_copy(update={"id": f"f-{n}", **more}) for n, more in enumerate((whole, bounded))]
    page = without_links_to_heads(
        head_page(ATLAS, head.model_copy(update={"findings": tuple(findings), "controversies": ()}))
    )
    assert "<strong>at least 4 of 10 heads</strong> m" in page and "L0H1 about 0.5" in page
    assert f'title="{render.text(CHECKED["abstract"])}">abstract</a>' in page


def test_runs_on_small_models_are_folded_behind_those_on_pretrained_ones() -> None:
    page = head_page(ATLAS, CATALOG.heads["induction"])
    shown, folded = page.split('<details class="atlas-runs" id="small-models"')
    folded, after = folded.split("### The rule")
    assert 'id="on-smollm2-135m-instruct"' in shown and 'id="on-specimen"' not in shown + after
    assert 'id="on-specimen-gpt2-1"' in folded and 'models/specimen/"' in folded and 'models/specimen/"' not in shown
    small = [each for each in ATLAS.runs_of("induction") if each.record.model.id not in ATLAS.leading]
    assert folded.count('id="on-') == len(small)


def test_expected_and_measured_stand_in_columns_of_their_own() -> None:
    page = head_page(ATLAS, CATALOG.heads["previous-token"])
    (row,) = (each for each in page.split("</tr>") if '<tr id="on-specimen">' in each)
    expected, measured, _, found, *_ = re.findall(r"<td>(.*?)</td>", row)
    record = ATLAS.by_place["previous-token", "specimen"].record
    wanted = next(each for each in CATALOG.heads["previous-token"].reproduction.expected if each.model == "specimen")
    assert expected.startswith(wanted.verdict) and "atlas-verdict" not in expected
    assert (
        record.verdict.label in measured
        and f'models/specimen/{record.selected[0]}/">{record.selected[0]}</a></code>' in found
    )
    reasons = page[page.index("The specimen: " + record.verdict.label) :].split("</ul>")[0]
    assert str(render.text(wanted.why)) in reasons and all(
        str(render.text(each)) in reasons for each in record.verdict.reasons
    )


def test_an_entry_cannot_put_markup_on_a_page() -> None:
    atlas = hostile_atlas()
    news = gather_news(atlas, [])
    pages = [
        head_page(atlas, atlas.catalog.heads["induction"]),
        table_page(atlas),
        matrix_page(atlas),
        home_page(atlas, news),
        news_page(news),
        coverage_page(atlas),
    ]
    for page in pages:
        _, front, body = page.split("---\n", 2)
        assert not any(sign in front for sign in "<>&{}") and "\u202e" not in page
        for harm in ("<script>window", "](javascript", "**bold", "{{ macro", "<img", "</td></table></div>"):
            assert harm not in body, harm
    assert str(render.text(HOSTILE)) in pages[0] and pages[0].count('id="finding-') == 1000


def test_escaping_keeps_every_visible_sign() -> None:
    assert unescape(str(render.text(HOSTILE))) == " ".join(HOSTILE.replace("\u202e", "").split())


def test_no_content_closes_a_block_of_code_or_of_data() -> None:
    assert render.code("a\n````\nb", "python").startswith("`````python\n")
    assert "</script" not in render.data({"a": "</script><script>"})
    assert str(render.quoted('a "b"\n </title>')) == '"a ”b” ‹/title›"'


def test_the_viewer_starts_at_the_pair_that_is_due() -> None:
    example = Example("L1H2", ["<s>", " A", " B"], 2, 1, [{0: 1.0}, {0: 0.25, 1: 0.75}, {1: 0.9}], [0.0, 0.9, 0.0])
    page = head_page(ATLAS, CATALOG.heads["induction"], example)
    assert "From B (token 2) 0.90 of the attention goes to A (token 1)" in page
    assert page.count("atlas-query") == page.count("atlas-expected") == 1
    assert '[{"0":1.0},{"0":0.25,"1":0.75},{"1":0.9}]' in page and "&#60;s&#62;" in page


def test_the_matrix_shows_every_run_once() -> None:
    page = matrix_page(ATLAS)
    leading, small = (
        Counter(each.record.verdict.label for each in ATLAS.results if (each.record.model.id in ATLAS.leading) == first)
        for first in (True, False)
    )
    assert {label: page.count(f'aria-label="{label}"') for label in leading} == dict(leading)
    told: Counter[str] = Counter()
    for count, label in re.findall(r"(\d+) ([a-z-]+)", " ".join(re.findall(r'<abbr title="(\d+ [^"]+)"', page))):
        told[label] += int(count)
    assert told == small


def test_the_page_says_whether_the_order_is_that_of_the_survey() -> None:
    page = depths_page(ATLAS, [], 0)
    assert "the order of mean depth is" in page and f"{len(ATLAS.measured_places)} pairs" in page
