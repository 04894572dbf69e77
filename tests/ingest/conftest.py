"""What tests of ingest begin with: an empty store, and the files of an export as their module's FILES says them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from graph.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty one on SQLite alone: that both kinds hold the same is told by the contract of stores."""
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        yield store


@pytest.fixture
def data(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The folder of these files."""
    for name, text in request.module.FILES.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "data"
