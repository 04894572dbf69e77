import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from graph.errors import StoreError, StoreUnavailableError
from graph.keys import AccountKey, ItemKey, lone_user
from graph.records import LONE, Event
from graph.store import Store, open_store
from serve.drain import FIRST_WAIT_S, TRIES, Drainer, drain
from serve.errors import OutboxError
from serve.outbox import Login, Outbox

DAY = datetime(2024, 5, 1, tzinfo=UTC)
ACCOUNT = AccountKey("films", "0a1b")


def event(id: str, item: str = "films:crime-0", account: AccountKey = ACCOUNT, **fields) -> Event:
    return Event(id, fields.pop("type", "RATED"), account, ItemKey.parse(item), fields.pop("at", DAY), **fields)


class Unreachable:
    """A store that does not answer."""

    def __getattr__(self, name: str):
        raise StoreUnavailableError("no store here")


def test_an_event_comes_back_as_it_was(outbox: Outbox):
    sent = event("e-1", value=4.5, sequence=7, weight=-1.0, context={"device": "phone", "tags": ["a", "ü"], "n": 1})
    assert outbox.accept([sent]) == [True]
    assert outbox.pending() == [(1, sent)]


def test_an_event_sent_again_is_a_duplicate_in_one_request_and_across(outbox: Outbox):
    assert outbox.accept([event("e-1"), event("e-1"), event("e-2")]) == [True, False, True]
    assert outbox.accept([event("e-2"), event("e-3")]) == [False, True]
    assert [each.event_id for _, each in outbox.pending()] == ["e-1", "e-2", "e-3"]


def test_an_event_sent_again_after_the_store_has_it_is_a_duplicate(outbox: Outbox, planted_store: Store):
    outbox.accept([event("e-1")])
    assert drain(outbox, planted_store) == 1
    assert outbox.is_empty()
    assert outbox.accept([event("e-1")]) == [False]
    assert outbox.is_empty()


def test_an_acknowledged_event_is_there_for_another_process_at_once(outbox: Outbox):
    outbox.accept([event("e-1")])
    with Outbox(outbox.path) as other:
        assert [each.event_id for each in other.pending_of([ACCOUNT])] == ["e-1"]


def test_pending_events_are_found_by_account_and_by_digest(outbox: Outbox):
    other = AccountKey("books", "0a1b")
    outbox.accept([event("e-1"), event("e-2", account=other), event("e-3", account=AccountKey("films", "ffff"))])
    assert [each.event_id for each in outbox.pending_of([ACCOUNT])] == ["e-1"]
    assert [each.event_id for each in outbox.pending_of([], "0a1b")] == ["e-1", "e-2"]
    assert outbox.pending_of() == []


def test_draining_writes_account_lone_person_and_event(outbox: Outbox, planted_store: Store):
    outbox.accept([event("e-1"), event("e-2", "films:crime-1", at=DAY + timedelta(hours=1))])
    assert drain(outbox, planted_store) == 2
    assert planted_store.user_of(ACCOUNT) == lone_user(ACCOUNT)
    assert [each.event_id for each in planted_store.history(lone_user(ACCOUNT))] == ["e-1", "e-2"]
    links = [link for batch in planted_store.read_links() for link in batch.to_pylist() if link["account"] == ACCOUNT]
    assert [link["evidence"] for link in links] == [LONE]


def test_draining_the_same_events_twice_changes_nothing(outbox: Outbox, planted_store: Store):
    events = [event("e-1"), event("e-2", "films:crime-1")]
    outbox.accept(events)
    drain(outbox, planted_store)
    before = planted_store.counts()
    with Outbox(outbox.path.with_name("second.db")) as second:
        second.accept(events)
        assert drain(second, planted_store) == 2
    assert planted_store.counts() == before


def test_an_item_that_the_store_lost_comes_back_with_the_event(outbox: Outbox, planted_store: Store):
    outbox.accept([event("e-1", "films:lost")])
    assert drain(outbox, planted_store) == 1
    assert [item.key for item in planted_store.items([ItemKey.parse("films:lost")])] == ["films:lost"]


def test_titles_in_the_store_outlive_an_event(outbox: Outbox, planted_store: Store):
    outbox.accept([event("e-1", "films:crime-0")])
    drain(outbox, planted_store)
    assert planted_store.items([ItemKey.parse("films:crime-0")])[0].title == "Murder at midnight"


def test_nothing_leaves_while_the_store_does_not_answer(outbox: Outbox):
    outbox.accept([event("e-1")])
    with pytest.raises(StoreUnavailableError):
        drain(outbox, Unreachable())
    assert outbox.counts() == (1, 0)


class Picky:
    """A store that refuses some events, before a real one."""

    def __init__(self, store: Store, *refused: str) -> None:
        self.store, self.refused = store, refused

    def upsert_edges(self, edges):
        edges = list(edges)
        if any(edge.event_id in self.refused for edge in edges):
            raise StoreError("not that one")
        return self.store.upsert_edges(edges)

    def __getattr__(self, name: str):
        return getattr(self.store, name)


def test_an_event_the_store_refuses_holds_up_its_account_alone_and_is_kept_aside_after_so_many_tries(
    outbox: Outbox, planted_store: Store
):
    other = AccountKey("films", "ffff")
    outbox.accept([event("e-1"), event("bad"), event("e-3"), event("o-1", account=other)])
    store, now = Picky(planted_store, "bad"), 1000.0
    assert drain(outbox, store, now=now) == 2
    assert [each.event_id for each in planted_store.history(lone_user(ACCOUNT))] == ["e-1"]
    assert [each.event_id for each in planted_store.history(lone_user(other))] == ["o-1"]
    for tries in range(1, TRIES):
        wait = FIRST_WAIT_S * 2 ** (tries - 1)
        assert not outbox.has_work(now + wait - 0.01)
        assert drain(outbox, store, now=now + wait - 0.01) == 0
        now += wait
        assert outbox.counts() == (2, 0)
        assert drain(outbox, store, now=now) == (1 if tries == TRIES - 1 else 0)
    assert drain(outbox, store, now=now) == 1
    assert [each.event_id for each in planted_store.history(lone_user(ACCOUNT))] == ["e-1", "e-3"]
    assert outbox.counts() == (0, 1)
    rows = sqlite3.connect(outbox.path).execute("SELECT event, reason FROM refused").fetchall()
    assert b'"bad"' in rows[0][0]
    assert rows[0][1] == "not that one"


def test_an_event_that_the_store_takes_at_the_second_try_goes_before_the_later_ones(
    outbox: Outbox, planted_store: Store
):
    order: list[str] = []

    class Moody(Picky):
        def upsert_edges(self, edges):
            counts = super().upsert_edges(edges := list(edges))
            order.extend(edge.event_id for edge in edges)
            return counts

    outbox.accept([event("bad"), event("later"), event("o-1", account=AccountKey("films", "ffff"))])
    assert drain(outbox, Moody(planted_store, "bad"), now=0.0) == 1
    assert drain(outbox, Moody(planted_store), now=FIRST_WAIT_S) == 2
    assert order == ["o-1", "bad", "later"]
    assert outbox.counts() == (0, 0)


SESSION_KEY = AccountKey("films", "5e55")


def test_a_login_gives_the_sessions_events_to_the_accounts_person(outbox: Outbox, planted_store: Store):
    outbox.accept([event("s-1", account=SESSION_KEY)])
    outbox.accept([event("a-1", at=DAY + timedelta(hours=1))], [Login(SESSION_KEY, ACCOUNT, DAY)])
    drain(outbox, planted_store)
    assert outbox.is_empty()
    assert planted_store.user_of(SESSION_KEY) == planted_store.user_of(ACCOUNT)
    assert [each.event_id for each in planted_store.history(planted_store.user_of(ACCOUNT))] == ["s-1", "a-1"]
    planted_store.revoke([known.evidence for known in planted_store.evidence_of([SESSION_KEY])])
    assert planted_store.user_of(SESSION_KEY) != planted_store.user_of(ACCOUNT)


def test_a_session_that_two_accounts_log_in_with_is_the_first_ones_and_joins_them_not(
    outbox: Outbox, planted_store: Store
):
    other = AccountKey("films", "ffff")
    outbox.accept([event("a-1")], [Login(SESSION_KEY, ACCOUNT, DAY)])
    drain(outbox, planted_store)
    outbox.accept([event("o-1", account=other)], [Login(SESSION_KEY, other, DAY)])
    drain(outbox, planted_store)
    assert planted_store.user_of(SESSION_KEY) == planted_store.user_of(ACCOUNT)
    assert planted_store.user_of(other) == lone_user(other)


def test_a_store_that_refuses_everything_is_at_fault_and_nothing_leaves(outbox: Outbox, planted_store: Store):
    outbox.accept([event("e-1"), event("e-2")])
    with pytest.raises(StoreError, match="not that one"):
        drain(outbox, Picky(planted_store, "e-1", "e-2"))
    assert outbox.counts() == (2, 0)


def test_the_drainer_comes_back_after_the_store_was_down(outbox: Outbox, planted_store: Store):
    calls: list[float] = []

    def open_when_up() -> Store:
        calls.append(time.monotonic())
        if len(calls) < 3:
            raise StoreUnavailableError("not yet")
        return open_store(planted_store.url)

    outbox.accept([event("e-1")])
    drainer = Drainer(outbox, open_when_up, idle_s=0.01, first_retry_s=0.05)
    drainer.start()
    wait_until(outbox.is_empty)
    drainer.stop()
    assert len(calls) == 3
    assert calls[1] - calls[0] >= 0.05
    assert calls[2] - calls[1] >= 0.1
    assert [each.event_id for each in planted_store.history(lone_user(ACCOUNT))] == ["e-1"]


def test_the_drainer_survives_an_error_that_nobody_foresaw(outbox: Outbox, planted_store: Store):
    failures = iter([ZeroDivisionError("a bug")])

    def open_buggy() -> Store:
        for failure in failures:
            raise failure
        return open_store(planted_store.url)

    outbox.accept([event("e-1")])
    drainer = Drainer(outbox, open_buggy, idle_s=0.01, first_retry_s=0.01)
    drainer.start()
    wait_until(outbox.is_empty)
    drainer.stop()


def test_of_two_drainers_one_drains_and_the_other_takes_over(outbox: Outbox, planted_store: Store):
    opened: list[str] = []

    def opener(name: str):
        def open_named() -> Store:
            opened.append(name)
            return open_store(planted_store.url)

        return open_named

    first = Drainer(outbox, opener("first"), idle_s=0.01)
    second = Drainer(outbox, opener("second"), idle_s=0.01)
    first.start()
    outbox.accept([event("e-1")])
    wait_until(outbox.is_empty)
    second.start()
    outbox.accept([event("e-2")])
    wait_until(outbox.is_empty)
    assert opened == ["first"]
    first.stop()
    outbox.accept([event("e-3")])
    wait_until(outbox.is_empty)
    second.stop()
    assert opened == ["first", "second"]


def test_many_threads_and_two_openings_lose_and_double_nothing(outbox: Outbox):
    with Outbox(outbox.path) as other, ThreadPoolExecutor(8) as pool:
        batches = [[event(f"e-{n}-{i}") for i in range(10)] for n in range(20)]
        sent = [(box, batch) for batch in batches for box in (outbox, other)]  # each batch twice
        fresh = list(pool.map(lambda one: sum(one[0].accept(one[1])), sent))
    assert sum(fresh) == 200
    assert len({each.event_id for _, each in outbox.pending()}) == len(outbox.pending()) == 200


def test_a_person_is_forgotten(outbox: Outbox):
    outbox.accept([event("e-1"), event("e-2", account=AccountKey("films", "ffff"))])
    assert outbox.forget([ACCOUNT]) == 1
    assert [each.event_id for _, each in outbox.pending()] == ["e-2"]


def test_a_file_that_is_no_outbox_is_said_in_one_sentence(tmp_path: Path):
    path = tmp_path / "outbox.db"
    path.write_bytes(b"no database, but longer than a header of one hundred bytes" * 10)
    with pytest.raises(OutboxError, match=r"outbox .*outbox\.db cannot be opened .*: give a writable folder"):
        Outbox(path)


def test_a_full_disk_acknowledges_nothing(outbox: Outbox):
    outbox.accept([event("e-1")])
    pages = outbox._writer.execute("PRAGMA page_count").fetchone()[0]
    outbox._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutboxError, match="cannot be written"):
        outbox.accept([event(f"big-{n}", context={"text": "x" * 4000}) for n in range(100)])
    assert [each.event_id for _, each in outbox.pending()] == ["e-1"]


def test_the_file_is_readable_by_its_owner_only(outbox: Outbox):
    outbox.accept([event("e-1")])
    for path in outbox.path.parent.glob("outbox.db*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path):
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from serve.outbox import Outbox
        from tests.serve.test_outbox import event

        outbox = Outbox(Path(sys.argv[1]))
        for n in range(1_000_000):
            outbox.accept([event(f"e-{n}-{i}") for i in range(3)])
            print(n, flush=True)
        """
    )
    path = tmp_path / "outbox.db"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        text=True,
    ) as process:
        acknowledged = [int(process.stdout.readline()) for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout]
    with Outbox(path) as outbox:
        kept = {each.event_id for _, each in outbox.pending(10**9)}
    assert {f"e-{n}-{i}" for n in acknowledged for i in range(3)} <= kept
    assert len(kept) % 3 == 0  # a request is kept whole or not at all


def wait_until(condition, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_what_waits_for_the_store_of_somebody_erased_meanwhile_goes_nowhere(outbox: Outbox, planted_store: Store):
    outbox.accept([event("mine"), event("another", account=AccountKey("films", "an0ther"))])
    planted_store.erase(lone_user(ACCOUNT), [ACCOUNT])
    assert drain(outbox, planted_store) == 2
    assert outbox.counts() == (0, 0)
    assert planted_store.user_of(ACCOUNT) is None
    assert len(planted_store.history(lone_user(AccountKey("films", "an0ther")))) == 1


def test_nothing_of_what_was_forgotten_stays_in_the_files(outbox: Outbox):
    account = AccountKey("films", "0123456789abcdef0123456789abcdef")
    outbox.accept([event(f"of-them-{n}", account=account) for n in range(50)] + [event("of-another")])
    outbox.accept([event("drained-before")])
    assert outbox.accounts() == {account, ACCOUNT}
    assert outbox.forget([account], [("RATED", "drained-before")]) == 50
    kept = b"".join(file.read_bytes() for file in outbox.path.parent.glob("outbox.db*"))
    assert b"of-another" in kept
    for trace in (account.digest.encode(), b"of-them"):
        assert trace not in kept
    assert outbox.accept([event("drained-before"), event("of-another")]) == [True, False]
