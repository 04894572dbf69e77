"""The embedded store: one SQLite file in WAL mode, many readers beside one writer, nothing to start.

Nodes have row ids that events, links and relations refer to; keys are resolved once a batch, which is both the check
that endpoints exist and what keeps rows short. Commits are synchronous: what was acknowledged survives `kill -9`.
"""

import json
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from graph.columns import EventColumns
from graph.errors import IsthmusError, RecordError, StoreError, StoreUnavailableError, StoreUrlError
from graph.keys import AccountKey, IdentityKey, ItemKey, NodeKey, UserKey, lone_user, tombstone
from graph.links import Known, resolve, settle, touched
from graph.records import (
    LONE,
    Account,
    Attributes,
    Edge,
    Entity,
    Event,
    Evidence,
    Item,
    Link,
    Node,
    Platform,
    Relation,
    User,
    canonical_json,
)
from graph.schema import (
    EVENT_SCHEMA,
    EVIDENCE_SCHEMA,
    LINK_SCHEMA,
    OWN_TYPES,
    RELATION_SCHEMA,
    check_event_type,
    check_relationship_type,
    node_schema,
)
from graph.store import Counts, ErasureReport, Retried, Searched, Subgraph, WriteCounts
from graph.stored import (
    EPOCH,
    MICROSECOND,
    dangling,
    first_said,
    instant,
    label_of,
    moment,
    plain,
    stored_evidence,
    stored_key,
    stored_relation,
    was_erased,
    wrong_type,
)
from graph.traces import search_tables

BATCH: Final = 10_000
"""Rows in one Arrow batch."""
TRANSACTION: Final = 50_000
"""Records in one transaction. Event ids are digests: a commit writes pages all over their index, so few are better."""

SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS nodes (
        id INTEGER PRIMARY KEY, label TEXT NOT NULL, key TEXT NOT NULL, name TEXT, text TEXT, url TEXT,
        created_at INTEGER, attributes TEXT NOT NULL DEFAULT '{}', UNIQUE (label, key))
    """,
    """
    CREATE TABLE IF NOT EXISTS events (
        id INTEGER PRIMARY KEY, type TEXT NOT NULL, event_id TEXT NOT NULL, account INTEGER NOT NULL,
        item INTEGER NOT NULL, at INTEGER NOT NULL, sequence INTEGER, value REAL, weight REAL NOT NULL,
        context TEXT NOT NULL, UNIQUE (type, event_id))
    """,
    "CREATE INDEX IF NOT EXISTS events_of_account ON events (account, at)",
    "CREATE INDEX IF NOT EXISTS events_of_item ON events (item)",
    """
    CREATE TABLE IF NOT EXISTS links (
        account INTEGER PRIMARY KEY, user INTEGER NOT NULL, evidence TEXT NOT NULL, at INTEGER)
    """,
    "CREATE INDEX IF NOT EXISTS links_of_user ON links (user)",
    """
    CREATE TABLE IF NOT EXISTS relations (
        id INTEGER PRIMARY KEY, type TEXT NOT NULL, source INTEGER NOT NULL, target INTEGER NOT NULL,
        properties TEXT NOT NULL, UNIQUE (type, source, target))
    """,
    "CREATE INDEX IF NOT EXISTS relations_of_source ON relations (source)",
    "CREATE INDEX IF NOT EXISTS relations_of_target ON relations (target)",
    """
    CREATE TABLE IF NOT EXISTS evidence (
        id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, account INTEGER NOT NULL, other INTEGER, identity TEXT,
        source TEXT NOT NULL, at INTEGER, left_out TEXT, revoked INTEGER NOT NULL DEFAULT 0)
    """,
    "CREATE INDEX IF NOT EXISTS evidence_of_account ON evidence (account)",
    "CREATE INDEX IF NOT EXISTS evidence_of_other ON evidence (other) WHERE other IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS evidence_of_identity ON evidence (identity) WHERE identity IS NOT NULL",
    """
    CREATE TABLE IF NOT EXISTS stated (
        account INTEGER PRIMARY KEY, user TEXT NOT NULL, evidence TEXT NOT NULL, at INTEGER)
    """,
    "CREATE INDEX IF NOT EXISTS stated_of_user ON stated (user)",
    "CREATE TABLE IF NOT EXISTS tombstones (hash TEXT PRIMARY KEY) WITHOUT ROWID",
)
"""Instants are microseconds since 1970, UTC; `links` holds what came out, `stated` what was said where that differs."""

INSERT_ITEM: Final = """
    INSERT INTO nodes (label, key, name, text, url, created_at, attributes) VALUES ('Item', ?, ?, ?, ?, ?, ?)
    ON CONFLICT (label, key) DO UPDATE SET
        name = coalesce(excluded.name, name), text = coalesce(excluded.text, text), url = coalesce(excluded.url, url),
        created_at = coalesce(excluded.created_at, created_at), attributes = merged(attributes, excluded.attributes)
    WHERE coalesce(excluded.name, name) IS NOT name OR coalesce(excluded.text, text) IS NOT text
        OR coalesce(excluded.url, url) IS NOT url OR coalesce(excluded.created_at, created_at) IS NOT created_at
        OR excluded.attributes NOT IN ('{}', attributes)
"""
INSERT_ENTITY: Final = """
    INSERT INTO nodes (label, key, name, attributes) VALUES (?, ?, ?, ?)
    ON CONFLICT (label, key) DO UPDATE SET
        name = iif(excluded.name = substr(key, instr(key, ':') + 1), name, excluded.name),
        attributes = merged(attributes, excluded.attributes)
    WHERE excluded.name NOT IN (name, substr(key, instr(key, ':') + 1))
        OR excluded.attributes NOT IN ('{}', attributes)
"""
INSERT_KEY: Final = "INSERT INTO nodes (label, key) VALUES (?, ?) ON CONFLICT (label, key) DO NOTHING"
INSERT_EVENT: Final = """
    INSERT INTO events (type, event_id, account, item, at, sequence, value, weight, context)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (type, event_id) DO NOTHING
"""
INSERT_RELATION: Final = """
    INSERT INTO relations (type, source, target, properties) VALUES (?, ?, ?, ?)
    ON CONFLICT (type, source, target) DO UPDATE SET properties = excluded.properties
    WHERE excluded.properties IS NOT properties
"""
INSERT_EVIDENCE: Final = """
    INSERT OR REPLACE INTO evidence (id, digest, account, other, identity, source, at, revoked)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_LINK: Final = "INSERT OR REPLACE INTO links (account, user, evidence, at) VALUES (?, ?, ?, ?)"

_APPLICATION_ID: Final = 0x69737468  # "isth", in the file's header: another program's database is not ours to fill
_VERSION: Final = 2  # 1 was without evidence, stated links and tombstones

_READ_NODES: Final[Mapping[str, str]] = {
    "Platform": "SELECT key FROM nodes WHERE label = ?",
    "User": "SELECT key FROM nodes WHERE label = ?",
    "Account": "SELECT key, substr(key, 9, instr(substr(key, 9), ':') - 1) FROM nodes WHERE label = ?",
    "Item": """
        SELECT key, substr(key, 1, instr(key, ':') - 1), name, text, url, created_at, attributes
        FROM nodes WHERE label = ?
    """,
}
_READ_ENTITIES: Final = "SELECT key, name, attributes FROM nodes WHERE label = ?"
_READ_EVENTS: Final = """
    SELECT e.event_id, a.key, i.key, e.at, e.sequence, e.value, e.weight, e.context
    FROM events e CROSS JOIN nodes a ON a.id = e.account CROSS JOIN nodes i ON i.id = e.item WHERE +e.type = ?
"""  # with the + in the order of the table and not of an index: the types of a graph are few
_READ_LINKS: Final = """
    SELECT a.key, u.key, l.evidence, l.at
    FROM links l CROSS JOIN nodes a ON a.id = l.account CROSS JOIN nodes u ON u.id = l.user
"""
_READ_RELATIONS: Final = """
    SELECT s.label, s.key, t.label, t.key, r.properties
    FROM relations r CROSS JOIN nodes s ON s.id = r.source CROSS JOIN nodes t ON t.id = r.target WHERE r.type = ?
"""
_HISTORY: Final = """
    SELECT e.event_id, e.type, ?, i.key, e.at, e.weight, e.value, e.sequence, e.context
    FROM events e CROSS JOIN nodes i ON i.id = e.item WHERE e.account = ?
    ORDER BY e.at DESC, e.sequence DESC, e.event_id DESC LIMIT ?
"""
_FIND_EVENTS: Final = """
    SELECT e.event_id, e.type, a.key, i.key, e.at, e.weight, e.value, e.sequence, e.context
    FROM (SELECT DISTINCT value FROM json_each(?)) wanted
    CROSS JOIN events e ON e.type = ? AND e.event_id = wanted.value
    CROSS JOIN nodes a ON a.id = e.account CROSS JOIN nodes i ON i.id = e.item
"""
_EVENT_EDGES: Final = """
    SELECT e.id, e.account, e.item, e.event_id, e.type, a.key, i.key, e.at, e.weight, e.value, e.sequence, e.context
    FROM events e CROSS JOIN nodes a ON a.id = e.account CROSS JOIN nodes i ON i.id = e.item WHERE {where} LIMIT :limit
"""
_LINK_EDGES: Final = """
    SELECT l.account, l.account, l.user, a.key, u.key, l.evidence, l.at
    FROM links l CROSS JOIN nodes a ON a.id = l.account CROSS JOIN nodes u ON u.id = l.user WHERE {where} LIMIT :limit
"""
_RELATION_EDGES: Final = """
    SELECT r.id, r.source, r.target, r.type, s.label, s.key, t.label, t.key, r.properties
    FROM relations r CROSS JOIN nodes s ON s.id = r.source CROSS JOIN nodes t ON t.id = r.target
    WHERE {where} LIMIT :limit
"""
_AMONG: Final = "(SELECT value FROM json_each(:nodes))"
_NODES: Final = """
    SELECT label, key, coalesce(name, key) FROM nodes WHERE id IN (SELECT value FROM json_each(?)) ORDER BY label, key
"""
_CURRENT_LINKS: Final = """
    SELECT a.key, u.key, l.evidence, l.at
    FROM links l CROSS JOIN nodes a ON a.id = l.account CROSS JOIN nodes u ON u.id = l.user
    WHERE l.account IN (SELECT value FROM json_each(?))
"""

_EVIDENCE: Final = "a.key, coalesce(o.key, e.identity), e.source, e.at, e.left_out"
_JOINED: Final = "FROM evidence e CROSS JOIN nodes a ON a.id = e.account LEFT JOIN nodes o ON o.id = e.other"
_READ_EVIDENCE: Final = f"SELECT {_EVIDENCE} {_JOINED} WHERE NOT e.revoked"
_KNOWN_EVIDENCE: Final = f"""
    SELECT e.digest, e.id, e.revoked, {_EVIDENCE} {_JOINED} WHERE e.digest IN (SELECT value FROM json_each(?))
"""  # noqa: S608
_EVIDENCE_OF: Final = f"""
    WITH ends AS MATERIALIZED (
        SELECT id FROM nodes WHERE label = 'Account' AND key IN (SELECT value FROM json_each(:keys)))
    {_READ_EVIDENCE} AND e.account IN ends
    UNION {_READ_EVIDENCE} AND e.other IN ends
    UNION {_READ_EVIDENCE} AND e.identity IN (SELECT value FROM json_each(:keys))
"""  # noqa: S608
_SAID: Final = f"""
    WITH ids AS MATERIALIZED (SELECT value FROM json_each(?))
    SELECT {_EVIDENCE} {_JOINED} WHERE e.account IN ids OR e.other IN ids
"""  # noqa: S608
_STATED_OF: Final = """
    WITH users AS MATERIALIZED (SELECT value FROM json_each(:users)),
    accounts AS MATERIALIZED (
        SELECT id FROM nodes WHERE label = 'Account' AND key IN (SELECT value FROM json_each(:accounts))
        UNION SELECT account FROM stated WHERE user IN users
        UNION SELECT account FROM links WHERE user IN (SELECT id FROM nodes WHERE label = 'User' AND key IN users))
    SELECT a.key, coalesce(s.user, u.key), coalesce(s.evidence, l.evidence),
        CASE WHEN s.user IS NULL THEN l.at ELSE s.at END
    FROM accounts CROSS JOIN nodes a ON a.id = accounts.id CROSS JOIN links l ON l.account = a.id
    CROSS JOIN nodes u ON u.id = l.user LEFT JOIN stated s ON s.account = a.id
"""
_DELETE_EMPTY_USER: Final = """
    DELETE FROM nodes WHERE label = 'User' AND key = ? AND id NOT IN (SELECT user FROM links WHERE user = id)
"""

_REMEMBERED: Final = 1_000_000
"""Row ids of nodes that a connection holds, at most."""

Record = TypeVar("Record")


class _Connection(sqlite3.Connection):
    """A connection that remembers row ids of nodes, for as long as nobody else has written since it looked."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ids: dict[str, dict[str, int]] = {}
        self._version = -1

    def begin(self) -> None:
        """Begin to write; what others have written meanwhile may have removed nodes."""
        self.execute("BEGIN IMMEDIATE")
        version = self.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self.forget_ids()
        self._version = version

    def forget_ids(self) -> None:
        """Look ids up anew: nodes were removed, or made and rolled back."""
        self._ids.clear()

    def ids(self, label: str, keys: Collection[str]) -> Mapping[str, int]:
        """Row ids of at least those of the keys that are there; only between `begin` and the end of the transaction."""
        known = self._ids.setdefault(label, {})
        if len(known) > _REMEMBERED:
            known.clear()
        if missing := [key for key in keys if key not in known]:
            known.update(_ids(self, label, missing))
        return known


class SqliteStore:
    """A graph in one file; safe to use from several threads and beside other processes."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._idle: deque[_Connection] = deque()
        self._closed = False

    @classmethod
    def open(cls, url: str, busy_timeout_s: float = 60.0) -> Self:
        """Open the file a URL names, and make it (with its folder) if there is none.

        Args:
            url: sqlite:///relative/path.db or sqlite:////absolute/path.db
            busy_timeout_s: how long a write waits for another process's write.
        Raises: StoreUrlError if the URL names no file; StoreUnavailableError if the file cannot be opened.
        """
        parts = urlsplit(url)
        if not parts.path.startswith("/") or parts.path == "/" or parts.netloc or parts.query or parts.fragment:
            raise StoreUrlError(
                f"{url!r} names no file: write sqlite:///var/graph.db (three slashes, from the working directory) "
                "or sqlite:////srv/graph.db (four, from the root)"
            )
        store = cls(Path(unquote(parts.path[1:])), busy_timeout_s)
        try:
            store._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailableError(
                f"{store._path.parent} cannot be made ({error.strerror}): give the store another path"
            ) from error
        store._recognise()
        return store

    @property
    def url(self) -> str:
        return f"sqlite:///{quote(str(self._path))}"

    @property
    def retried(self) -> Retried:
        return Retried()

    def ensure_schema(self) -> None:
        with self._write() as connection:
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")

    def upsert_nodes(self, nodes: Iterable[Node]) -> WriteCounts:
        return self._in_batches(nodes, _write_nodes)

    def upsert_edges(self, edges: Iterable[Edge]) -> WriteCounts:
        return self._in_batches(edges, _write_edges)

    def upsert_events(self, events: EventColumns) -> WriteCounts:
        counts = WriteCounts()
        for part in events.parts(TRANSACTION):
            with self._write() as connection:
                counts += _write_events(connection, part)
        return counts

    def link(self, links: Iterable[Link]) -> WriteCounts:
        return self._in_batches(links, _write_links)

    def add_evidence(self, evidence: Iterable[Evidence], *, restore: bool = False) -> Sequence[Evidence]:
        new: list[Evidence] = []
        source = iter(evidence)
        while batch := list(islice(source, TRANSACTION)):
            with self._write() as connection:
                new += _write_evidence(connection, batch, restore)
        return new

    def revoke(self, evidence: Iterable[Evidence]) -> int:
        with self._write() as connection:
            return _revoke(connection, list(evidence))

    def evidence_of(self, accounts: Collection[AccountKey]) -> Sequence[Known]:
        with self._read() as connection:
            return sorted(_Facts(connection).evidence_of(accounts), key=lambda known: known.evidence.id)

    def read_evidence(self, *, revoked: bool = False) -> Iterator[pa.RecordBatch]:
        query = f"SELECT {_EVIDENCE} {_JOINED} WHERE e.revoked = ?"
        return self._stream(query, (revoked,), EVIDENCE_SCHEMA)

    def stated_of(self, accounts: Collection[AccountKey]) -> Sequence[Link]:
        with self._read() as connection:
            return sorted(_Facts(connection).stated_of(accounts, ()), key=lambda link: link.account)

    def labels(self) -> Sequence[str]:
        with self._read() as connection:
            return _distinct(connection, "nodes", "label")

    def event_types(self) -> Sequence[str]:
        with self._read() as connection:
            return _distinct(connection, "events", "type")

    def relation_types(self) -> Sequence[str]:
        with self._read() as connection:
            return _distinct(connection, "relations", "type")

    def read_nodes(self, label: str) -> Iterator[pa.RecordBatch]:
        schema = node_schema(label)
        return self._stream(_READ_NODES.get(label, _READ_ENTITIES), (label,), schema)

    def read_events(self, type: str) -> Iterator[pa.RecordBatch]:
        return self._stream(_READ_EVENTS, (check_event_type(type),), EVENT_SCHEMA)

    def read_links(self) -> Iterator[pa.RecordBatch]:
        return self._stream(_READ_LINKS, (), LINK_SCHEMA)

    def read_relations(self, type: str) -> Iterator[pa.RecordBatch]:
        return self._stream(_READ_RELATIONS, (check_relationship_type(type),), RELATION_SCHEMA)

    def counts(self) -> Counts:
        with self._read() as connection:
            nodes = dict(connection.execute("SELECT label, count(*) FROM nodes GROUP BY label"))
            edges = dict(connection.execute("SELECT type, count(*) FROM events GROUP BY type"))
            edges |= dict(connection.execute("SELECT type, count(*) FROM relations GROUP BY type"))
            edges |= dict(connection.execute("SELECT 'OF', count(*) FROM links HAVING count(*) > 0"))
        return Counts(nodes, edges)

    def user_of(self, account: AccountKey) -> UserKey | None:
        with self._read() as connection:
            row = connection.execute(
                "SELECT u.key FROM nodes a JOIN links l ON l.account = a.id JOIN nodes u ON u.id = l.user "
                "WHERE a.label = 'Account' AND a.key = ?",
                (str(account),),
            ).fetchone()
        return None if row is None else stored_key(UserKey, row[0])

    def history(self, user: UserKey, limit: int | None = None) -> Sequence[Event]:
        newest = -1 if limit is None else max(limit, 0)
        with self._read() as connection:
            rows = [
                row
                for id, key in _accounts(connection, user)
                for row in connection.execute(_HISTORY, (key, id, newest)).fetchall()
            ]
        events = sorted(map(_event, rows), key=moment)
        return events if limit is None else events[max(len(events) - newest, 0) :]

    def items(self, keys: Sequence[ItemKey]) -> Sequence[Item]:
        with self._read() as connection:
            found = {
                row[0]: _item(row)
                for row in connection.execute(
                    "SELECT key, name, text, url, created_at, attributes FROM nodes "
                    "WHERE label = 'Item' AND key IN (SELECT value FROM json_each(?))",
                    (json.dumps(list(keys)),),
                )
            }
        return [found[key] for key in keys if key in found]

    def events(self, type: str, ids: Sequence[str]) -> Sequence[Event]:
        with self._read() as connection:
            return [
                _event(row) for row in connection.execute(_FIND_EVENTS, (json.dumps(list(ids)), check_event_type(type)))
            ]

    def neighbourhood(self, key: NodeKey, hops: int = 1, limit: int = 200) -> Subgraph:
        with self._read() as connection:
            start = _ids(connection, key.label, [key]).get(key)
            if start is None:
                return Subgraph((), ())
            edges = _Edges(connection, limit)
            reached = frontier = {start}
            for _ in range(hops):
                frontier = edges.around(frontier) - reached
                reached = reached | frontier
            edges.among(reached)
            nodes = connection.execute(_NODES, (json.dumps(sorted(reached)),)).fetchall()
        return Subgraph(nodes, list(edges.records.values()))

    def delete_relations(self, type: str) -> int:
        check_relationship_type(type)
        with self._write() as connection:
            if type in OWN_TYPES or _holds(connection, "events", type):
                raise wrong_type(type)
            return connection.execute("DELETE FROM relations WHERE type = ?", (type,)).rowcount

    def delete_items(self, keys: Collection[ItemKey]) -> int:
        with self._write() as connection:
            rows = [(id,) for id in _ids(connection, "Item", keys).values()]
            for statement in (
                "DELETE FROM events WHERE item = ?",
                "DELETE FROM relations WHERE source = ?",
                "DELETE FROM relations WHERE target = ?",
                "DELETE FROM nodes WHERE id = ?",
            ):
                connection.executemany(statement, rows)
            connection.forget_ids()
            return len(rows)

    def index_vectors(self, label: str, keys: Sequence[str], vectors: NDArray[np.float32]) -> int:
        raise StoreError(f"{self.url} has no vector index, nor Cypher to ask it: give a Neo4j (make neo4j) as --store")

    def erase(self, user: UserKey, accounts: Collection[AccountKey] = ()) -> ErasureReport:
        with self._write() as connection:
            found = dict(_accounts(connection, user))
            others = set(accounts) - set(found.values())
            found |= {id: key for key, id in _ids(connection, "Account", others).items()}
            report = _erase(connection, user, found, set(accounts))
        with self._read() as connection:  # what was erased must not stay readable in the log either
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return report

    def erased(self, keys: Collection[AccountKey | UserKey]) -> set[str]:
        with self._read() as connection:
            return _erased(connection, keys)

    def bury(self, tombstones: Iterable[str]) -> None:
        with self._write() as connection:
            connection.executemany("INSERT OR IGNORE INTO tombstones VALUES (?)", [(grave,) for grave in tombstones])

    def tombstones(self) -> Sequence[str]:
        with self._read() as connection:
            return [grave for (grave,) in connection.execute("SELECT hash FROM tombstones ORDER BY hash")]

    def search(self, texts: Collection[str]) -> Sequence[Searched]:
        with self._read() as connection:
            return search_tables(connection, texts)

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _recognise(self) -> None:
        with self._read() as connection:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if application == _APPLICATION_ID and version == _VERSION:
            return
        if application == _APPLICATION_ID and version > _VERSION:
            raise StoreError(f"{self._path} is a graph of form {version}, this program reads {_VERSION}: update it")
        if tables and application != _APPLICATION_ID:
            raise StoreUrlError(f"{self._path} is the database of another program: give the store another path")
        self.ensure_schema()

    def _in_batches(
        self, records: Iterable[Record], write: Callable[[_Connection, list[Record]], WriteCounts]
    ) -> WriteCounts:
        counts = WriteCounts()
        source = iter(records)
        while batch := list(islice(source, TRANSACTION)):
            with self._write() as connection:
                counts += write(connection, batch)
        return counts

    def _stream(self, query: str, values: tuple[str | bool, ...], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with self._read() as connection, closing(connection.cursor()) as cursor:
            cursor.execute(query, values)
            while rows := cursor.fetchmany(BATCH):
                columns = zip(*rows, strict=True)
                yield pa.record_batch(
                    [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)],
                    schema=schema,
                )

    @contextmanager
    def _write(self) -> Iterator[_Connection]:
        with self._read() as connection:
            connection.begin()
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                    connection.forget_ids()

    @contextmanager
    def _read(self) -> Iterator[_Connection]:
        if self._closed:
            raise StoreError(f"{self.url} is closed: open the store again")
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            finally:
                self._give_back(connection)
        except sqlite3.Error as error:
            raise self._explained(error) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise RecordError(f"a value cannot be stored ({error}): give integers of 64 bits and valid text") from error

    def _give_back(self, connection: _Connection) -> None:
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def _connect(self) -> _Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        try:
            self._use_write_ahead_log(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA cache_size = -65536")
            # Event ids are digests: every batch touches pages all over the index, and each checkpoint copies them.
            connection.execute("PRAGMA wal_autocheckpoint = 16384")
            connection.create_function("merged", 2, _merged, deterministic=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_write_ahead_log(self, connection: _Connection) -> None:
        # Two processes that open a new file at once: SQLite refuses the second at once instead of letting it wait.
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _explained(self, error: sqlite3.Error) -> IsthmusError:
        code = getattr(error, "sqlite_errorcode", None)
        kind = None if code is None else code & 0xFF
        match kind:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StoreUnavailableError(
                    f"{self._path} was locked by another writer for {self._busy_timeout_s:g} s: "
                    "let that one end, then run this again"
                )
            case sqlite3.SQLITE_READONLY:
                return StoreError(f"{self._path} is read-only: make it and its folder writable, or give another path")
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
                return StoreError(
                    f"{self._path} could not be written ({error}): free some disk and run this again; "
                    "what was written before is kept"
                )
            case sqlite3.SQLITE_CANTOPEN:
                return StoreUnavailableError(
                    f"{self._path} cannot be opened: give a path to a file in a folder you may write"
                )
            case sqlite3.SQLITE_NOTADB:
                return StoreUrlError(f"{self._path} is not a SQLite file: give the store another path")
            case sqlite3.SQLITE_CORRUPT:
                return StoreError(f"{self._path} is damaged: restore it from a copy, or remove it and ingest again")
            case _:
                return StoreError(f"{self._path} refused ({error}): this is a fault of Isthmus, please report it")


def _write_nodes(connection: _Connection, batch: list[Node]) -> WriteCounts:
    items = [node for node in batch if type(node) is Item]
    entities = [node for node in batch if type(node) is Entity]
    plain = [(node.key.label, str(node.key)) for node in batch if isinstance(node, Platform | User | Account)]
    if erased := _erased(connection, [node.key for node in batch if isinstance(node, Account)]):
        raise was_erased(min(erased))
    before = _last_id(connection)
    connection.executemany(INSERT_KEY, plain)
    written_platforms = _last_id(connection) - before
    if items:
        platforms = {str(item.key).partition(":")[0] for item in items}
        connection.executemany(INSERT_KEY, [("Platform", platform) for platform in platforms])
    before = _last_id(connection)
    connection.executemany(
        INSERT_ITEM,
        [
            (
                str(item.key),
                item.title,
                item.text,
                item.url,
                _micros(item.created_at),
                _json(item.attributes) if item.attributes else "{}",
            )
            for item in items
        ],
    )
    connection.executemany(
        INSERT_ENTITY,
        [(label_of(entity.key), str(entity.key), entity.name, _json(entity.attributes)) for entity in entities],
    )
    created = written_platforms + _last_id(connection) - before
    return WriteCounts(created, len(batch) - created)


def _write_edges(connection: _Connection, batch: list[Edge]) -> WriteCounts:
    events = EventColumns.of(edge for edge in batch if type(edge) is Event)
    relations = [edge for edge in batch if type(edge) is Relation]
    return _write_events(connection, events) + _write_relations(connection, relations)


def _write_events(connection: _Connection, events: EventColumns) -> WriteCounts:
    if not events:
        return WriteCounts()
    for name in set(events.type):
        if _holds(connection, "relations", name):
            raise wrong_type(name)
    accounts = connection.ids("Account", set(events.account))
    items = connection.ids("Item", set(events.item))
    try:
        account_ids = [accounts[key] for key in events.account]
        item_ids = [items[key] for key in events.item]
    except KeyError as error:
        ends = zip(events.event_id, events.account, events.item, strict=True)
        id, account, item = next(end for end in ends if end[1] not in accounts or end[2] not in items)
        raise dangling(f"event {id}", item if account in accounts else account) from error
    said = events.at, events.sequence, events.value, events.weight, events.context
    rows = list(zip(events.type, events.event_id, account_ids, item_ids, *said, strict=True))
    rows.sort(key=itemgetter(1))  # in the order of the index, or digests touch all of its pages; the first stays first
    created = connection.executemany(INSERT_EVENT, rows).rowcount
    return WriteCounts(created, len(events) - created)


def _write_relations(connection: _Connection, relations: list[Relation]) -> WriteCounts:
    if not relations:
        return WriteCounts()
    for name in {relation.type for relation in relations}:
        if name in OWN_TYPES or _holds(connection, "events", name):
            raise wrong_type(name)
    keys: dict[str, set[str]] = {}
    ends = [(label_of(relation.source), label_of(relation.target)) for relation in relations]
    for relation, (source, target) in zip(relations, ends, strict=True):
        keys.setdefault(source, set()).add(relation.source)
        keys.setdefault(target, set()).add(relation.target)
    ids = {label: connection.ids(label, among) for label, among in keys.items()}
    try:
        rows = [
            (
                relation.type,
                ids[source][relation.source],
                ids[target][relation.target],
                _json(relation.properties) if relation.properties else "{}",
            )
            for relation, (source, target) in zip(relations, ends, strict=True)
        ]
    except KeyError as error:
        for relation, pair in zip(relations, ends, strict=True):
            for label, key in zip(pair, (relation.source, relation.target), strict=True):
                if key not in ids[label]:
                    raise dangling(f"{relation.type} from {relation.source} to {relation.target}", key) from error
        raise
    before = _last_id(connection, "relations")
    connection.executemany(INSERT_RELATION, rows)
    created = _last_id(connection, "relations") - before
    return WriteCounts(created, len(relations) - created)


def _write_links(connection: _Connection, links: list[Link]) -> WriteCounts:
    accounts = _ids(connection, "Account", {link.account for link in links})
    for link in links:
        if link.account not in accounts:
            raise dangling(f"the link to {link.user}", link.account)
    facts = _Facts(connection)
    settled = settle(links, {link.account: link for link in facts.stated_of(accounts, ())})
    changed = settled.changed
    if changed:
        left = _put_links(connection, changed.values()) | settled.left
        if connection.execute("SELECT 1 FROM evidence LIMIT 1").fetchone() is not None:
            connection.executemany("DELETE FROM stated WHERE account = ?", [(accounts[key],) for key in changed])
            left |= _recompute(connection, changed, {*left, *(link.user for link in changed.values())}, {})
        connection.executemany(_DELETE_EMPTY_USER, [(str(user),) for user in left])
    return WriteCounts(settled.created, len(links) - settled.created)


def _put_links(connection: _Connection, links: Collection[Link]) -> set[UserKey]:
    """Write these links in the place of those that are there; returns the persons whom an account has left."""
    accounts = _ids(connection, "Account", {link.account for link in links})
    left = {stored_key(UserKey, row[1]) for row in _current(connection, accounts.values())}
    connection.executemany(INSERT_KEY, [("User", user) for user in {str(link.user) for link in links}])
    users = _ids(connection, "User", {link.user for link in links})
    connection.executemany(
        INSERT_LINK,
        [(accounts[link.account], users[link.user], link.evidence, _micros(link.at)) for link in links],
    )
    return left


def _current(connection: _Connection, accounts: Collection[int]) -> list[Sequence[Any]]:
    return connection.execute(_CURRENT_LINKS, (json.dumps(list(accounts)),)).fetchall()


def _recompute(
    connection: _Connection,
    ends: Iterable[AccountKey | IdentityKey],
    users: Iterable[UserKey],
    before: Mapping[str, int],
) -> set[UserKey]:
    """Find out anew who is who among all that is connected with these; returns persons whom an account has left."""
    all_ = touched(_Facts(connection), ends, users, before)
    resolved = resolve(all_)
    ids = _ids(connection, "Account", resolved.links)
    current = {row[0]: _link(row) for row in _current(connection, ids.values())}
    changed = {account: link for account, link in resolved.links.items() if link != current.get(account)}
    left = _put_links(connection, changed.values()) if changed else set()
    connection.executemany("DELETE FROM stated WHERE account = ?", [(ids[account],) for account in changed])
    connection.executemany(
        "INSERT INTO stated VALUES (?, ?, ?, ?)",
        [
            (ids[account], str(stated.user), stated.evidence, _micros(stated.at))
            for account, link in changed.items()
            if (stated := all_.stated.get(account)) is not None and stated != link
        ],
    )
    connection.executemany(
        "UPDATE evidence SET left_out = ? WHERE digest = ?",
        [
            (resolved.left_out.get(id), id)
            for id, known in all_.known.items()
            if known.left_out != resolved.left_out.get(id)
        ],
    )
    return left


def _write_evidence(connection: _Connection, batch: list[Evidence], restore: bool) -> list[Evidence]:
    ids = _ids(connection, "Account", {key for one in batch for key in (one.account, one.other)})
    by_id: dict[str, Evidence] = {}
    for one in batch:
        for end in (one.account, one.other):
            if isinstance(end, AccountKey) and end not in ids:
                raise dangling(f"the evidence from {one.source}", end)
        by_id[one.id] = min(one, by_id.get(one.id, one), key=first_said)
    _write_links(connection, [Link(account, lone_user(account), LONE) for account in map(AccountKey.parse, ids)])
    known = {
        digest: (rowid, _evidence(row), revoked)
        for digest, rowid, revoked, *row in connection.execute(_KNOWN_EVIDENCE, (json.dumps(list(by_id)),)).fetchall()
    }
    before = _Facts(connection).holders({one.other for one in by_id.values()})
    changed: list[Evidence] = []
    new: list[Evidence] = []
    rows = []
    for digest, one in by_id.items():
        rowid, old, revoked = known.get(digest, (None, one, False))
        said = min(one, old, key=first_said)
        restored = revoked and restore
        if rowid is None or restored:
            new.append(one)
        if rowid is None or restored or said != old:
            changed.append(said)
            ends = (ids[said.other], None) if said.is_statement else (None, str(said.other))
            still_revoked = revoked and not restore
            rows.append((rowid, digest, ids[said.account], *ends, said.source, _micros(said.at), still_revoked))
    connection.executemany(INSERT_EVIDENCE, rows)
    if changed:
        left = _recompute(connection, {end for one in changed for end in (one.account, one.other)}, (), before)
        connection.executemany(_DELETE_EMPTY_USER, [(str(user),) for user in left])
    return new


def _revoke(connection: _Connection, evidence: list[Evidence]) -> int:
    before = _Facts(connection).holders({one.other for one in evidence})
    done = connection.executemany(
        "UPDATE evidence SET revoked = 1, left_out = NULL WHERE digest = ? AND NOT revoked",
        [(one.id,) for one in evidence],
    ).rowcount
    if evidence and done:
        left = _recompute(connection, {end for one in evidence for end in (one.account, one.other)}, (), before)
        connection.executemany(_DELETE_EMPTY_USER, [(str(user),) for user in left])
    return max(done, 0)


def _erase(
    connection: _Connection, user: UserKey, accounts: Mapping[int, str], named: set[AccountKey]
) -> ErasureReport:
    facts = _Facts(connection)
    keys = {stored_key(AccountKey, key) for key in accounts.values()}
    persons = {link.user for link in facts.stated_of(keys, ())} | ({user} if keys else set())
    said = connection.execute(_SAID, (json.dumps(list(accounts)),))
    ends = {end for row in said for one in [_evidence(row)] for end in (one.account, one.other)} - keys
    before = facts.holders(ends)
    rows = [(id,) for id in accounts]
    events = connection.executemany("DELETE FROM events WHERE account = ?", rows).rowcount if rows else 0
    for statement in (
        "DELETE FROM relations WHERE source = ?",
        "DELETE FROM relations WHERE target = ?",
        "DELETE FROM evidence WHERE account = ?",
        "DELETE FROM evidence WHERE other = ?",
        "DELETE FROM stated WHERE account = ?",
        "DELETE FROM links WHERE account = ?",
        "DELETE FROM nodes WHERE id = ?",
    ):
        connection.executemany(statement, rows)
    graves = {tombstone(key.digest) for key in keys | named | persons}
    connection.executemany("INSERT OR IGNORE INTO tombstones VALUES (?)", [(grave,) for grave in graves])
    left = _recompute(connection, ends, (), before)
    connection.executemany(_DELETE_EMPTY_USER, [(str(one),) for one in {*left, *persons, user}])
    connection.forget_ids()
    query = "SELECT DISTINCT identity FROM evidence WHERE identity IN (SELECT value FROM json_each(?))"
    shared = {identity for (identity,) in connection.execute(query, (json.dumps(list(ends)),))}
    own = {end for end in ends if isinstance(end, IdentityKey) and end not in shared}
    digests = frozenset(key.digest for key in keys | named | persons | own)
    return ErasureReport(user, tuple(sorted(keys)), events, digests)


def _erased(connection: _Connection, keys: Collection[AccountKey | UserKey]) -> set[str]:
    if connection.execute("SELECT 1 FROM tombstones LIMIT 1").fetchone() is None:
        return set()
    graves = {tombstone(key.digest): str(key) for key in keys}
    query = "SELECT hash FROM tombstones WHERE hash IN (SELECT value FROM json_each(?))"
    return {graves[grave] for (grave,) in connection.execute(query, (json.dumps(list(graves)),))}


class _Facts:
    """What `graph.links` asks of a store."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def evidence_of(self, ends: Collection[str]) -> list[Known]:
        rows = self._connection.execute(_EVIDENCE_OF, {"keys": json.dumps(list(ends))})
        return [Known(_evidence(row), row[4]) for row in rows]

    def holders(self, identities: Collection[str]) -> dict[str, int]:
        query = (
            "SELECT identity, count(*) FROM evidence WHERE NOT revoked "
            "AND identity IN (SELECT value FROM json_each(?)) GROUP BY identity"
        )
        found = self._connection.execute(query, (json.dumps(list(identities)),))
        return {**dict.fromkeys(identities, 0), **dict(found.fetchall())}

    def stated_of(self, accounts: Collection[str], users: Collection[str]) -> list[Link]:
        values = {"accounts": json.dumps(list(accounts)), "users": json.dumps(list(users))}
        return [_link(row) for row in self._connection.execute(_STATED_OF, values)]


class _Edges:
    """Collects the edges of a neighbourhood, each once, until there are `limit`."""

    def __init__(self, connection: _Connection, limit: int) -> None:
        self._connection = connection
        self._limit = limit
        self.records: dict[tuple[str, int], Event | Link | Relation] = {}

    def around(self, nodes: Collection[int]) -> set[int]:
        """Collect the edges that touch these nodes; returns the ids at both of their ends."""
        ends: set[int] = set()
        for node in sorted(nodes):
            ends |= self._collect("e.account = :node", "l.account = :node", "r.source = :node", node)
            ends |= self._collect("e.item = :node", "l.user = :node", "r.target = :node", node)
        return ends

    def among(self, nodes: Collection[int]) -> None:
        """Collect the edges that join two of these nodes."""
        self._collect(
            f"e.account IN {_AMONG} AND e.item IN {_AMONG}",
            f"l.account IN {_AMONG} AND l.user IN {_AMONG}",
            f"r.source IN {_AMONG} AND r.target IN {_AMONG}",
            nodes=nodes,
        )

    def _collect(
        self, events: str, links: str, relations: str, node: int | None = None, nodes: Collection[int] = ()
    ) -> set[int]:
        ends: set[int] = set()
        for query, where, record in (
            (_LINK_EDGES, links, _link),
            (_RELATION_EDGES, relations, _relation),
            (_EVENT_EDGES, events, _event),
        ):
            if len(self.records) >= self._limit:
                break
            values = {"node": node, "nodes": json.dumps(sorted(nodes)), "limit": self._limit}
            for id, source, target, *row in self._connection.execute(query.format(where=where), values):
                if len(self.records) < self._limit and (query, id) not in self.records:
                    self.records[query, id] = record(row)
                if (query, id) in self.records:
                    ends |= {source, target}
        return ends


def _distinct(connection: _Connection, table: str, column: str) -> list[str]:
    found: list[str] = []
    row = connection.execute(f"SELECT min({column}) FROM {table}").fetchone()  # noqa: S608
    while row[0] is not None:
        found.append(row[0])
        row = connection.execute(f"SELECT min({column}) FROM {table} WHERE {column} > ?", row).fetchone()  # noqa: S608
    return found


def _holds(connection: _Connection, table: str, type: str) -> bool:
    return connection.execute(f"SELECT 1 FROM {table} WHERE type = ? LIMIT 1", (type,)).fetchone() is not None  # noqa: S608


def _last_id(connection: _Connection, table: str = "nodes") -> int:
    # Within a transaction ids grow by one a new row, so the difference of two calls counts what was created.
    return int(connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0])  # noqa: S608


def _ids(connection: _Connection, label: str, keys: Collection[str]) -> dict[str, int]:
    return dict(
        connection.execute(
            "SELECT key, id FROM nodes WHERE label = ? AND key IN (SELECT value FROM json_each(?))",
            (label, json.dumps(list(keys), ensure_ascii=False)),
        ).fetchall()
    )


def _accounts(connection: _Connection, user: UserKey) -> list[tuple[int, str]]:
    return connection.execute(
        "SELECT a.id, a.key FROM nodes u CROSS JOIN links l ON l.user = u.id CROSS JOIN nodes a ON a.id = l.account "
        "WHERE u.label = 'User' AND u.key = ? ORDER BY a.key",
        (str(user),),
    ).fetchall()


def _json(attributes: Attributes) -> str:
    return canonical_json(plain(attributes))


def _merged(old: str, new: str) -> str:
    return canonical_json({**json.loads(old), **json.loads(new)})


def _event(row: Sequence[Any]) -> Event:
    event_id, type, account, item, at, weight, value, sequence, context = row
    return Event(
        event_id,
        type,
        stored_key(AccountKey, account),
        stored_key(ItemKey, item),
        instant(at),
        weight,
        value,
        sequence,
        json.loads(context) if context != "{}" else {},
    )


def _link(row: Sequence[Any]) -> Link:
    account, user, evidence, at = row
    return Link(
        stored_key(AccountKey, account), stored_key(UserKey, user), evidence, None if at is None else instant(at)
    )


def _evidence(row: Sequence[Any]) -> Evidence:
    account, other, source, at = row[:4]
    return stored_evidence(account, other, source, None if at is None else instant(at))


def _micros(at: datetime | None) -> int | None:
    return None if at is None else (at - EPOCH) // MICROSECOND


def _relation(row: Sequence[Any]) -> Relation:
    return stored_relation(row[0], row[1:5], json.loads(row[5]))


def _item(row: Sequence[Any]) -> Item:
    key, title, text, url, created_at, attributes = row
    return Item(
        stored_key(ItemKey, key),
        title,
        text,
        url,
        None if created_at is None else instant(created_at),
        json.loads(attributes),
    )
