"""The Neo4j of the tests: the one NEO4J_URI names if it is empty, else one of our own on free ports with its data in a
temporary folder, so that nobody's server or graph is touched."""

import importlib.util
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import neo4j

SCRIPT = Path(__file__).parents[1] / "deploy" / "neo4j" / "server.py"


def load_server_script() -> ModuleType:
    """deploy/neo4j/server.py as a module: it is a script, in no package."""
    if "neo4j_server_script" not in sys.modules:
        spec = importlib.util.spec_from_file_location("neo4j_server_script", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return sys.modules["neo4j_server_script"]


@dataclass(frozen=True)
class Neo4jForTests:
    """A Neo4j that tests may fill and empty."""

    url: str
    server: Any = None
    """Ours to kill; None when it is the one of NEO4J_URI."""
    password: str = ""

    def kill_and_start_again(self) -> None:
        """End it with SIGKILL and start it again on the same data."""
        self.server.kill()
        self.server.start(self.password)


@contextmanager
def neo4j_for_tests(folder: Path) -> Iterator[Neo4jForTests]:
    """A Neo4j while the context lasts; raises NoNeo4jError, which says how to get one."""
    script = load_server_script()
    named = script.named()
    if named is not None:
        if number := run_cypher(named, "MATCH (n) RETURN count(n)")[0][0]:
            raise script.NoNeo4jError(
                f"the database of NEO4J_URI holds {number} nodes and tests empty the one they use: give an empty one, "
                "or unset NEO4J_URI"
            )
        yield Neo4jForTests(named)
        empty(named)
        return
    place = script.Place(
        folder, script.free_port(), script.free_port(), heap_mib=512, page_cache_mib=128, outlives_us=False
    )
    server = script.choose(place, print)
    password = secrets.token_urlsafe(12)
    server.start(password)
    try:
        yield Neo4jForTests(place.url(password), server, password)
    finally:
        server.remove()


def empty(url: str) -> None:
    """Remove all nodes and relationships. Constraints stay: they are slow to make, and an event type stays one."""
    while run_cypher(url, "MATCH (n) WITH n LIMIT 10000 DETACH DELETE n RETURN count(*)")[0][0]:
        pass


def run_cypher(url: str, query: str, **values: object) -> list[list[Any]]:
    """The rows that a query gives, past our own store."""
    with session_of(url) as session:
        return session.run(query, values).values()


@contextmanager
def session_of(url: str) -> Iterator[neo4j.Session]:
    """A session of a driver of its own, past our own store."""
    parts = urlsplit(url)
    auth = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    address = f"{parts.scheme}://{parts.hostname}:{parts.port or 7687}"
    with (
        neo4j.GraphDatabase.driver(address, auth=auth, notifications_min_severity="OFF") as driver,
        driver.session(database=parts.path.strip("/") or "neo4j") as session,
    ):
        yield session
