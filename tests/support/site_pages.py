"""The site's modules for tests, and an entry that tries everything."""

import dataclasses

from pages.atlas import Atlas, gather

ATLAS = gather()
CATALOG = ATLAS.catalog
HOSTILE = (
    "<script>window.hacked = 1</script> [click](javascript:hacked=1) **bold** {{ macro }} `code` | cell # head "
    "\u202egnp.exe <img src=x onerror=hacked=1> </td></table></div> &lt;b&gt; $x$ ``` שלום ??? note"
)


def hostile_atlas() -> Atlas:
    """The catalog, in which the entry of induction heads tries everything, 1,000 times."""
    head = CATALOG.heads["induction"]
    finding = head.findings[0].model_copy(update={"statement": HOSTILE, "metric": HOSTILE, "at": HOSTILE, "value": 1.0})
    bad = head.model_copy(
        update={
            "name": "Very " + "long" * 200 + HOSTILE,
            "summary": HOSTILE,
            "definition": HOSTILE,
            "criterion": HOSTILE,
            "signature": HOSTILE,
            "findings": tuple(finding.model_copy(update={"id": f"finding-{number}"}) for number in range(1000)),
            "open_questions": (HOSTILE,) * 3,
            "controversies": (),
        }
    )
    heads = [bad if each.id == bad.id else each for each in CATALOG.heads.values()]
    return Atlas(dataclasses.replace(CATALOG, heads=type(CATALOG.heads)(heads)), ATLAS.results)
