"""Writes the site's generated pages from the catalog and the run records.

    python tools/build_pages.py

A plain script that runs before the site builder. Everything that comes from the catalog is escaped: an entry cannot
put markup of its own on a page.
"""

import shutil
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from headatlas import paths, specimens
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.loading import check
from headatlas.catalog.problems import CatalogError
from headatlas.catalog.schema import Expectation, Finding, HeadType
from headatlas.evidence.agreement import agreement
from headatlas.evidence.records import Record, read_all
from headatlas.figures.heatmap import heatmap, top_of
from headatlas.figures.training import training_picture

# What HTML or Markdown would take for its own, as character references.
_SAFE = {ord(sign): f"&#{ord(sign)};" for sign in "<>&\"'\\`*_{}[]|#~"}
SITE = Path(__file__).resolve().parent.parent / "site"


def main() -> None:
    """Write every generated page, replacing those of the last run."""
    catalog, problems = check()
    if problems or catalog is None:
        raise CatalogError(problems)
    records = read_all(paths.records())
    shutil.rmtree(SITE / "heads", ignore_errors=True)
    (SITE / "heads").mkdir()
    for head in catalog.heads.values():
        mine = [record for record in records if record.entry.id == head.id]
        (SITE / "heads" / f"{head.id}.md").write_text(head_page(catalog, head, mine), encoding="utf-8")
    (SITE / "heads" / "index.md").write_text(index_page(catalog, records), encoding="utf-8")
    (SITE / "specimen.md").write_text(specimen_page(records), encoding="utf-8")
    (SITE / "index.md").write_text(home_page(catalog, records), encoding="utf-8")
    print(f"wrote {len(catalog.heads)} head types, {len(records)} records")


# --- pieces ---------------------------------------------------------------------------------------------------


def text(value: object) -> str:
    """Catalog text as HTML: no markup survives, and nothing Markdown would take for its own."""
    return " ".join(str(value).translate(_SAFE).split())


def table(header: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    """An HTML table of cells that are HTML already, in a box that scrolls on a narrow screen."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="atlas-wide {kind}" tabindex="0" role="region" aria-label="table">'
        f"<table><thead><tr>{top}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>\n"
    )


def verdict(label: str) -> str:
    """A verdict in its colour."""
    return f'<span class="atlas-verdict atlas-{label}">{label}</span>'


def source(catalog: Catalog, key: str, at: str = "") -> str:
    """A link to a source, and the place in it."""
    reference = catalog.references[key]
    place = f'<br><span class="atlas-place">{text(at)}</span>' if at else ""
    return f'<a href="{escape(reference.link)}">{text(reference.short)}</a>{place}'


def heads_of(heads: Iterable[object]) -> str:
    """Heads in a row."""
    return " ".join(f"<code>{head}</code>" for head in heads)


def scores_of(finding: Finding) -> str:
    """Heads with the source's figure for each."""
    return ", ".join(f"<code>{name}</code> {score:g}" for name, score in finding.scores.items())


# --- one head type --------------------------------------------------------------------------------------------


def head_page(catalog: Catalog, head: HeadType, records: list[Record]) -> str:
    """The page of one head type."""
    stage = catalog.taxonomy.stage(head.stage)
    parts = [
        f"---\ntitle: {head.id}\n---\n",
        f"# {text(head.name)}\n",
        f'<p class="atlas-signature">{text(head.signature)}</p>\n',
        f"<p>{text(head.summary)}</p>\n",
        f"<p>{text(stage.name)} / {text(stage.group(head.group).name)} · status: <strong>{head.status}</strong></p>\n",
        placing(head),
        aliases(catalog, head),
        *(figure(head, record) for record in records),
        "## What it does\n",
        f"<p>{text(head.definition)}</p>\n",
        "## How it works\n",
        f"<p><strong>Reads (QK).</strong> {text(head.qk)}</p>\n<p><strong>Writes (OV).</strong> {text(head.ov)}</p>\n",
        "## Reported, expected, measured\n",
        side_by_side(catalog, head, records),
        *(measured(record) for record in records),
        rule(head),
        rerun(head),
        "## Evidence\n",
        evidence(catalog, head.findings),
        relations(catalog, head),
        distinctions(catalog, head),
        controversies(head),
        questions(head),
        "## Sources\n",
        sources(catalog, head),
        reading(catalog, head),
    ]
    return "\n".join(part for part in parts if part)


def placing(head: HeadType) -> str:
    """Why the entry stands where it stands, where the survey lacks it."""
    if head.placed_why is None:
        return ""
    return f"<p>The survey lacks this type; we placed it here. {text(head.placed_why)}</p>\n"


def aliases(catalog: Catalog, head: HeadType) -> str:
    """Other names, each with a source that uses it, and the types it may mean besides this one."""
    if not head.aliases:
        return ""
    names = []
    for alias in head.aliases:
        others = ", ".join(f'<a href="../{id}/">{text(catalog.heads[id].name)}</a>' for id in alias.also)
        shared = f"; also used for {others}" if others else ""
        names.append(f"{text(alias.name)} ({source(catalog, alias.source)}{shared})")
    return f"<p>Called so in papers: {', '.join(names)}.</p>\n"


def figure(head: HeadType, record: Record) -> str:
    """Layers x heads on one model; nothing where no head could be scored."""
    if record.detection is None:
        return ""
    found = [tuple(each) for each in record.selected]
    title = f"{head.name}: scores of the {record.model.layers} x {record.model.heads} heads of {record.model.name}"
    count = (
        f"{len(found)} of {record.model.layers * record.model.heads} heads are found (outlined)"
        if found
        else ("no head is found")
    )
    top = top_of(record.detection.score, record.detection.threshold)
    caption = (
        f"{text(record.model.name)}: {count}. Shade: {text(record.detection.metric)}, 0 to {top:.2g}, on held-out "
        "stimuli."
    )
    drawn = heatmap(record.detection.score, found, title, top=top)  # type: ignore[arg-type]
    return f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>\n"


def side_by_side(catalog: Catalog, head: HeadType, records: list[Record]) -> str:
    """One row per model that anybody said or measured something about."""
    expected = {each.model: each for each in head.reproduction.expected}
    ran = {record.model.catalog_id or record.model.id: record for record in records}
    reported: dict[str, list[Finding]] = {}
    for finding in head.findings:
        if finding.model and finding.heads:
            reported.setdefault(finding.model, []).append(finding)
    rows = []
    for model in dict.fromkeys([*ran, *expected, *reported]):
        name = catalog.models[model].name if model in catalog.models else model
        rows.append(
            [
                text(name),
                _reported(catalog, reported.get(model, [])),
                _expected(expected.get(model)),
                _measured(ran.get(model)),
            ]
        )
    if not rows:
        return "<p>No source names heads of a model, and nothing was run.</p>\n"
    return table(("model", "papers report", "we expected, before running", "we measured"), rows)


def _reported(catalog: Catalog, findings: list[Finding]) -> str:
    if not findings:
        return '<span class="atlas-place">nothing about this model</span>'
    lines = []
    for finding in findings:
        value = "" if finding.value is None else f" {finding.value:g}{' ' + text(finding.unit) if finding.unit else ''}"
        stance = "" if finding.stance == "supports" else f" ({finding.stance})"
        named = scores_of(finding) if finding.scores else heads_of(finding.heads)
        lines.append(f"{named}{value}{stance}, {source(catalog, finding.source)}")
    return "<br>".join(lines)


def _expected(expectation: Expectation | None) -> str:
    if expectation is None:
        return '<span class="atlas-place">no expectation written</span>'
    named = f" {heads_of(expectation.heads)}" if expectation.heads else ""
    return f'{verdict(expectation.verdict)}{named}<br><span class="atlas-place">{text(expectation.why)}</span>'


def _measured(record: Record | None) -> str:
    if record is None:
        return '<span class="atlas-place">not run yet</span>'
    lines = [verdict(record.verdict.label)]
    if record.detection:
        for head in record.selected[:8]:
            score, low, high = (
                grid[head.layer][head.head]
                for grid in (record.detection.score, record.detection.low, record.detection.high)
            )
            lines.append(f"<code>{head}</code> {score:.2f} [{low:.2f}, {high:.2f}]")
        if len(record.selected) > 8:
            lines.append(f"and {len(record.selected) - 8} more")
    return "<br>".join(lines)


def measured(record: Record) -> str:
    """The reasons of one run, in words, with what was run."""
    reasons = "".join(f"<li>{text(reason)}</li>" for reason in record.verdict.reasons)
    families = ", ".join(f"{text(name)}: {label}" for name, label in record.stability.families.items())
    stable = f"<li>by prompt family: {families}</li>" if families else ""
    return (
        f"### On {text(record.model.name)}: {record.verdict.label}\n\n<ul>{reasons}{stable}</ul>\n"
        f'<p class="atlas-place">{text(record.model.architecture)}, {record.model.layers} layers x '
        f"{record.model.heads} heads ({record.model.kv_heads} key/value heads), weights sha256 "
        f"<code>{record.model.sha256[:12]}</code>, seed {record.environment.seed}, rule version "
        f"{record.entry.rule_version}, {record.environment.started[:10]}.</p>\n"
    )


def rule(head: HeadType) -> str:
    """The rule of the verdict; nothing where there is no reproduction yet."""
    fixed = head.rule
    if fixed is None:
        return ""
    behaviour, detection, cause = fixed.behaviour, fixed.detection, fixed.cause
    rows = [
        [
            "behaviour",
            f"{text(behaviour.metric)}: above {max(behaviour.chance, behaviour.minimum):g} with its interval",
        ],
        [
            "detection",
            f"{text(detection.metric)}: at least {detection.threshold:g}, and above control at a false discovery rate "
            f"of {detection.fdr:.0%} over all heads. Why this threshold: {text(detection.threshold_why)}",
        ],
        [
            "cause",
            f"{cause.intervention}, of the heads found: {cause.direction} of the behaviour, more than "
            f"{cause.percentile:g}% of matched random sets",
        ],
    ]
    return f"### The rule, fixed on {fixed.fixed} (version {fixed.version})\n\n" + table(("part", "rule"), rows)


def rerun(head: HeadType) -> str:
    """What a rerun needs, how to run it, and the script in full."""
    smallest = f"<code>{head.reproduction.smallest_model}</code>" if head.reproduction.smallest_model else "none known"
    needs = (
        f"<p>Needs: {text(head.reproduction.needs)}</p>\n\n"
        f"<p>Smallest model: {smallest}. {text(head.reproduction.smallest_why)}</p>\n"
    )
    if head.rule is None:
        return f"## Rerun it\n\n<p>No reproduction yet.</p>\n\n{needs}"
    code = (paths.reproductions() / f"{head.id}.py").read_text(encoding="utf-8")
    return (
        f"## Rerun it\n\n```sh\nheadatlas run {head.id}\nheadatlas run {head.id} --model gpt2\n```\n\n"
        f"{needs}\n"
        f'??? example "reproductions/{head.id}.py"\n\n    ```python\n'
        + "".join(f"    {line}\n" if line else "\n" for line in code.splitlines())
        + "    ```\n"
    )


def evidence(catalog: Catalog, findings: Iterable[Finding]) -> str:
    """Every finding with its source and place."""
    rows = []
    for finding in findings:
        value = "" if finding.value is None else f"{finding.value:g} {text(finding.unit or '')}"
        if finding.error is not None:
            value += f" ± {finding.error:g}"
        if finding.metric:
            value += f'<br><span class="atlas-place">{text(finding.metric)}</span>'
        if finding.n:
            value += f'<br><span class="atlas-place">n = {finding.n}</span>'
        named = scores_of(finding) if finding.scores else heads_of(finding.heads)
        where = f"{text(finding.model)}<br>{named}" if finding.model else ""
        rows.append(
            [
                f'<span id="{finding.id}" class="atlas-{finding.stance}">{text(finding.statement)}</span>',
                finding.kind,
                where,
                value,
                f"{source(catalog, finding.source, finding.at)}<br>checked: {finding.checked}",
            ]
        )
    return table(("what is reported", "kind", "model and heads", "value", "source and place"), rows, "atlas-evidence")


def relations(catalog: Catalog, head: HeadType) -> str:
    """Links to other head types."""
    if not head.relations:
        return ""
    items = "".join(
        f"<li>{relation.type}{f' via {relation.via}' if relation.via else ''}: "
        f'<a href="../{relation.head}/">{text(catalog.heads[relation.head].name)}</a>. {text(relation.note or "")} '
        f"{source(catalog, relation.source)}</li>"
        for relation in head.relations
    )
    return f"## Relations\n\n<ul>{items}</ul>\n"


def distinctions(catalog: Catalog, head: HeadType) -> str:
    """Types with a similar name."""
    if not head.distinct_from:
        return ""
    items = "".join(
        f'<li><a href="../{other.head}/">{text(catalog.heads[other.head].name)}</a>: {text(other.why)}</li>'
        for other in head.distinct_from
    )
    return f"## Not to be mistaken for\n\n<ul>{items}</ul>\n"


def reading(catalog: Catalog, head: HeadType) -> str:
    """Papers no finding rests on."""
    if not head.reading:
        return ""
    items = "".join(f"<li>{source(catalog, each.source)}: {text(each.about)}</li>" for each in head.reading)
    return f"## Further reading\n\n<ul>{items}</ul>\n"


def controversies(head: HeadType) -> str:
    """Disputes, each linked to the findings it rests on."""
    if not head.controversies:
        return ""
    items = "".join(
        f"<li>{text(dispute.statement)} ("
        + ", ".join(f'<a href="#{id}">{id}</a>' for id in dispute.findings)
        + ")</li>"
        for dispute in head.controversies
    )
    return f"## Disputed\n\n<ul>{items}</ul>\n"


def questions(head: HeadType) -> str:
    """What nobody knows yet."""
    if not head.open_questions:
        return ""
    return "## Open questions\n\n<ul>" + "".join(f"<li>{text(each)}</li>" for each in head.open_questions) + "</ul>\n"


def sources(catalog: Catalog, head: HeadType) -> str:
    """The bibliography of one entry."""
    return (
        "<ul>"
        + "".join(
            f"<li>{text(each.author.replace(' and ', '; '))} ({each.year}). "
            f'<a href="{escape(each.link)}">{text(each.title)}</a>.{f" {text(each.venue)}." if each.venue else ""}</li>'
            for each in catalog.sources(head)
        )
        + "</ul>\n"
    )


# --- overviews ------------------------------------------------------------------------------------------------


def index_page(catalog: Catalog, records: list[Record]) -> str:
    """All head types, with their verdicts."""
    everything = list(catalog.heads.values())
    return "---\ntitle: Head types\nhide: [toc]\n---\n\n# Head types\n\n" + overview(
        catalog, everything, records, "../"
    )


def overview(catalog: Catalog, heads: Iterable[HeadType], records: list[Record], base: str) -> str:
    """Type x model: one row per head type, one column per model that was run."""
    models = list(dict.fromkeys(record.model.name for record in records))
    labels = {(record.entry.id, record.model.name): record.verdict.label for record in records}
    rows = []
    for head in heads:
        rows.append(
            [
                f'<a href="{base}heads/{head.id}/">{text(head.name)}</a><br>{text(head.summary)}',
                text(catalog.taxonomy.stage(head.stage).name),
                head.status,
                str(len(head.findings)),
                *(verdict(labels[head.id, model]) if (head.id, model) in labels else "not run" for model in models),
            ]
        )
    header = ("head type", "stage", "status", "findings", *(f"on {text(model)}" for model in models))
    return table(header, rows, "atlas-overview")


def framework(catalog: Catalog) -> str:
    """The four stages with their groups and head types; those the survey lacks are marked."""
    parts = []
    for stage in catalog.taxonomy.stages:
        lines = []
        for group in stage.groups:
            heads = [head for head in catalog.heads.values() if (head.stage, head.group) == (stage.id, group.id)]
            heads.sort(key=lambda head: (head.placed_by != "survey", head.id))
            links = ", ".join(
                f'<a href="heads/{head.id}/">{head.id}</a>{"" if head.placed_by == "survey" else "*"}' for head in heads
            )
            lines.append(f"<li><strong>{text(group.name)}</strong>: {links}</li>")
        parts.append(
            f'<div class="atlas-stage"><h3>{text(stage.name)}</h3><p>{text(stage.summary)}</p>'
            f"<ul>{''.join(lines)}</ul></div>"
        )
    return (
        f'<div class="atlas-stages">{"".join(parts)}</div>\n'
        f'<p class="atlas-place">The framework is that of {source(catalog, catalog.taxonomy.source)}; '
        "* the survey lacks these, we placed them.</p>\n"
    )


def home_page(catalog: Catalog, records: list[Record]) -> str:
    """The first page."""
    ran = {record.entry.id for record in records}
    return (
        "---\ntitle: headatlas\nhide: [navigation, toc]\n---\n\n"
        "# Which attention heads are known, and does it hold?\n\n"
        "Researchers have named dozens of kinds of attention heads in language models, each on its own models with "
        "its own code. headatlas gathers what papers **report**, writes down what we **expect** before running, and "
        "shows what we **measured** on an open model: with controls, causal tests, and a verdict that may be no.\n\n"
        f"So far: {len(catalog.heads)} head types, {len(catalog.findings())} findings from "
        f"{len(catalog.references)} sources, {len(records)} recorded runs.\n\n"
        "## Known\n\n"
        + framework(catalog)
        + "\n[All head types](heads/index.md){ .md-button }\n\n## Rerun\n\n"
        + overview(catalog, [head for head in catalog.heads.values() if head.id in ran], records, "")
        + "\n[How to read a verdict](verdicts.md){ .md-button }\n\nIn a checkout of the project:\n\n"
        "```sh\n"
        "make reproduce                                     # every finding, on the small model that ships\n"
        ".venv/bin/headatlas run induction --model gpt2     # one finding, on your model\n```\n"
    )


# --- the specimen ---------------------------------------------------------------------------------------------


def specimen_page(records: list[Record]) -> str:
    """The shipped models: how they came about, what each can do, and which heads carry it."""
    parts = [
        "# The specimen\n",
        "A small language model that ships with headatlas, so that every rerun works without a network. It is trained "
        "on text that the project generates: prompts of the same families that the reproductions put to GPT-2 or "
        "Llama, with names, words and facts held out. Everything on this page was measured by the trainer on the "
        "weights that ship.\n",
        "```sh\nheadatlas specimen        # this card, on the terminal\n```\n",
    ]
    found = agreement(records, specimens.names())
    if found.labels and len(found.models) > 1:
        counts = [found.same(model) for model in found.models]
        rows = [
            (text(entry), *(verdict(label) if label else "not run" for label in labels))
            for entry, labels in found.labels.items()
        ]
        last = ("same verdict as the first", *(f"{same} of {both}" for same, both in counts))
        parts.append("## Do the verdicts carry over?\n")
        parts.append(table(("", *map(text, found.models)), [*rows, last]))
    for name in specimens.names():
        parts.append(_specimen(name, specimens.card(name), specimens.training(name)))
    return "\n".join(parts)


def _specimen(name: str, card: dict[str, Any], training: dict[str, Any]) -> str:
    recipe = card["recipe"]
    families = table(
        ("family", "held out", "chance", "aim", "without the heads", "without random heads", "heads"),
        (
            (
                text(family),
                f"{each['accuracy']:.2f}",
                f"{each['chance']:.2f}",
                f"{each['aim']:.2f}",
                f"{each['without_them']:.2f} (p {each['p']:.3f})",
                f"{each['without_random']:.2f}",
                heads_of(each["heads"]),
            )
            for family, each in card["families"].items()
        ),
    )
    textbook = table(
        ("kind", "best heads"),
        (
            (text(kind), ", ".join(f"<code>{head}</code> {score:.2f}" for head, score in heads.items()))
            for kind, heads in card["textbook"].items()
        ),
    )
    picture = training_picture(training["steps"], f"which heads appear when in the training of {name}")
    notes = "".join(f"- {text(line)}\n" for line in (*card["limits"], *card["tried"]))
    return "\n".join(
        (
            f"## {text(name)}\n",
            f"{text(recipe['arch'])}, {recipe['layers']} layers x {recipe['heads']} heads, "
            f"{card['parameters'] / 1e6:.1f} M parameters, {card['tokens'] / 1e6:.0f} M tokens, seed {recipe['seed']}; "
            f"sha256 <code>{text(card['sha256'][:16])}…</code>.\n",
            f"<figure>{picture}<figcaption>Heads of each kind that ever score 0.3 or more, and held-out accuracy, "
            "against tokens seen.</figcaption></figure>\n",
            families,
            "Without the heads: held-out accuracy where the heads that carry the family (the fewest whose loss takes "
            "it half of the way to chance, on training documents) give their mean over the prompts; without random "
            "heads: the median of layer-matched sets of other heads.\n",
            textbook,
            f"**Limits**\n\n{notes}" if notes else "",
        )
    )


if __name__ == "__main__":
    main()
