"""Where a text uses the terms of the glossary."""

import pytest

import headatlas
from headatlas.catalog.schema import Term
from headatlas.catalog.wordings import Wordings, forms_of

CATALOG = headatlas.load()


def term(id: str, name: str, *forms: str) -> Term:
    return Term(id=id, name=name, definition="D.", forms=forms, sources=("lee2024heads",))


TERMS = [
    term("logit", "Logit"),
    term("logit-difference", "Logit difference"),
    term("path-patching", "Path patching", "path-patched"),
    term("patching", "Activation patching", "patching", "patched"),
    term("qk", "QK matrix (QK circuit)", "QK", "QK circuit"),
    term("z", "Head output (z)", "z"),
    term("token", "Token"),
    term("attention", "Attention"),
]


def used(text: str) -> list[tuple[str, str]]:
    wordings = Wordings(TERMS, [CATALOG.heads["attention-sink"], CATALOG.heads["previous-token"]])
    return [(use.term, text[use.start : use.end]) for use in wordings.uses(text)]


@pytest.mark.parametrize(
    "text, found",
    [
        ("The logit difference, in logits.", [("logit-difference", "logit difference"), ("logit", "logits")]),
        ("Path patching, then patching.", [("path-patching", "Path patching"), ("patching", "patching")]),
        ("The QK circuit of QK weights", [("qk", "QK circuit"), ("qk", "QK")]),
        ("a logit\n  difference over lines", [("logit-difference", "logit\n  difference")]),
        ("its z, not a z-score, and Z", [("z", "z")]),
        ("Token by token", [("token", "Token"), ("token", "token")]),
        ("tokenise, retoken, token-level, pre-token", []),
        ("qk, LOGIT", []),  # a form in capitals only as it is written, another one with a first capital at most
        ("an attention sink and a previous-token head", []),  # names of head types are one word
        ("attention&#39;s weight", [("attention", "attention")]),  # a page has escaped signs
        ("", []),
    ],
)
def test_the_longest_wording_counts(text: str, found: list[tuple[str, str]]) -> None:
    assert used(text) == found


def test_a_name_is_a_wording_without_its_brackets() -> None:
    assert forms_of(TERMS[4]) == ["QK matrix", "QK", "QK circuit"] and forms_of(TERMS[0]) == ["logit"]


def test_no_terms_are_used_nowhere() -> None:
    assert list(Wordings([]).uses("a logit")) == []
