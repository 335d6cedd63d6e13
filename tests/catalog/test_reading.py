"""YAML is read as it looks, or the place where it would not be is named with its line and what to write."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

import small_catalog
from headatlas.catalog import reading
from headatlas.catalog.loading import check
from small_catalog import edit, put

LEAD = "é: …\n"  # signs of several bytes before the place, so that a count of bytes would miss it


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With libyaml, and with the parser in Python that stands in where it is missing."""
    monkeypatch.setattr(reading, "_PARSER", getattr(yaml, request.param))


def value(written: str) -> Any:
    read = reading.read(f"{LEAD}at: {written}\nn: 1\n")
    assert read.faults == []
    return read.data["at"]


def faults(written: str) -> list[reading.Fault]:
    return reading.read(f"{LEAD}at: {written}\nn: 1\n").faults


@pytest.mark.usefixtures("parser")
class TestAsItLooks:
    @pytest.mark.parametrize(
        "written, read",
        [
            ("10", 10), ("-3", -3), ("+5", 5), ("0", 0), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1.10", 1.1),
            ("1e3", 1000.0), ("1E-3", 0.001), ("true", True), ("FALSE", False), ("null", None),
        ],
    )  # fmt: skip
    def test_numbers(self, written: str, read: Any) -> None:
        assert value(written) == read and type(value(written)) is type(read)

    @pytest.mark.parametrize(
        "text",
        "yes no NO on off y N 12:30 1:30:00 2026-11-22 2026-11-22T10:00:00 .inf -.inf .nan NaN 1,000 1/2 50% 5_x "
        "−0.5 = << v1.10 1.2.3 10k no#2 a:b http://x.org/#2 ٣".split(),
    )
    def test_text(self, text: str) -> None:
        assert value(text) == text

    @pytest.mark.parametrize(
        "written, text",
        [
            ("'figure #2'", "figure #2"), ('"a: b: c"', "a: b: c"), ("'010'", "010"), ("'\\theta'", "\\theta"),
            ('"a\\\\nabla \\u2026"', "a\\nabla …"), ("'~'", "~"), ("''", ""), ("|\n  figure #2\n  x", "figure #2\nx\n"),
            ("'figure' #2", "figure"), ("figure\n# of its own", "figure"),
        ],
    )  # fmt: skip
    def test_quoted_text(self, written: str, text: str) -> None:
        assert value(written) == text

    def test_keys_are_text(self) -> None:
        assert list(reading.read("1: a\n5.10: b\nyes: c\n010: d\n").data) == ["1", "5.10", "yes", "010"]


@pytest.mark.usefixtures("parser")
class TestNamed:
    @pytest.mark.parametrize(
        "written, advice",
        [
            ("010", "write 10, or '010' in quotes"),
            ("08", "write 8, or '08'"),
            ("-007.5", "write -7.5"),
            ("00", "write 0"),
            ("1_000", "write 1000, or '1_000'"),
            ("0_1", "write 1, or '0_1'"),
            ("0x1F", "'0x1F' in quotes"),
            ("0o17", "'0o17' in quotes"),
            ("0b1", "'0b1' in quotes"),
            ("1e999", "too large"),
            ("9" * 400, "too large"),
            ("9" * 5000, "too large"),
            ("~", "~ means no value"),
            ("Null", "Null means no value"),
            ("", "has no value"),
            ("#2", "has no value"),
            ("figure #2", "ends at 'figure', before `#2`"),
            ("see → figure   #2", "before `#2`"),
            ("{a: figure #2\n}", "before `#2`"),
            ("[a, figure #2\n]", "before `#2`"),
            ("figure\n  two #3", "ends at 'figure two'"),
            ("figure,\n  #2 of the paper", "before `#2 of the paper`"),
            ("&2 more", "&2 is an anchor"),
            ("!important it is", "!important is a tag"),
            ("!!str 010", "is a tag"),
            ('"\\theta"', "\\theta begins with an escape"),
            ('"$\\nabla$"', "\\nabla begins with an escape"),
            ('"a\\\\\\beta"', "\\beta begins with an escape"),
            ('"a\\u0007"', "control character"),
        ],
    )
    def test_with_its_line(self, written: str, advice: str) -> None:
        (found, *others) = faults(written)
        assert advice in found.message and found.line == 2 and found.field.split(".")[0] == "at"
        assert all("010" in other.message for other in others)

    @pytest.mark.parametrize(
        "text, line",
        [
            ("at: a: b: c\n", 1),
            ("at: x\nat: y\n", 2),
            ("a:\n\tb: 1\n", 2),
            ("at: *bold* text\n", 1),
            ("at: *2\n", 1),
            ("a: 1\n---\nb: 2\n", 2),
            ("a: 1\n<<: {b: 2}\n", 2),
            ("? [a]\n: b\n", 1),
            ("at: @x\n", 1),
            ('at: "x\n', 2),
            ("at: [A][B]\n", 1),
            ("at: | x\n", 1),
            ("at: foo:\n", 1),
        ],
    )
    def test_what_is_no_yaml_of_ours(self, text: str, line: int) -> None:
        with pytest.raises(yaml.MarkedYAMLError) as caught:
            reading.read(text)
        assert caught.value.problem_mark and abs(caught.value.problem_mark.line + 1 - line) <= 1

    def test_repetitions_do_not_fill_the_memory(self) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
        with pytest.raises(yaml.MarkedYAMLError, match="anchors repeat too much"):
            reading.read("\n".join(lines))

    def test_what_a_program_repeats_is_read(self) -> None:
        said = {"text": "x"}
        assert reading.read(yaml.safe_dump({"a": said, "b": said})).data == {"a": said, "b": said}


def test_every_shipped_file_reads_as_a_plain_reader_reads_it() -> None:
    """Of the files that ship, none is read otherwise by YAML 1.1 than by us, but for days."""
    from headatlas import locations

    files = sorted(locations.catalog().rglob("*.yaml"))
    assert len(files) > 150
    for path in files:
        text = path.read_text(encoding="utf-8")
        read = reading.read(text)
        assert read.faults == [] and read.data == _days(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _days(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _days(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_days(part) for part in value]
    return value if isinstance(value, str | int | float | None) else str(value)


class TestValidate:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return small_catalog.write(tmp_path / "catalog")

    @staticmethod
    def said(folder: Path, file: str, old: str, new: str) -> list[str]:
        path = folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return [str(problem) for problem in check(folder)[1]]

    @pytest.mark.parametrize(
        "file, old, new, line, complaint",
        [
            ("models/tiny.yaml", "layers: 2", "layers: 02", 8, "layers: 02 is an octal number to some programs"),
            ("models/tiny.yaml", "layers: 2", "layers: 2_0", 8, "write 20"),
            ("models/tiny.yaml", "layers: 2", "layers: 2:30", 8, "valid integer; got 2:30; write digits only"),
            ("models/tiny.yaml", "layers: 2", "layers: 1e1", 8, "layers: input should be a valid integer; got 1e1"),
            ("models/tiny.yaml", "layers: 2", "layers: 1.10", 8, "got 1.10; write digits only"),
            ("models/tiny.yaml", "layers: 2", "layers: .inf", 8, "got .inf"),
            ("models/tiny.yaml", "licence: MIT", "licence: 1.10", 7, "got 1.10; put text that looks like a number"),
            ("models/tiny.yaml", "licence: MIT", "licence: true", 7, "got true; put text that looks like"),
            ("models/tiny.yaml", "licence: MIT", "licence: MIT #2", 7, "licence: the text ends at 'MIT', before `#2`"),
            ("models/tiny.yaml", "licence: MIT", "licence: MIT: yes", 7, "put text that contains a colon in quotes"),
            ("models/tiny.yaml", "licence: MIT", "licence:", 7, "licence: has no value"),
            ("heads/induction.yaml", "added: '2026-11-24'", "added: 2026-11-4", 2, "'2026-11-4' is not a date; write"),
            ("heads/induction.yaml", "added: '2026-11-24'", "added: '1764460800'", 2, "not a date; write YYYY-MM-DD"),
            ("heads/induction.yaml", "L1H1: 0.9", "1.1: 0.9", 30, "scores.1.1"),
        ],
    )
    def test_file_line_and_what_to_write(
        self, folder: Path, file: str, old: str, new: str, line: int, complaint: str
    ) -> None:
        found = self.said(folder, file, old, new)
        named = [each for each in found if each.startswith(f"catalog/{file}: ") and complaint in each]
        assert any(f"line {line}: " in each or each.endswith(f" (line {line})") for each in named), found

    def test_no_is_text(self, folder: Path) -> None:
        path = folder / "models/tiny.yaml"
        path.write_text(path.read_text().replace("licence: MIT", "licence: NO"))
        catalog, found = check(folder)
        assert catalog and not found and catalog.models["tiny"].licence == "NO"

    def test_a_value_in_exponents_is_a_number(self, folder: Path) -> None:
        path = folder / "heads/induction.yaml"
        path.write_text(path.read_text().replace("L1H1: 0.9", "L1H1: 9e-1"))
        catalog, found = check(folder)
        assert catalog and not found and math.isclose(catalog.heads["induction"].findings[1].scores["L1H1"], 0.9)

    @pytest.mark.parametrize("mark", ["utf-8-sig", "utf-8"])
    def test_editors_marks_and_line_ends_change_nothing(self, folder: Path, mark: str) -> None:
        path = folder / "heads/induction.yaml"
        before = check(folder)[0]
        path.write_bytes(path.read_text(encoding="utf-8").replace("\n", "\r\n").encode(mark))
        after, found = check(folder)
        assert not found and before and after and after.heads["induction"] == before.heads["induction"]

    @pytest.mark.parametrize("file", ["models/tiny.yaml", "references.bib"])
    @pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
    def test_other_encodings_are_named_with_their_line(self, folder: Path, file: str, encoding: str) -> None:
        path = folder / file
        path.write_bytes(f"# {path.name}\n# é\n{path.read_text()}".encode(encoding))
        found = [str(problem) for problem in check(folder)[1] if problem.file == file]
        line = 2 if encoding == "latin-1" else 1
        assert any(f"in line {line} is not UTF-8; save the file as UTF-8" in each for each in found), found


class TestStrays:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return small_catalog.write(tmp_path / "catalog")

    @pytest.mark.parametrize(
        "name, complaint",
        [
            ("heads/other.yml", "rename it to other.yaml"),
            ("heads/other.YAML", "rename it to other.yaml"),
            ("heads/Other.Yml", "rename it to Other.yaml"),
            ("heads/other.json", "rename it to other.yaml"),
            ("heads/other.yaml.bak", "is not read"),
            ("heads/other.yaml~", "is not read"),
            ("heads/#other.yaml#", "is not read"),
            ("heads/other", "is not read"),
            ("heads/old/other.yaml", "heads/old: is a folder, and nothing in it is read"),
            ("models/tiny.yaml.orig", "is not read"),
            ("Heads/other.yaml", "Heads: is a folder, and nothing in it is read"),
            ("other.yaml", "is not read"),
            ("glossary.yml", "rename it to glossary.yaml"),
            ("notes.txt", "is not read"),
        ],
    )
    def test_what_nothing_reads_is_named(self, folder: Path, name: str, complaint: str) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("id: other\nthis: is no entry\n")
        (found,) = check(folder)[1]
        assert complaint in str(found) and str(found).startswith(
            f"catalog/{name.split('/o')[0] if 'old/' in name or 'Heads' in name else name}"
        )

    @pytest.mark.parametrize(
        "name", [".DS_Store", "heads/._induction.yaml", "heads/.induction.yaml.swp", "heads/.hidden.yaml"]
    )
    def test_hidden_files_are_left_alone(self, folder: Path, name: str) -> None:
        (folder / name).write_bytes(b"\x00\xff")
        catalog, found = check(folder)
        assert not found and catalog and set(catalog.file_ids["heads"]) == set(catalog.heads)

    def test_a_file_that_is_not_called_by_its_id(self, folder: Path) -> None:
        (folder / "models/tiny.yaml").rename(folder / "models/small.yaml")
        assert any("is 'tiny' but the file is called small.yaml" in str(each) for each in check(folder)[1])

    def test_a_leftover_does_not_stop_other_commands(self, folder: Path) -> None:
        import headatlas

        (folder / "heads/induction.yaml~").write_text("x")
        assert "induction" in headatlas.load(folder).heads

    def test_scripts_records_and_methods(self, folder: Path) -> None:
        place = folder.parent / "reproductions"
        for name in ("methods", "results/model", "census", "collaboration", "__pycache__"):
            (place / name).mkdir(parents=True)
        (place / "results/model/induction.json").write_text("{}")
        (place / "methods/scoring.py").write_text("")
        (place / "__pycache__/x.pyc").write_text("")
        assert check(folder)[1] == []
        wrong = {
            "nobody.py": "belongs to no entry; add heads/nobody.yaml",
            "induction.py": "heads/induction.yaml has no rule for this script",
            "induction.py.bak": "is not read",
            "notes": "is not read",
            "methods/else.py": "belongs to no entry; add methods/else.yaml",
            "methods/scoring.PY": "is not read",
            "results/stray.json": "is not read",
            "results/model/induction.json~": "is not read",
            "census/model.csv": "is not read",
        }
        for name in wrong:
            (place / name).write_text("")
        found = [str(each) for each in check(folder)[1]]
        assert len(found) == len(wrong)
        for name, complaint in wrong.items():
            assert any(each.startswith(f"reproductions/{name}: ") and complaint in each for each in found), (
                name,
                found,
            )

    def test_a_rule_without_a_script(self, folder: Path) -> None:
        (folder.parent / "reproductions").mkdir()
        rule = {
            "version": 1, "fixed": "2026-11-24", "find": 8, "test": 8,
            "behaviour": {"metric": "m", "unit": "u", "chance": 0.0, "minimum": 0.1},
            "detection": {"metric": "m", "threshold": 0.1, "threshold_why": "w"},
            "cause": {"intervention": "mean", "direction": "decrease"},
        }  # fmt: skip
        rerun = {"needs": "A model.", "smallest_model": "tiny", "smallest_why": "It is small.", "rule": rule}
        edit(folder, "heads/induction.yaml", reproduction=rerun)
        (found,) = check(folder)[1]
        assert "heads/induction.yaml: reproduction.rule: has no script" in str(found)

    def test_a_folder_that_is_called_like_an_entry(self, folder: Path) -> None:
        (folder / "models/other.yaml").mkdir()
        put(folder, "models/other.yaml/inner.yaml", id="inner")
        (found,) = check(folder)[1]
        assert "models/other.yaml: is a folder" in str(found)
