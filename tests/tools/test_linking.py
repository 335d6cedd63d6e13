"""Links to the glossary on pages."""

import re

import pytest

from pages.linking import TermLinks
from site_pages import CATALOG

LINKS = TermLinks(CATALOG)


def linked(page: str) -> list[tuple[str, str]]:
    """Term and text of each link that is added."""
    made = LINKS.link(page, "../../")
    assert re.sub(r'<a class="atlas-term"[^>]*>(.*?)</a>', r"\1", made, flags=re.DOTALL) == page  # and nothing else
    return re.findall(r'<a class="atlas-term" href="../../glossary/#([\w-]+)" title="[^"<>]*">(.*?)</a>', made)


@pytest.mark.parametrize(
    "page",
    [
        "---\ntitle: logit\ndescription: token\n---\n",
        "# A logit\n\n## The residual stream { #x }\n",
        "<h3>Logit</h3><h2 id='x'>Token</h2>",
        '<p><a href="../logit/">the logit of a token</a></p>',
        "<p>See <a href='x'>a <em>logit</em> and <br> a token</a>.</p>",
        "<p><code>logit</code>, <pre>token\nlogit</pre></p>",
        "Run `logit` or ``a `token` b``.\n",
        "```sh\nheadatlas run logit  # a token\n```\n",
        "~~~\nlogit\n```\ntoken\n~~~\n",
        '??? example "a logit"\n\n    token = logit\n',
        "A [logit](logit.md), ![token](token.png), [token][logit].\n",
        "<p><math><mi>logit</mi></math> $logit + token$</p>",
        "<figure><svg role='img'><title>logit</title><text>token</text></svg></figure>",
        '<p title="a logit" data-token="token"></p>',
        "<!-- a logit of a token -->",
        '<script type="application/json">{"logit": "token"}</script>',
        '<p class="atlas-signature">[token] → logit</p>',
        '<p class="atlas-facts"><span class="atlas-chip">logit</span> token</p>',
        '<td>Figure.<span class="atlas-place">logit, <b>token</b>, and head</span></td>',
        '<div class="atlas-tokens"><button>logit</button> token</div>',
        "<table><thead><tr><th>logit</th><th>token</th></tr></thead></table>",
        "see https://example.org/logit/token\n",
        "",
    ],
)
def test_nothing_changes_outside_prose(page: str) -> None:
    assert linked(page) == []


def test_the_first_use_of_each_term_is_linked_and_no_other() -> None:
    page = "<p>A logit.</p>\n\nLogits, a logit and the token.\n<ul><li>Tokens</li></ul>\n"
    assert linked(page) == [("logit", "logit"), ("token", "token")]


def test_a_use_in_a_heading_or_link_is_not_the_first() -> None:
    page = '# Logit\n\n<p><a href="x">logit</a> then <b>logit</b></p>\n'
    assert linked(page) == [("logit", "logit")]


def test_prose_goes_on_after_what_is_skipped() -> None:
    page = (
        '<p class="atlas-facts">logit <a href="x">token</a></p>\n<p>logit</p>\n'
        "<svg><g><text>token</text></g></svg>token\n```\nablation\n```\nablation\n"
    )
    assert linked(page) == [("logit", "logit"), ("token", "token"), ("ablation", "ablation")]


def test_a_skipped_element_can_span_lines() -> None:
    assert linked('<p class="atlas-place">\nlogit\n<b>token</b>\n</p>\n<p>\nlogit\n</p>\n') == [("logit", "logit")]


def test_an_element_without_an_end_does_not_silence_the_rest() -> None:
    assert linked('<p><a href="x">a<br>b<img src="y"></a> logit</p>') == [("logit", "logit")]


def test_the_longer_term_takes_its_words() -> None:
    assert linked("<p>The logit difference after path patching, and path patching.</p>") == [
        ("logit-difference", "logit difference"),
        ("path-patching", "path patching"),
    ]


def test_the_name_of_a_type_is_left_whole() -> None:
    assert linked("<p>An attention sink, a previous-token head.</p>") == []


def test_escaped_text_stays_escaped() -> None:
    assert linked("<p>the token&#39;s &#60;logit&#62; W&#95;U</p>") == [("token", "token"), ("logit", "logit")]


def test_every_link_leads_to_a_term() -> None:
    page = "".join(f"<p>{form}</p>\n" for term in CATALOG.glossary.values() for form in (term.name, *term.forms))
    assert {term for term, _ in linked(page)} <= set(CATALOG.glossary)
