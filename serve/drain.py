"""Draining: what the outbox holds goes to the store, in order for every account, tried again within bounds."""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from graph.errors import IsthmusError, StoreError, StoreUnavailableError
from graph.keys import PlatformKey, lone_user
from graph.records import LONE, Account, Event, Evidence, Item, Link, Node, Platform
from graph.store import Store
from serve.outbox import BATCH, Login, Outbox

TRIES: Final = 5
"""How often the store is given an event that it does not take, before it is kept aside."""
FIRST_WAIT_S: Final = 1.0
"""Before the second try; every further wait is twice as long, so an account is held up 15 s at most."""
SESSION: Final = "session"
"""The source of the evidence that a login leaves."""

_LOG = logging.getLogger("isthmus.outbox")


def drain(outbox: Outbox, store: Store, limit: int = BATCH, now: float | None = None) -> int:
    """Move the oldest events into the store, in order; returns how many left the outbox. Doing it twice is harmless.

    An event that the store does not take holds up the later ones of its account, and nobody else's; after TRIES times
    it is kept aside. Items that were put or deleted go before the events, logins follow them.

    Raises: StoreUnavailableError (nothing has left then); OutboxError.
    """
    now = time.time() if now is None else now
    if changes := outbox.catalogue.undrained():
        store.upsert_nodes([change.item for change in changes if change.item is not None])
        store.delete_items([change.key for change in changes if change.item is None])
        outbox.catalogue.settle(changes)
    rows = outbox.due(limit, now)
    left = _drain_events(outbox, store, rows, now) if rows else 0
    logins = outbox.logins()
    if logins:
        _join(store, logins)
        outbox.settle_logins(logins)
    return left


def _drain_events(outbox: Outbox, store: Store, rows: Sequence[tuple[int, Event]], now: float) -> int:
    try:
        _write(outbox, store, [event for _, event in rows])
    except StoreUnavailableError:
        raise
    except IsthmusError:
        return _drain_singly(outbox, store, rows, now)
    outbox.settle([position for position, _ in rows])
    return len(rows)


def _drain_singly(outbox: Outbox, store: Store, rows: Sequence[tuple[int, Event]], now: float) -> int:
    """One by one, so that one bad event cannot hold the others up; where none ever got through, it is the store."""
    done: list[int] = []
    failed: dict[str, tuple[int, Event, IsthmusError]] = {}
    for position, event in rows:
        if event.account in failed:
            continue
        try:
            _write(outbox, store, [event])
        except StoreUnavailableError:
            outbox.settle(done)
            raise
        except IsthmusError as error:
            failed[event.account] = position, event, error
        else:
            done.append(position)
    of_store = [why for _, _, why in failed.values() if isinstance(why, StoreError)]
    if of_store and not done and not outbox.held([position for position, _, _ in failed.values()]):
        raise of_store[-1]
    refused: list[tuple[int, str]] = []
    for position, event, why in failed.values():
        if not isinstance(why, StoreError) or outbox.hold(position, event.account, now, FIRST_WAIT_S) >= TRIES:
            refused.append((position, str(why)))
            _LOG.error("the store refuses an acknowledged event (position %d), kept in the outbox: %s", position, why)
    outbox.settle(done, refused)
    return len(done) + len(refused)


def _write(outbox: Outbox, store: Store, events: Sequence[Event]) -> None:
    """Write events; those of accounts that were erased and of items that were deleted meanwhile go nowhere."""
    erased = store.erased({event.account for event in events})
    changed = outbox.catalogue.find({event.item for event in events})
    deleted = {key for key, change in changed.items() if change.item is None}
    events = [event for event in events if event.account not in erased and event.item not in deleted]
    accounts = list(dict.fromkeys(event.account for event in events))
    items = list(dict.fromkeys(event.item for event in events))
    platforms = sorted({key.platform for key in accounts} | {key.platform for key in items})
    nodes: list[Node] = [Platform(PlatformKey(name)) for name in platforms]
    nodes += [Account(key) for key in accounts]
    nodes += [Item(key) for key in items if key not in {known.key for known in store.items(items)}]
    store.upsert_nodes(nodes)
    store.link([Link(key, lone_user(key), LONE) for key in accounts])
    store.upsert_edges(events)


def _join(store: Store, logins: Sequence[Login]) -> None:
    """Write logins as evidence. A session is the first account's that logs in: a device that two share joins nobody."""
    ends = {key for login in logins for key in (login.session, login.account)}
    erased = store.erased(ends)
    for login in logins:
        if {login.session, login.account} & erased:
            continue
        said = Evidence(login.session, login.account, SESSION, login.at)
        owners = {
            end
            for known in store.evidence_of([login.session])
            if known.evidence.source == SESSION
            for end in (known.evidence.account, known.evidence.other)
        }
        if owners - {login.session, login.account}:
            continue
        store.upsert_nodes(
            [Platform(PlatformKey(login.session.platform)), Account(login.session), Account(login.account)]
        )
        store.link([Link(key, lone_user(key), LONE) for key in (login.session, login.account)])
        store.add_evidence([said])


class Drainer:
    """A thread that drains while it holds the outbox's lease: of all replicas on the machine one drains at a time."""

    def __init__(
        self,
        outbox: Outbox,
        open_store: Callable[[], Store],
        *,
        idle_s: float = 0.2,
        first_retry_s: float = 0.5,
        longest_retry_s: float = 30.0,
    ) -> None:
        self._outbox = outbox
        self._open_store = open_store
        self._idle_s, self._first_retry_s, self._longest_retry_s = idle_s, first_retry_s, longest_retry_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox-drainer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End after the batch at hand; what is left stays in the outbox for the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        lease = os.open(self._outbox.path.with_name(self._outbox.path.name + ".lease"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            while not self._stop.is_set():
                try:
                    fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._stop.wait(1.0)
                    continue
                self._drain_while_leased()
        finally:
            os.close(lease)

    def _drain_while_leased(self) -> None:
        store: Store | None = None
        retry_s = self._first_retry_s
        try:
            while not self._stop.is_set():
                try:
                    if not self._outbox.has_work(time.time()):
                        self._stop.wait(self._idle_s)
                        continue
                    if store is None:
                        store = self._open_store()
                        store.ensure_schema()
                    drain(self._outbox, store)
                    retry_s = self._first_retry_s
                except Exception as error:  # whatever it is, acknowledged events must still arrive
                    known = isinstance(error, IsthmusError)
                    _LOG.warning(
                        "events wait in the outbox, next try in %.1f s: %s", retry_s, error, exc_info=not known
                    )
                    if store is not None:
                        store.close()
                        store = None
                    self._stop.wait(retry_s)
                    retry_s = min(2 * retry_s, self._longest_retry_s)
        finally:
            if store is not None:
                store.close()
