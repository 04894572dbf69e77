"""docs/mapping.md: its example does what it says, and it knows every key."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from ingest import mapping
from ingest.check import check
from ingest.draft import write_draft
from ingest.mapping import read_mapping

DOCS = (Path(__file__).parents[2] / "docs" / "mapping.md").read_text()
PARTS = [part for part in vars(mapping).values() if isinstance(part, type) and issubclass(part, BaseModel)]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example's files, in the working directory."""
    for name, text in re.findall(r"`(shop/[^`]+)`:\n\n```text\n(.*?)```", DOCS, re.DOTALL):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert len(list((tmp_path / "shop").iterdir())) == 3
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_what_the_example_shows(shop: Path) -> None:
    [shown] = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    assert write_draft(["shop/*"]).read_text() == shown


def test_check_counts_what_the_example_says(shop: Path) -> None:
    path = write_draft(["shop/*"])
    total = check([read_mapping(path)], shop).run.total
    assert (total.read, total.accepted, total.duplicates, total.rejected) == (9, 7, 1, 1)
    path.write_text(path.read_text().replace("[shop/events-2024-03.csv, shop/events-2024-04.csv]", "shop/events-*.csv"))
    assert check([read_mapping(path)], shop).run.total.accepted == 7


def test_every_key_of_a_mapping_is_in_the_docs() -> None:
    keys = {field.alias or name for part in PARTS for name, field in part.model_fields.items()}
    assert len(keys) > 40
    code = " ".join(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", DOCS, flags=re.DOTALL)))
    missing = {key for key in keys if not re.search(rf"\b{key}\b", code)}
    assert not missing


def test_every_format_is_in_the_docs() -> None:
    for name in mapping.FORMATS:
        assert f"| `{name}` |" in DOCS
    for suffix in mapping.SUFFIXES:
        assert f"`{suffix}`" in DOCS
