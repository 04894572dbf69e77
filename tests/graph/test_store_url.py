"""Store URLs: which store each names, what is wrong with the others, and that no password is ever shown."""

import os
from pathlib import Path

import pytest

from graph.errors import StoreUnavailableError, StoreUrlError
from graph.sqlite_store import SqliteStore
from graph.store import open_store, redact
from tests.neo4j_server import load_server_script


@pytest.mark.parametrize(
    "url",
    [
        "",
        "graph.db",
        "postgres://user:secret@host/db",
        "http://user:secret@host",
        "sqlite:graph.db:extra://",
        "sqlite://",
        "sqlite:///",
        "sqlite://var/graph.db",
        "sqlite:///var/graph.db?mode=ro",
        "neo4j://",
        "neo4j://user:secret@",
        "neo4j://user:secret@host:port/neo4j",
        "neo4j://user:secret@host:99999/neo4j",
        "neo4j://user:secret@host:7687/a/b",
    ],
)
def test_a_url_that_names_no_store_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(
        StoreUrlError, match=r"write (sqlite:///var/graph\.db|neo4j://user:password@host:7687)"
    ) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_three_slashes_are_relative_and_four_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store("sqlite:///var/here.db") as store:
        assert store.url == "sqlite:///var/here.db"
    with open_store(f"sqlite:///{tmp_path}/there.db") as store:
        assert isinstance(store, SqliteStore)
        assert store.url == f"sqlite:///{tmp_path}/there.db"
    assert (tmp_path / "var" / "here.db").exists()
    assert (tmp_path / "there.db").exists()


def test_a_path_may_have_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "a b%c#d?é 世界" / "graph.db"
    with SqliteStore.open(
        f"sqlite:///{str(path).replace('%', '%25').replace('#', '%23').replace('?', '%3F')}"
    ) as store:
        assert path.exists()
        url = store.url
    with open_store(url) as store:
        assert store.url == url


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    port = load_server_script().free_port()
    with pytest.raises(
        StoreUnavailableError, match=rf"neo4j://ann:…@127\.0\.0\.1:{port}/neo4j does not answer"
    ) as caught:
        open_store(f"neo4j://ann:secret@127.0.0.1:{port}/neo4j")
    assert "secret" not in str(caught.value)
    assert "make neo4j" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("neo4j://ann:secret@host:7687/neo4j", "neo4j://ann:…@host:7687/neo4j"),
        ("neo4j://ann:s%40cret@host/neo4j", "neo4j://ann:…@host/neo4j"),
        ("neo4j://host:7687/neo4j", "neo4j://host:7687/neo4j"),
        ("sqlite:///var/graph.db", "sqlite:///var/graph.db"),
    ],
)
def test_redact_hides_the_password_alone(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_neo4j_uri_takes_its_login_from_the_environment_where_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_server_script()
    monkeypatch.setenv("NEO4J_URI", "neo4j://host:7687/graph")
    monkeypatch.setenv("NEO4J_PASSWORD", "p@ss/word")
    monkeypatch.delenv("NEO4J_USERNAME", raising=False)
    assert script.named() == "neo4j://neo4j:p%40ss%2Fword@host:7687/graph"
    monkeypatch.setenv("NEO4J_URI", "neo4j://ann:own@host:7687")
    assert script.named() == "neo4j://ann:own@host:7687"
    monkeypatch.delenv("NEO4J_URI")
    assert script.named() is None


def test_a_machine_without_java_is_told_how_to_get_a_neo4j(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = load_server_script()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(script.NoNeo4jError, match=r"install them .* start Docker, or set NEO4J_URI="):
        script.find_java(print)


def test_the_server_script_says_in_one_sentence_that_a_port_is_taken(
    neo4j_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load_server_script()
    monkeypatch.delenv("NEO4J_URI", raising=False)
    port = neo4j_uri.rpartition(":")[2].partition("/")[0]
    assert script.main(["start", "--home", str(tmp_path), "--bolt-port", port]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"neo4j: port {port} is in use") or "docker" in captured.err
    assert captured.err.count("\n") == 1
    assert (tmp_path / "password").stat().st_mode & 0o777 == 0o600
    assert os.environ.get("NEO4J_PASSWORD") is None
