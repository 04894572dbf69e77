"""The tour of the graph runs from a fresh clone, on a graph that is kept, and in Cypher on a real Neo4j."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from graph.keys import AccountKey, UserKey
from graph.records import Account, Link
from graph.store import open_store
from tests.neo4j_server import empty
from tests.planted import plant

TOUR = Path(__file__).parents[2] / "notebooks" / "tour.ipynb"


def run(clone: Path) -> nbformat.NotebookNode:
    """The notebook as it is after it ran in the folder `notebooks` of a clone; any error in it is one here."""
    folder = clone / "notebooks"
    folder.mkdir()
    notebook = nbformat.read(TOUR, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEO4J_URI", raising=False)
    monkeypatch.delenv("ISTHMUS_STORE", raising=False)


def test_it_is_stored_without_outputs():
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_from_a_fresh_clone_it_tours_the_planted_graph(tmp_path: Path):
    notebook = run(tmp_path)
    text = printed(notebook)
    assert "40 people · 72 items · 534 events" in text
    # crime-0 is the first of those on three platforms; of what comes next on the ring, Ben's books are the nearest
    assert "books:crime-5 | Poison for the judge" in text
    assert "books:crime-4 -[BY]- creator:Ben Crime - books:crime-5" in text
    assert "NEO4J_URI is not set, so nothing was asked" in text
    assert pictures(notebook) == 2
    assert [folder.name for folder in tmp_path.iterdir()] == ["notebooks"], "a tour leaves nothing behind"


def test_a_graph_that_is_kept_is_toured_instead_though_no_neo4j_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEO4J_URI", "neo4j://neo4j:not-a-password@127.0.0.1:9/neo4j")
    (tmp_path / "var").mkdir()
    with open_store(f"sqlite:///{tmp_path / 'var' / 'graph.db'}") as store:
        plant(store)
        more = AccountKey("films", "more")
        store.upsert_nodes([Account(more)])
        store.link([Link(more, UserKey("space-1"), "mail")])
    text = printed(run(tmp_path))
    assert str(tmp_path / "var" / "graph.db") in text
    assert "│ Account  ┆ 86    │" in text
    assert "The Neo4j of NEO4J_URI does not answer" in text
    assert "not-a-password" not in text


def test_where_there_is_a_neo4j_it_is_toured_and_asked_in_cypher(
    tmp_path: Path, neo4j_uri: str, monkeypatch: pytest.MonkeyPatch
):
    empty(neo4j_uri)
    with open_store(neo4j_uri) as store:
        plant(store)
    monkeypatch.setenv("NEO4J_URI", neo4j_uri)
    monkeypatch.setenv("ISTHMUS_STORE", neo4j_uri)
    text = printed(run(tmp_path))
    assert "40 people · 72 items · 534 events" in text
    assert "│ Item     ┆ 72    │" in text
    # the stray and the newcomers on one platform; of every 12 people 3 are on three platforms, 9 on two
    answer = text.partition("How many people are on one platform")[2]
    for platforms, people in ((1, 4), (2, 27), (3, 9)):
        assert f"│ {platforms}         ┆ {people:<6} │" in answer
    # crime-0 has done five items of crime on each of two other platforms
    nearest = answer.partition("What one person's history shares")[2]
    assert "│ Poison for the judge  ┆ books    ┆ crime   ┆ 10          │" in nearest
    assert "│ The inspector returns ┆ films    ┆ crime   ┆ 10          │" in nearest
