"""From where do heads take the answer to a question for an attribute: the subject, the relation, or other tokens?

    python tools/explain/fact_sources.py MODEL [--prompts 8]

Prints, for the questions of the rules of subject, relation and mixed heads, the lead of the right answer over others of
its kind and over answers of other kinds, and how much of each all heads and all MLPs write directly at the last token;
of what heads write, how much comes from the subject's tokens, the relation's word, the first token, the last token and
the others. Then the heads that write most for the kind of the answer from the relation's word, and for the answer from
the subject, with both parts: in nats, and as a share of the lead over all other answers.
"""

import argparse
from collections.abc import Mapping

import numpy as np
import torch

from headatlas.arrays import Array
from headatlas.lab import OpenModel, logit_difference, metric_per_prompt, open_model
from headatlas.lab.attribution.logit_attribution import direct_logit_attribution
from headatlas.notation import Head
from headatlas.protocol.script import load_script
from headatlas.stimuli import Prompt, attributes

_SHOWN = 6


def groups(prompt: Prompt) -> Mapping[str, list[int]]:
    """Positions by where they lie."""
    end = len(prompt.tokens) - 1
    subject, relation = (list(prompt.spans[role]) for role in ("subject", "relation"))
    known = {0, end, *subject, *relation}
    return {
        "subject": subject,
        "relation": relation,
        "first token": [0] if 0 not in (*subject, *relation) else [],
        "last token": [end],
        "others": [place for place in range(end) if place not in known],
    }


def split(model: OpenModel, prompts: list[Prompt]) -> tuple[dict[str, Array], float, float, float]:
    """What heads write from each group of tokens, [layer head]; what MLPs write, the rest, and the whole; in nats."""
    parts: dict[str, Array] = {}
    mlps = rest = whole = 0.0
    for prompt in prompts:
        readout = prompt.readouts[0]
        found = direct_logit_attribution(model, [prompt.tokens], [readout.answer], [readout.rivals], sources=True)
        assert found.sources is not None
        for name, places in groups(prompt).items():
            each = found.sources[0][..., places].sum(-1).double().numpy() / len(prompts)
            parts[name] = parts[name] + each if name in parts else each
        mlps += float(found.mlps.sum()) / len(prompts)
        rest += float(found.embedding + found.biases) / len(prompts)
        whole += float(found.total) / len(prompts)
    return parts, mlps, rest, whole


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=8, help="of each family (default 8)")
    options = parser.parse_args()
    model, script = open_model(options.model), load_script("relation")
    prompts = script.draw("stimulus", model.vocabulary, "find", options.prompts, 0).prompts
    lead = float(abs(metric_per_prompt(model, prompts, logit_difference)).mean())
    right = float(metric_per_prompt(model, prompts, script.behaviour).mean())
    print(f"{model.name}, {len(prompts)} questions: right in {right:.0%}; mean size of the lead {lead:.2f} nats")
    found = {}
    for title, narrow in (
        ("over others of its kind", attributes.among_kind),
        ("over other kinds", attributes.among_others),
    ):
        parts, mlps, rest, whole = split(model, [narrow(prompt) for prompt in prompts])
        found[title] = parts
        heads = {name: float(np.nansum(each)) for name, each in parts.items()}
        said = ", ".join(f"{name} {value:+.2f}" for name, value in heads.items())
        print(
            f"\nlead {title}: {whole:.2f} nats = heads {sum(heads.values()):+.2f}, MLPs {mlps:+.2f}, rest {rest:+.2f}"
        )
        print(f"  heads, by the token they read: {said}")
    kind, own = found["over other kinds"], found["over others of its kind"]
    for title, parts, first in (("for the kind", kind, "relation"), ("for the answer in its kind", own, "subject")):
        print(f"\nheads that write most {title} from the {first}:   from the relation   from the subject")
        order = np.argsort(-np.nan_to_num(parts[first]), None)[:_SHOWN]
        for flat in order:
            head = Head(*map(int, np.unravel_index(flat, parts[first].shape)))
            a, b = (float(parts[name][head]) for name in ("relation", "subject"))
            print(f"  {head!s:8} {a:+18.2f} ({a / lead:+.1%}) {b:+10.2f} ({b / lead:+.1%})")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
