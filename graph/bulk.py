"""Bulk: a store as the files that Neo4j's own importer reads, and what is left to do once it has read them.

    <folder>/arguments       all options of `neo4j-admin database import full` but the database
             manifest.json   how much there is, and its checksum
             nodes/*.csv  relationships/*.csv
             rest/*.parquet  what the importer's format cannot say, in the store's own schemas

The importer makes a database offline, many times faster than transactions do, and knows no constraint: `finish` makes
them, writes the rest as always, and compares the checksum. What the graph then holds is what upserts would have
written. Memory does not grow with the store.
"""

import json
import re
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from graph.bulk_files import LONGEST, PARTED, ImporterTable, fits_a_file
from graph.errors import StoreError
from graph.keys import AccountKey, UserKey
from graph.neo4j_store import (
    ENTITY_PROPERTIES,
    EVENT_PROPERTIES,
    ITEM_PROPERTIES,
    RELATION_PROPERTIES,
    Neo4jStore,
    encoded,
)
from graph.records import Attributes, Link
from graph.schema import CORE_LABELS
from graph.store import Store, checksum, sum_rows, written
from graph.stored import in_utc, stored_event, stored_evidence, stored_key, stored_node, stored_relation

FORMAT: Final = 1
"""The version of this layout; a reader refuses any other."""

_PLAIN_PATH: Final = re.compile(r"[\w./@:+-]+")


@dataclass(frozen=True)
class Written:
    """What a folder holds for the importer."""

    store: str
    """Where it came from."""
    nodes: int
    relationships: int
    """What the importer makes of its files, with what no read of a store shows."""
    rest: int
    """Relationships that it cannot make."""
    labels: Sequence[str]
    event_types: Sequence[str]
    checksum: Mapping[str, str]
    """Of the whole store."""
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `write` put into a folder; raises StoreError if it did not, or not to its end."""
        manifest = folder / "manifest.json"
        try:
            found = json.loads(manifest.read_text())
            if found["format"] != FORMAT:
                raise ValueError(f"format {found['format']!r}, this program reads {FORMAT}")
            return cls(**found)
        except FileNotFoundError:
            raise StoreError(f"{folder} has no manifest.json: write it with isthmus bulk write") from None
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(f"{manifest} cannot be read ({error}): write it again with isthmus bulk write") from error


def check_empty(target: Neo4jStore) -> None:
    """Raise StoreError if the database holds anything: the importer would throw it away."""
    nodes, relationships = target.size()
    if nodes:
        raise StoreError(
            f"{target.url} holds {nodes:,} nodes and {relationships:,} relationships, and the importer fills empty "
            "databases alone: ingest into it as usual, or name an empty one"
        )


def write(source: Store, folder: Path, told: Callable[[str], None] = lambda what: None) -> Written:
    """Write all of a store into a folder, which must not exist; nothing should write to the store meanwhile.

    Args:
        told: is told which label or type is written next.

    Raises: StoreError if the folder exists, or its path has characters that the importer takes for a pattern.
    """
    folder = folder.absolute()
    if not _PLAIN_PATH.fullmatch(str(folder)):
        raise StoreError(f"the importer takes {str(folder)!r} for a pattern: name a folder of letters, digits and ._/-")
    if folder.exists():
        raise StoreError(f"{folder} is there already: isthmus bulk finish uses it up; remove it, or name another")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with _Writer(source, part, told) as writer:
        done = writer.all()
    if not done.nodes:
        raise StoreError(f"{source.url} holds nothing: fill it with isthmus ingest first")
    arguments = [f"--{argument.replace(str(part), str(folder), 1)}" for argument in writer.arguments]
    (part / "arguments").write_text("".join(f"{line}\n" for line in arguments))
    (part / "manifest.json").write_text(json.dumps(asdict(done), indent=1) + "\n")
    part.rename(folder)
    return done


def finish(folder: Path, target: Neo4jStore, told: Callable[[str], None] = lambda what: None) -> Written:
    """Make a graph of what the importer made of a folder; compares checksums and then removes the folder.

    What was done of it before is not done again. Nothing should write to the target meanwhile.

    Raises: StoreError if the target does not hold what the folder does.
    """
    done = Written.read(folder)
    nodes, relationships = target.size()
    if nodes != done.nodes or not done.relationships <= relationships <= done.relationships + done.rest:
        raise StoreError(
            f"{target.url} holds {nodes:,} nodes and {relationships:,} relationships, {folder} {done.nodes:,} and "
            f"{done.relationships:,}: let neo4j-admin import them into an empty database first (isthmus bulk --help)"
        )
    told("constraints and indexes")
    target.prepare(done.labels, done.event_types)
    told("what the importer's files cannot hold")
    for file in sorted((folder / "rest").glob("*.parquet")):
        kind, _, name = file.stem.partition("-")
        for batch in pq.ParquetFile(file).iter_batches():
            _write_rest(target, kind, name, batch.to_pylist())
    told("checksum")
    found = checksum(target)
    if found != done.checksum:
        names = sorted(name for name, _ in found.items() ^ done.checksum.items())
        raise StoreError(
            f"{target.url} differs from {done.store} in {', '.join(dict.fromkeys(names))}: empty it, and if nothing "
            "else wrote to either, report it; isthmus ingest fills it as usual"
        )
    shutil.rmtree(folder)
    return done


def _write_rest(target: Neo4jStore, kind: str, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    if kind == "nodes":
        target.upsert_nodes(stored_node(name, row) for row in rows)
    elif kind == "events":
        target.upsert_edges(stored_event(name, row) for row in rows)
    else:
        ends = ("source_label", "source", "target_label", "target")
        target.upsert_edges(
            stored_relation(name, [row[end] for end in ends], json.loads(row["properties"])) for row in rows
        )


class _Writer(ExitStack):
    """Streams a store into files."""

    def __init__(self, source: Store, folder: Path, told: Callable[[str], None]) -> None:
        super().__init__()
        self._source = source
        self._folder = folder
        self._told = told
        self._tables: dict[str, ImporterTable] = {}
        self._rest: dict[str, pq.ParquetWriter] = {}
        self._sums: dict[str, int] = defaultdict(int)
        self._rest_rows = 0
        for name in ("nodes", "relationships", "rest"):
            (folder / name).mkdir(parents=True)
        self._identities = self.enter_context(closing(sqlite3.connect(folder / "identities.db")))
        self._identities.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
        self._identities.execute("CREATE TABLE identities (pseudonym TEXT PRIMARY KEY) WITHOUT ROWID")

    @property
    def arguments(self) -> Sequence[str]:
        """For the importer, without the dashes before them; nodes come first, since the last list would go on."""
        tables = self._tables.values()
        many = any(table.has_lines for table in tables)
        return [
            *(f"{table.kind}={table.name}={file}" for table in tables for file in table.files if table.kind == "nodes"),
            *(f"{table.kind}={table.name}={file}" for table in tables for file in table.files if table.kind != "nodes"),
            "delimiter=,",
            f"array-delimiter=U+{ord(PARTED):04X}",
            f"multiline-fields={str(many).lower()}",
            "strict=true",
        ]

    def all(self) -> Written:
        """Everything; edges before nodes, so that what an edge joins is written too."""
        source = self._source
        event_types = source.event_types()
        for type in event_types:
            self._told(type)
            for batch in source.read_events(type):
                self._events(type, batch)
        for type in source.relation_types():
            self._told(type)
            for batch in source.read_relations(type):
                self._relations(type, batch)
        self._told("OF")
        for batch in source.read_links():
            self._links(batch)
        self._told("EVIDENCE")
        for revoked in (False, True):
            for batch in source.read_evidence(revoked=revoked):
                self._evidence(batch, revoked)
        self._own("Identity", "pseudonym", (key for (key,) in self._identities.execute("SELECT * FROM identities")))
        self._own("Tombstone", "hash", source.tombstones())
        labels = source.labels()
        for label in labels:
            self._told(label)
            for batch in source.read_nodes(label):
                self._nodes(label, batch)
        self.close()
        (self._folder / "identities.db").unlink()
        self._sums["OF"] += 0
        rows: dict[str, int] = defaultdict(int)
        for table in self._tables.values():
            rows[table.kind] += table.rows
        sums = {name: written(total) for name, total in self._sums.items()}
        return Written(source.url, rows["nodes"], rows["relationships"], self._rest_rows, labels, event_types, sums)

    def _events(self, type: str, batch: pa.RecordBatch) -> None:
        self._sums[type] += sum_rows(batch)
        fits, context = self._attributes(f"events-{type}", batch, "context", EVENT_PROPERTIES)
        columns = {
            ":START_ID(Account)": fits["account"],
            ":END_ID(Item)": fits["item"],
            "event_id:string": fits["event_id"],
            "at:datetime": _written_instants(fits["at"]),
            "sequence:long": fits["sequence"],
            "value:double": fits["value"],
            "weight:double": fits["weight"],
        }
        self._table("relationships", type).write(columns, context)

    def _relations(self, type: str, batch: pa.RecordBatch) -> None:
        self._sums[type] += sum_rows(batch)
        fits, properties = self._attributes(f"relations-{type}", batch, "properties", RELATION_PROPERTIES)
        joined = defaultdict(list)
        for row, ends in enumerate(
            zip(fits["source_label"].to_pylist(), fits["target_label"].to_pylist(), strict=True)
        ):
            joined[ends].append(row)
        for (source, target), rows in joined.items():
            columns = {
                f":START_ID({source})": fits["source"].take(pa.array(rows)),
                f":END_ID({target})": fits["target"].take(pa.array(rows)),
            }
            own = None if properties is None else [properties[row] for row in rows]
            self._table("relationships", type, f"{source}-{target}").write(columns, own)

    def _links(self, batch: pa.RecordBatch) -> None:
        self._sums["OF"] += sum_rows(batch)
        now = [
            Link(stored_key(AccountKey, account), stored_key(UserKey, user), evidence, in_utc(at))
            for account, user, evidence, at in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        ]
        stated = {link.account: link for link in self._source.stated_of([link.account for link in now])}
        differs = [None if stated[link.account] == link else stated[link.account] for link in now]
        instants = pa.array([link and link.at for link in differs], pa.timestamp("us", "UTC"))
        self._accounts(
            batch["account"],
            {
                "stated_user:string": pa.array([link and str(link.user) for link in differs], pa.string()),
                "stated_evidence:string": pa.array([link and link.evidence for link in differs], pa.string()),
                "stated_at:datetime": _written_instants(instants),
            },
        )
        columns = {
            ":START_ID(Account)": batch["account"],
            ":END_ID(User)": batch["user"],
            "evidence:string": batch["evidence"],
            "at:datetime": _written_instants(batch["at"]),
        }
        self._table("relationships", "OF").write(columns)

    def _accounts(self, keys: pa.Array, stated: Mapping[str, pa.Array]) -> None:
        platform = pc.list_element(pc.split_pattern(keys, ":", max_splits=2), 1)
        self._table("nodes", "Account", "linked" if stated else "").write(
            {"key:ID(Account)": keys, "platform:string": platform, **stated}
        )

    def _evidence(self, batch: pa.RecordBatch, revoked: bool) -> None:
        if not revoked:
            self._sums["EVIDENCE"] += sum_rows(batch)
        rows = [*zip(*(batch[name].to_pylist() for name in ("account", "other", "source", "at")), strict=True)]
        said = [stored_evidence(account, other, source, in_utc(at)) for account, other, source, at in rows]
        others = [(one.other,) for one in said if not one.is_statement]
        self._identities.executemany("INSERT OR IGNORE INTO identities VALUES (?)", others)
        ids = pa.array([one.id for one in said])
        statements = pa.array([one.is_statement for one in said])
        for label, own in (("Account", statements), ("Identity", pc.invert(statements))):
            mine = batch.filter(own)
            columns = {
                ":START_ID(Account)": mine["account"],
                f":END_ID({label})": mine["other"],
                "id:string": ids.filter(own),
                "source:string": mine["source"],
                "at:datetime": _written_instants(mine["at"]),
                "revoked:boolean": pa.array([True if revoked else None] * len(mine), pa.bool_()),
                "left_out:string": pa.nulls(len(mine), pa.string()) if revoked else mine["left_out"],
            }
            if len(mine):
                self._table("relationships", "EVIDENCE", label).write(columns)

    def _own(self, label: str, name: str, keys: Iterable[str]) -> None:
        for batch in _batched(keys):
            self._table("nodes", label).write({f"{name}:ID({label})": pa.array(batch)})

    def _nodes(self, label: str, batch: pa.RecordBatch) -> None:
        self._sums[label] += sum_rows(batch)
        if label == "Account":
            linked = {str(link.account) for link in self._source.stated_of(_account_keys(batch["key"]))}
            bare = [key for key in batch["key"].to_pylist() if key not in linked]
            if bare:
                self._accounts(pa.array(bare), {})
            return
        key = {f"key:ID({label})": batch["key"]}
        if label in CORE_LABELS and label != "Item":
            self._table("nodes", label).write(key)
            return
        reserved = ITEM_PROPERTIES if label == "Item" else ENTITY_PROPERTIES
        fits, attributes = self._attributes(f"nodes-{label}", batch, "attributes", reserved)
        said = {name: fits[name] for name in ("platform", "title", "text", "url", "name") if name in fits.schema.names}
        columns = key | {f"{name}:string": column for name, column in said.items()}
        if label == "Item":
            columns["created_at:datetime"] = _written_instants(fits["created_at"])
            on = {":START_ID(Item)": fits["key"], ":END_ID(Platform)": fits["platform"]}
            self._table("relationships", "ON").write(on)
        self._table("nodes", label).write(columns, attributes)

    def _attributes(
        self, rest: str, batch: pa.RecordBatch, column: str, reserved: frozenset[str]
    ) -> tuple[pa.RecordBatch, list[Attributes] | None]:
        """What of a batch files can say, and its attributes; None where no row has any. The rest goes to the rest.

        A node stays, without the values that do not fit; an edge with such a value goes as a whole.
        """
        long = {
            name: pc.fill_null(pc.greater(pc.utf8_length(batch[name]), LONGEST), False)
            for name in ("title", "text", "url", "name")
            if name in batch.schema.names
        }
        unfit = {row for over in long.values() for row in pc.indices_nonzero(over).to_pylist()}
        attributes: list[Attributes] | None = None
        if pc.any(pc.not_equal(batch[column], "{}")).as_py():
            attributes = [encoded(orjson.loads(text), reserved) for text in batch[column].to_pylist()]
            unfit |= {row for row, own in enumerate(attributes) if not all(map(fits_a_file, own, own.values()))}
        if not unfit:
            return batch, attributes
        rows = sorted(unfit)
        self._keep(rest, batch.take(pa.array(rows)))
        if not rest.startswith("nodes-"):
            self._rest_rows += len(rows)
            left = [row for row in range(len(batch)) if row not in unfit]
            return batch.take(pa.array(left, pa.int64())), attributes and [attributes[row] for row in left]
        for name, over in long.items():
            place = batch.schema.get_field_index(name)
            field = batch.schema.field(place).with_nullable(True)
            batch = batch.set_column(place, field, pc.if_else(over, None, batch[name]))
        return batch, attributes and [
            {name: value for name, value in own.items() if fits_a_file(name, value)} for own in attributes
        ]

    def _keep(self, name: str, batch: pa.RecordBatch) -> None:
        if name not in self._rest:
            self._rest[name] = self.enter_context(
                pq.ParquetWriter(self._folder / "rest" / f"{name}.parquet", batch.schema)
            )
        self._rest[name].write_batch(batch)

    def _table(self, kind: str, name: str, part: str = "") -> "ImporterTable":
        id = "-".join(filter(None, (name, part)))
        if (table := self._tables.get(f"{kind}/{id}")) is None:
            table = self._tables[f"{kind}/{id}"] = self.enter_context(ImporterTable(self._folder, kind, name, id))
        return table


def _written_instants(column: pa.Array) -> pa.Array:
    """As ISO 8601, which pc.strftime would do twenty times slower."""
    text = pc.replace_substring(column.cast(pa.timestamp("us")).cast(pa.string()), " ", "T")
    return pc.binary_join_element_wise(text, "Z", "")


def _account_keys(column: pa.Array) -> list[AccountKey]:
    return [stored_key(AccountKey, key) for key in column.to_pylist()]


def _batched(keys: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for key in keys:
        batch.append(key)
        if len(batch) == 10_000:
            yield batch
            batch = []
    if batch:
        yield batch
