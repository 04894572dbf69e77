"""The store of production and of Cypher: Neo4j through its official driver, and the only module that speaks to it.

Attributes are properties of their own, so that Cypher can say `i.release_year`; a name that ours already use gets a
leading underscore (`_title`). Labels and types become part of a query only after `graph.schema` has checked their form;
everything else is a parameter. Constraints are made before the first node of a label and the first event of a type.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import unquote, urlsplit

import neo4j
import numpy as np
import pyarrow as pa
from neo4j.exceptions import (
    AuthError,
    ClientError,
    ConstraintError,
    DriverError,
    IncompleteCommit,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
    TransientError,
)
from numpy.typing import NDArray

from graph.columns import EventColumns
from graph.errors import RecordError, SchemaError, StoreError, StoreUnavailableError, StoreUrlError
from graph.keys import AccountKey, IdentityKey, ItemKey, NodeKey, UserKey, lone_user, tombstone
from graph.links import Known, resolve, settle, touched
from graph.records import (
    LONE,
    Attributes,
    Edge,
    Entity,
    Event,
    Evidence,
    Item,
    Link,
    Node,
    Relation,
    Scalar,
    canonical_json,
)
from graph.schema import (
    CORE_LABELS,
    EVENT_SCHEMA,
    EVIDENCE_SCHEMA,
    LINK_SCHEMA,
    OWN_TYPES,
    RELATION_SCHEMA,
    check_event_type,
    check_label,
    check_relationship_type,
    node_schema,
)
from graph.store import Counts, ErasureReport, Retried, Searched, Subgraph, WriteCounts, redact
from graph.stored import (
    EPOCH,
    MICROSECOND,
    dangling,
    first_said,
    instant,
    is_kept,
    label_of,
    moment,
    plain,
    stored_evidence,
    stored_key,
    stored_relation,
    was_erased,
    wrong_type,
)

_MADE_MEANWHILE: Final = (
    "Neo.ClientError.Schema.EquivalentSchemaRuleAlreadyExists",
    "Neo.ClientError.Schema.ConstraintAlreadyExists",
)
_DEADLOCK: Final = "Neo.TransientError.Transaction.DeadlockDetected"
_HIDDEN_TYPES: Final = OWN_TYPES - {"OF"}

BATCH: Final = 10_000
"""Records in one transaction, rows in one Arrow batch, and what a read fetches at once."""

VECTORS: Final = 1_000
"""Vectors in one transaction: some megabytes."""

ITEM_PROPERTIES: Final = frozenset({"key", "platform", "title", "text", "url", "created_at", "embedding"})
ENTITY_PROPERTIES: Final = frozenset({"key", "name", "embedding"})
EVENT_PROPERTIES: Final = frozenset({"event_id", "at", "weight", "value", "sequence"})
RELATION_PROPERTIES: Final = frozenset({"event_id"})
"""Names that an attribute cannot have here; see `encoded`. `embedding` is left to a vector index."""

WRITE_NODES: Final = "UNWIND $rows AS row MERGE (n:{label} {{key: row.key}}) SET n += row.properties"
WRITE_ENTITIES: Final = """
    UNWIND $rows AS row
    MERGE (n:{label} {{key: row.key}})
    ON CREATE SET n.name = row.mentioned
    SET n += row.properties
"""
WRITE_ITEMS: Final = """
    UNWIND $rows AS row
    MERGE (i:Item {key: row.key})
    SET i += row.properties,
        i.created_at = CASE WHEN row.seconds IS NULL THEN i.created_at
                       ELSE datetime({epochSeconds: row.seconds, nanosecond: row.nanos}) END
"""
WRITE_ON: Final = """
    UNWIND $rows AS row
    MATCH (i:Item {key: row.key}) WHERE NOT EXISTS { (i)-[:ON]->(:Platform) }
    MATCH (p:Platform {key: row.properties.platform})
    MERGE (i)-[:ON]->(p)
"""
WRITE_EVENTS: Final = """
    UNWIND $rows AS row
    MATCH (a:Account {{key: row.account}})
    MATCH (i:Item {{key: row.item}})
    CREATE (a)-[e:{type}]->(i)
    SET e = row.properties, e.at = datetime({{epochSeconds: row.seconds, nanosecond: row.nanos}})
"""
KNOWN_EVENTS: Final = "UNWIND $ids AS id MATCH ()-[e:{type} {{event_id: id}}]->() RETURN id"
WRITE_RELATIONS: Final = """
    UNWIND $rows AS row
    MATCH (s:{source} {{key: row.source}})
    MATCH (t:{target} {{key: row.target}})
    MERGE (s)-[r:{type}]->(t)
    SET r = row.properties
    RETURN count(*)
"""

WRITE_VECTORS: Final = """
    UNWIND $rows AS row
    MATCH (n:{label} {{key: row.key}}) WHERE n.embedding IS NULL OR n.embedding <> row.vector
    SET n.embedding = row.vector
    RETURN count(*)
"""
VECTOR_INDEX: Final = """
    CREATE VECTOR INDEX {label}_embedding IF NOT EXISTS FOR (n:{label}) ON (n.embedding)
    OPTIONS {{indexConfig: {{`vector.dimensions`: {dim}, `vector.similarity_function`: 'cosine'}}}}
"""
_VECTOR_INDEX_DIM: Final = """
    SHOW VECTOR INDEXES YIELD name, options WHERE name = $name RETURN options.indexConfig['vector.dimensions']
"""
_INDEX_TIMEOUT_S: Final = 3_600

_MISSING: Final = "UNWIND $keys AS key WITH key WHERE NOT EXISTS {{ (:{label} {{key: key}}) }} RETURN key"
_PEOPLE: Final = (
    "CREATE CONSTRAINT Identity_pseudonym IF NOT EXISTS FOR (n:Identity) REQUIRE n.pseudonym IS UNIQUE",
    "CREATE CONSTRAINT Tombstone_hash IF NOT EXISTS FOR (n:Tombstone) REQUIRE n.hash IS UNIQUE",
    "CREATE CONSTRAINT EVIDENCE_id IF NOT EXISTS FOR ()-[e:EVIDENCE]-() REQUIRE e.id IS UNIQUE",
    "CREATE INDEX Account_stated_user IF NOT EXISTS FOR (n:Account) ON (n.stated_user)",
)
"""What evidence and tombstones are found by. Evidence is (:Account)-[:EVIDENCE]->(:Identity), or to another account;
stated_user, stated_evidence and stated_at of an account say what was stated of it, where evidence made more of it."""
_LOCK_ACCOUNTS: Final = "UNWIND $accounts AS key MATCH (a:Account {key: key}) SET a.platform = a.platform RETURN a.key"
_CURRENT_LINKS: Final = """
    UNWIND $accounts AS key
    MATCH (a:Account {key: key})-[l:OF]->(u:User)
    RETURN a.key, u.key, l.evidence, l.at.epochMillis, l.at.microsecond
"""
_STATED_LINKS: Final = """
    UNWIND $accounts AS key
    MATCH (a:Account {key: key})-[l:OF]->(u:User)
    WITH a, l, u, CASE WHEN a.stated_user IS NULL THEN l.at ELSE a.stated_at END AS at
    RETURN a.key, coalesce(a.stated_user, u.key), coalesce(a.stated_evidence, l.evidence),
           at.epochMillis, at.microsecond
"""
_ACCOUNTS_OF: Final = """
    UNWIND $users AS key MATCH (:User {key: key})<-[:OF]-(a:Account) RETURN a.key
    UNION UNWIND $users AS key MATCH (a:Account {stated_user: key}) RETURN a.key
"""
_EVIDENCE: Final = """
    startNode(e).key, coalesce(endNode(e).key, endNode(e).pseudonym), e.source, e.at.epochMillis, e.at.microsecond,
    e.left_out
"""
_READ_EVIDENCE: Final = f"""
    MATCH (:Account)-[e:EVIDENCE]->() WHERE coalesce(e.revoked, false) = $revoked RETURN {_EVIDENCE}
"""
_EVIDENCE_OF_ACCOUNTS: Final = f"""
    UNWIND $keys AS key MATCH (:Account {{key: key}})-[e:EVIDENCE]-() WITH DISTINCT e
    RETURN {_EVIDENCE}, e.revoked IS NOT NULL
"""
_EVIDENCE_OF_IDENTITIES: Final = f"""
    UNWIND $keys AS key MATCH (:Identity {{pseudonym: key}})<-[e:EVIDENCE]-() WHERE e.revoked IS NULL
    RETURN {_EVIDENCE}
"""
_KNOWN_EVIDENCE: Final = f"""
    UNWIND $ids AS id MATCH ()-[e:EVIDENCE {{id: id}}]->() RETURN id, e.revoked IS NOT NULL, {_EVIDENCE}
"""
_HOLDERS: Final = """
    UNWIND $keys AS key MATCH (i:Identity {pseudonym: key}) SET i.pseudonym = i.pseudonym
    WITH i MATCH (i)<-[e:EVIDENCE]-() WHERE e.revoked IS NULL RETURN i.pseudonym, count(e)
"""
_WRITE_EVIDENCE: Final = """
    UNWIND $rows AS row
    MATCH (a:Account {{key: row.account}})
    MATCH (o:{label} {{{name}: row.other}})
    MERGE (a)-[e:EVIDENCE {{id: row.id}}]->(o)
    SET e.source = row.source, e.revoked = row.revoked, e.left_out = NULL,
        e.at = CASE WHEN row.seconds IS NULL THEN NULL
               ELSE datetime({{epochSeconds: row.seconds, nanosecond: row.nanos}}) END
"""
_WRITE_STATED: Final = """
    UNWIND $rows AS row
    MATCH (a:Account {key: row.account})
    SET a.stated_user = row.user, a.stated_evidence = row.evidence,
        a.stated_at = CASE WHEN row.seconds IS NULL THEN NULL
                      ELSE datetime({epochSeconds: row.seconds, nanosecond: row.nanos}) END
"""
_DELETE_EMPTY_USERS: Final = """
    UNWIND $users AS key MATCH (u:User {key: key}) WHERE NOT EXISTS { (u)<-[:OF]-() } DELETE u
"""
_HIT: Final = """
    any(k IN keys(n) WHERE any(text IN $texts WHERE
        toStringOrNull(n[k]) CONTAINS text
        OR (n[k] IS :: LIST<STRING> AND any(part IN n[k] WHERE part CONTAINS text))))
"""
_WRITE_LINKS: Final = """
    UNWIND $rows AS row
    MATCH (a:Account {key: row.account})
    MATCH (u:User {key: row.user})
    CREATE (a)-[l:OF {evidence: row.evidence}]->(u)
    SET l.at = CASE WHEN row.seconds IS NULL THEN NULL
               ELSE datetime({epochSeconds: row.seconds, nanosecond: row.nanos}) END
"""
_CONSTRAINTS: Final = """
    SHOW CONSTRAINTS YIELD type, entityType, labelsOrTypes, properties
    WHERE type ENDS WITH 'UNIQUENESS' AND properties IN [['key'], ['event_id']]
    RETURN entityType, labelsOrTypes[0]
"""
_READ_ITEMS: Final = """
    MATCH (n:Item)
    RETURN n.key, n.platform, n.title, n.text, n.url, n.created_at.epochMillis, n.created_at.microsecond,
           [k IN keys(n) WHERE NOT k IN $reserved | [k, n[k]]]
"""
_FIND_ITEMS: Final = _READ_ITEMS.replace("MATCH (n:Item)", "UNWIND $keys AS key MATCH (n:Item {key: key})")
_READ_ENTITIES: Final = "MATCH (n:{label}) RETURN n.key, n.name, [k IN keys(n) WHERE NOT k IN $reserved | [k, n[k]]]"
_EVENT_VALUES: Final = """
    e.at.epochMillis, e.at.microsecond, e.sequence, e.value, e.weight,
    [k IN keys(e) WHERE NOT k IN $reserved | [k, e[k]]]
"""
_READ_EVENTS: Final = f"MATCH (a:Account)-[e:{{type}}]->(i:Item) RETURN e.event_id, a.key, i.key, {_EVENT_VALUES}"
_FIND_EVENTS: Final = f"""
    UNWIND $ids AS id MATCH (a:Account)-[e:{{type}} {{{{event_id: id}}}}]->(i:Item)
    RETURN e.event_id, a.key, i.key, {_EVENT_VALUES}, type(e)
"""
_READ_LINKS: Final = """
    MATCH (a:Account)-[l:OF]->(u:User) RETURN a.key, u.key, l.evidence, l.at.epochMillis, l.at.microsecond
"""
_READ_RELATIONS: Final = """
    MATCH (s)-[r:{type}]->(t)
    RETURN [l IN labels(s) WHERE l IN $labels][0], s.key, [l IN labels(t) WHERE l IN $labels][0], t.key,
           [k IN keys(r) | [k, r[k]]]
"""
_HISTORY: Final = f"""
    MATCH (:User {{key: $user}})<-[:OF]-(a:Account)-[e]->(i:Item) WHERE e.event_id IS NOT NULL
    WITH a, e, i ORDER BY e.at DESC, coalesce(e.sequence, -9223372036854775808) DESC, e.event_id DESC LIMIT $limit
    RETURN e.event_id, a.key, i.key, {_EVENT_VALUES}, type(e)
"""
_EDGE: Final = """
    RETURN elementId(r), type(r), properties(r),
           elementId(s), [l IN labels(s) WHERE l IN $labels][0], s.key,
           elementId(t), [l IN labels(t) WHERE l IN $labels][0], t.key
"""
_EDGES_AROUND: Final = f"""
    UNWIND $nodes AS id
    MATCH (n) WHERE elementId(n) = id
    MATCH (n)-[r]-() WHERE NOT type(r) IN ['ON', 'EVIDENCE']
    WITH DISTINCT r LIMIT $limit
    WITH r, startNode(r) AS s, endNode(r) AS t {_EDGE}
"""
_EDGES_AMONG: Final = f"""
    MATCH (s) WHERE elementId(s) IN $nodes
    MATCH (s)-[r]->(t) WHERE NOT type(r) IN ['ON', 'EVIDENCE'] AND elementId(t) IN $nodes
    WITH s, r, t LIMIT $limit {_EDGE}
"""
_NODES: Final = """
    MATCH (n) WHERE elementId(n) IN $nodes
    RETURN [l IN labels(n) WHERE l IN $labels][0] AS label, n.key AS key, coalesce(n.title, n.name, n.key)
    ORDER BY label, key
"""

Record = TypeVar("Record")
Result = TypeVar("Result")
_Rows = list[dict[str, Any]]


class Neo4jStore:
    """A graph in a Neo4j 5 or newer; safe to use from several threads and beside other processes."""

    def __init__(self, url: str, driver: neo4j.Driver, database: str) -> None:
        self._url = redact(url)
        self._driver = driver
        self._database = database
        self._labels: set[str] = set()
        self._event_types: set[str] = set()
        self._people_prepared = False
        self._retried = Retried()
        self._counting = threading.Lock()

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database a URL names: neo4j://user:password@host:7687/database.

        Raises: StoreUrlError if the URL has no host or a wrong port; StoreUnavailableError if nothing answers there,
            the login is refused, or the server has no such database.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 7687
        except ValueError:
            host, port = None, 0
        if not host or parts.query or parts.fragment or parts.path.count("/") > 1:
            raise StoreUrlError(f"{redact(url)!r} names no Neo4j database: write neo4j://user:password@host:7687/neo4j")
        if ":" in host:
            host = f"[{host}]"
        logging.getLogger("neo4j").addHandler(logging.NullHandler())  # what the driver would print, our errors say
        auth = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
        try:
            driver = neo4j.GraphDatabase.driver(
                f"{parts.scheme}://{host}:{port}",
                auth=auth,
                connection_timeout=10,
                connection_acquisition_timeout=60,
                max_transaction_retry_time=120,
                notifications_min_severity="OFF",
                user_agent="isthmus",
            )
        except (DriverError, ValueError) as error:
            raise StoreUrlError(f"{redact(url)!r} is not a URL that Neo4j's driver takes ({error})") from error
        store = cls(url, driver, parts.path.strip("/") or "neo4j")
        try:
            with store._session() as session:
                session.run("RETURN 1").consume()
                store._recall(session)
        except BaseException:
            driver.close()
            raise
        return store

    @property
    def url(self) -> str:
        return self._url

    @property
    def retried(self) -> Retried:
        return self._retried

    @property
    def database(self) -> str:
        """The name of the database on its server."""
        return self._database

    def ensure_schema(self) -> None:
        self.prepare((), ())

    def prepare(self, labels: Collection[str], event_types: Collection[str]) -> None:
        """Make all constraints and indexes of a graph with these labels and types of events."""
        self._prepare({*CORE_LABELS, *labels}, event_types)
        self._prepare_people()

    def size(self) -> tuple[int, int]:
        """How many nodes and relationships the database holds, ours or not."""
        nodes, relationships = (self._query(f"MATCH {what} RETURN count(*)") for what in ("(n)", "()-[r]->()"))
        return nodes[0][0], relationships[0][0]

    def upsert_nodes(self, nodes: Iterable[Node]) -> WriteCounts:
        return self._in_batches(nodes, self._upsert_node_batch)

    def upsert_edges(self, edges: Iterable[Edge]) -> WriteCounts:
        return self._in_batches(edges, self._upsert_edge_batch)

    def upsert_events(self, events: EventColumns) -> WriteCounts:
        return self.upsert_edges(events.events())

    def link(self, links: Iterable[Link]) -> WriteCounts:
        self._prepare(("Account", "User"), ())
        return self._in_batches(links, lambda batch: self._write(_write_links, batch))

    def add_evidence(self, evidence: Iterable[Evidence], *, restore: bool = False) -> Sequence[Evidence]:
        self._prepare_people()
        new: list[Evidence] = []
        source = iter(evidence)
        while batch := list(islice(source, BATCH)):
            new += self._write(_write_evidence, batch, restore)
        return new

    def revoke(self, evidence: Iterable[Evidence]) -> int:
        return self._write(_revoke, list(evidence))

    def evidence_of(self, accounts: Collection[AccountKey]) -> Sequence[Known]:
        with self._session(neo4j.READ_ACCESS) as session:
            known = session.execute_read(lambda tx: _Facts(tx).evidence_of(accounts))
        return sorted(known, key=lambda one: one.evidence.id)

    def read_evidence(self, *, revoked: bool = False) -> Iterator[pa.RecordBatch]:
        return self._stream(_READ_EVIDENCE, EVIDENCE_SCHEMA, {"revoked": revoked}, _evidence_columns)

    def stated_of(self, accounts: Collection[AccountKey]) -> Sequence[Link]:
        return sorted(map(_link, self._query(_STATED_LINKS, accounts=list(accounts))), key=lambda link: link.account)

    def labels(self) -> Sequence[str]:
        return sorted(self.counts().nodes)

    def event_types(self) -> Sequence[str]:
        return sorted(self._event_types & self.counts().edges.keys())

    def relation_types(self) -> Sequence[str]:
        return sorted(self.counts().edges.keys() - self._event_types - {"OF"})

    def read_nodes(self, label: str) -> Iterator[pa.RecordBatch]:
        schema = node_schema(label)
        if label == "Item":
            return self._stream(_READ_ITEMS, schema, {"reserved": sorted(ITEM_PROPERTIES)}, _item_columns)
        if label in CORE_LABELS:
            query = f"MATCH (n:{label}) RETURN " + ", ".join(f"n.{name}" for name in schema.names)
            return self._stream(query, schema, {}, list)
        query = _READ_ENTITIES.format(label=check_label(label))
        return self._stream(query, schema, {"reserved": sorted(ENTITY_PROPERTIES)}, _entity_columns)

    def read_events(self, type: str) -> Iterator[pa.RecordBatch]:
        query = _READ_EVENTS.format(type=check_event_type(type))
        return self._stream(query, EVENT_SCHEMA, {"reserved": sorted(EVENT_PROPERTIES)}, _event_columns)

    def read_links(self) -> Iterator[pa.RecordBatch]:
        return self._stream(_READ_LINKS, LINK_SCHEMA, {}, _link_columns)

    def read_relations(self, type: str) -> Iterator[pa.RecordBatch]:
        query = _READ_RELATIONS.format(type=check_relationship_type(type))
        return self._stream(query, RELATION_SCHEMA, {"labels": self._known_labels()}, _relation_columns)

    def counts(self) -> Counts:
        with self._session(neo4j.READ_ACCESS) as session:
            self._recall(session)
            types = {row[0] for row in session.run("CALL db.relationshipTypes()") if _is_type(row[0])}
            return Counts(
                _positive(session, "MATCH (n:{name}) RETURN count(n)", sorted(self._labels)),
                _positive(session, "MATCH ()-[r:{name}]->() RETURN count(r)", sorted(types - _HIDDEN_TYPES)),
            )

    def user_of(self, account: AccountKey) -> UserKey | None:
        rows = self._query("MATCH (:Account {key: $key})-[:OF]->(u:User) RETURN u.key", key=str(account))
        return stored_key(UserKey, rows[0][0]) if rows else None

    def history(self, user: UserKey, limit: int | None = None) -> Sequence[Event]:
        most = (1 << 63) - 1 if limit is None else max(limit, 0)
        rows = self._query(_HISTORY, user=str(user), limit=most, reserved=sorted(EVENT_PROPERTIES))
        return sorted(map(_event, rows), key=moment)

    def items(self, keys: Sequence[ItemKey]) -> Sequence[Item]:
        wanted = [str(key) for key in dict.fromkeys(keys)]
        rows = self._query(_FIND_ITEMS, keys=wanted, reserved=sorted(ITEM_PROPERTIES))
        found = {row[0]: _item(row) for row in rows}
        return [found[key] for key in keys if key in found]

    def events(self, type: str, ids: Sequence[str]) -> Sequence[Event]:
        query, wanted = _FIND_EVENTS.format(type=check_event_type(type)), list(dict.fromkeys(ids))
        found = [
            self._query(query, ids=wanted[start : start + BATCH], reserved=sorted(EVENT_PROPERTIES))
            for start in range(0, len(wanted), BATCH)
        ]
        return [_event(row) for rows in found for row in rows]

    def neighbourhood(self, key: NodeKey, hops: int = 1, limit: int = 200) -> Subgraph:
        labels = self._known_labels()
        with self._session(neo4j.READ_ACCESS) as session:
            return session.execute_read(_neighbourhood, key, hops, limit, labels)

    def delete_relations(self, type: str) -> int:
        check_relationship_type(type)
        if type in OWN_TYPES or type in self.event_types():
            raise wrong_type(type)
        query = f"MATCH ()-[r:{type}]->() WITH r LIMIT $limit DELETE r RETURN count(*)"
        deleted = 0
        while count := self._write(_one, query, {"limit": BATCH})[0]:
            deleted += count
        return deleted

    def delete_items(self, keys: Collection[ItemKey]) -> int:
        query = """
            MATCH (i:Item)-[r]-() WHERE i.key IN $keys WITH DISTINCT r LIMIT $limit DELETE r RETURN count(*)
        """
        parameters = {"keys": list(keys), "limit": BATCH}
        while self._write(_one, query, parameters)[0]:
            pass
        deleted = self._write(_one, "MATCH (i:Item) WHERE i.key IN $keys DETACH DELETE i RETURN count(*)", parameters)
        return int(deleted[0])

    def index_vectors(self, label: str, keys: Sequence[str], vectors: NDArray[np.float32]) -> int:
        name, dim = f"{check_label(label)}_embedding", vectors.shape[1]
        with self._session() as session:
            if session.run(_VECTOR_INDEX_DIM, name=name).values() not in ([], [[dim]]):
                session.run(f"DROP INDEX {name} IF EXISTS").consume()
        changed = 0
        for start in range(0, len(keys), VECTORS):
            part = slice(start, start + VECTORS)
            rows = [{"key": str(key), "vector": v} for key, v in zip(keys[part], vectors[part].tolist(), strict=True)]
            changed += self._write(_one, WRITE_VECTORS.format(label=label), {"rows": rows})[0]
        with self._session() as session:
            session.run(VECTOR_INDEX.format(label=label, dim=dim)).consume()
            session.run("CALL db.awaitIndex($name, $seconds)", name=name, seconds=_INDEX_TIMEOUT_S).consume()
        return changed

    def erase(self, user: UserKey, accounts: Collection[AccountKey] = ()) -> ErasureReport:
        self._prepare_people()
        keys, digests = self._write(_forget_identity, user, set(accounts))
        query = """
            MATCH (a:Account {key: $key})-[r]-() WHERE type(r) <> 'OF'
            WITH r, r.event_id IS NOT NULL AS event LIMIT $limit DELETE r
            RETURN count(*), sum(CASE WHEN event THEN 1 ELSE 0 END)
        """
        events = 0
        for account in keys:
            while (deleted := self._write(_one, query, {"key": str(account), "limit": BATCH}))[0]:
                events += deleted[1]
        self._write(
            _one,
            "OPTIONAL MATCH (u:User {key: $key}) OPTIONAL MATCH (a:Account) WHERE a.key IN $accounts "
            "DETACH DELETE a, u RETURN count(*)",
            {"key": str(user), "accounts": list(keys)},
        )
        return ErasureReport(user, keys, events, digests)

    def erased(self, keys: Collection[AccountKey | UserKey]) -> set[str]:
        graves = {key: tombstone(key.digest) for key in keys}
        with self._session(neo4j.READ_ACCESS) as session:
            buried = session.execute_read(_buried, graves.values())
        return {str(key) for key, grave in graves.items() if grave in buried}

    def bury(self, tombstones: Iterable[str]) -> None:
        self._prepare_people()
        self._write(_one, _BURY, {"graves": sorted(tombstones)})

    def tombstones(self) -> Sequence[str]:
        return [grave for (grave,) in self._query("MATCH (t:Tombstone) RETURN t.hash ORDER BY t.hash")]

    def search(self, texts: Collection[str]) -> Sequence[Searched]:
        with self._session(neo4j.READ_ACCESS) as session:
            parts = [(name, "(n:{name})") for (name,) in session.run("CALL db.labels()").values()]
            parts += [(name, "()-[n:{name}]->()") for (name,) in session.run("CALL db.relationshipTypes()").values()]
            return [
                Searched(name, *_search(session, pattern.format(name=f"`{name.replace('`', '``')}`"), texts))
                for name, pattern in parts
            ]

    def close(self) -> None:
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _upsert_node_batch(self, batch: list[Node]) -> WriteCounts:
        rows: dict[str, _Rows] = {}
        for node in batch:
            rows.setdefault(label_of(node.key), []).append(_node_row(node))
        platforms = {row["properties"]["platform"] for row in rows.get("Item", ())}
        self._prepare({*rows, *(["Platform"] if platforms else [])}, ())
        return self._write(_write_nodes, rows, sorted(platforms), len(batch))

    def _upsert_edge_batch(self, batch: list[Edge]) -> WriteCounts:
        events: dict[str, dict[str, Event]] = {}
        relations: dict[tuple[str, str, str], list[Relation]] = {}
        for edge in batch:
            if isinstance(edge, Event):
                events.setdefault(edge.type, {}).setdefault(edge.event_id, edge)
            else:
                ends = (edge.type, label_of(edge.source), label_of(edge.target))
                relations.setdefault(ends, []).append(edge)
        self._check_types(events.keys(), {type for type, _, _ in relations})
        self._prepare((), events.keys())
        return self._write(_write_edges, events, relations, len(batch))

    def _check_types(self, events: Collection[str], relations: Collection[str]) -> None:
        unseen = [type for type in events if type not in self._event_types]
        for type in relations:
            if type in OWN_TYPES or type in events or type in self._event_types:
                raise wrong_type(type)
        if unseen:
            with self._session(neo4j.READ_ACCESS) as session:
                self._recall(session)
                used = _positive(
                    session,
                    "MATCH ()-[r:{name}]->() RETURN count(r)",
                    [type for type in unseen if type not in self._event_types],
                )
            if used:
                raise wrong_type(next(iter(used)))

    def _prepare(self, labels: Collection[str], event_types: Collection[str]) -> None:
        statements = {
            ("NODE", label): f"CREATE CONSTRAINT {label}_key IF NOT EXISTS FOR (n:{label}) REQUIRE n.key IS UNIQUE"
            for label in labels
            if label not in self._labels
        } | {
            ("RELATIONSHIP", type): f"CREATE CONSTRAINT {type}_event_id IF NOT EXISTS "
            f"FOR ()-[e:{type}]-() REQUIRE e.event_id IS UNIQUE"
            for type in event_types
            if type not in self._event_types
        }
        if not statements:
            return
        with self._session() as session:
            for statement in statements.values():
                _make(session, statement)
            self._recall(session)

    def _prepare_people(self) -> None:
        if not self._people_prepared:
            with self._session() as session:
                for statement in _PEOPLE:
                    _make(session, statement)
            self._people_prepared = True

    def _recall(self, session: neo4j.Session) -> None:
        found = {(kind, name) for kind, name in session.run(_CONSTRAINTS).values()}
        self._labels = {name for kind, name in found if kind == "NODE" and _is_label(name)}
        self._event_types = {name for kind, name in found if kind == "RELATIONSHIP" and _is_type(name)}

    def _known_labels(self) -> list[str]:
        with self._session(neo4j.READ_ACCESS) as session:
            self._recall(session)
        return sorted(self._labels)

    def _in_batches(self, records: Iterable[Record], write: Callable[[list[Record]], WriteCounts]) -> WriteCounts:
        counts = WriteCounts()
        source = iter(records)
        while batch := list(islice(source, BATCH)):
            counts += write(batch)
        return counts

    def _write(self, work: Callable[..., Result], *arguments: Any) -> Result:
        deadlocks = attempts = 0

        def attempt(tx: neo4j.ManagedTransaction) -> Result:
            nonlocal deadlocks, attempts
            attempts += 1
            try:
                return work(tx, *arguments)
            except TransientError as error:
                deadlocks += error.code == _DEADLOCK
                raise

        with self._session() as session:
            try:
                for _ in range(20):
                    try:
                        return session.execute_write(attempt)
                    except ConstraintError as error:  # another writer was quicker: now its rows can be seen
                        quicker = error
                raise quicker
            finally:
                with self._counting:
                    before = self._retried
                    self._retried = Retried(before.transactions + max(0, attempts - 1), before.deadlocks + deadlocks)

    def _query(self, query: str, **values: Any) -> list[list[Any]]:
        with self._session(neo4j.READ_ACCESS) as session:
            return session.execute_read(lambda tx: tx.run(query, values).values())

    def _stream(
        self,
        query: str,
        schema: pa.Schema,
        values: dict[str, Any],
        columns: Callable[[list[Sequence[Any]]], list[Sequence[Any]]],
    ) -> Iterator[pa.RecordBatch]:
        with self._session(neo4j.READ_ACCESS) as session, session.begin_transaction() as transaction:
            result = transaction.run(query, values)
            while records := result.fetch(BATCH):
                found = columns(list(zip(*records, strict=True)))
                yield pa.record_batch(
                    [pa.array(column, type=field.type) for column, field in zip(found, schema, strict=True)],
                    schema=schema,
                )

    @contextmanager
    def _session(self, access: str = neo4j.WRITE_ACCESS) -> Iterator[neo4j.Session]:
        try:
            with self._driver.session(database=self._database, default_access_mode=access, fetch_size=BATCH) as session:
                yield session
        except AuthError as error:
            raise StoreUnavailableError(
                f"{self._url} refused the user or the password: check both in the URL"
            ) from error
        except (ServiceUnavailable, SessionExpired, IncompleteCommit) as error:
            raise StoreUnavailableError(
                f"{self._url} does not answer ({error}): start it (make neo4j), or check host and port"
            ) from error
        except Neo4jError as error:
            if error.code == "Neo.ClientError.Database.DatabaseNotFound":
                raise StoreUnavailableError(
                    f"{self._url} has no database {self._database!r}: give one it has, such as neo4j"
                ) from error
            raise StoreError(f"{self._url} refused ({error.code}: {error.message})") from error
        except DriverError as error:
            raise StoreError(f"{self._url} cannot be used ({error}): open the store again") from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise RecordError(f"a value cannot be stored ({error}): give integers of 64 bits and valid text") from error


def _write_nodes(
    tx: neo4j.ManagedTransaction, rows: dict[str, _Rows], platforms: list[str], written: int
) -> WriteCounts:
    created = 0
    for label in sorted(rows, key=lambda label: (label != "Platform", label)):
        if label == "Item":
            own = [{"key": platform, "properties": {}} for platform in platforms]
            tx.run(WRITE_NODES.format(label="Platform"), rows=own).consume()
        if label == "Account":
            graves = {tombstone(row["key"].rpartition(":")[2]): row["key"] for row in rows[label]}
            if buried := _buried(tx, graves):
                raise was_erased(min(graves[grave] for grave in buried))
        if label == "Item":
            query = WRITE_ITEMS
        else:
            query = (WRITE_NODES if label in CORE_LABELS else WRITE_ENTITIES).format(label=label)
        ordered = sorted(rows[label], key=lambda row: row["key"])  # two writers take their locks in one order
        created += tx.run(query, rows=ordered).consume().counters.nodes_created
        if label == "Item":
            tx.run(WRITE_ON, rows=ordered).consume()
    return WriteCounts(created, written - created)


def _write_edges(
    tx: neo4j.ManagedTransaction,
    events: dict[str, dict[str, Event]],
    relations: dict[tuple[str, str, str], list[Relation]],
    written: int,
) -> WriteCounts:
    created = sum(_write_events(tx, type, events[type]) for type in sorted(events))
    created += sum(_write_relations(tx, *ends, relations[ends]) for ends in sorted(relations))
    return WriteCounts(created, written - created)


def _write_events(tx: neo4j.ManagedTransaction, type: str, events: dict[str, Event]) -> int:
    known = {row[0] for row in tx.run(KNOWN_EVENTS.format(type=type), ids=list(events)).values()}
    new = [event for event in events.values() if event.event_id not in known]
    if not new:
        return 0
    rows = [
        {
            "account": str(event.account),
            "item": str(event.item),
            **_moment(event.at),
            "properties": {
                "event_id": event.event_id,
                "weight": event.weight + 0.0,  # SQLite keeps no negative zero, and both stores hold the same
                "value": None if event.value is None else event.value + 0.0,
                "sequence": event.sequence,
                **encoded(event.context, EVENT_PROPERTIES),
            },
        }
        for event in new
    ]
    summary = tx.run(WRITE_EVENTS.format(type=type), rows=rows).consume()
    if summary.counters.relationships_created != len(new):
        accounts = _missing(tx, "Account", {str(event.account) for event in new})
        items = _missing(tx, "Item", {str(event.item) for event in new})
        first = next(event for event in new if event.account in accounts or event.item in items)
        raise dangling(f"event {first.event_id}", first.account if first.account in accounts else first.item)
    return len(new)


def _write_relations(
    tx: neo4j.ManagedTransaction, type: str, source: str, target: str, relations: list[Relation]
) -> int:
    rows = [
        {
            "source": str(relation.source),
            "target": str(relation.target),
            "properties": encoded(relation.properties, RELATION_PROPERTIES),
        }
        for relation in relations
    ]
    rows.sort(key=lambda row: (row["source"], row["target"]))
    result = tx.run(WRITE_RELATIONS.format(type=type, source=source, target=target), rows=rows)
    found = result.single(strict=True)[0]
    if found != len(rows):
        sources = _missing(tx, source, {str(relation.source) for relation in relations})
        targets = _missing(tx, target, {str(relation.target) for relation in relations})
        first = next(each for each in relations if each.source in sources or each.target in targets)
        raise dangling(
            f"{type} from {first.source} to {first.target}", first.source if first.source in sources else first.target
        )
    return result.consume().counters.relationships_created


def _write_links(tx: neo4j.ManagedTransaction, links: list[Link]) -> WriteCounts:
    accounts = sorted({str(link.account) for link in links})
    found = {row[0] for row in tx.run(_LOCK_ACCOUNTS, accounts=accounts).values()}
    for link in links:
        if link.account not in found:
            raise dangling(f"the link to {link.user}", link.account)
    settled = settle(links, {link.account: link for link in map(_link, _rows(tx, _STATED_LINKS, accounts=accounts))})
    changed = settled.changed
    if changed:
        left = _put_links(tx, changed.values()) | settled.left
        if _rows(tx, "MATCH ()-[e:EVIDENCE]->() RETURN 1 LIMIT 1"):
            _put_stated(tx, dict.fromkeys(changed))
            left |= _recompute(tx, changed, {*left, *(link.user for link in changed.values())}, {})
        tx.run(_DELETE_EMPTY_USERS, users=sorted(left)).consume()
    return WriteCounts(settled.created, len(links) - settled.created)


def _put_links(tx: neo4j.ManagedTransaction, links: Collection[Link]) -> set[UserKey]:
    """Write these links in the place of those that are there; returns the persons whom an account has left."""
    accounts = [str(link.account) for link in links]
    query = """
        UNWIND $accounts AS key MATCH (:Account {key: key})-[l:OF]->(u:User)
        WITH l, u.key AS user DELETE l RETURN user
    """
    left = {stored_key(UserKey, user) for (user,) in _rows(tx, query, accounts=accounts)}
    tx.run("UNWIND $users AS key MERGE (:User {key: key})", users=sorted({str(link.user) for link in links})).consume()
    tx.run(_WRITE_LINKS, rows=[_link_row(link) for link in links]).consume()
    return left


def _put_stated(tx: neo4j.ManagedTransaction, stated: Mapping[AccountKey, Link | None]) -> None:
    nothing = {"user": None, "evidence": None, **_moment(None)}
    rows = [
        {"account": str(account), **nothing, **(_link_row(link) if link else {})} for account, link in stated.items()
    ]
    tx.run(_WRITE_STATED, rows=rows).consume()


def _link_row(link: Link) -> dict[str, Any]:
    return {"account": str(link.account), "user": str(link.user), "evidence": link.evidence, **_moment(link.at)}


def _recompute(
    tx: neo4j.ManagedTransaction,
    ends: Iterable[AccountKey | IdentityKey],
    users: Iterable[UserKey],
    before: Mapping[str, int],
) -> set[UserKey]:
    """Find out anew who is who among all that is connected with these; returns persons whom an account has left."""
    all_ = touched(_Facts(tx), ends, users, before)
    resolved = resolve(all_)
    current = {row[0]: _link(row) for row in _rows(tx, _CURRENT_LINKS, accounts=sorted(resolved.links))}
    changed = {account: link for account, link in resolved.links.items() if link != current.get(account)}
    left = set()
    if changed:
        left = _put_links(tx, changed.values())
        stated = all_.stated
        _put_stated(tx, {key: None if stated[key] == link else stated[key] for key, link in changed.items()})
    rows = [
        {"id": id, "left_out": resolved.left_out.get(id)}
        for id, known in all_.known.items()
        if known.left_out != resolved.left_out.get(id)
    ]
    tx.run(
        "UNWIND $rows AS row MATCH ()-[e:EVIDENCE {id: row.id}]->() SET e.left_out = row.left_out", rows=rows
    ).consume()
    return left


def _write_evidence(tx: neo4j.ManagedTransaction, batch: list[Evidence], restore: bool) -> list[Evidence]:
    accounts = sorted({end for one in batch for end in (one.account, one.other) if isinstance(end, AccountKey)})
    missing = _missing(tx, "Account", accounts)
    by_id: dict[str, Evidence] = {}
    for one in batch:
        if missing & {one.account, one.other}:
            raise dangling(f"the evidence from {one.source}", min(missing & {one.account, one.other}))
        by_id[one.id] = min(one, by_id.get(one.id, one), key=first_said)
    _write_links(tx, [Link(account, lone_user(account), LONE) for account in accounts])
    known = {id: (revoked, _evidence(row)) for id, revoked, *row in _rows(tx, _KNOWN_EVIDENCE, ids=list(by_id))}
    before = _Facts(tx).holders({one.other for one in by_id.values()})
    new: list[Evidence] = []
    changed: list[Evidence] = []
    rows: dict[bool, _Rows] = {True: [], False: []}
    for id, one in by_id.items():
        revoked, old = known.get(id, (False, one))
        said = min(one, old, key=first_said)
        restored = revoked and restore
        if id not in known or restored:
            new.append(one)
        if id not in known or restored or said != old:
            changed.append(said)
            row = {"id": id, "account": str(said.account), "other": str(said.other), "source": said.source}
            rows[said.is_statement].append(
                {**row, **_moment(said.at), "revoked": True if revoked and not restore else None}
            )
    if changed:
        identities = sorted({row["other"] for row in rows[False]})
        tx.run("UNWIND $keys AS key MERGE (:Identity {pseudonym: key})", keys=identities).consume()
        tx.run(_WRITE_EVIDENCE.format(label="Account", name="key"), rows=rows[True]).consume()
        tx.run(_WRITE_EVIDENCE.format(label="Identity", name="pseudonym"), rows=rows[False]).consume()
        left = _recompute(tx, {end for one in changed for end in (one.account, one.other)}, (), before)
        tx.run(_DELETE_EMPTY_USERS, users=sorted(left)).consume()
    return new


def _revoke(tx: neo4j.ManagedTransaction, evidence: list[Evidence]) -> int:
    before = _Facts(tx).holders({one.other for one in evidence})
    query = """
        UNWIND $ids AS id MATCH ()-[e:EVIDENCE {id: id}]->() WHERE e.revoked IS NULL
        SET e.revoked = true, e.left_out = NULL RETURN count(*)
    """
    done: int = _rows(tx, query, ids=list({one.id for one in evidence}))[0][0]
    if done:
        left = _recompute(tx, {end for one in evidence for end in (one.account, one.other)}, (), before)
        tx.run(_DELETE_EMPTY_USERS, users=sorted(left)).consume()
    return done


def _forget_identity(
    tx: neo4j.ManagedTransaction, user: UserKey, named: set[AccountKey]
) -> tuple[tuple[AccountKey, ...], frozenset[str]]:
    """Bury a person and these accounts, and remove their evidence; returns the accounts that exist, and the digests."""
    query = """
        MATCH (:User {key: $user})<-[:OF]-(a:Account) RETURN a.key
        UNION MATCH (a:Account) WHERE a.key IN $named RETURN a.key
    """
    keys = {stored_key(AccountKey, key) for (key,) in _rows(tx, query, user=str(user), named=list(named))}
    accounts = sorted(map(str, keys))
    persons = {link.user for link in map(_link, _rows(tx, _STATED_LINKS, accounts=accounts))} | (
        {user} if keys else set()
    )
    said = map(_evidence, _rows(tx, _EVIDENCE_OF_ACCOUNTS, keys=accounts))
    ends = {end for one in said for end in (one.account, one.other)} - keys
    identities = {end for end in ends if isinstance(end, IdentityKey)}
    before = _Facts(tx).holders(identities)
    graves = sorted({tombstone(key.digest) for key in keys | named | persons})
    tx.run(_BURY, graves=graves).consume()
    tx.run("UNWIND $keys AS key MATCH (:Account {key: key})-[e:EVIDENCE]-() DELETE e", keys=accounts).consume()
    left = _recompute(tx, ends, (), before)
    tx.run(_DELETE_EMPTY_USERS, users=sorted(left)).consume()
    query = """
        UNWIND $keys AS key MATCH (i:Identity {pseudonym: key}) WHERE NOT EXISTS { (i)<-[:EVIDENCE]-() }
        WITH i, key DELETE i RETURN key
    """
    own = {stored_key(IdentityKey, key) for (key,) in _rows(tx, query, keys=sorted(identities))}
    return tuple(sorted(keys)), frozenset(key.digest for key in keys | named | persons | own)


_BURY: Final = "UNWIND $graves AS grave MERGE (:Tombstone {hash: grave})"


def _buried(tx: neo4j.ManagedTransaction, graves: Collection[str]) -> set[str]:
    query = "UNWIND $graves AS grave MATCH (:Tombstone {hash: grave}) RETURN grave"
    return {grave for (grave,) in _rows(tx, query, graves=list(graves))}


def _search(session: neo4j.Session, pattern: str, texts: Collection[str]) -> tuple[int, int]:
    query = f"MATCH {pattern} RETURN count(*), sum(CASE WHEN {_HIT} THEN 1 ELSE 0 END)"
    size, hits = session.run(query, {"texts": list(texts)}).single(strict=True)
    return size, hits


class _Facts:
    """What `graph.links` asks of a store; what it has asked about stays locked until the transaction ends."""

    def __init__(self, tx: neo4j.ManagedTransaction) -> None:
        self._tx = tx

    def evidence_of(self, ends: Collection[str]) -> list[Known]:
        accounts = sorted(end for end in ends if end.startswith("account:"))
        rows = [row[:6] for row in _rows(self._tx, _EVIDENCE_OF_ACCOUNTS, keys=accounts) if not row[6]]
        rows += _rows(self._tx, _EVIDENCE_OF_IDENTITIES, keys=sorted(set(ends).difference(accounts)))
        known = [Known(_evidence(row), row[5]) for row in rows]
        return list({one.evidence.id: one for one in known}.values())

    def holders(self, identities: Collection[str]) -> dict[str, int]:
        found = dict(_rows(self._tx, _HOLDERS, keys=sorted(identities)))
        return {**dict.fromkeys(identities, 0), **found}

    def stated_of(self, accounts: Collection[str], users: Collection[str]) -> list[Link]:
        found = {*accounts, *(key for (key,) in _rows(self._tx, _ACCOUNTS_OF, users=sorted(users)))}
        self._tx.run(_LOCK_ACCOUNTS, accounts=sorted(found)).consume()
        return [_link(row) for row in _rows(self._tx, _STATED_LINKS, accounts=sorted(found))]


def _neighbourhood(tx: neo4j.ManagedTransaction, key: NodeKey, hops: int, limit: int, labels: list[str]) -> Subgraph:
    start = tx.run(f"MATCH (n:{check_label(label_of(key))} {{key: $key}}) RETURN elementId(n)", key=str(key)).single()
    if start is None:
        return Subgraph((), ())
    edges: dict[str, Event | Relation | Link] = {}

    def collect(query: str, nodes: Collection[str]) -> set[str]:
        ends: set[str] = set()
        values = {"nodes": sorted(nodes), "labels": labels, "limit": limit}
        for id, type, properties, source_id, *source, target_id, target_label, target in tx.run(query, values):
            if source[0] is None or target_label is None:
                continue  # a node that is none of ours
            if id not in edges and len(edges) < limit:
                edges[id] = _edge(type, (*source, target_label, target), properties)
            if id in edges:
                ends |= {source_id, target_id}
        return ends

    reached = frontier = {start[0]}
    for _ in range(hops):
        frontier = collect(_EDGES_AROUND, frontier) - reached
        reached = reached | frontier
    collect(_EDGES_AMONG, reached)
    nodes = tx.run(_NODES, nodes=sorted(reached), labels=labels).values()
    return Subgraph([(label, text, name) for label, text, name in nodes], list(edges.values()))


def _one(tx: neo4j.ManagedTransaction, query: str, values: Mapping[str, Any]) -> Sequence[Any]:
    rows = tx.run(query, dict(values)).values()
    return rows[0] if rows else ()


def _make(session: neo4j.Session, statement: str) -> None:
    """Make a constraint or an index that is not there, unless another writer makes it at this moment."""
    try:
        session.execute_write(_one, statement, {})
    except ClientError as error:
        if error.code not in _MADE_MEANWHILE:
            raise


def _rows(tx: neo4j.ManagedTransaction, query: str, **values: Any) -> list[list[Any]]:
    return tx.run(query, values).values()


def _missing(tx: neo4j.ManagedTransaction, label: str, keys: Collection[str]) -> set[str]:
    return {row[0] for row in tx.run(_MISSING.format(label=label), keys=list(keys)).values()}


def _positive(session: neo4j.Session, query: str, names: Iterable[str]) -> dict[str, int]:
    counts = Counter({name: session.run(query.format(name=name)).single(strict=True)[0] for name in names})
    return dict(+counts)


def _is_label(name: str) -> bool:
    with suppress(SchemaError):
        return bool(check_label(name))
    return False


def _is_type(name: str) -> bool:
    with suppress(SchemaError):
        return bool(check_relationship_type(name))
    return False


def _node_row(node: Node) -> dict[str, Any]:
    key = str(node.key)
    if isinstance(node, Item):
        said = {"title": node.title, "text": node.text, "url": node.url}
        properties = {name: value for name, value in said.items() if value is not None}
        return {
            "key": key,
            **_moment(node.created_at),
            "properties": {
                "platform": key.partition(":")[0],
                **properties,
                **encoded(node.attributes, ITEM_PROPERTIES),
            },
        }
    if isinstance(node, Entity):
        named = encoded(node.attributes, ENTITY_PROPERTIES)
        if node.name != node.key.name:
            named["name"] = node.name
        return {"key": key, "mentioned": node.key.name, "properties": named}
    return {"key": key, "properties": {"platform": node.key.platform} if isinstance(node.key, AccountKey) else {}}


def _moment(at: datetime | None) -> dict[str, int | None]:
    if at is None:
        return {"seconds": None, "nanos": None}
    seconds, micros = divmod((at - EPOCH) // MICROSECOND, 1_000_000)
    return {"seconds": seconds, "nanos": micros * 1000}


def _micros(millis: int, micros: int) -> int:
    # Not from Neo4j's epochSeconds, which rounds towards 1970 and so is wrong by one for most instants before it.
    return millis * 1000 + micros % 1000


def encoded(attributes: Attributes, reserved: Collection[str]) -> dict[str, Scalar | list[str]]:
    """Attributes under the names that they have here; raises RecordError for what a store cannot keep."""
    if not attributes:
        return {}
    return {f"_{name}" if name.lstrip("_") in reserved else name: value for name, value in plain(attributes).items()}


def _decoded(pairs: Iterable[tuple[str, Any]], reserved: Collection[str]) -> dict[str, Any]:
    return {
        name[1:] if name[0] == "_" and name.lstrip("_") in reserved else name: value
        for name, value in pairs
        if is_kept(value)
    }


def _json(column: Sequence[list[tuple[str, Any]]], reserved: Collection[str]) -> list[str]:
    return [canonical_json(_decoded(pairs, reserved)) if pairs else "{}" for pairs in column]


def _instants(millis: Sequence[int | None], micros: Sequence[int | None]) -> list[int | None]:
    pairs = zip(millis, micros, strict=True)
    return [None if first is None or second is None else _micros(first, second) for first, second in pairs]


def _item_columns(columns: list[Sequence[Any]]) -> list[Sequence[Any]]:
    *said, millis, micros, pairs = columns
    return [*said, _instants(millis, micros), _json(pairs, ITEM_PROPERTIES)]


def _entity_columns(columns: list[Sequence[Any]]) -> list[Sequence[Any]]:
    key, name, pairs = columns
    return [key, name, _json(pairs, ENTITY_PROPERTIES)]


def _event_columns(columns: list[Sequence[Any]]) -> list[Sequence[Any]]:
    event_id, account, item, millis, micros, sequence, value, weight, pairs = columns
    instants = _instants(millis, micros)
    return [event_id, account, item, instants, sequence, value, weight, _json(pairs, EVENT_PROPERTIES)]


def _link_columns(columns: list[Sequence[Any]]) -> list[Sequence[Any]]:
    account, user, evidence, millis, micros = columns
    return [account, user, evidence, _instants(millis, micros)]


def _evidence_columns(columns: list[Sequence[Any]]) -> list[Sequence[Any]]:
    account, other, source, millis, micros, left_out = columns
    return [account, other, source, _instants(millis, micros), left_out]


def _relation_columns(columns: list[Sequence[Any]]) -> list[Sequence[Any]]:
    return [*columns[:4], _json(columns[4], RELATION_PROPERTIES)]


def _event(row: Sequence[Any]) -> Event:
    event_id, account, item, millis, micros, sequence, value, weight, pairs, type = row
    return Event(
        event_id,
        type,
        stored_key(AccountKey, account),
        stored_key(ItemKey, item),
        instant(_micros(millis, micros)),
        weight,
        value,
        sequence,
        _decoded(pairs, EVENT_PROPERTIES),
    )


def _item(row: Sequence[Any]) -> Item:
    key, _, title, text, url, millis, micros, pairs = row
    created_at = None if millis is None else instant(_micros(millis, micros))
    return Item(stored_key(ItemKey, key), title, text, url, created_at, _decoded(pairs, ITEM_PROPERTIES))


def _link(row: Sequence[Any]) -> Link:
    account, user, evidence, millis, micros = row
    at = None if millis is None else instant(_micros(millis, micros))
    return Link(stored_key(AccountKey, account), stored_key(UserKey, user), evidence, at)


def _evidence(row: Sequence[Any]) -> Evidence:
    account, other, source, millis, micros = row[:5]
    return stored_evidence(account, other, source, None if millis is None else instant(_micros(millis, micros)))


def _edge(type: str, ends: Sequence[str], properties: dict[str, Any]) -> Event | Relation | Link:
    if type != "OF" and "event_id" not in properties:
        return stored_relation(type, ends, _decoded(properties.items(), RELATION_PROPERTIES))
    at = properties.get("at")
    millis, micros = (None, None) if at is None else divmod((at.to_native() - EPOCH) // MICROSECOND, 1000)
    if type == "OF":
        return _link((ends[1], ends[3], properties["evidence"], millis, micros))
    own = [properties.get(name) for name in ("sequence", "value", "weight")]
    context = [(name, value) for name, value in properties.items() if name not in EVENT_PROPERTIES]
    return _event((properties["event_id"], ends[1], ends[3], millis, micros, *own, context, type))
