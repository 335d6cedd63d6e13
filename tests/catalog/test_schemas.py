import json
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest
import yaml

from conftest import load_tool
from headatlas import locations


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    return load_tool("write_schemas")


def test_written_schemas_are_current(writer: ModuleType) -> None:
    folder = locations.catalog() / "schema"
    assert {path.stem for path in folder.glob("*.json")} == set(writer.SCHEMAS)
    for name in writer.SCHEMAS:
        path = folder / f"{name}.json"
        assert path.read_text() == writer.written(name), f"{path} is stale; run python tools/write_schemas.py"


@pytest.mark.parametrize("path", sorted(locations.catalog().rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_names_its_schema_in_the_first_line(path: Path) -> None:
    inside = path.parent != locations.catalog()
    kind = path.parent.name.removesuffix("s") if inside else path.stem
    place = "../schema" if inside else "schema"
    assert path.read_text().startswith(f"# yaml-language-server: $schema={place}/{kind}.json\n")
    assert (locations.catalog() / "schema" / f"{kind}.json").is_file()


@pytest.mark.parametrize("path", sorted(locations.catalog().rglob("*.yaml")), ids=lambda path: path.stem)
def test_an_editor_that_checks_by_the_schema_finds_no_fault(path: Path) -> None:
    kind = path.parent.name.removesuffix("s") if path.parent != locations.catalog() else path.stem
    schema = json.loads((locations.catalog() / "schema" / f"{kind}.json").read_text())
    data = json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))
    jsonschema.Draft202012Validator(schema).validate(data)


def test_and_finds_the_fault_where_there_is_one() -> None:
    schema = json.loads((locations.catalog() / "schema" / "head.json").read_text())
    data = json.loads(
        json.dumps(yaml.safe_load((locations.catalog() / "heads" / "induction.yaml").read_text()), default=str)
    )
    data["findings"][0]["checked"] = "maybe"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(data)
