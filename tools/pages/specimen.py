"""The page of the models that ship: how they came about, what each can do, and which heads carry it."""

from typing import Any

from markupsafe import Markup

from headatlas import specimens
from headatlas.evidence.agreement import agreement
from headatlas.pages.figures.training import training_picture
from pages.atlas import Atlas
from pages.render import page


def specimen_page(atlas: Atlas) -> str:
    """The specimen, its siblings' verdicts beside its own."""
    found = agreement((result.record for result in atlas.results), specimens.names())
    return page(
        "specimen.md",
        atlas=atlas,
        counts=[(model, *found.same(model)) for model in found.models[1:] if found.same(model)[1]],
        each=card_of(specimens.SPECIMEN),
        siblings=specimens.names()[1:],
    )


def card_of(name: str) -> dict[str, Any]:
    """What a page shows of a shipped model's card."""
    steps = specimens.training(name)["steps"]
    picture = training_picture(steps, f"which heads appear when in the training of {name}")
    card = specimens.card(name)
    again = [specimens.retrained(found) for found in card.get("retrained", ())]
    return {"name": name, "card": card, "again": again, "picture": Markup(picture), "caption": _caption(steps)}


def _caption(steps: list[dict[str, Any]]) -> str:
    """States when induction heads rise, and what rises with them."""
    best = [max(max(row) for row in step["heads"]["induction"]) for step in steps]
    said = "Heads of each kind that ever score 0.3 or more, and held-out accuracy, against tokens seen."
    risen = next((number for number, score in enumerate(best) if score >= 0.5), None)
    if risen is None:
        return f"No induction head reached 0.5. {said}"
    if risen == 0:
        return f"Induction heads were there at the first checkpoint. {said}"
    before, after = steps[risen - 1], steps[risen]
    spans = [step["accuracy"]["period 25"] for step in (before, after)]
    return (
        f"The best induction head goes from {best[risen - 1]:.2f} to {best[risen]:.2f} between "
        f"{before['tokens'] / 1e6:.1f} and {after['tokens'] / 1e6:.1f} million tokens; in the same step accuracy on "
        f"random spans of 25 tokens goes from {spans[0]:.2f} to {spans[1]:.2f}. {said}"
    )
