"""The explorer of findings: its page, and the findings as data for it."""

from typing import Any

from headatlas.catalog.formulas import plain
from headatlas.catalog.strength import KINDS
from pages.atlas import Atlas
from pages.evidence import CHECKED_AS, STANCES
from pages.render import line, page

# The facets of the explorer with their names, in their order on the page.
FACETS = {"type": "Head type", "stage": "Stage", "stance": "Stance", "kind": "Kind of evidence", "model": "Model",
          "paper": "Paper", "year": "Year", "checked": "Checked"}  # fmt: skip
COLUMNS = ("type", "id", "statement", "stance", "kind", "model", "heads", "figure", "metric", "n", "formula", "paper",
           "at", "checked")  # fmt: skip


def explorer_page(atlas: Atlas) -> str:
    """The page, which loads the data."""
    return page("findings.md", atlas=atlas, facets=FACETS, count=len(atlas.catalog.findings()))


def explorer_data(atlas: Atlas) -> dict[str, Any]:
    """Every finding once, in the order of findings.csv, so that row n of both is the same.

    Types, models, papers, stances, kinds and checks are numbers of rows in lists of their own: [id, name, short name of
    the stage], [id, name], [BibTeX key, short citation, year], and words, strongest first. Heads are joined by spaces,
    each with the source's score after '='.
    """
    catalog = atlas.catalog
    types, models, papers = (
        {id: number for number, id in enumerate(each)} for each in (catalog.heads, catalog.models, catalog.references)
    )
    return {
        "stages": {stage.short: stage.name for stage in catalog.taxonomy.stages},
        "types": [[head.id, head.name, atlas.short(head.id)] for head in catalog.heads.values()],
        "models": [[id, model.name] for id, model in catalog.models.items()],
        "papers": [[key, each.short, each.year] for key, each in catalog.references.items()],
        "stance": STANCES,
        "kind": KINDS,
        "checked": CHECKED_AS,
        "columns": COLUMNS,
        "findings": [
            [
                types[head.id],
                finding.id,
                line(finding.statement),
                STANCES.index(finding.stance),
                KINDS.index(finding.kind),
                models[finding.model] if finding.model else None,
                " ".join(f"{each}={finding.score(each)}".rstrip("=").replace(" ", "_") for each in finding.heads),
                finding.figure,
                finding.metric,
                finding.n,
                plain(finding.formula) if finding.formula else None,
                papers[finding.source],
                line(finding.at),
                CHECKED_AS.index(finding.checked),
            ]
            for head, finding in catalog.findings()
        ],
    }
