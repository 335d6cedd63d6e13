"""The kinds of broken input, and what is asked of headatlas with each.

This module is long because it is a list of kinds.
"""

import contextlib
import functools
import io
import json
import random
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fuzzing import base, mutate
from headatlas import HeadatlasError
from headatlas.cli import program

FAULTS = ("Traceback", "a bug in headatlas", "please report")


class Outcome(NamedTuple):
    """The outcome of an input: an exit code or a word, and the reason if it is a fault."""

    ended: str
    fault: str = ""


@dataclass
class Bench:
    """A working folder with undamaged inputs."""

    folder: Path

    def __post_init__(self) -> None:
        self.small = base.catalog(self.folder / "small")
        self.models: list[Path] = []
        self.records = {name: base.record(name) for name in ("induction", "previous-token", "copy-suppression")}
        self.census, self.together = base.census(), base.collaboration()
        self.names = base.names()

    def model(self, rng: random.Random) -> Path:
        """A fresh copy of a tiny model."""
        if not self.models:
            self.models = base.models(self.folder / "models")
        place = self.fresh("model")
        shutil.copytree(rng.choice(self.models), place)
        return place

    def fresh(self, name: str) -> Path:
        """A free path."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        return place


def command(*words: str, verdicts: bool = False) -> Outcome:
    """Run a command in this process, and judge its outcome."""
    written = io.BytesIO()
    out, err = (io.TextIOWrapper(written, encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: int | str | None = program.main(words)
        except SystemExit as end:
            code = end.code
        out.flush()
        err.flush()
    said = written.getvalue().decode("utf-8", "replace")
    if code not in ((0, 1, 2) if verdicts else (0, 2)):
        return Outcome(str(code), f"exit code {code}: {said[-300:]}")
    if code != 0 and not said.strip() and words[0] != "run":
        return Outcome(str(code), "says nothing")
    for sign in FAULTS:
        if sign in said:
            return Outcome(str(code), said[said.index(sign) :][:300])
    return Outcome(str(code))


def _opened(folder: Path, rng: random.Random) -> Outcome:
    """Open a model, usually directly and sometimes through a command that measures."""
    chance = rng.random()
    if chance < 0.06:
        return command("doctor", str(folder), "--json")
    if chance < 0.08:
        out = folder.with_name("out")
        return command(
            "run", rng.choice(["previous-token", "induction"]), "--model", str(folder), "--out", str(out), verdicts=True
        )
    if chance < 0.11:
        return command("census", str(folder), "--dry-run", "--jobs", "1")
    from headatlas.lab import open_model

    try:
        with open_model(str(folder)) as model:
            assert model.vocabulary.ordinary is not None
    except HeadatlasError as error:
        return Outcome("2", "" if "\n" not in str(error) else f"several lines: {str(error)[:200]}")
    return Outcome("0")


def config(bench: Bench, rng: random.Random) -> Outcome:
    """config.json of a model."""
    folder = bench.model(rng)
    path = folder / "config.json"
    broken = mutate.data(json.loads(path.read_text()), rng)
    if rng.random() < 0.15 and isinstance(broken, dict):
        broken["model_type"] = rng.choice(_model_types())
        broken.pop("architectures", None)
    if rng.random() < 0.2 and isinstance(broken, dict):
        broken[rng.choice(_FIELDS)] = mutate.value(rng)
    path.write_bytes(mutate.dumped(broken, rng))
    return _opened(folder, rng)


_FIELDS = (
    "rope_scaling rope_parameters quantization_config layer_types sliding_window torch_dtype dtype text_config "
    "auto_map attn_implementation tie_word_embeddings head_dim num_key_value_heads hidden_act pad_token_id use_cache "
    "max_position_embeddings vocab_size num_hidden_layers hidden_size is_encoder_decoder architectures model_type"
).split()


def _model_types() -> list[str]:
    import transformers

    return sorted(str(name) for name in transformers.CONFIG_MAPPING.keys())  # noqa: SIM118


def tokenizer(bench: Bench, rng: random.Random) -> Outcome:
    """tokenizer.json and its neighbours."""
    folder = bench.model(rng)
    name = rng.choice(["tokenizer.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                       "generation_config.json", "added_tokens.json", "vocab.json", "merges.txt"])  # fmt: skip
    path = folder / name
    whole = json.loads(path.read_text()) if path.is_file() else {"bos_token": "<s>", "a": 1}
    path.write_bytes(mutate.dumped(mutate.data(whole, rng), rng))
    if rng.random() < 0.1:
        (folder / "tokenizer.json").unlink(missing_ok=True)
    return _opened(folder, rng)


def weights(bench: Bench, rng: random.Random) -> Outcome:
    """The header, the numbers or the index of safetensors files."""
    folder = bench.model(rng)
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header, numbers = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    how = rng.random()
    if how < 0.55:
        made = mutate.data(header, rng)
        head = mutate.dumped(made, rng)
        path.write_bytes(struct.pack("<Q", len(head)) + head + numbers)
    elif how < 0.65:
        path.write_bytes(struct.pack("<Q", rng.choice((0, 1, length - 1, length + 1, 10**9, 2**63))) + raw[8:])
    elif how < 0.8:
        path.write_bytes(mutate.raw_bytes(raw, rng))
    elif how < 0.9:
        index = {"metadata": {}, "weight_map": dict.fromkeys(header, "model.safetensors")}
        (folder / "model.safetensors.index.json").write_bytes(mutate.dumped(mutate.data(index, rng), rng))
    else:
        names = rng.choice([["model.safetensors"], ["tokenizer.json"], ["config.json"], ["generation_config.json"]])
        for name in names:
            (folder / name).unlink()
            if rng.random() < 0.5:
                (folder / name).mkdir()
    return _opened(folder, rng)


def entries(bench: Bench, rng: random.Random) -> Outcome:
    """A YAML file of the catalog."""
    import yaml

    folder = bench.fresh("catalog")
    shutil.copytree(bench.small, folder)
    path = rng.choice(sorted(folder.rglob("*.yaml")))
    text = path.read_text(encoding="utf-8")
    how = rng.random()
    if how < 0.6:
        broken = mutate.text(text, rng).encode("utf-8", "surrogatepass")
    elif how < 0.7:
        broken = mutate.raw_bytes(text.encode(), rng)
    else:
        with contextlib.suppress(RecursionError):
            text = yaml.safe_dump(mutate.data(yaml.load(text, yaml.BaseLoader), rng), allow_unicode=rng.random() < 0.5)
        broken = text.encode("utf-8", "surrogatepass")
    path.write_bytes(broken)
    return command("validate", "--catalog", str(folder), *["--json"] * (rng.random() < 0.3))


def bibliography(bench: Bench, rng: random.Random) -> Outcome:
    """references.bib."""
    from headatlas.catalog import bibliography as reading

    folder = bench.fresh("catalog")
    shutil.copytree(bench.small, folder)
    path = folder / "references.bib"
    macros = '@string{nn = "Thread"}\n@string{tw = nn # " Two"}\n' if rng.random() < 0.5 else ""
    text = macros + path.read_text(encoding="utf-8").replace(
        "{cs.CL}", rng.choice(["nn", "nn # tw", "{x}", "jan", "1"])
    )
    broken = mutate.text(text, rng).encode("utf-8", "surrogatepass")
    path.write_bytes(mutate.raw_bytes(broken, rng) if rng.random() < 0.1 else broken)
    found, problems = reading.read(path)
    for reference in found.values():
        assert reference.bibtex and reference.text and reference.short and reference.link
    return Outcome("2" if problems else "0")


def records(bench: Bench, rng: random.Random) -> Outcome:
    """A damaged run record among undamaged ones."""
    folder = bench.fresh("records")
    (folder / "specimen").mkdir(parents=True)
    for name, whole in bench.records.items():
        broken = name != "induction"
        raw = mutate.dumped(mutate.data(whole, rng), rng) if broken else json.dumps(whole).encode()
        (folder / "specimen" / f"{name}.json").write_bytes(raw)
    if rng.random() < 0.1:
        (folder / rng.choice(["other", "x y", ".hidden"])).mkdir()
    if rng.random() < 0.3:
        return command("report", str(folder / "page.html"), "--out", str(folder))
    return command(
        "results",
        "--out",
        str(folder),
        *["--json"] * (rng.random() < 0.3),
        *["--model", "specimen"] * (rng.random() < 0.5),
    )


def censuses(bench: Bench, rng: random.Random) -> Outcome:
    """Censuses, and the plans and parts they are joined from."""
    path = bench.fresh("censuses") / "broken.json"
    path.parent.mkdir()
    whole = bench.census
    if rng.random() < 0.2:
        return _joined(bench, rng, path.parent)
    path.write_bytes(mutate.dumped(mutate.data(whole, rng), rng))
    if rng.random() < 0.3:
        return command("compare", str(path), "specimen", *["--json"] * (rng.random() < 0.3))
    form = rng.choice(["json", "csv", "headkv", "duoattention", "qrhead", "transformerlens"])
    return command(
        "heads", str(path), "--type", rng.choice(["induction", "previous-token", "retrieval"]), "--format", form
    )


def _joined(bench: Bench, rng: random.Random, folder: Path) -> Outcome:
    """A shard with a damaged plan and a damaged part."""
    from headatlas.census import cache

    types = [each for each in bench.census["types"] if each["status"] == "measured"][:2]
    settings = bench.census["settings"] | {"types": [each["id"] for each in types]}
    plan = {"schema_version": cache.SCHEMA_VERSION, "model": bench.census["model"], "settings": settings}
    (folder / "parts").mkdir()
    if rng.random() < 0.5:
        plan = mutate.data(plan, rng)
    (folder / "plan.json").write_bytes(mutate.dumped(plan, rng))
    for each in types:
        scores = {"n": 4, "find": each["find"], "find_control": each["find_control"], "p": each["q"], "held": None}
        part = {
            "schema_version": cache.SCHEMA_VERSION,
            "entry": bench.records["induction"]["entry"] | {"id": each["id"]},
            "model": bench.census["model"],
            "settings": settings | {"types": [each["id"]]},
            "environment": bench.census["environment"],
            "status": "measured",
            "scores": scores,
            "work": each["work"],
        }
        (folder / "parts" / f"{each['id']}.json").write_bytes(mutate.dumped(mutate.data(part, rng), rng))
    return command("merge", str(folder), "--out", str(folder / "out"))


def collaborations(bench: Bench, rng: random.Random) -> Outcome:
    """A collaboration record."""
    from headatlas.collaboration import schema

    path = bench.fresh("together") / "broken.json"
    path.parent.mkdir()
    path.write_bytes(mutate.dumped(mutate.data(bench.together, rng), rng))
    try:
        schema.read(path)
    except HeadatlasError as error:
        return Outcome("2", "" if "\n" not in str(error) else f"several lines: {str(error)[:200]}")
    return Outcome("0")


def arguments(bench: Bench, rng: random.Random) -> Outcome:
    """Command lines: names, heads, numbers and options that are almost right."""
    out, lost = str(bench.folder / "o"), str(bench.folder / "nothing-there")
    model = rng.choice([lost, "", ".", "no/such/folder/here", "/dev/null", "a b", "\udcff"])
    word = functools.partial(_word, bench, rng)
    shard = rng.choice(["1/1", "0/1", "2/1", "-1/-1", "1/", "a/b", word()])
    place = rng.choice([str(bench.folder / "e"), "/no/such/x", "."])
    criterion = rng.choice(["--stage", "--group", "--model", "--method", "--text", "--status", "--circuit"])
    head = rng.choice(_HEADS) if rng.random() < 0.7 else word()
    form = rng.choice(["json", "csv", word()])
    lines: list[list[str]] = [
        ["who", rng.choice(["gpt2", "specimen", word()]), head],
        ["show", word()],
        ["cite", word(), word()],
        ["search", word(), word()],
        ["list", criterion, word()],
        ["list", *rng.sample(["--json", "--reproduction", "--placed-by", word(), "--text", word()], 3)],
        ["heads", rng.choice(["specimen", model + ".json"]), "--type", word(), "--format", form],
        ["run", word(), "--model", model, "--seeds", rng.choice(["1", "0", "-1", word()]), "--out", out],
        ["census", model, "--shard", shard, "--out", out],
        [
            "census",
            "specimen",
            "--dry-run",
            "--types",
            word(),
            "--prompts",
            rng.choice(["0", "-1", "x"]),
            "--jobs",
            "0",
        ],
        ["merge", model, word()],
        ["compare", model + ".json", word() + ".json"],
        ["doctor", model],
        ["method", rng.choice(["logit-len", word() + "x"])],
        ["specimen", word()],
        ["validate", "--catalog", model],
        ["new", word(), "--catalog", rng.choice([model, str(bench.small)])],
        ["results", "--out", model, "--model", word()],
        ["report", str(bench.folder / "page.html"), "--out", model],
        ["export", "--format", form, "--out", place],
        [word(), word()],
        [],
    ]
    line = [each.replace("\x00", "") for each in rng.choice(lines)]
    if line and rng.random() < 0.1:
        line.insert(rng.randrange(len(line)), rng.choice(["--json", "-h", "--", "-x", "", word()]))
    return command(*line, verdicts=True)


def _word(bench: Bench, rng: random.Random) -> str:
    """A name, or almost a name."""
    made = (
        rng.choice(bench.names),
        mutate.text(rng.choice(bench.names), rng),
        str(rng.choice(mutate.ODD)),
        rng.choice(_HEADS),
    )
    return rng.choice(made)[:200].replace("\x00", "")  # no command line can hold that


_HEADS = (
    "L5H10 L99H-1 L-1H0 L1H99 l5h10 5.10 5-10 (5,10) a5.h10 L5 H5 L5H L١H٢ L05H010 L1e3H1 5.1.0 L5H10L5H11 -1.-1 "
    "L99999999999999999999H1 blocks.5.attn.hook_z[10] blocks.5 L5H10; 5,10 [5,10] nan inf 0x1.1 ½.1 L5H1_0"
).split()

# The share of each kind among the inputs.
KINDS: dict[str, tuple[int, Callable[[Bench, random.Random], Outcome]]] = {
    "config": (16, config),
    "tokenizer": (8, tokenizer),
    "weights": (8, weights),
    "entries": (16, entries),
    "bibliography": (14, bibliography),
    "records": (12, records),
    "censuses": (8, censuses),
    "collaborations": (4, collaborations),
    "arguments": (14, arguments),
}


def kind_of(number: int, only: list[str] | None = None) -> str:
    """The kind of an input, by its number."""
    chosen = {name: share for name, (share, _) in KINDS.items() if not only or name in only}
    at = number % sum(chosen.values())
    for name, share in chosen.items():
        if at < share:
            return name
        at -= share
    raise AssertionError


def made(bench: Bench, seed: int, number: int, kind: str) -> Outcome:
    """Make an input, run headatlas on it, and return the outcome."""
    try:
        return KINDS[kind][1](bench, random.Random(f"{seed}/{number}/{kind}"))
    except Exception as error:
        return Outcome("exception", f"{type(error).__name__}: {error} at {' < '.join(_where(error))}"[:600])


def _where(error: BaseException) -> Iterator[str]:
    trace: Any = error.__traceback__
    places = []
    while trace:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    yield from reversed(places[-4:])


if sys.platform == "win32":
    raise ImportError("the fuzzer needs POSIX")
