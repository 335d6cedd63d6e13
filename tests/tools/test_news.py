"""What is new: days from the history of the repository, the feed, the version of the data; and what gaps cost."""

import dataclasses
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pages.coverage import covered, scores_seconds, told
from pages.news import Event, News, gather_news, read_history
from site_pages import ATLAS, CATALOG

LOG = """\
@2026-11-22

--- /dev/null
+++ b/catalog/heads/induction.yaml
@@ -0,0 +1,9 @@
+findings:
+  - id: first
+    statement: "- id: not-this"
@2026-11-24

+++ b/catalog/heads/induction.yaml
@@ -3 +3,2 @@
-  - id: first
+  - id: first
+  - id: second
+++ b/catalog/errata.yaml
+  - id: an-error
"""


def event(day: int, kind: str = "type", about: str = "a") -> Event:
    return Event(date(2026, 11, day), kind, about, f"Title of {about}", "Words.", f"heads/{about}/")


def test_the_first_day_of_each_id_is_read_from_the_history() -> None:
    assert read_history(LOG) == {
        "catalog/heads/induction.yaml": {"first": date(2026, 11, 22), "second": date(2026, 11, 24)},
        "catalog/errata.yaml": {"an-error": date(2026, 11, 24)},
    }


def test_without_a_history_the_catalog_and_the_records_still_tell(tmp_path: Path) -> None:
    news = gather_news(ATLAS, [], tmp_path)
    kinds = {each.kind for each in news.events}
    assert kinds == {"type", "rule", "runs"}
    assert {each.about for each in news.events if each.kind == "type"} == set(CATALOG.heads)
    assert [each.day for each in news.events] == sorted((each.day for each in news.events), reverse=True)


def test_the_digest_has_the_newest_first_and_a_line_for_each_kind() -> None:
    many = [event(24, about=about) for about in "abcde"]
    news = News([*many, event(23, "runs", "m"), event(22)])
    assert news.version == "2026.11.24"
    assert news.digest(2) == [
        (date(2026, 11, 24), "Head types: Title of a, Title of b, Title of c and 2 more", "news/#d2026-11-24"),
        (date(2026, 11, 23), "Runs: Title of m", "news/#d2026-11-23"),
    ]
    assert news.updated("a") == date(2026, 11, 24) and news.updated("none") is None


def test_the_feed_links_to_whole_addresses_where_the_site_has_one() -> None:
    news = News([event(24), event(23, "runs", "m")])
    for address in ("https://a.org/", ""):
        feed = ElementTree.fromstring(news.atom(address))
        atom = "{http://www.w3.org/2005/Atom}"
        entries = feed.findall(f"{atom}entry")
        assert [each.find(f"{atom}link").get("href") for each in entries] == [
            f"{address}heads/a/",
            f"{address}heads/m/",
        ]
        assert len({each.findtext(f"{atom}id") for each in entries}) == 2
        assert feed.findtext(f"{atom}updated") == "2026-11-24T00:00:00Z"


def test_a_gap_costs_in_proportion_to_layers_and_width_squared() -> None:
    model = CATALOG.models["smollm2-135m-instruct"]
    types = ["induction", "name-mover"]
    once = scores_seconds(ATLAS, model, types)
    assert once == pytest.approx(sum(scores_seconds(ATLAS, model, [each]) for each in types)) and once > 0
    wider = model.model_copy(update={"d_head": 2 * (model.d_head or 0)})
    assert scores_seconds(ATLAS, wider, types) == pytest.approx(4 * once)
    assert scores_seconds(ATLAS, model, ["no-such-type"]) == 0


def test_coverage_counts_what_is_there() -> None:
    found = {each.model.id: each for each in covered(ATLAS)}
    scripts = {head.id for head in CATALOG.heads.values() if head.reproduction.rule}
    for each in found.values():
        assert set(each.run) | set(each.missing) == scripts and not set(each.run) & set(each.missing)
    assert set(found["gpt2"].missing) == scripts and len(found["gpt2"].reported) > 10
    none = dataclasses.replace(ATLAS, results=[])
    assert all(not each.run for each in covered(none))


@pytest.mark.parametrize(("seconds", "words"), [(3, "under a minute"), (90, "1.5 min"), (7200, "2 h"), (9e6, "104 d")])
def test_times_are_told_to_two_digits(seconds: float, words: str) -> None:
    assert told(seconds) == words
