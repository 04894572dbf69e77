"""What a snapshot holds, what a cut leaves out, and what a damaged one says."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import graph.snapshot
from graph.errors import SnapshotError
from graph.keys import AccountKey, EntityKey, ItemKey, PlatformKey, UserKey
from graph.records import Account, Entity, Event, Item, Link, Platform, Relation
from graph.schema import EVENT_SCHEMA, ITEM_SCHEMA, LINK_SCHEMA, RELATION_SCHEMA
from graph.snapshot import Snapshot, read_snapshot, without_platform, write_snapshot
from graph.store import Store, open_store
from tests.planted import COLD_FROM, FIRST_EVENT, people, person, planted_records

FILM = ItemKey("films", "1")
ALICE = AccountKey("films", "alice")


def day(number: float) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)


def event(number: int, at: datetime, *, account: AccountKey = ALICE, item: ItemKey = FILM, **rest: object) -> Event:
    return Event(f"event-{number}", "RATED", account, item, at, **rest)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path):
    with open_store(f"sqlite:///{tmp_path / 'small.db'}") as store:
        store.ensure_schema()
        store.upsert_nodes([Platform(PlatformKey("films")), Item(FILM), Account(ALICE)])
        yield store


def files(snapshot: Snapshot) -> dict[str, bytes]:
    return {str(file.relative_to(snapshot.path)): file.read_bytes() for file in snapshot.path.rglob("*.parquet")}


def test_a_snapshot_holds_every_row_of_the_store_sorted(planted_store: Store, tmp_path: Path):
    snapshot = write_snapshot(planted_store, tmp_path / "snapshots")
    assert snapshot.counts == planted_store.counts()
    assert snapshot.items.schema == ITEM_SCHEMA
    assert snapshot.events.schema.names == [*EVENT_SCHEMA.names, "type"]
    assert snapshot.links.schema == LINK_SCHEMA
    assert sorted(snapshot.entities) == ["Category", "Creator"]
    assert sorted(snapshot.relations) == ["BY", "FOLLOWS", "IN_CATEGORY", "SAME_WORK"]
    for type, table in snapshot.relations.items():
        assert table.schema == RELATION_SCHEMA
        stored = pa.Table.from_batches(planted_store.read_relations(type), schema=RELATION_SCHEMA).to_pylist()
        assert table.to_pylist() == sorted(stored, key=lambda row: (row["source"], row["target"]))
    stored = pa.Table.from_batches(planted_store.read_nodes("Item"), schema=ITEM_SCHEMA).to_pylist()
    assert snapshot.items.to_pylist() == sorted(stored, key=lambda row: row["key"])
    events = [
        row for type in snapshot.event_types for batch in planted_store.read_events(type) for row in batch.to_pylist()
    ]
    assert sorted(snapshot.events.drop_columns("type").to_pylist(), key=lambda row: row["event_id"]) == sorted(
        events, key=lambda row: row["event_id"]
    )


def test_the_same_content_written_in_another_order_is_the_same_snapshot_byte_for_byte(
    planted_store: Store, tmp_path: Path
):
    nodes, links, edges = planted_records()
    with open_store(f"sqlite:///{tmp_path / 'backwards.db'}") as backwards:
        backwards.ensure_schema()
        backwards.upsert_nodes(nodes[::-1])
        backwards.link(links[::-1])
        backwards.upsert_edges(edges[::-1])
        second = write_snapshot(backwards, tmp_path / "second")
    first = write_snapshot(planted_store, tmp_path / "first")
    assert first.id == second.id == first.path.name
    assert files(first) == files(second)


def test_unchanged_data_reuse_the_snapshot_that_is_there(planted_store: Store, tmp_path: Path):
    first = write_snapshot(planted_store, tmp_path)
    inode = first.path.stat().st_ino
    assert write_snapshot(planted_store, tmp_path).path == first.path
    assert first.path.stat().st_ino == inode


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.upsert_nodes([Item(FILM, title="A new title")]),
        lambda store: store.upsert_edges([event(2, day(1))]),
        lambda store: store.link([Link(ALICE, UserKey("alice"), "identity-table")]),
    ],
    ids=["title", "event", "link"],
)
def test_any_change_is_another_snapshot(store: Store, tmp_path: Path, change: Callable[[Store], object]):
    store.upsert_edges([event(1, day(0))])
    before = write_snapshot(store, tmp_path)
    change(store)
    assert write_snapshot(store, tmp_path).id != before.id


def test_another_cut_is_another_snapshot_even_of_the_same_rows(store: Store, tmp_path: Path):
    ids = {write_snapshot(store, tmp_path, cut=cut).id for cut in (None, day(1), day(2))}
    assert len(ids) == 3


def test_only_events_strictly_before_the_cut_enter(store: Store, tmp_path: Path):
    cut = day(3)
    microsecond = timedelta(microseconds=1)
    store.upsert_edges([event(1, cut - microsecond), event(2, cut), event(3, cut + microsecond)])
    snapshot = write_snapshot(store, tmp_path, cut=cut)
    assert snapshot.cut == cut
    assert snapshot.events["event_id"].to_pylist() == ["event-1"]


def test_an_item_that_came_after_the_cut_is_left_out_with_its_relations_unless_an_event_shows_it_was_there(
    store: Store, tmp_path: Path
):
    drama = EntityKey("category", "Drama")
    later, doubtful, undated = (ItemKey("films", name) for name in ("later", "doubtful", "undated"))
    store.upsert_nodes([Item(later, created_at=day(5)), Item(doubtful, created_at=day(5)), Item(undated)])
    store.upsert_nodes([Entity(drama, "Drama")])
    store.upsert_edges([Relation("IN_CATEGORY", item, drama) for item in (later, doubtful, undated)])
    store.upsert_edges(
        [Relation("SAME_WORK", FILM, later), event(1, day(1), item=doubtful), event(2, day(6), item=later)]
    )
    snapshot = write_snapshot(store, tmp_path, cut=day(5))
    assert snapshot.items["key"].to_pylist() == ["films:1", "films:doubtful", "films:undated"]
    assert snapshot.relations["IN_CATEGORY"]["source"].to_pylist() == ["films:doubtful", "films:undated"]
    assert "SAME_WORK" not in snapshot.relations


def test_the_planted_cold_items_are_not_known_before_they_came(planted_store: Store, tmp_path: Path):
    before = write_snapshot(planted_store, tmp_path, cut=COLD_FROM)
    assert len(before.items) == 63
    assert len(before.events) == planted_events()
    assert not any(key.endswith("-7") for table in before.relations.values() for key in table["source"].to_pylist())


def planted_events() -> int:
    return sum(isinstance(edge, Event) for edge in planted_records().edges)


def test_a_link_found_after_the_cut_joins_nobody_yet(store: Store, tmp_path: Path):
    other = AccountKey("films", "bob")
    store.upsert_nodes([Account(other)])
    store.link([Link(ALICE, UserKey("one"), "mail", day(1)), Link(other, UserKey("one"), "mail", day(4))])
    store.upsert_edges([event(1, day(0)), event(2, day(0), account=other)])
    assert list(write_snapshot(store, tmp_path).interactions().users) == ["user:one"]
    assert list(write_snapshot(store, tmp_path, cut=day(4)).interactions().users) == ["user:bob", "user:one"]


def test_what_a_model_learned_never_enters(planted_store: Store, tmp_path: Path):
    before = write_snapshot(planted_store, tmp_path)
    planted_store.upsert_edges(
        [Relation("LEADS_TO", ItemKey("books", "space-0"), ItemKey("films", "space-1"), {"weight": 0.5})]
    )
    assert write_snapshot(planted_store, tmp_path).id == before.id


@pytest.mark.parametrize("cut", [datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2)))])  # noqa: DTZ001
def test_a_cut_that_is_not_in_utc_is_refused(planted_store: Store, tmp_path: Path, cut: datetime):
    with pytest.raises(SnapshotError, match="give an aware instant in UTC"):
        write_snapshot(planted_store, tmp_path, cut=cut)


def test_a_snapshot_that_was_read_is_the_one_that_was_written(planted_store: Store, tmp_path: Path):
    written = write_snapshot(planted_store, tmp_path, cut=day(4))
    read = read_snapshot(written.path)
    assert read == written
    assert read.events.equals(written.events)


def test_an_empty_store_gives_an_empty_snapshot(tmp_path: Path):
    with open_store(f"sqlite:///{tmp_path / 'empty.db'}") as store:
        store.ensure_schema()
        snapshot = write_snapshot(store, tmp_path, cut=day(1))
    interactions = snapshot.interactions()
    assert (len(interactions), len(interactions.users), len(interactions.items)) == (0, 0, 0)
    assert interactions.event_types == ()
    assert interactions.offsets.tolist() == [0]


def test_the_manifest_tells_no_password(planted_store: Store, tmp_path: Path):
    class Behind:
        url = "neo4j://reader:hunter2@graph.example:7687/neo4j"

        def __getattr__(self, name: str) -> object:
            return getattr(planted_store, name)

    snapshot = write_snapshot(Behind(), tmp_path)  # type: ignore[arg-type]
    text = (snapshot.path / "manifest.json").read_text()
    assert "hunter2" not in text
    assert json.loads(text)["store"] == "neo4j://reader:…@graph.example:7687/neo4j"


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: flip_a_byte(path / "nodes" / "Item.parquet"), r"nodes/Item\.parquet is damaged \(sha256"),
        (lambda path: (path / "links.parquet").unlink(), r"links\.parquet is missing"),
        (lambda path: (path / "manifest.json").unlink(), r"is not a snapshot \(no manifest\.json\)"),
        (lambda path: (path / "manifest.json").write_text("{"), r"manifest\.json cannot be read"),
        (lambda path: (path / "manifest.json").write_text("[]"), r"manifest\.json cannot be read"),
        (lambda path: edit(path / "manifest.json", format=99), r"manifest\.json has format 99, this program reads 1"),
        (lambda path: edit(path / "manifest.json", cut="2024-01-01T00:00:00+00:00"), r"does not match its id"),
        (lambda path: edit(path / "manifest.json", files=None), r"does not describe a snapshot"),
    ],
)
def test_a_damaged_snapshot_names_the_file_and_the_remedy(
    planted_store: Store, tmp_path: Path, damage: Callable[[Path], object], message: str
):
    path = write_snapshot(planted_store, tmp_path).path
    damage(path)
    with pytest.raises(SnapshotError, match=message) as error:
        read_snapshot(path)
    assert str(path) in str(error.value)
    assert "isthmus train" in str(error.value)


def test_a_damaged_snapshot_is_replaced_when_it_is_written_again(planted_store: Store, tmp_path: Path):
    path = write_snapshot(planted_store, tmp_path).path
    flip_a_byte(path / "links.parquet")
    assert len(write_snapshot(planted_store, tmp_path).links) == 85
    assert [child.name for child in tmp_path.iterdir() if child.is_dir()] == [path.name]


def test_a_folder_that_cannot_be_written_is_named(planted_store: Store, tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SnapshotError, match=r"cannot write a snapshot into .*/file/snapshots"):
        write_snapshot(planted_store, tmp_path / "file" / "snapshots")


def test_a_write_that_fails_half_way_leaves_nothing(
    planted_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full_disk(name: str) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(planted_store, "read_nodes", full_disk)
    with pytest.raises(SnapshotError, match="No space left on device; free its disk"):
        write_snapshot(planted_store, tmp_path / "snapshots")
    assert list((tmp_path / "snapshots").iterdir()) == []


def _write_and_die(url: str, directory: Path) -> None:
    graph.snapshot._id = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    with open_store(url) as store:
        write_snapshot(store, directory)


def test_a_write_that_is_killed_leaves_no_snapshot_and_does_not_disturb_the_next(planted_store: Store, tmp_path: Path):
    directory = tmp_path / "snapshots"
    process = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(planted_store.url, directory))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert all(child.name.startswith(".writing-") for child in directory.iterdir())
    assert write_snapshot(planted_store, directory).counts == planted_store.counts()


def test_interactions_are_each_persons_walk_in_order(planted_snapshot: Snapshot):
    interactions = planted_snapshot.interactions(["PURCHASED", "RATED", "PLAYED"])
    assert interactions.event_types == ("PLAYED", "PURCHASED", "RATED")
    assert interactions.platforms == ("books", "films", "music")
    assert list(interactions.users) == sorted(interactions.users)
    assert list(interactions.items) == planted_snapshot.items["key"].to_pylist()
    for each in people():
        history = interactions.histories(np.array([interactions.users.row(each.user)]))
        walks = [each.walked(platform) for platform in each.platforms]
        # the platforms take turns, but for the last two steps, which are of one instant on each platform
        turns = [walk[step] for step in range(each.steps - 2) for walk in walks]
        turns += [walk[step] for walk in walks for step in range(each.steps - 2, each.steps)]
        assert [interactions.items.keys[item] for item in history.item] == turns


def test_interactions_carry_time_weight_value_and_platform(planted_snapshot: Snapshot):
    interactions = planted_snapshot.interactions()
    one = person("space-0")
    mine = interactions.where(interactions.user == interactions.users.row(one.user))
    types = [interactions.event_types[type] for type in mine.type[:3]]
    # on 1 January the book is viewed at 23:55 the day before and bought at 00:00, the film viewed at 00:55
    assert types == ["VIEWED", "PURCHASED", "VIEWED"]
    assert mine.at[:3].tolist() == [int(FIRST_EVENT.timestamp()) + seconds for seconds in (-300, 0, 3300)]
    assert mine.weight[:3].tolist() == pytest.approx([0.2, 1.0, 0.2])
    assert np.isnan(mine.value[:3]).all()
    rated = mine.where(mine.type == interactions.event_types.index("RATED"))
    assert rated.value.tolist() == [4, 5, 4, 5, 4]
    assert rated.platform.tolist() == [1] * 5
    assert (mine.weight < 0).sum() == 1


def test_events_of_one_instant_are_ordered_by_sequence_none_first_then_by_id(store: Store, tmp_path: Path):
    told = [(1, 2), (2, 1), (3, None), (5, 1), (4, 1)]
    items = {number: ItemKey("films", f"item-{number}") for number, _ in told}
    store.upsert_nodes([Item(item) for item in items.values()])
    store.upsert_edges([event(number, day(1), item=items[number], sequence=order) for number, order in told])
    interactions = write_snapshot(store, tmp_path).interactions()
    assert [interactions.items.keys[item][-1] for item in interactions.item] == ["3", "2", "4", "5", "1"]


def test_events_of_one_instant_on_two_accounts_are_ordered_by_id(store: Store, tmp_path: Path):
    second = AccountKey("books", "alice")
    store.upsert_nodes([Account(second), Item(ItemKey("films", "2"))])
    store.link([Link(account, UserKey("one"), "mail") for account in (ALICE, second)])
    store.upsert_edges([event(1, day(1)), event(2, day(1), account=second, item=ItemKey("films", "2"))])
    interactions = write_snapshot(store, tmp_path).interactions()
    assert [interactions.items.keys[item] for item in interactions.item] == ["films:1", "films:2"]


def test_instants_before_1970_are_rounded_down(store: Store, tmp_path: Path):
    store.upsert_edges([event(1, datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=UTC))])
    assert write_snapshot(store, tmp_path).interactions().at.tolist() == [-2]


def test_accounts_that_nothing_joins_are_people_of_their_own(planted_snapshot: Snapshot):
    interactions = planted_snapshot.interactions()
    assert "user:stray" in interactions.users
    assert len(interactions.users) == 36 + 3 + 1


def test_all_items_are_there_to_be_recommended_but_only_people_with_an_event(planted_snapshot: Snapshot):
    rated = planted_snapshot.interactions(["RATED"])
    assert len(rated.items) == 72
    assert len(rated.users) == sum("films" in each.platforms for each in people())
    assert len(planted_snapshot.interactions([])) == 0


def test_an_event_type_that_is_not_there_is_named_beside_those_that_are(planted_snapshot: Snapshot):
    with pytest.raises(SnapshotError, match="no events of type 'STREAMED': choose from DISLIKED, PLAYED, PURCHASED"):
        planted_snapshot.interactions(["RATED", "STREAMED"])


def test_an_event_whose_item_is_missing_is_named(store: Store, tmp_path: Path):
    store.upsert_edges([event(1, day(1))])
    snapshot = write_snapshot(store, tmp_path)
    snapshot.__dict__["items"] = snapshot.items.slice(0, 0)
    with pytest.raises(SnapshotError, match="'films:1' but no such item"):
        snapshot.interactions()


def test_without_a_platform_nothing_of_it_is_left_and_all_else_is_as_it_was(planted_snapshot: Snapshot, tmp_path: Path):
    left = without_platform(planted_snapshot, "music", tmp_path)
    assert read_snapshot(left.path).id == left.id != planted_snapshot.id
    for keys in (left.items["key"], left.nodes("Account")["key"], left.events["item"], left.events["account"]):
        assert not any(key.startswith("music:") for key in keys.to_pylist())
    for table in left.relations.values():
        ends = table["source"].to_pylist() + table["target"].to_pylist()
        assert not any(end.startswith("music:") for end in ends)
    assert not any(key.startswith("music:") for key in left.links["account"].to_pylist())
    before, after = planted_snapshot.interactions(), left.interactions()
    kept = before.where(before.platform != before.platforms.index("music"))
    assert after.platforms == ("books", "films")
    assert [after.items.keys[row] for row in after.item] == [before.items.keys[row] for row in kept.item]
    assert [after.users.keys[row] for row in after.user] == [before.users.keys[row] for row in kept.user]
    np.testing.assert_array_equal(after.at, kept.at)
    assert "PLAYED" not in left.event_types
    assert sorted(left.relations) == sorted(planted_snapshot.relations)


def test_without_a_platform_that_is_none_is_refused(planted_snapshot: Snapshot, tmp_path: Path):
    with pytest.raises(SnapshotError, match="no items of 'radio'"):
        without_platform(planted_snapshot, "radio", tmp_path)
