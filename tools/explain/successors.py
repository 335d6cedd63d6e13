"""Who says the next member of an ordered class: heads or MLPs, and do OV circuits turn a member into the next one?

    python tools/explain/successors.py MODEL [--prompts 8]

Prints, class by class, how often the model says the next member; how much of the lead of the next member over the other
members attention and MLPs write directly at the last token, by thirds of the model; and for the heads with the highest
succession, and those with the largest direct effects: the succession score as the rule has it (the head reads the
output of the first MLP on the member alone), the same where the head reads the member as it stands in the prompts, in
the stream of its own layer, the direct effect in nats, and the attention from the last token to the last member shown.
"""

import argparse

import numpy as np
import torch

from headatlas.arrays import Array
from headatlas.lab import OpenModel, forward, open_model
from headatlas.lab.activations.recording import stream_at
from headatlas.lab.attention.pairs import PairQuestion, attention_between
from headatlas.lab.attribution.logit_attribution import direct_logit_attribution
from headatlas.lab.weights.ov_qk import ov_logits, ov_logits_of_states
from headatlas.notation import Head
from headatlas.protocol.script import load_script
from headatlas.stimuli import Prompt

_SHOWN = 8


def ids_of(model: OpenModel) -> dict[str, list[int]]:
    """The tokens of the members of each class, in order."""
    classes = load_script("successor").module.classes(model.vocabulary)
    return {
        name: [model.vocabulary.continuation(f" {each}")[0] for each in members] for name, members in classes.items()
    }


def succession(model: OpenModel, classes: dict[str, list[int]]) -> Array:
    """The score of the rule, over all members: [layer head]."""
    hits = []
    for ids in classes.values():
        best = ov_logits(model, ids, among=ids, states="mlp0").argmax(-1).numpy()  # [layer head token]
        hits += [best[..., place] == place + 1 for place in range(len(ids) - 1)]
    found: Array = np.mean(hits, 0)
    return found


def in_context(model: OpenModel, prompts: list[Prompt], classes: dict[str, list[int]]) -> Array:
    """The same where each head reads the last member shown, in the stream of its layer: [layer head]."""
    read, wanted = [], []
    for prompt in prompts:
        place, ids = last_member(prompt, classes)
        read.append(stream_at(model, prompt.tokens, [place]))
        wanted.append((ids, prompt.readouts[0].answer))
    among = sorted({id for ids, _ in wanted for id in ids})
    logits = ov_logits_of_states(model, torch.cat(read, 1), among).numpy()  # [layer head prompt token]
    hits = [
        np.array(ids)[logits[..., number, [among.index(id) for id in ids]].argmax(-1)] == answer
        for number, (ids, answer) in enumerate(wanted)
    ]
    found: Array = np.mean(hits, 0)
    return found


def last_member(prompt: Prompt, classes: dict[str, list[int]]) -> tuple[int, list[int]]:
    """Where the member before the answer stands, and the tokens of its class."""
    answer = prompt.readouts[0].answer
    ids = next(each for each in classes.values() if answer in each and set(prompt.readouts[0].rivals) <= set(each))
    before = ids[ids.index(answer) - 1]
    return max(place for place, token in enumerate(prompt.tokens) if token == before), ids


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=8, help="of each family (default 8)")
    options = parser.parse_args()
    model, script = open_model(options.model), load_script("successor")
    classes = ids_of(model)
    prompts = script.draw("task", model.vocabulary, "find", options.prompts, 0).prompts
    right, parts = dict[str, list[bool]](), []
    for prompt in prompts:
        readout = prompt.readouts[0]
        parts.append(direct_logit_attribution(model, [prompt.tokens], [readout.answer], [readout.rivals]))
        _, ids = last_member(prompt, classes)
        name = next(name for name, each in classes.items() if each is ids)
        logits = forward(model, torch.tensor([prompt.tokens]))[0, -1]
        right.setdefault(name, []).append(ids[int(logits[ids].argmax())] == readout.answer)
    print(
        f"{model.name}: the next member is said "
        + ", ".join(f"in {sum(each)} of {len(each)} runs of {name}" for name, each in right.items())
    )
    heads = np.concatenate([each.heads.numpy() for each in parts])
    mlps = np.concatenate([each.mlps.numpy() for each in parts])
    whole = float(np.mean([each.total.item() for each in parts]))
    print(f"lead of the next member over the mean of the others: {whole:.2f} nats, written directly by")
    for layers in np.array_split(np.arange(model.anatomy.layers), 3):
        attention, mlp = heads[:, layers].sum((1, 2)).mean(), mlps[:, layers].sum(1).mean()
        print(f"  layers {layers[0]:2} to {layers[-1]:2}: attention {attention:+6.2f}, MLPs {mlp:+6.2f}")
    effects, score, here = heads.mean(0), succession(model, classes), in_context(model, prompts, classes)
    asked = [PairQuestion(each.tokens, ((len(each.tokens) - 1, last_member(each, classes)[0]),)) for each in prompts]
    looks = attention_between(model, asked).mean(0)
    for title, order in (
        ("highest succession", score),
        ("highest in context", here),
        ("largest direct effect", effects),
    ):
        print(f"{title:24} succession  in context   effect  attention to the last member")
        for flat in np.argsort(-order, None)[:_SHOWN]:
            head = Head(*map(int, np.unravel_index(flat, order.shape)))
            print(f"  {head!s:22} {score[head]:10.2f}  {here[head]:10.2f} {effects[head]:+8.2f}  {looks[head]:10.2f}")


if __name__ == "__main__":
    main()
