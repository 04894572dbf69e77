"""The graph store: one interface, two stores behind it, chosen by URL.

    sqlite:///var/graph.db                            embedded, nothing to start (graph/sqlite_store.py)
    neo4j://user:password@host:7687/database          production and Cypher (graph/neo4j_store.py)

Every write is idempotent: the same record again changes nothing. Reads stream.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from graph.columns import EventColumns
from graph.errors import StoreUrlError
from graph.keys import AccountKey, ItemKey, NodeKey, UserKey
from graph.links import Known
from graph.records import Edge, Event, Evidence, Item, Link, Node, Relation


@dataclass(frozen=True, slots=True)
class WriteCounts:
    """What a write did: created are new, existing were there already (and were updated where the source says more)."""

    created: int = 0
    existing: int = 0

    def __add__(self, other: "WriteCounts") -> "WriteCounts":
        return WriteCounts(self.created + other.created, self.existing + other.existing)


@dataclass(frozen=True, slots=True)
class Retried:
    """Write transactions that were tried again, after another writer or a lost connection; none of them was lost."""

    transactions: int = 0
    deadlocks: int = 0
    """Of these, how many because two writers waited for each other."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many nodes of each label and relationships of each type the store holds; zero counts are left out."""

    nodes: dict[str, int]
    edges: dict[str, int]


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A neighbourhood: nodes as (label, key, title or name), edges as records."""

    nodes: Sequence[tuple[str, str, str]]
    edges: Sequence[Event | Relation | Link]


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What the erasure of a person removed from the store."""

    user: UserKey
    accounts: Sequence[AccountKey] = field(default_factory=tuple)
    events: int = 0
    digests: Set[str] = field(default=frozenset(), compare=False)
    """Pseudonyms that must be nowhere any more: the person's, the accounts', those of identities that no other has."""


@dataclass(frozen=True, slots=True)
class Searched:
    """A part of what is kept, and what was found in it."""

    name: str
    size: int
    """Rows of a table or of a label's nodes; bytes of a file."""
    hits: int


class Store(Protocol):
    """What both stores can do; tests/contracts/test_store.py is its specification."""

    @property
    def url(self) -> str:
        """Where it is, without the password."""

    @property
    def retried(self) -> Retried:
        """What was tried again since it was opened; nothing in SQLite, where a writer waits for the one before it."""

    def ensure_schema(self) -> None:
        """Create constraints and indexes; safe to call again."""

    def upsert_nodes(self, nodes: Iterable[Node]) -> WriteCounts:
        """Write nodes. A value that is None (or an attribute left out) leaves what the store has.

        An item brings its platform's node along. An entity's name that only repeats its key's is a mention, and leaves
        the name that the store has. Records go in batches, each a transaction: when one fails, those before it stay
        written.
        """

    def upsert_edges(self, edges: Iterable[Edge]) -> WriteCounts:
        """Write events (first write of an event_id wins) and relations (properties are replaced).

        An event_id is unique within its type; a type is for events or for relations. Batches as in `upsert_nodes`.
        Endpoints that do not exist are an error (StoreError names the first); nothing of that batch is written.
        """

    def upsert_events(self, events: EventColumns) -> WriteCounts:
        """Write many events, as `upsert_edges` writes each of them."""

    def link(self, links: Iterable[Link]) -> WriteCounts:
        """State which person an account belongs to. An account has one OF; evidence replaces it, LONE never does.

        Accounts must exist (StoreError names the first that does not).
        Users are created as needed and removed when their last account has left them.
        Where `add_evidence` joins accounts, OF says what came out, and what was stated is kept beside it.
        """

    def add_evidence(self, evidence: Iterable[Evidence], *, restore: bool = False) -> Sequence[Evidence]:
        """Write why accounts may be one person, and join them as `graph.links` says; returns what is new.

        Accounts must exist (StoreError names the first that does not); one without a person gets one of its own.
        Only what is connected with the new evidence is looked at again. What was taken back stays so, unless
        `restore` says otherwise. Reads of nodes, relations, counts and neighbourhoods show none of it.
        """

    def revoke(self, evidence: Iterable[Evidence]) -> int:
        """Take evidence back: the graph becomes what it would be without it. Returns how many pieces there were."""

    def evidence_of(self, accounts: Collection[AccountKey]) -> Sequence[Known]:
        """What is said about who these accounts are, by id, and was not taken back."""

    def read_evidence(self, *, revoked: bool = False) -> Iterator[pa.RecordBatch]:
        """Stream the evidence that counts, or that was taken back, in EVIDENCE_SCHEMA; in no order."""

    def stated_of(self, accounts: Collection[AccountKey]) -> Sequence[Link]:
        """The links as they were stated of these accounts, before evidence joined them; by account."""

    def labels(self) -> Sequence[str]:
        """Labels that nodes have, sorted."""

    def event_types(self) -> Sequence[str]:
        """Relationship types of events (Account to Item, with an event_id), sorted."""

    def relation_types(self) -> Sequence[str]:
        """Relationship types that are neither events nor OF, sorted. ON is implied by an item's key and not listed."""

    def read_nodes(self, label: str) -> Iterator[pa.RecordBatch]:
        """Stream the nodes of a label in the schema that `graph.schema.node_schema` gives; in no order."""

    def read_events(self, type: str) -> Iterator[pa.RecordBatch]:
        """Stream the events of a type in EVENT_SCHEMA; in no order."""

    def read_links(self) -> Iterator[pa.RecordBatch]:
        """Stream the OF relationships in LINK_SCHEMA; in no order."""

    def read_relations(self, type: str) -> Iterator[pa.RecordBatch]:
        """Stream the relations of a type in RELATION_SCHEMA; in no order."""

    def counts(self) -> Counts:
        """Nodes by label and relationships by type; ON is implied by an item's key and not counted."""

    def user_of(self, account: AccountKey) -> UserKey | None:
        """The person an account belongs to, or None when the account is unknown."""

    def history(self, user: UserKey, limit: int | None = None) -> Sequence[Event]:
        """A person's events over all their accounts, oldest first by (at, sequence, event_id); the newest `limit`."""

    def items(self, keys: Sequence[ItemKey]) -> Sequence[Item]:
        """Those of the items that exist, in the order asked for."""

    def events(self, type: str, ids: Sequence[str]) -> Sequence[Event]:
        """Those of the events of a type that exist, each once, in no order."""

    def neighbourhood(self, key: NodeKey, hops: int = 1, limit: int = 200) -> Subgraph:
        """Nodes within `hops` relationships of a node and the relationships among them, at most `limit` edges."""

    def delete_relations(self, type: str) -> int:
        """Remove all relations of a type that we derived (LEADS_TO, SAME_WORK); returns how many there were."""

    def delete_items(self, keys: Collection[ItemKey]) -> int:
        """Remove items with the events and relations that they have; returns how many of them there were."""

    def index_vectors(self, label: str, keys: Sequence[str], vectors: NDArray[np.float32]) -> int:
        """Put vectors [N, D] on the nodes of these keys, under an index for semantic search in Cypher.

        The index is called <label>_embedding, the property `embedding`; it compares by cosine and is ready when this
        returns. Vectors of another length than before replace them and the index.

        Returns: how many nodes had none or another one.
        Raises: StoreError where the store has no such index (SQLite).
        """

    def erase(self, user: UserKey, accounts: Collection[AccountKey] = ()) -> ErasureReport:
        """Remove a person: the user, their accounts, events and evidence, and these accounts, known or not.

        Tombstones stay: none of them can be written again. Erasing again finds nothing and is no error.
        """

    def erased(self, keys: Collection[AccountKey | UserKey]) -> set[str]:
        """Those of the accounts and persons that were erased; `upsert_nodes` raises ErasedError for such an account."""

    def bury(self, tombstones: Iterable[str]) -> None:
        """Refuse from now on what has one of these tombstones (`graph.keys.tombstone`), as after an erasure."""

    def tombstones(self) -> Sequence[str]:
        """All tombstones, sorted."""

    def search(self, texts: Collection[str]) -> Sequence[Searched]:
        """Look for texts in all that the store holds; a hit is a row, node or relationship with any of them."""

    def close(self) -> None:
        """Give back files and connections; safe to call again."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_store(url: str) -> Store:
    """Open the store at a URL.

    Raises: StoreUrlError if the URL names no store; StoreUnavailableError if it does not answer.
    """
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        from graph.sqlite_store import SqliteStore

        return SqliteStore.open(url)
    if scheme in {"neo4j", "bolt", "neo4j+s", "bolt+s"}:
        from graph.neo4j_store import Neo4jStore

        return Neo4jStore.open(url)
    raise StoreUrlError(
        f"{redact(url)!r} is not a store URL: write sqlite:///var/graph.db or neo4j://user:password@host:7687/neo4j"
    )


def redact(url: str) -> str:
    """The URL without its password, fit for logs and messages."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:…@{host}"))


def checksum(store: Store) -> dict[str, str]:
    """A checksum of the nodes of each label and the relationships of each type, the same whatever the order and store.

    Each row is hashed (blake2b, 128 bits) over its canonical text and the hashes are added, so rows need no sorting.
    """
    sums = {label: _sum_rows(store.read_nodes(label)) for label in store.labels()}
    sums |= {type: _sum_rows(store.read_events(type)) for type in store.event_types()}
    sums |= {type: _sum_rows(store.read_relations(type)) for type in store.relation_types()}
    sums |= {"EVIDENCE": said} if (said := _sum_rows(store.read_evidence())) else {}
    sums["OF"] = _sum_rows(store.read_links())
    return {name: written(total) for name, total in sums.items()}


def written(total: int) -> str:
    """A checksum as text: 32 hexadecimal characters of a sum that `sum_rows` gave parts of."""
    return f"{total % (1 << 128):032x}"


def sum_rows(batch: pa.RecordBatch) -> int:
    """What the rows of a batch add to the checksum of their label or type."""
    columns = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in batch.columns]
    total = 0
    for row in zip(*(column.to_pylist() for column in columns), strict=True):
        total += int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=16).digest(), "big")
    return total


def _sum_rows(batches: Iterator[pa.RecordBatch]) -> int:
    return sum(map(sum_rows, batches))
