"""Copies an open model, so that its copy can be trained."""

import copy

from headatlas.lab.loading.attention_route import unrouted
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.loading.opening import open_model


def copied(model: OpenModel) -> OpenModel:
    """A copy of a model with weights of its own, opened under the same name.

    Takes as much memory as the model. The copy's weights can be changed; those of the model, which processes may
    share, stay as they are.

    Raises:
        HeadatlasError: as in `open_model`.
    """
    with unrouted(model.model, model.implementation):
        other = copy.deepcopy(model.model)
    return open_model(other, tokenizer=model.tokenizer, called=model.name)
