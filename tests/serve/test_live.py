import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from graph.errors import StoreUnavailableError
from graph.keys import AccountKey, ItemKey, lone_user
from graph.records import Account, Event, Link
from graph.store import Store, open_store
from serve.drain import drain
from serve.live import Live, StoreGate
from serve.outbox import Outbox
from tests.planted import person

DAY = datetime(2024, 5, 1, tzinfo=UTC)
SPACE_0 = person("space-0")


def event(id: str, account: AccountKey, **fields) -> Event:
    return Event(id, "RATED", account, ItemKey("films", "crime-0"), fields.pop("at", DAY), **fields)


def live_on(store: Store, outbox: Outbox) -> Live:
    return Live(outbox, StoreGate(lambda: open_store(store.url)))


def test_the_past_of_a_person_is_their_history_in_the_store(outbox: Outbox, planted_store: Store):
    past = live_on(planted_store, outbox).of(SPACE_0.user)
    assert list(past.events) == list(planted_store.history(SPACE_0.user))
    assert not past.degraded


def test_an_account_has_the_past_of_its_person(outbox: Outbox, planted_store: Store):
    past = live_on(planted_store, outbox).of(SPACE_0.account("music"))
    assert list(past.events) == list(planted_store.history(SPACE_0.user))


def test_events_on_their_way_count_by_each_account_and_by_the_person(outbox: Outbox, planted_store: Store):
    live = live_on(planted_store, outbox)
    new = [event("new-1", SPACE_0.account("films")), event("new-2", SPACE_0.account("books"))]
    outbox.accept(new)
    for who in (SPACE_0.user, SPACE_0.account("music"), SPACE_0.account("films")):
        assert live.of(who).events[-2:] == new


def test_events_on_their_way_count_for_a_person_whose_key_says_nothing_of_the_account(
    outbox: Outbox, planted_store: Store
):
    other = AccountKey("films", "ffff")
    planted_store.upsert_nodes([Account(other)])
    planted_store.link([Link(other, SPACE_0.user, "identity-table")])
    new = event("new-1", other)
    outbox.accept([new])
    live = live_on(planted_store, outbox)
    for who in (SPACE_0.user, SPACE_0.account("music"), other):
        assert live.of(who).events[-1] == new


def test_an_event_both_on_its_way_and_in_the_store_counts_once(outbox: Outbox, planted_store: Store):
    live = live_on(planted_store, outbox)
    outbox.accept([event("new-1", SPACE_0.account("films"))])
    before = live.of(SPACE_0.user)
    drain(outbox, planted_store)
    outbox.accept([event("new-2", SPACE_0.account("films"), at=DAY + timedelta(hours=1))])
    after = live.of(SPACE_0.user)
    assert [each.event_id for each in after.events] == [*(each.event_id for each in before.events), "new-2"]


def test_an_account_that_nobody_knows_is_a_person_of_its_own(outbox: Outbox, planted_store: Store):
    account = AccountKey("films", "0a1b")
    live = live_on(planted_store, outbox)
    assert live.of(account).events == []
    outbox.accept([event("e-1", account)])
    for who in (account, lone_user(account)):
        assert [each.event_id for each in live.of(who).events] == ["e-1"]
    drain(outbox, planted_store)
    for who in (account, lone_user(account)):
        assert [each.event_id for each in live.of(who).events] == ["e-1"]


def test_without_the_store_the_past_is_what_is_on_its_way_and_says_so(outbox: Outbox):
    def closed() -> Store:
        raise StoreUnavailableError("no store here")

    account = AccountKey("films", "0a1b")
    gate = StoreGate(closed)
    live = Live(outbox, gate)
    outbox.accept([event("e-1", account)])
    past = live.of(account)
    assert [each.event_id for each in past.events] == ["e-1"]
    assert past.degraded
    assert live.of(lone_user(account)).degraded
    assert not live.store_is_up
    assert live.missing([ItemKey("films", "crime-0")]) is None
    gate.close()


def test_a_store_that_failed_is_left_alone_for_a_while_and_asked_again_then(planted_store: Store):
    calls: list[int] = []

    def flaky() -> Store:
        calls.append(1)
        if len(calls) == 1:
            raise StoreUnavailableError("not yet")
        return open_store(planted_store.url)

    gate = StoreGate(flaky, first_rest_s=0.05)
    assert gate.ask(lambda store: 1) is None
    assert gate.ask(lambda store: 1) is None
    assert len(calls) == 1
    assert gate.is_resting
    while gate.is_resting:
        pass
    assert gate.ask(lambda store: 1) == 1
    assert len(calls) == 2
    assert not gate.is_resting
    gate.close()


def test_a_store_that_is_down_is_asked_again_by_a_thread_and_by_no_answer():
    asked: list[str] = []

    def closed() -> Store:
        asked.append(threading.current_thread().name)
        raise StoreUnavailableError("no store here")

    gate = StoreGate(closed, first_rest_s=0.01)
    assert gate.ask(lambda store: 1) is None
    deadline = time.monotonic() + 10
    while len(asked) < 4:
        assert gate.ask(lambda store: 1) is None
        assert time.monotonic() < deadline
    gate.close()
    assert set(asked[1:]) == {"store-prober"}


def test_a_store_that_is_opened_ahead_is_there_for_the_first_answer(planted_store: Store):
    opened: list[str] = []

    def opener() -> Store:
        opened.append(threading.current_thread().name)
        return open_store(planted_store.url)

    gate = StoreGate(opener)
    gate.open(10)
    assert gate.ask(lambda store: 1) == 1
    assert opened == ["store-prober"]
    gate.close()


class DrainingStore:
    """A store that gets everything from the outbox at the worst moment: right before or after one of its answers."""

    def __init__(self, store: Store, outbox: Outbox, method: str, when: str) -> None:
        self._store, self._outbox, self._method, self._when = store, outbox, method, when

    def __getattr__(self, name: str):
        original = getattr(self._store, name)
        if name != self._method:
            return original

        def answer(*args, **fields):
            if self._when == "before":
                drain(self._outbox, self._store)
            found = original(*args, **fields)
            if self._when == "after":
                drain(self._outbox, self._store)
            return found

        return answer


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["user_of", "neighbourhood", "history"])
@pytest.mark.parametrize("who", [SPACE_0.user, SPACE_0.account("films"), SPACE_0.account("music")])
def test_an_event_that_leaves_the_outbox_meanwhile_is_not_missed(
    outbox: Outbox, planted_store: Store, who, method: str, when: str
):
    new = event("new-1", SPACE_0.account("films"))
    outbox.accept([new])
    live = Live(outbox, StoreGate(lambda: DrainingStore(planted_store, outbox, method, when)))
    assert live.of(who).events[-1] == new
