"""What a person sees in a terminal of some width, and what a program gets from a pipe."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import headatlas
from headatlas import HeadatlasError, locations
from headatlas.catalog.strength import names_of, strongest
from headatlas.cli.program import GROUPS, main, parser
from headatlas.cli.terminal import map_view, record_view
from headatlas.evidence.signs import VERDICTS, against, as_expected, holds_in, short_names
from headatlas.notation import Head
from headatlas.protocol.results import collect, folders_of, models_run
from headatlas.specimens import names as specimen_names

Capture = pytest.CaptureFixture[str]
See = Callable[..., list[str]]
CATALOG = headatlas.load()
TYPES = ("accuracy", "induction", "previous-token", "retrieval")
REAL = ("SmolLM2-135M-Instruct-Q4_1", "gemma-3-270m-Q4_K_M")


@pytest.fixture
def see(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> See:
    """The lines of a command in a terminal of some width, without colours."""

    def lines(*words: str, columns: int = 80) -> list[str]:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(words) == 0
        monkeypatch.delenv("FORCE_COLOR")
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()

    return lines


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped records of a few types, on all models."""
    folder = tmp_path_factory.mktemp("records")
    for path in sorted(locations.records().glob("*/*.json")):
        if path.stem in TYPES:
            (folder / path.parent.name).mkdir(exist_ok=True)
            shutil.copy(path, folder / path.parent.name / path.name)
    return folder


class TestSigns:
    def test_short_names_differ_whatever_their_case_and_siblings_are_named_by_what_follows(self) -> None:
        models = ["specimen", "specimen-gpt2-1", "specimen-gpt2-2", "specimen-llama-0", "stories260k", "SP-other"]
        short = short_names(models)
        assert short["specimen-gpt2-1"] == "G1" and short["specimen-gpt2-2"] == "G2"
        assert len({name.lower() for name in short.values()}) == len(models)
        assert short_names(["gpt2"]) == {"gpt2": "gp"} and short_names(["a"]) == {"a": "a"} and short_names([]) == {}

    def test_an_inconclusive_verdict_counts_neither_for_nor_against(self) -> None:
        assert holds_in(["reproduced", "partly", "inconclusive", "not-reproduced"]) == (1, 3)
        assert holds_in(["inconclusive"]) == (0, 0)
        pairs = [
            ("reproduced", "reproduced"),
            ("inconclusive", "reproduced"),
            ("partly", "reproduced"),
            ("partly", None),
        ]
        assert as_expected(pairs) == (1, 2)  # type: ignore[arg-type]

    def test_inconclusive_beside_an_expectation_is_not_decided_unless_expected(self) -> None:
        assert against("inconclusive", "reproduced") == "not decided"
        assert against("inconclusive", "inconclusive") == "as expected"
        assert against("partly", "reproduced") == "not as expected" and against("partly", None) == ""

    def test_the_site_has_the_same_signs(self) -> None:
        from pages import atlas, overviews

        assert atlas.VERDICTS is VERDICTS and overviews.VERDICTS is VERDICTS
        assert len(set(VERDICTS.values())) == 4


class TestHelp:
    def test_bare_headatlas_prints_the_help_and_succeeds(self, capsys: Capture) -> None:
        assert main([]) == 0
        said = capsys.readouterr().out
        assert said == parser().format_help() and "usage: headatlas [-h] COMMAND" in said
        assert max(map(len, said.splitlines())) <= 80 and "headatlas who gpt2 L10H7" in said

    def test_every_command_stands_in_one_group(self) -> None:
        commands = next(each.choices for each in parser()._actions if each.dest == "==SUPPRESS==" and each.choices)
        listed = [name for group in GROUPS.values() for name in group]
        assert sorted(listed) == sorted(commands)

    def test_an_unknown_command_is_a_mistake(self, capsys: Capture) -> None:
        with pytest.raises(SystemExit) as end:
            main(["lst"])
        assert end.value.code == 2 and "lst" in capsys.readouterr().err


class TestResults:
    @pytest.mark.parametrize("columns", [44, 60, 80, 200])
    def test_every_sign_is_there_and_no_line_is_cut(self, see: See, records: Path, columns: int) -> None:
        lines = see("results", "--out", str(records), columns=columns)
        assert max(map(len, lines)) <= columns and not any("…" in line for line in lines)
        found, _ = collect(CATALOG, records)
        for type in TYPES:
            wanted = sorted(VERDICTS[each.record.verdict.label] for each in found if each.record.entry.id == type)
            shown = "".join(line[len("previous-token") :] for line in lines if line.split()[:1] == [type])
            assert sorted(sign for sign in shown if sign in VERDICTS.values()) == wanted

    def test_real_models_come_first_and_are_counted_apart(self, see: See, records: Path) -> None:
        found, _ = collect(CATALOG, records)
        ran = models_run(CATALOG, found)
        assert set(ran.real) == set(REAL) and ran.small[: len(specimen_names())] == specimen_names()
        lines = see("results", "--out", str(records))
        titles, row = lines[0].split(), next(line for line in lines if line.startswith("induction"))
        assert titles[:3] == ["Sm", "ge", "sp"] and titles[-3:] == ["real", "small", "exp"]
        labels = {
            each.record.model.id: each.record.verdict.label for each in found if each.record.entry.id == "induction"
        }
        counts = [holds_in([labels[id] for id in part if id in labels]) for part in ran]
        assert row.split()[-3:-1] == [str(share) for share in counts if share.whole]

    def test_orders(self, see: See, records: Path) -> None:
        def ids(by: str) -> list[str]:
            return [
                line.split()[0] for line in see("results", "--out", str(records), "--by", by) if line.startswith(TYPES)
            ]

        assert ids("name") == sorted(TYPES) and ids("holds")[0] == "induction" and ids("holds")[-1] == "accuracy"
        assert ids("stage") == [id for id in CATALOG.heads if id in TYPES] or set(ids("stage")) == set(TYPES)

    def test_a_pipe_gets_whole_words_a_row_per_type_and_model(self, records: Path, capsys: Capture) -> None:
        assert main(["results", "--out", str(records)]) == 0
        header, *rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        assert {len(row) for row in rows} == {len(header)} and len(rows) == len(list(records.glob("*/*.json")))
        found = {(each.record.entry.id, each.record.model.id): each for each in collect(CATALOG, records)[0]}
        for row in rows:
            said = dict(zip(header, row, strict=True))
            result = found.pop((said["type"], said["model"]))
            assert said["verdict"] == result.record.verdict.label and said["expected"] == (result.expected or "")
            assert said["heads"].split() == [str(head) for head in result.record.selected]
        assert not found

    def test_one_model_has_a_line_per_type(self, see: See, records: Path) -> None:
        lines = see("results", "--out", str(records), "--model", "specimen")
        rows = {line.split()[0]: line for line in lines if line.startswith(TYPES)}
        assert set(rows) == set(TYPES) and max(map(len, lines)) <= 80
        assert re.search(r"● reproduced.* = .*L\dH\d( L\dH\d)+ \+\d+$", rows["induction"])
        assert "≠" in rows["previous-token"] or "=" in rows["previous-token"]

    def test_a_model_is_found_by_its_id_in_the_catalog(self, records: Path) -> None:
        assert folders_of(CATALOG, records, "smollm2-135m-instruct") == [REAL[0]]
        assert folders_of(CATALOG, records, REAL[0]) == [REAL[0]]
        assert folders_of(CATALOG, records, "gpt2") == folders_of(CATALOG, records, "nobody") == []

    def test_a_model_without_records_is_told_with_what_there_is(self, records: Path, capsys: Capture) -> None:
        assert main(["results", "--out", str(records), "--model", "gpt2"]) == 2
        said = capsys.readouterr().err
        assert f"no record of gpt2 in {records} (it has {len(list(records.glob('*/*.json')))}, of SmolLM2" in said
        assert f"headatlas run --all --model gpt2 --out {records}" in said and said.count("\n") == 1


class TestShow:
    def test_the_short_form_is_short_and_says_where_to_go_on(self, see: See) -> None:
        lines = see("show", "induction")
        said = " ".join(lines)
        assert len(lines) < 90 and max(map(len, lines)) <= 80
        assert len(see("show", "induction", "--all")) > 2 * len(lines)
        for command in ("show induction --all", "cite induction", "run induction --model MODEL"):
            assert f"headatlas {command}" in said
        findings = CATALOG.heads["induction"].findings
        assert f"{len(findings)} findings from" in said and "● reproduced on SmolLM2" in said
        contradicting = [each for each in findings if each.stance == "contradicts"]
        assert said.count("contradicts: ") == min(2, len(contradicting))

    def test_the_strongest_are_causal_or_mechanistic_and_of_different_sources(self) -> None:
        for head in CATALOG.heads.values():
            found = strongest(head.findings, 3)
            supporting = [each for each in head.findings if each.stance == "supports"]
            assert len(found) == min(3, len(supporting))
            sources = {each.source for each in supporting}
            assert len({each.source for each in found}) == min(3, len(sources))
            if any(each.kind == "causal" for each in supporting):
                assert found[0].kind == "causal"

    @pytest.mark.parametrize("columns", [80, 140])
    def test_the_whole_has_every_finding(self, see: See, columns: int) -> None:
        said = " ".join(" ".join(see("show", "copy-suppression", "--all", columns=columns)).split())
        for finding in CATALOG.heads["copy-suppression"].findings:
            assert " ".join(finding.statement.split()) in said or finding.published_list


class TestWho:
    def test_a_summary_comes_first_and_a_place_is_said_once(self, see: See) -> None:
        lines = see("who", "GPT-2", "10.7")
        namings = names_of(CATALOG, "gpt2")[Head(10, 7)]
        sources = {key for each in namings for key in each.sources}
        against = [finding.stance for each in namings for finding in each.disputing].count("contradicts")
        assert f"{len(namings)} names · {len(sources)} sources · {against} contradict" in lines[0]
        assert sum("McDougall et al. 2024, Section 3.1, as numbered" in line for line in lines) <= 1
        assert "Not measured yet" in lines[-1]

    def test_what_was_measured_stands_apart_from_what_papers_report(self, see: See, capsys: Capture) -> None:
        lines = see("who", "specimen", "L4H5")
        at = next(number for number, line in enumerate(lines) if line.startswith("Measured by headatlas"))
        assert "no finding in the catalog names it" in lines[0] and any("induction " in line for line in lines[at:])
        assert main(["who", "specimen", "L4H5", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        census = json.loads((locations.censuses() / "specimen.json").read_text())
        labels = next(head["labels"] for head in census["heads"] if head["head"] == "L4H5")
        assert said["reported"] == [] and said["head"] == "L4H5"
        assert {each["type"]: each["score"] for each in said["measured"]} == {
            each["type"]: each["score"] for each in labels
        }

    def test_without_a_census_the_runs_that_hold_are_shown(self, capsys: Capture) -> None:
        assert main(["who", "smollm2-135m-instruct", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        shown = {(each["head"], name["type"]) for each in said["heads"] for name in each["measured"]}
        found, _ = collect(CATALOG, locations.records(), [REAL[0]])
        held = {
            (str(head), each.record.entry.id)
            for each in found
            if each.record.verdict.label in ("reproduced", "partly")
            for head in each.record.selected
        }
        assert shown == held and "runs of SmolLM2" in said["measured_in"]

    def test_the_map_has_a_sign_for_every_named_head(self, see: See) -> None:
        lines, names = see("who", "gpt2"), names_of(CATALOG, "gpt2")
        rows = [line for line in lines if re.match(r"L\d+ ", line)]
        assert len(rows) == 12 and f"{len(names)} of 144 heads named" in " ".join(lines)
        cells = [row[3:].ljust(36)[3 * head : 3 * head + 3].strip() for row in rows for head in range(12)]
        assert sum(cell != map_view.NOBODY for cell in cells) == len(names)
        key = dict(re.findall(r"(\S) ([a-z-]+) \d+", " ".join(lines[-12:])))
        first = names[Head(10, 7)][0].head_type.id
        cell = cells[10 * 12 + 7]
        assert key[cell[0]] == first and cell[1:] == str(len(names[Head(10, 7)]))

    def test_a_narrow_terminal_gets_blocks_and_letters_differ(self, see: See) -> None:
        assert max(map(len, see("who", "gpt2", columns=30))) <= 30
        letters = map_view.letters_of([["induction", "in-context"], ["induction"], ["iteration"]])
        assert letters["induction"] == "i" and len(set(letters.values())) == 3

    def test_a_name_is_understood_in_any_spelling(self) -> None:
        for name in ("GPT-2", "gpt_2", "GPT2", "GPT-2 Small"):
            assert CATALOG.model(name).id == "gpt2"
        with pytest.raises(HeadatlasError, match="did you mean"):
            CATALOG.model("gpt3")


class TestOthers:
    @pytest.mark.parametrize("columns", [60, 80, 130])
    def test_lists_fit(self, see: See, columns: int) -> None:
        for words in (("list",), ("list", "--reproduction"), ("method",), ("compare", "specimen", "stories260k")):
            assert max(map(len, see(*words, columns=columns))) <= columns

    def test_a_list_of_what_can_be_rerun_has_the_verdicts(self, see: See) -> None:
        line = next(
            line for line in see("list", "--reproduction", "--text", "induction") if line.startswith("induction ")
        )
        found, _ = collect(CATALOG, locations.records(), types=["induction"])
        wanted = sorted(VERDICTS[each.record.verdict.label] for each in found)
        assert sorted(sign for sign in line if sign in VERDICTS.values()) == wanted

    def test_ids_of_methods_are_whole_and_a_near_one_is_offered(self, see: See, capsys: Capture) -> None:
        assert [line.split()[0] for line in see("method")] == list(CATALOG.methods)
        assert any("headatlas.lab" in line for line in see("method", "--functions"))
        assert main(["method", "logit-len"]) == 2 and "did you mean logit-lens" in capsys.readouterr().err

    def test_a_comparison_says_why_a_zero_is_zero(self, see: See) -> None:
        lines = see("compare", "specimen", "stories260k")
        row = next(line for line in lines if line.startswith("induction"))
        assert row.count("●") == 1 and row.rstrip().endswith(VERDICTS["inconclusive"])
        assert "behaviour absent" in " ".join(lines)
        assert any(re.search(r"\+0\.\d\d \[[+-]0\.\d\d, [+-]0\.\d\d\]", line) for line in lines)

    def test_a_search_shows_several_texts_of_a_type_and_drops_common_words(self, see: See) -> None:
        lines = see("search", "induction", "heads")
        assert lines[0].startswith("induction ") and lines[1].strip().startswith("- name: Induction head")
        hits = CATALOG.search("ablate heads on gpt2")
        assert hits and all({"name"} != {each.where for each in hit.matches} for hit in hits[:5])
        assert all(len({each.where for each in hit.matches}) == len(hit.matches) for hit in hits)
        assert CATALOG.search("heads")  # a common word alone is searched for

    def test_a_specimen_begins_with_what_it_can_do_and_ends_with_its_recipe(self, see: See) -> None:
        lines = see("specimen")
        places = [next(n for n, line in enumerate(lines) if each in line) for each in ("family ", "verdicts", "sha256")]
        assert places == sorted(places)

    @pytest.mark.parametrize(
        "value, said", [(0.0, "+0.00"), (-0.0, "+0.00"), (-0.00185, ">-0.01"), (0.004, "<0.01"), (0.124, "+0.12")]
    )
    def test_effects_have_two_decimals(self, value: float, said: str) -> None:
        assert record_view.figure(value, sign="+") == said


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder without censuses of one's own."""
    monkeypatch.chdir(tmp_path)
    yield
