"""The page of the models that ship: training, abilities, and the heads that matter."""

from typing import Any

from markupsafe import Markup

from headatlas import specimens
from headatlas.evidence.agreement import agreement
from headatlas.pages.figures.training import training_picture
from pages.atlas import Atlas
from pages.render import page


def specimen_page(atlas: Atlas) -> str:
    """The page of the specimen, with its siblings' verdicts beside its own."""
    found = agreement((result.record for result in atlas.results), specimens.names())
    return page(
        "specimen.md",
        atlas=atlas,
        counts=[(model, *found.same(model)) for model in found.models[1:] if found.same(model)[1]],
        each=card_of(specimens.SPECIMEN),
        siblings=specimens.names()[1:],
    )


def card_of(name: str) -> dict[str, Any]:
    """The data of a shipped model's card for a page."""
    steps = specimens.training(name)["steps"]
    picture = training_picture(steps, f"when heads appear in the training of {name}")
    card = specimens.card(name)
    again = [specimens.retrained(found) for found in card.get("retrained", ())]
    return {"name": name, "card": card, "again": again, "picture": Markup(picture), "caption": _caption(steps)}


def _caption(steps: list[dict[str, Any]]) -> str:
    """The caption: when induction heads appear, and which accuracy rises at the same time."""
    best = [max(max(row) for row in step["heads"]["induction"]) for step in steps]
    said = "Top: heads of each kind that ever score 0.3 or more. Bottom: held-out accuracy. Axis: tokens seen."
    risen = next((number for number, score in enumerate(best) if score >= 0.5), None)
    if risen is None:
        return f"No induction head reached 0.5. {said}"
    if risen == 0:
        return f"Induction heads exist at the first checkpoint. {said}"
    before, after = steps[risen - 1], steps[risen]
    spans = [step["accuracy"]["period 25"] for step in (before, after)]
    return (
        f"The score of the best induction head rises from {best[risen - 1]:.2f} to {best[risen]:.2f} between "
        f"{before['tokens'] / 1e6:.1f} and {after['tokens'] / 1e6:.1f} million tokens; in the same step accuracy on "
        f"random spans of 25 tokens changes from {spans[0]:.2f} to {spans[1]:.2f}. {said}"
    )
