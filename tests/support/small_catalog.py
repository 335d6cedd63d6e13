"""A catalog small enough to know by heart: three head types, one of each other thing. Valid as it is written."""

from pathlib import Path
from typing import Any

import yaml

CITE = {"source": "lee2024heads", "at": "p. 1", "checked": "primary"}


def finding(id: str, **changes: Any) -> dict[str, Any]:
    base = {"id": id, "statement": f"What {id} says.", "kind": "causal", **CITE}
    return base | changes


def head(id: str, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "id": id,
        "added": "2026-11-24",
        "name": f"{id.replace('-', ' ').capitalize()} head",
        "signature": "[A] → [B]",
        "summary": f"What a {id} head does.",
        "stage": "latent-reasoning",
        "group": "in-context-learning",
        "definition": "What the head does, told simply.",
        "criterion": "How it is recognised.",
        "qk": "What it reads.",
        "ov": "What it writes.",
        "findings": [finding("first")],
        "methods": ["scoring"],
        "benchmarks": ["ioi"],
        "circuits": ["pair"],
        "reproduction": {"needs": "A model.", "smallest_model": "tiny", "smallest_why": "It is small."},
    }
    return base | changes


def write(folder: Path) -> Path:
    """Write the whole of it into `folder`."""
    put(
        folder,
        "taxonomy.yaml",
        source="lee2024heads",
        stages=[
            {
                "id": "in-context-identification",
                "name": "In-context identification",
                "short": "ICI",
                "summary": "Finding.",
                "groups": [{"id": "overall-structure", "name": "Overall structure", "heads": ["previous-token"]}],
            },
            {
                "id": "latent-reasoning",
                "name": "Latent reasoning",
                "short": "LR",
                "summary": "Thinking.",
                "groups": [
                    {
                        "id": "in-context-learning",
                        "name": "In-context learning",
                        "heads": ["induction"],
                        "parts": [
                            {"id": "learning", "name": "Learning", "summary": "S.", "heads": ["induction"], **CITE}
                        ],
                    },
                    {"id": "task-specific-reasoning", "name": "Task-specific reasoning", "heads": []},
                ],
            },
        ],
        beyond=["suppressor"],
        methods=[{"id": "training-free", "name": "Training-free", "members": ["scoring"]}],
        benchmarks=[{"id": "mechanism", "name": "Mechanism", "members": ["ioi"]}],
        circuits=["pair"],
        parallels=["memory"],
        glossary=["circuit"],
        limitations=["scope"],
        directions=["more"],
        topics=["neurons"],
        depths={
            "reading": "Under the labels.",
            "columns": [{"layers": ["shallow"], "heads": ["previous-token"]}],
            "not_drawn": ["induction"],
            **CITE,
        },
    )
    put(
        folder,
        "heads/induction.yaml",
        **head(
            "induction",
            aliases=[{"name": "copying head", "source": "lee2024heads", "also": ["suppressor"]}],
            findings=[
                finding("first", model="tiny", heads=["L1H0"]),
                finding(
                    "scored", model="tiny", scores={"L1H1": 0.9, "L1H2": 0.5}, metric="attention", kind="behavioural"
                ),
            ],
            relations=[
                {"type": "composes-with", "head": "previous-token", "via": "K", "source": "lee2024heads"},
                {"type": "antagonist", "head": "suppressor", "source": "lee2024heads"},
            ],
        ),
    )
    put(
        folder,
        "heads/previous-token.yaml",
        **head("previous-token", stage="in-context-identification", group="overall-structure"),
    )
    put(
        folder,
        "heads/suppressor.yaml",
        **head(
            "suppressor",
            placed_by="headatlas",
            placed_why="It works against induction.",
            aliases=[{"name": "copying head", "source": "lee2024heads", "also": ["induction"]}],
            findings=[
                finding("first"),
                finding("no", stance="contradicts", model="tiny", heads=["L1H0"]),
            ],
            controversies=[{"statement": "Whether it exists.", "findings": ["no"], "core": True}],
            relations=[{"type": "antagonist", "head": "induction", "source": "lee2024heads"}],
        ),
    )
    sources = {"sources": ["lee2024heads"]}
    put(folder, "methods/scoring.yaml", id="scoring", name="Scoring", summary="S.", procedure="P.", **sources)
    put(folder, "benchmarks/ioi.yaml", id="ioi", name="Names", summary="S.", example="E.", metric="M.", **sources)
    roles = [{"head": each, **CITE} for each in ("previous-token", "suppressor")]
    roles.append({"head": "induction", "model": "tiny", "heads": ["L1H0"], **CITE})
    put(folder, "circuits/pair.yaml", id="pair", name="Pair", summary="S.", steps=["One."], roles=roles, **sources)
    put(
        folder,
        "models/tiny.yaml",
        id="tiny",
        name="Tiny",
        access="open",
        architecture="decoder",
        hub=["lee/tiny"],
        licence="MIT",
        layers=2,
        heads=4,
        kv_heads=4,
        d_head=8,
    )
    said = {"text": "Something.", **CITE}
    put(folder, "errata.yaml", errata=[{"id": "slip", "heads": ["induction"], "claim": said, "correction": said}])
    put(folder, "parallels.yaml", parallels=[{"id": "memory", "name": "Memory", "statement": "S.", **CITE}])
    term = {"id": "circuit", "name": "Circuit", "definition": "D.", "elsewhere": "In papers.", **sources}
    put(folder, "glossary.yaml", glossary=[term])
    put(
        folder,
        "limitations.yaml",
        limitations=[{"id": "scope", "name": "Scope", "statement": "S.", "answer": "A.", **CITE}],
    )
    put(folder, "directions.yaml", directions=[{"id": "more", "name": "More", "statement": "S.", **CITE}])
    topic = {"id": "neurons", "part": "feed-forward", "name": "Neurons", "statement": "S.", "heads": ["induction"]}
    put(folder, "topics.yaml", topics=[topic | CITE])
    (folder / "references.bib").write_text(entry("lee2024heads"))
    return folder


def entry(key: str, title: str = "Heads", eprint: str = "2401.00001") -> str:
    return (
        f"@misc{{{key},\n  title = {{{title}}},\n  author = {{Lee, Ann and Roe, Bo}},\n  year = {{2024}},\n"
        f"  eprint = {{{eprint}}},\n}}\n"
    )


def put(folder: Path, file: str, **data: Any) -> None:
    """Write one file."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")


def edit(folder: Path, file: str, **changes: Any) -> None:
    """Change fields of one file; a value of None removes the field."""
    data = yaml.safe_load((folder / file).read_text(encoding="utf-8")) | changes
    put(folder, file, **{name: value for name, value in data.items() if value is not None})
