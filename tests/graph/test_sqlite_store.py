"""The embedded store's own promises: what a file may be, what goes wrong with disks, what erasing leaves."""

import multiprocessing
import os
import resource
import signal
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from graph.errors import IsthmusError, StoreError, StoreUnavailableError, StoreUrlError
from graph.keys import AccountKey, ItemKey, lone_user
from graph.records import LONE, Account, Event, Item, Link
from graph.sqlite_store import SqliteStore
from graph.store import WriteCounts, checksum

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

ANN = AccountKey("films", "4nn-4nn-4nn")
HEAT = ItemKey("films", "heat")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def fill(store: SqliteStore) -> None:
    store.upsert_nodes([Account(ANN), Item(HEAT, title="Heat")])
    store.link([Link(ANN, lone_user(ANN), LONE)])
    store.upsert_edges([Event("1", "RATED", ANN, HEAT, NOON, context={"note": "s3cret note"})])


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("notes " * 1000)
    with pytest.raises(StoreUrlError, match=r"notes\.txt is not a SQLite file: give the store another path"):
        SqliteStore.open(f"sqlite:///{path}")
    assert path.read_text() == "notes " * 1000


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE events (id INTEGER)")
    other.close()
    with pytest.raises(StoreUrlError, match=r"other\.db is the database of another program"):
        SqliteStore.open(f"sqlite:///{path}")


def test_a_graph_of_a_newer_form_is_not_written_to(tmp_path: Path) -> None:
    SqliteStore.open(f"sqlite:///{tmp_path}/graph.db").close()
    newer = sqlite3.connect(tmp_path / "graph.db")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StoreError, match="is a graph of form 99, this program reads 2: update it"):
        SqliteStore.open(f"sqlite:///{tmp_path}/graph.db")


def test_a_folder_is_no_store_and_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError, match="cannot be opened: give a path to a file"):
        SqliteStore.open(f"sqlite:///{tmp_path}")
    with pytest.raises(StoreUnavailableError, match="cannot be made"):
        SqliteStore.open(f"sqlite:///{tmp_path}/file/graph.db")


def test_a_writer_that_waits_too_long_says_who_to_wait_for(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/graph.db"
    with SqliteStore.open(url, busy_timeout_s=0.05) as store:
        fill(store)
        other = sqlite3.connect(tmp_path / "graph.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match=r"was locked by another writer for 0\.05 s: let that one end"):
            store.upsert_nodes([Item(ItemKey("films", "up"))])
        assert store.counts().nodes["Item"] == 1
        other.execute("ROLLBACK")
        other.close()
        assert store.upsert_nodes([Item(ItemKey("films", "up"))]) == WriteCounts(1, 0)


def told_by_a_child(work: Callable[[], object]) -> str:
    """What an IsthmusError said in a forked process, where limits and users can change."""

    def run(end: Connection) -> None:
        try:
            work()
            end.send("no error")
        except IsthmusError as error:
            end.send(str(error))
        finally:
            os._exit(0)

    ours, theirs = multiprocessing.get_context("fork").Pipe()
    child = os.fork()
    if child == 0:
        run(theirs)
    theirs.close()
    try:
        return str(ours.recv())
    finally:
        ours.close()
        os.waitpid(child, 0)


def test_a_disk_without_room_loses_nothing_that_was_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/graph.db"
    with SqliteStore.open(url) as store:
        fill(store)

    def write_more_than_fits() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        with SqliteStore.open(url) as store:
            store.upsert_nodes(Item(ItemKey("films", f"n{n}"), text="x" * 500) for n in range(5_000))

    assert "free some disk and run this again; what was written before is kept" in told_by_a_child(write_more_than_fits)
    with SqliteStore.open(url) as store:
        assert store.counts().nodes == {"Account": 1, "Item": 1, "Platform": 1, "User": 1}
        assert [event.event_id for event in store.history(lone_user(ANN))] == ["1"]


def test_a_store_that_may_not_be_written_says_so() -> None:
    folder = Path(f"/tmp/isthmus-read-only-{os.getpid()}")  # noqa: S108  where another user can come
    folder.mkdir()
    try:
        with SqliteStore.open(f"sqlite:///{folder}/graph.db") as store:
            fill(store)
        (folder / "graph.db").chmod(0o444)
        folder.chmod(0o555)

        def write() -> None:
            if os.geteuid() == 0:
                os.setuid(65534)
            with SqliteStore.open(f"sqlite:///{folder}/graph.db") as store:
                store.upsert_nodes([Item(ItemKey("films", "up"))])

        said = told_by_a_child(write)
        assert "graph.db is read-only: make it and its folder writable" in said or "cannot be opened" in said
    finally:
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_nothing_of_an_erased_person_stays_in_the_files(tmp_path: Path) -> None:
    with SqliteStore.open(f"sqlite:///{tmp_path}/graph.db") as store:
        fill(store)
        traces = (ANN.digest.encode(), b"s3cret note")
        before = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert all(trace in before for trace in traces)
        store.erase(lone_user(ANN))
        after = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert not any(trace in after for trace in traces)
        assert b"Heat" in after


def test_several_threads_read_beside_one_that_writes(tmp_path: Path) -> None:
    with SqliteStore.open(f"sqlite:///{tmp_path}/graph.db") as store:
        fill(store)
        problems: list[BaseException] = []
        done = threading.Event()

        def read() -> None:
            try:
                while not done.is_set():
                    assert store.user_of(ANN) == lone_user(ANN)
                    assert len(store.history(lone_user(ANN))) % 100 == 1
            except BaseException as problem:
                problems.append(problem)

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        for call in range(10):
            store.upsert_edges(Event(f"{call}-{n}", "PLAYED", ANN, HEAT, NOON) for n in range(100))
        done.set()
        for reader in readers:
            reader.join()
        assert problems == []
        assert len(store.history(lone_user(ANN))) == 1_001


def test_who_was_erased_elsewhere_is_not_remembered(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/graph.db"
    with SqliteStore.open(url) as store, SqliteStore.open(url) as other:
        fill(store)
        other.erase(lone_user(ANN))
        with pytest.raises(StoreError, match="account:films:4nn-4nn-4nn"):
            store.upsert_edges([Event("2", "RATED", ANN, HEAT, NOON)])
        assert store.counts().edges.get("RATED", 0) == 0


def test_whom_this_connection_erased_is_not_remembered(tmp_path: Path) -> None:
    with SqliteStore.open(f"sqlite:///{tmp_path}/graph.db") as store:
        fill(store)
        store.erase(lone_user(ANN))
        with pytest.raises(StoreError, match="account:films:4nn-4nn-4nn"):
            store.upsert_edges([Event("2", "RATED", ANN, HEAT, NOON)])
        assert store.counts().edges.get("RATED", 0) == 0


def test_a_graph_of_the_form_before_gets_what_it_lacks_and_keeps_what_it_has(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/graph.db"
    with SqliteStore.open(url) as store:
        fill(store)
        before = checksum(store)
    old = sqlite3.connect(tmp_path / "graph.db")
    for table in ("evidence", "stated", "tombstones"):
        old.execute(f"DROP TABLE {table}")
    old.execute("PRAGMA user_version = 1")
    old.close()
    with SqliteStore.open(url) as store:
        assert checksum(store) == before
        assert store.erased([ANN]) == set()
        assert store.erase(lone_user(ANN)).events == 1


def test_nodes_of_a_transaction_that_was_rolled_back_are_not_remembered(tmp_path: Path) -> None:
    with SqliteStore.open(f"sqlite:///{tmp_path}/graph.db") as store:
        fill(store)
        bob = AccountKey("films", "b0b")

        def make_and_fail() -> None:
            with store._write() as connection:
                connection.execute("INSERT INTO nodes (label, key) VALUES ('Account', ?)", (str(bob),))
                assert connection.ids("Account", {bob})[bob]
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            make_and_fail()
        with pytest.raises(StoreError, match="b0b"):
            store.upsert_edges([Event("2", "RATED", bob, HEAT, NOON)])
