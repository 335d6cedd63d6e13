"""Head sets in the formats that other tools read, each with the rule by which the heads were chosen.

The formats are those of the tools' own files: FYYFU/HeadKV `Important_Head/head_score/*.json`,
mit-han-lab/duo-attention `full_attention_heads.tsv`, princeton-pli/QRHead `configs/*.yaml`; for TransformerLens a list
of (layer, head).
"""

import csv
import io
import json
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from headatlas.census.schema import Census, TypeResult
from headatlas.errors import HeadatlasError
from headatlas.evidence import record_parts
from headatlas.notation import Head

HeadFormat = Literal["json", "csv", "headkv", "duoattention", "qrhead", "transformerlens"]
FORMATS: tuple[HeadFormat, ...] = get_args(HeadFormat)


def type_in(census: Census, id: str) -> TypeResult:
    """One type of a census, measured.

    Raises:
        HeadatlasError: where it is not in it, or was not measured.
    """
    for each in census.types:
        if each.id == id:
            if each.status != "measured":
                raise HeadatlasError(f"{id} is not measured in {census.model.name} ({each.reason})")
            return each
    raise HeadatlasError(f"the census of {census.model.name} does not look for {id}; take it again with --types {id}")


def rule(census: Census, id: str) -> dict[str, Any]:
    """By which rule the heads were chosen, and on what: plain data."""
    found = type_in(census, id)
    passed = found.behaviour.passed if found.behaviour else None
    again = f"; and, again, at least that and above its control on {found.n_test} new prompts" if found.n_test else ""
    return {
        "model": census.model.name,
        "weights_sha256": census.model.sha256,
        "identity_sha256": census.model.identity.sha256 if census.model.identity else None,
        "type": id,
        "score": found.metric,
        "threshold": found.threshold,
        "rule": f"mean score at least {found.threshold:g} on {found.n_find} prompts, and above its control at a false "
        f"discovery rate of {found.fdr:g} over all heads and {census.summary.types_measured} types{again}",
        "heads_chosen": len(found.heads),
        "heads_that_did_not_hold_on_new_prompts": len(found.did_not_hold),
        "heads_in_all": census.summary.heads,
        "model_has_the_behaviour": passed,
        "cause": found.causal,
        "headatlas": census.environment.headatlas,
    }


def text(census: Census, id: str, format: HeadFormat) -> str:
    """The heads of a type in a format.

    json, csv: heads with score, interval, q and cause, best first.
    headkv: one line with the score of every head, in order, on the prompts that select, at least 0. A head that did not
        hold on new prompts gets the lower of its two scores. Readers of this format count equally many heads in each
        layer, so a layer with fewer heads is filled up with 0.
    duoattention: layers x key/value groups, tab-separated: the best head of each group, by the scores of headkv, 0.5 at
        the threshold; a group reaches 0.5 exactly where a head of it is chosen. Its reader takes the row of a layer by
        the layer's number: that of a layer without attention is 0.
    qrhead: YAML with the set as QRHead's configuration names it, best first.
    transformerlens: JSON, [[layer, head], ...], best first.

    Layers carry the model's own number in all of them.

    Raises:
        HeadatlasError: where the type was not measured, or the format cannot say what the model is like.
    """
    made = {
        "json": _json,
        "csv": _csv,
        "headkv": _headkv,
        "duoattention": _duoattention,
        "qrhead": _qrhead,
        "transformerlens": _transformerlens,
    }
    return made[format](census, id)


def _rows(census: Census, id: str) -> list[dict[str, Any]]:
    order = {head: number for number, head in enumerate(type_in(census, id).heads)}
    rows = [
        {"head": head.head, "layer": head.layer, "index": head.index, "kv_group": head.group}
        | label.model_dump(mode="json", exclude={"type", "stage"})
        for head in census.heads
        for label in head.labels
        if label.type == id
    ]
    return sorted(rows, key=lambda row: order[row["head"]])


def _json(census: Census, id: str) -> str:
    groups = [
        {"layer": group.layer, "kv_group": group.group} | label.model_dump(mode="json", exclude={"type", "stage"})
        for group in census.groups
        for label in group.labels
        if label.type == id
    ]
    made = {"rule": rule(census, id), "heads": _rows(census, id), "kv_groups": groups}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _csv(census: Census, id: str) -> str:
    made = io.StringIO()
    columns = "head layer index kv_group score low high control selected_on q behaviour causal alone".split()
    writer = csv.DictWriter(made, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(census, id))
    return made.getvalue()


def _headkv(census: Census, id: str) -> str:
    scores = np.maximum(np.nan_to_num(_scores(census, id)), 0.0)  # [layer head]
    every = {f"{layer}-{head}": [float(score)] for (layer, head), score in np.ndenumerate(scores)}
    return json.dumps(every) + "\n"


def _scores(census: Census, id: str) -> NDArray[np.float64]:
    """[layer head]: scores on the prompts that select; of heads that did not hold on new ones no more than there."""
    scores = record_parts.padded(type_in(census, id).find or [])
    for head in census.heads:
        for each in head.did_not_hold:
            if each.type == id:
                place = head.layer, head.index
                scores[place] = min(scores[place], each.score)
    return scores


def _duoattention(census: Census, id: str) -> str:
    found, model = type_in(census, id), census.model
    if len(groups := {count for count in model.kv_by_layer if count}) > 1:
        raise HeadatlasError(
            f"duoattention reads as many key/value groups in every layer, and layers of {model.name} have "
            f"{' or '.join(map(str, sorted(groups)))}; --format json gives the groups of each layer"
        )
    best, chosen = np.zeros((model.layers, model.kv_heads)), np.zeros((model.layers, model.kv_heads), dtype=bool)
    scores = _scores(census, id)
    for head in model.every_head:
        place = head.layer, model.kv_head(head)
        best[place] = max(best[place], scores[head])
        chosen[place] |= str(head) in found.heads
    gates = np.clip(0.5 * best / found.threshold, 0.0, 1.0)
    gates = np.where(chosen, np.maximum(gates, 0.5), np.minimum(gates, 0.499))
    return "".join("\t".join(f"{gate:.6g}" for gate in row) + "\n" for row in gates)


def _qrhead(census: Census, id: str) -> str:
    heads = [Head.parse(head) for head in type_in(census, id).heads]
    about = rule(census, id)
    lines = [
        f"# {about['type']} heads of {about['model']}: {about['rule']}.",
        f"# Cause: {about['cause']}. headatlas {about['headatlas']}, weights {about['weights_sha256'][:12]}.",
        f"attn_head_set: {json.dumps(','.join(f'{head.layer}-{head.head}' for head in heads))}",
        f"model_base_class: {json.dumps(census.model.name.rsplit('/', 1)[-1])}",
        f"model_name_or_path: {json.dumps(census.model.name)}",
    ]
    return "\n".join(lines) + "\n"


def _transformerlens(census: Census, id: str) -> str:
    return json.dumps([list(Head.parse(head)) for head in type_in(census, id).heads]) + "\n"
