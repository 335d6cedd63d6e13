"""Who writes the right name: every head's direct effect in the indirect-object task, and what kind of head it is.

    python tools/explain/name_movers.py MODEL [--prompts 8]

Prints the heads with the largest direct effects on the difference between the logits of the two names, for and against:
the effect in nats and as a share of the mean difference; the head's attention from the end to the right name (IO), to
the first and second mention of the repeated name (S1, S2) and to the first token; and how often a name itself is among
the five tokens that the head's OV circuit raises most, or lowers most, where the head reads that name. The name is read
as the first MLP leaves it, as the paper does; and "in context" as the right name stands in the prompts, in the stream
that the head's own layer reads, as the rule of name movers does for all names.
"""

import argparse

import numpy as np

from headatlas.lab import OpenModel, copying_scores, open_model
from headatlas.lab.attention.pairs import PairQuestion, attention_between
from headatlas.lab.paths import path_effects_from
from headatlas.lab.weights import Copying, copying_in_prompts
from headatlas.notation import Head
from headatlas.protocol.script import load_script
from headatlas.stimuli import Prompt
from headatlas.stimuli.lexicon import NAMES

_SHOWN = 8  # heads of each sign


def places(prompt: Prompt) -> dict[str, int]:
    """Positions of the names and of the first token."""
    answer, (subject,) = prompt.readouts[0].answer, prompt.readouts[0].rivals
    first, second = (place for place, token in enumerate(prompt.tokens) if token == subject)
    return {"IO": prompt.tokens.index(answer), "S1": first, "S2": second, "first": 0}


def in_context(model: OpenModel, prompts: list[Prompt]) -> Copying:
    """How often each head's OV circuit raises, and lowers, the right name most, as that name stands in the prompts."""
    return copying_in_prompts(model, prompts, [[places(prompt)["IO"]] for prompt in prompts])


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=8, help="of each family (default 8)")
    options = parser.parse_args()
    model, script = open_model(options.model), load_script("name-mover")
    prompts = script.draw("stimulus", model.vocabulary, "find", options.prompts, 0).prompts
    found = path_effects_from(model, prompts, script.behaviour, [None])
    effect, whole = -found.effects[0].mean(0), found.clean.mean()  # [layer head]
    names = [model.vocabulary.continuation(f" {name}")[0] for name in model.vocabulary.singles(NAMES)]
    plain, here = copying_scores(model, names, states="mlp0"), in_context(model, prompts)
    where = list(places(prompts[0]))
    asked = [
        PairQuestion(each.tokens, ((len(each.tokens) - 1, places(each)[name]),)) for name in where for each in prompts
    ]
    looks = dict(zip(where, np.split(attention_between(model, asked), len(where)), strict=True))
    print(f"{model.name}: the right name leads by {whole:.2f} nats on {len(prompts)} prompts")
    attention = "  ".join(f"{name:>5}" for name in where)
    print(f"{'':8}{'effect':>14}  attention {attention}   raises  lowers   in context: raises  lowers")
    order = [
        Head(*map(int, place)) for place in zip(*np.unravel_index(np.argsort(-effect, None), effect.shape), strict=True)
    ]
    for head in (*order[:_SHOWN], *order[-_SHOWN:]):
        weights = "  ".join(f"{looks[name][:, head.layer, head.head].mean():5.2f}" for name in where)
        shares = [float(each[head]) for each in (plain.copying, plain.suppression, here.copying, here.suppression)]
        print(
            f"{head!s:8}{effect[head]:+6.2f} {effect[head] / whole:+6.0%}           {weights}"
            f"   {shares[0]:6.0%}  {shares[1]:6.0%}               {shares[2]:6.0%}  {shares[3]:6.0%}"
        )


if __name__ == "__main__":
    main()
