"""Formulas: every one of the catalog reads well as text and as MathML, and none can become markup."""

import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

import headatlas
import small_catalog
from conftest import load_tool
from headatlas.catalog.formulas import pieces, plain, problem
from headatlas.catalog.loading import check
from headatlas.errors import HeadatlasError
from small_catalog import edit, finding

CATALOG = headatlas.load()
FORMULAS = {f"{head.id}/{each.id}": each.formula for head, each in CATALOG.findings() if each.formula}
FORMULAS |= {term.id: term.formula for term in CATALOG.glossary.values() if term.formula}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_tool("mathml")


def test_the_catalog_has_formulas() -> None:
    assert len(FORMULAS) >= 60 and sum("$" in each for each in FORMULAS.values()) >= 60


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=list(FORMULAS))
class TestEachFormula:
    def test_reads_as_text(self, formula: str) -> None:
        assert problem(formula) is None
        assert not re.search(r"[\\{}$]|  |[_^](\W(?<![(′]))", plain(formula)), plain(formula)

    def test_is_well_formed_mathml(self, tool: ModuleType, formula: str) -> None:
        tree = ElementTree.fromstring(f"<p>{tool.mathml(formula)}</p>")
        assert len(tree) == sum(is_math for is_math, _ in pieces(formula))
        assert {each.tag for each in tree} <= {"{http://www.w3.org/1998/Math/MathML}math"}
        assert "\\" not in "".join(tree.itertext()) and "$" not in "".join(tree.itertext())

    def test_text_and_mathml_say_the_same(self, tool: ModuleType, formula: str) -> None:
        """Letters, digits and signs, whatever the order that fractions and scripts put them in."""
        as_mathml = "".join(ElementTree.fromstring(f"<p>{tool.mathml(formula)}</p>").itertext())
        assert _letters(as_mathml) == _letters(plain(formula))


def _letters(text: str) -> list[str]:
    alike = str.maketrans("₀₁₂₃₄₅₆₇₈₉²ᵀ𝟙∑", "01234567892⊤1Σ")
    return sorted(re.findall(r"[\w⊤Σ=<>≤≠≈·×⊙∩∂+−-]", text.translate(alike).replace("_", "")))


@pytest.mark.parametrize(
    "formula, text",
    [
        (r"$\sum_i x_{i,j}^2$ over $i$", "Σ_i x[i,j]² over i"),
        (r"$W_{OV}^\top x_{O2} U_\theta^{(r)} h'$", "W_OVᵀ x_O2 U_θ^(r) h′"),
        (r"$\sum_{k \le l} a_k$", "Σ_(k ≤ l) a_k"),
        (r"$\frac{a + b}{c} - \frac{1}{2}$", "(a + b) / c − 1/2"),
        (r"$\frac{1}{T} \sum_t A_{t,1}$", "(1/T) Σ_t A[t,1]"),
        (r"$\frac{a}{b / c}$", "a / (b / c)"),
        (r"$\frac{f(a, b)}{g(a + b)}$", "f(a, b) / g(a + b)"),
        (r"$\lVert x - y \rVert_2 / \sqrt{d} + \sqrt{a + b}$", "‖x − y‖₂ / √d + √(a + b)"),
        (r"$p(y \mid \text{one-shot prompt})$", "p(y | one-shot prompt)"),
        ("plain words, 5% of them", "plain words, 5% of them"),
    ],
)
def test_latex_as_text(formula: str, text: str) -> None:
    assert plain(formula) == text


@pytest.mark.parametrize(
    "formula, complaint",
    [
        ("costs 5 $", "a $ has no partner"),
        ("nothing $$ here", "there is nothing between two $"),
        (r"$\frac{a}{b$", "does not parse"),
        ("$a}$", "does not parse"),
        ("${a$", "does not parse"),
        (r"$\frac{a}$", "does not parse"),
        (r"$\left( a$", "come in pairs"),
        (r"$\nosuch{a}$", r"\nosuch is not known"),
        (r"$\href{javascript:alert(1)}{x}$", r"\href is not known"),
        (r"$\style{display:none}{x}$", r"\style is not known"),
        (r"$\input{/etc/passwd}$", r"\input is not known"),
        (r"$\begin{array}{c} a \end{array}$", "is not allowed in a formula"),
        ("$a % b$", "is not allowed in a formula"),
        ("$a & b$", "'&' has another meaning"),
        ("$W_OV$", "write _{OV}"),
        ("$x_$", "no subscript or superscript"),
        (r"$\text{a \emph{b}}$", "only words"),
        (r"\alpha + 1", "outside $…$"),
        ("$a \\$", "ends with a"),
    ],
)
def test_what_does_not_hold_is_refused_and_says_why(tool: ModuleType, formula: str, complaint: str) -> None:
    assert complaint in (problem(formula) or "")
    for show in (plain, tool.mathml):
        with pytest.raises(HeadatlasError, match=r"^formula "):
            show(formula)


@pytest.mark.parametrize(
    "formula",
    [
        "<script>alert(1)</script> $a$",
        r"$\text{<script>alert(1)</script>}$",
        r"$\text{<img src=x onerror=alert(1)>}$ <img src=x onerror=alert(1)>",
        r"$\mathrm{<script>}$",
        r"$\text{</mtext></math><script>alert(1)</script>}$",
        "$a <script> b </script>$",
    ],
)
def test_nothing_in_a_formula_becomes_markup(tool: ModuleType, formula: str) -> None:
    made = tool.mathml(formula)
    allowed = {"p", *(f"{{http://www.w3.org/1998/Math/MathML}}{name}" for name in tool._ELEMENTS)}
    tree = ElementTree.fromstring(f"<p>{made}</p>")
    assert {each.tag for each in tree.iter()} <= allowed
    assert "<script" not in made and "<img" not in made


def test_names_are_one_word_and_bars_and_digits_are_plain(tool: ModuleType) -> None:
    assert "<mi>NAS</mi>" in tool.mathml(r"$\mathrm{NAS}(l)$")
    assert "<mi>softmax</mi>" in tool.mathml(r"$\operatorname{softmax}(x)$")
    assert "𝟙" in tool.mathml(r"$\mathbb{1}[x]$")
    assert '<mo stretchy="false" lspace="0" rspace="0">‖</mo>' in tool.mathml(r"$\lVert x \rVert$")
    assert '<mo form="prefix">−</mo>' in tool.mathml("$A[-1, j]$") and "form" not in tool.mathml("$a - 1$")
    assert "<mi>∅</mi>" in tool.mathml(r"$m(\emptyset)$")
    assert "<msup>" not in tool.mathml("$x'$") and "displaystyle" in tool.mathml(r"$\frac{a}{b}$")
    assert "<mo>:=</mo>" in tool.mathml("$a := b$")
    with pytest.raises(HeadatlasError, match="not set yet"):
        tool.mathml(r"$\mathbb{1.5}$")


def test_a_formula_with_a_problem_is_reported_with_file_and_field(tmp_path: Path) -> None:
    folder = small_catalog.write(tmp_path / "catalog")
    edit(folder, "heads/previous-token.yaml", findings=[finding("first", formula="costs 5 $ each")])
    found = [str(each) for each in check(folder)[1]]
    assert [each for each in found if "formula" in each] == [
        "catalog/heads/previous-token.yaml: findings.0.formula: a $ has no partner; put one $ on each side of the "
        "LaTeX, and no $ elsewhere"
    ]


def test_rows_of_findings_have_text() -> None:
    rows = CATALOG.findings().rows()
    assert any(row["formula"] for row in rows) and not any("$" in (row["formula"] or "") for row in rows)
