"""Snapshot: what a store held up to an instant, as Parquet files that never change, with a manifest that proves it.

    <directory>/<id>/manifest.json          format, id, cut, store, rows and sha256 of each file
                     nodes/<Label>.parquet  events/<TYPE>.parquet  relations/<TYPE>.parquet  links.parquet

The id is a digest of cut and files, and rows are sorted, so a store that has not changed gives the snapshot that is
already there. Only what was known before the cut enters:

* events strictly before it;
* items, unless `created_at` says that they came later and no event contradicts that;
* relations between nodes that entered; the sources date none of them, so these are taken to hold always;
* links without a date or dated before it; an account without one is a person of its own.

LEADS_TO never enters: a model learned it from events, perhaps the very ones that the next model is tested on.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from graph.errors import SnapshotError
from graph.interactions import Interactions
from graph.keys import AccountKey, lone_user
from graph.preference import HIGH, LOW, NEUTRAL, preferences, scales, signs
from graph.schema import CORE_LABELS, EVENT_SCHEMA, LINK_SCHEMA, RELATION_SCHEMA, node_schema
from graph.store import Counts, Store, redact
from graph.vocabulary import Vocabulary

FORMAT: Final = 1
"""The version of this layout; a reader refuses any other."""

_LEARNED: Final = frozenset({"LEADS_TO"})
_FILE = re.compile(r"(nodes|events|relations)/[A-Za-z0-9_]+\.parquet|links\.parquet")


@dataclass(frozen=True)
class Snapshot:
    """A directory that was verified; tables are read when asked for and kept."""

    path: Path
    id: str
    cut: datetime | None
    """Nothing at or after this instant is inside; None when nothing was cut."""
    rows: Mapping[str, int]
    """Rows of each file, by its name inside the directory."""

    @cached_property
    def items(self) -> pa.Table:
        """ITEM_SCHEMA, sorted by key."""
        return self.nodes("Item")

    @cached_property
    def entities(self) -> dict[str, pa.Table]:
        """ENTITY_SCHEMA by label, each sorted by key."""
        return {label: self.nodes(label) for label in self._names("nodes") if label not in CORE_LABELS}

    @cached_property
    def links(self) -> pa.Table:
        """LINK_SCHEMA, sorted by account."""
        return self._read("links.parquet", LINK_SCHEMA)

    @cached_property
    def events(self) -> pa.Table:
        """EVENT_SCHEMA and the column "type", sorted by (type, account, at, sequence, event_id)."""
        schema = EVENT_SCHEMA.append(pa.field("type", pa.string(), nullable=False))
        tables = [schema.empty_table()]
        for type in self.event_types:
            table = self._read(f"events/{type}.parquet", EVENT_SCHEMA)
            tables.append(pa.table([*table.columns, pa.repeat(type, len(table))], schema=schema))
        return pa.concat_tables(tables)

    @cached_property
    def relations(self) -> dict[str, pa.Table]:
        """RELATION_SCHEMA by type, each sorted by (source, target)."""
        return {type: self._read(f"relations/{type}.parquet", RELATION_SCHEMA) for type in self._names("relations")}

    @property
    def event_types(self) -> Sequence[str]:
        """Sorted."""
        return self._names("events")

    @property
    def counts(self) -> Counts:
        """Nodes by label and relationships by type."""
        edges = {
            name: self.rows[f"{folder}/{name}.parquet"]
            for folder in ("events", "relations")
            for name in self._names(folder)
        }
        return Counts(
            {label: self.rows[f"nodes/{label}.parquet"] for label in self._names("nodes")},
            edges | {"OF": self.rows["links.parquet"]},
        )

    def nodes(self, label: str) -> pa.Table:
        """The nodes of a label, sorted by key; none when the store had none."""
        return self._read(f"nodes/{label}.parquet", node_schema(label))

    def interactions(self, event_types: Sequence[str] | None = None) -> Interactions:
        """The events of these types (default: all), each account's under its person, sorted as Interactions says.

        Users are those with such an event, items all that the snapshot has, each sorted by key.

        Raises: SnapshotError if the snapshot has no event of a type that was asked for.
        """
        import polars as pl

        types = sorted(set(self.event_types if event_types is None else event_types))
        for type in types:
            if type not in self.event_types:
                raise SnapshotError(
                    f"{self.path} has no events of type {type!r}: choose from {', '.join(self.event_types) or 'none'}"
                )
        items = self.items["key"].to_pylist()
        platforms = sorted(set(self.items["platform"].to_pylist()))
        platform_row = {platform: row for row, platform in enumerate(platforms)}
        scale = scales(self.events["context"])
        frame: Any = pl.from_arrow(self.events.drop_columns(["context"]))
        frame = frame.with_columns(*(pl.Series(name, values) for name, values in scale.items()))
        frame = frame.filter(pl.col("type").is_in(types))

        person = dict(zip(self.links["account"].to_pylist(), self.links["user"].to_pylist(), strict=True))
        accounts = frame["account"].unique().to_list()
        owners = [person.get(account) or str(lone_user(AccountKey.parse(account))) for account in accounts]
        users = Vocabulary(sorted(set(owners)))
        frame = (
            frame.join(_rows("account", accounts, "user_row", [users.row(owner) for owner in owners]), on="account")
            .join(_rows("item", items, "item_row", range(len(items))), on="item", how="left")
            .join(_rows("type", types, "type_row", range(len(types))), on="type")
            .sort(["user_row", "at", "sequence", "event_id"], nulls_last=False)
        )
        if frame["item_row"].null_count():
            lost = frame.filter(pl.col("item_row").is_null())["item"][0]
            raise SnapshotError(f"{self.path} has events with {lost!r} but no such item: write the snapshot again")
        if scale:
            frame = _relative(frame)
        return Interactions(
            user=frame["user_row"].to_numpy(writable=True),
            item=frame["item_row"].to_numpy(writable=True),
            type=frame["type_row"].to_numpy(writable=True),
            at=frame["at"].dt.epoch("us").to_numpy() // 1_000_000,
            value=frame["value"].cast(pl.Float32).fill_null(float("nan")).to_numpy(writable=True),
            weight=frame["weight"].cast(pl.Float32).to_numpy(writable=True),
            users=users,
            items=Vocabulary(items),
            event_types=tuple(types),
            platforms=tuple(platforms),
            item_platform=np.array([platform_row[name] for name in self.items["platform"].to_pylist()], np.int64),
        )

    def tied(self) -> float:
        """Share of the events behind another one of the same account that neither instant nor sequence part from it."""
        import polars as pl

        order = ["account", "at", "sequence"]
        events: Any = pl.from_arrow(self.events.select(order))
        after = events.sort(order).with_columns(
            follows=pl.col("account") == pl.col("account").shift(),
            tied=(pl.col("at") == pl.col("at").shift()) & pl.col("sequence").eq_missing(pl.col("sequence").shift()),
        )
        return float(after.filter("follows")["tied"].mean() or 0.0)

    def _names(self, folder: str) -> Sequence[str]:
        return sorted(Path(name).stem for name in self.rows if name.startswith(f"{folder}/"))

    def _read(self, name: str, schema: pa.Schema) -> pa.Table:
        return pq.read_table(self.path / name, schema=schema) if name in self.rows else schema.empty_table()


def write_snapshot(store: Store, directory: Path, *, cut: datetime | None = None) -> Snapshot:
    """Write what the store knew before the cut as `directory/<id>`, or return the snapshot that is there already.

    Files are written beside it and renamed in one step: a write that is killed leaves no snapshot, whole or half.

    Raises: SnapshotError if the cut is not an aware instant in UTC or the directory cannot be written.
    """
    if cut is not None and cut.tzinfo is not UTC:
        raise SnapshotError(f"the cut is {cut.isoformat()}: give an aware instant in UTC, such as 2024-01-31T00:00Z")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=directory) as scratch:
            return _write(_tables(store, cut), Path(scratch) / "snapshot", directory, cut, redact(store.url))
    except OSError as error:
        raise SnapshotError(
            f"cannot write a snapshot into {directory}: {error.strerror or error}; free its disk or give another folder"
        ) from error


def without_platform(snapshot: Snapshot, platform: str, directory: Path) -> Snapshot:
    """Write what a snapshot would be had a platform never joined, as `directory/<id>`.

    None of its items and accounts is in it, nor any event, link or relation of theirs. Entities belong to no platform
    and stay, those that nothing names any more too.

    Raises: SnapshotError if the snapshot has no item of that platform.
    """
    gone = pa.concat_tables(
        table.filter(pc.equal(table["platform"], platform)).select(["key"])
        for table in map(snapshot.nodes, ("Item", "Account"))
    )["key"]
    if platform not in snapshot.items["platform"].to_pylist():
        raise SnapshotError(f"{snapshot.path} has no items of {platform!r}: name one of its platforms")
    tables = {}
    for name in snapshot.rows:
        table = pq.read_table(snapshot.path / name)
        for column in {"key", "account", "item", "source", "target"} & set(table.column_names):
            table = table.filter(pc.invert(pc.is_in(table[column], value_set=gone)))
        if len(table) or not name.startswith(("events/", "relations/")):
            tables[name] = table.combine_chunks()
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=directory) as scratch:
        return _write(tables, Path(scratch) / "snapshot", directory, snapshot.cut, f"{snapshot.id} without {platform}")


def read_snapshot(path: Path) -> Snapshot:
    """Open a snapshot after comparing each file with the manifest.

    Raises: SnapshotError, naming the file, if it is missing, damaged, or of another format.
    """
    manifest_path = path / "manifest.json"
    try:
        manifest = json.loads(manifest_path.read_bytes())
        version = manifest["format"]
    except FileNotFoundError:
        raise SnapshotError(f"{path} is not a snapshot (no manifest.json): write one with isthmus train") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SnapshotError(f"{manifest_path} cannot be read ({error!r}): {_REMEDY}") from error
    if version != FORMAT:
        raise SnapshotError(f"{manifest_path} has format {version!r}, this program reads {FORMAT}: {_REMEDY}")
    try:
        files = {str(name): (int(entry["rows"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
        cut = None if manifest["cut"] is None else datetime.fromisoformat(manifest["cut"]).astimezone(UTC)
        id = str(manifest["id"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SnapshotError(f"{manifest_path} does not describe a snapshot ({error!r}): {_REMEDY}") from error
    if id != _id(cut, {name: sha256 for name, (_, sha256) in files.items()}):
        raise SnapshotError(f"{manifest_path} does not match its id {id!r}: {_REMEDY}")
    for name, (_, sha256) in files.items():
        if not _FILE.fullmatch(name):
            raise SnapshotError(f"{manifest_path} names {name!r}, which no snapshot holds: {_REMEDY}")
        file = path / name
        if not file.is_file():
            raise SnapshotError(f"{file} is missing: {_REMEDY}")
        if (found := _sha256(file)) != sha256:
            raise SnapshotError(f"{file} is damaged (sha256 {found[:12]}…, manifest {sha256[:12]}…): {_REMEDY}")
    return Snapshot(path, id, cut, {name: rows for name, (rows, _) in files.items()})


_REMEDY: Final = "delete the snapshot's folder and write it again with isthmus train"


def _tables(store: Store, cut: datetime | None) -> dict[str, pa.Table]:
    """Sorted tables by file name. Edges are read before nodes: what they join was in the store before them."""
    events = {type: _gather(store.read_events(type), EVENT_SCHEMA) for type in store.event_types()}
    relations = {
        type: _gather(store.read_relations(type), RELATION_SCHEMA)
        for type in store.relation_types()
        if type not in _LEARNED
    }
    links = _gather(store.read_links(), LINK_SCHEMA)
    nodes = {label: _gather(store.read_nodes(label), node_schema(label)) for label in store.labels()}
    if cut is not None:
        instant = pa.scalar(cut, pa.timestamp("us", tz="UTC"))
        events = {type: table.filter(pc.less(table["at"], instant)) for type, table in events.items()}
        links = links.filter(pc.or_kleene(pc.is_null(links["at"]), pc.less(links["at"], instant)))
        if "Item" in nodes:
            items = nodes["Item"]
            touched = pa.chunked_array(
                [chunk for table in events.values() for chunk in table["item"].chunks], pa.string()
            )
            later = pc.and_(
                pc.fill_null(pc.greater_equal(items["created_at"], instant), False),
                pc.invert(pc.is_in(items["key"], value_set=touched)),
            )
            nodes["Item"] = items.filter(pc.invert(later))
            unknown = items.filter(later)["key"]
            relations = {type: _without(table, unknown) for type, table in relations.items()}
    return {
        **{f"nodes/{label}.parquet": _sorted(table, ["key"]) for label, table in nodes.items()},
        **{
            f"events/{type}.parquet": _sorted(table, ["account", "at", "sequence", "event_id"])
            for type, table in events.items()
            if len(table)
        },
        **{
            f"relations/{type}.parquet": _sorted(
                table, ["source", "target", "source_label", "target_label", "properties"]
            )
            for type, table in relations.items()
            if len(table)
        },
        "links.parquet": _sorted(links, ["account"]),
    }


def _gather(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches(list(batches), schema=schema)


def _without(relations: pa.Table, items: pa.ChunkedArray) -> pa.Table:
    touches = pc.or_(pc.is_in(relations["source"], value_set=items), pc.is_in(relations["target"], value_set=items))
    return relations.filter(pc.invert(touches))


def _sorted(table: pa.Table, by: Sequence[str]) -> pa.Table:
    import polars as pl

    frame: Any = pl.from_arrow(table.select(by))
    return table.take(frame.select(pl.arg_sort_by(by, nulls_last=False)).to_series().to_arrow()).combine_chunks()


def _write(
    tables: Mapping[str, pa.Table], scratch: Path, directory: Path, cut: datetime | None, store_url: str
) -> Snapshot:
    checksums: dict[str, str] = {}
    for name, table in tables.items():
        file = scratch / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file, compression="zstd")
        checksums[name] = _sha256(file)
    id = _id(cut, checksums)
    manifest = {
        "format": FORMAT,
        "id": id,
        "cut": None if cut is None else cut.isoformat(),
        "store": store_url,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {name: {"rows": len(tables[name]), "sha256": checksums[name]} for name in sorted(tables)},
    }
    (scratch / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    path = directory / id
    if path.exists():
        try:
            return read_snapshot(path)
        except SnapshotError:
            shutil.rmtree(path)
    scratch.rename(path)
    return read_snapshot(path)


def _id(cut: datetime | None, checksums: Mapping[str, str]) -> str:
    text = json.dumps([FORMAT, None if cut is None else cut.isoformat(), sorted(checksums.items())])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _relative(frame: Any) -> Any:
    """Sorted events with what a value says beside the person's others, where its mapping says to read it so."""
    import polars as pl

    marked = (frame["value"].is_not_null() & frame[NEUTRAL].is_finite() & (frame[LOW] < frame[HIGH])).to_numpy()
    user = frame["user_row"].to_numpy()[marked]
    found = preferences(user, *(frame[name].to_numpy()[marked] for name in ("value", LOW, HIGH, NEUTRAL)))
    value, weight = (frame[name].fill_null(float("nan")).to_numpy(writable=True) for name in ("value", "weight"))
    value[marked] = found
    weight[marked] = np.abs(weight[marked]) * signs(found)
    return frame.with_columns(value=pl.Series(value), weight=pl.Series(weight))


def _rows(key: str, keys: Sequence[str], row: str, rows: Iterable[int]) -> Any:
    import polars as pl

    return pl.DataFrame({key: list(keys), row: list(rows)}, schema={key: pl.String, row: pl.Int64})
