"""What is newer than the bundle: a person's events in the store, joined with those still on their way to it."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from graph.errors import StoreError
from graph.keys import AccountKey, ItemKey, UserKey, lone_user
from graph.records import Event, Link
from graph.store import Store
from serve.outbox import Outbox

MAX_HISTORY: Final = 5000
"""The newest events of a person that are read; what they had before that may be recommended again."""

_LOG = logging.getLogger("isthmus.live")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Past:
    """What a person did, oldest first."""

    events: Sequence[Event]
    degraded: bool
    """The store did not answer: these are only the events on their way to it."""
    user: UserKey
    """Who that is; an account of which the store cannot be asked is a person of its own."""


class StoreGate:
    """The store, or at once nothing while it is down: after a failure a thread of its own asks until it is back."""

    def __init__(
        self, open_store: Callable[[], Store], *, first_rest_s: float = 0.5, longest_rest_s: float = 15.0
    ) -> None:
        self._open_store = open_store
        self._first_rest_s, self._longest_rest_s = first_rest_s, longest_rest_s
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._closed = threading.Event()
        self._up = threading.Event()
        self._up.set()
        self._prober: threading.Thread | None = None

    @property
    def is_resting(self) -> bool:
        """Whether it is down, so that a question is answered with None at once."""
        return not self._up.is_set()

    def open(self, wait_s: float) -> None:
        """Open the store ahead of the first question, and wait so long at most; whoever asks meanwhile gets None."""
        self._begin_probing(0.0)
        self._up.wait(wait_s)

    def ask(self, question: Callable[[Store], _T]) -> _T | None:
        """The store's answer to `question`, or None where it cannot be had now."""
        if self.is_resting:
            return None
        try:
            store = self._opened()
            return None if store is None else question(store)
        except StoreError as error:
            self.rest(error)
            return None

    def rest(self, why: Exception) -> None:
        """Leave the store alone until it answers a question that nobody waits for."""
        _LOG.warning("answers go on without the store: %s", why)
        self._begin_probing(self._first_rest_s)

    def close(self) -> None:
        """Give back files and connections; safe to call again."""
        self._closed.set()
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._store = None

    def _begin_probing(self, first_wait_s: float) -> None:
        with self._lock:
            self._up.clear()
            if self._prober is None:
                self._prober = threading.Thread(
                    target=self._probe, args=[first_wait_s], name="store-prober", daemon=True
                )
                self._prober.start()

    def _probe(self, wait_s: float) -> None:
        while not self._closed.wait(wait_s):
            try:
                store = self._store or self._open_store()
                store.user_of(_NOBODY)
            except Exception as error:  # whatever it is, the store may be back later
                wait_s = min(max(2 * wait_s, self._first_rest_s), self._longest_rest_s)
                _LOG.warning("the store is asked again in %.1f s: %s", wait_s, error)
                continue
            with self._lock:
                if self._closed.is_set():
                    store.close()
                    return
                self._store = store
                self._prober = None
                self._up.set()
                return

    def _opened(self) -> Store | None:
        if self._store is not None:
            return self._store
        if not self._lock.acquire(blocking=False):
            return None  # another thread is opening it, which may take long
        try:
            self._store = self._open_store()
            return self._store
        finally:
            self._lock.release()


_NOBODY: Final = AccountKey("probe", "0")


class Live:
    """The newest truth about persons. Nothing is cached, so all replicas agree."""

    def __init__(self, outbox: Outbox, gate: StoreGate) -> None:
        self._outbox = outbox
        self._gate = gate

    def of(self, person: UserKey | AccountKey, platforms: Sequence[str] = ()) -> Past:
        """What a person did. An account that nobody knows is a person of its own; one nobody knows did nothing.

        Args:
            platforms: where to look for the account of a person whose key was that account's alone, before it was
                joined with another.
        """
        waiting = self.waiting_of(person)
        if isinstance(person, AccountKey):
            account = person
            user = self._gate.ask(lambda store: store.user_of(account) or lone_user(account))
        else:
            user = person
        people = [] if user is None else [user]
        if user is not None and not self._outbox.is_empty():
            known = user
            accounts = self._gate.ask(lambda store: _accounts_of(store, known)) or []
            own = {*accounts, person} if isinstance(person, AccountKey) else accounts
            named = self._outbox.sessions_of(own, _digest(user))
            sessions = self._gate.ask(lambda store: _unclaimed(store, named)) or []
            waiting = waiting + self._outbox.pending_of([*accounts, *sessions], _digest(user))
            people = [user, *map(lone_user, sessions)]
        # The store is read last: an event that leaves the outbox meanwhile is in the store by then.
        stored = None if user is None else self._gate.ask(lambda store: _histories(store, people))
        if user is not None and stored == [] and not waiting:
            gone = user
            now = self._gate.ask(lambda store: _joined(store, gone, platforms))
            if now is not None:
                return self.of(now)
        return Past(_merge(stored or (), waiting), degraded=stored is None, user=user or alone(person))

    def waiting_of(self, person: UserKey | AccountKey) -> list[Event]:
        """What is known of a person without the store."""
        if isinstance(person, AccountKey):
            return self._outbox.pending_of([person])
        return self._outbox.pending_of(digest=_digest(person))

    def without_store(self, person: UserKey | AccountKey, why: Exception) -> Past:
        """What a person did as far as the outbox knows, where the store takes too long; it rests then."""
        self._gate.rest(why)
        return Past(_merge((), self.waiting_of(person)), degraded=True, user=alone(person))

    def ask(self, question: Callable[[Store], _T]) -> _T | None:
        """What the store says to anything else, or None where it cannot be had now."""
        return self._gate.ask(question)

    def rest(self, why: Exception) -> None:
        """Leave the store alone for a while."""
        self._gate.rest(why)

    @property
    def store_rests(self) -> bool:
        """Whether the store is left alone, so that nothing here waits for it."""
        return self._gate.is_resting

    @property
    def store_is_up(self) -> bool:
        """Whether the store answered when it was last asked."""
        return not self._gate.is_resting

    def missing(self, items: Sequence[ItemKey]) -> set[ItemKey] | None:
        """Those of the items that the store does not have, or None where it cannot be asked."""
        found = self._gate.ask(lambda store: {item.key for item in store.items(items)})
        return None if found is None else set(items) - found


def alone(person: UserKey | AccountKey) -> UserKey:
    """A person, or the one that an account is by itself."""
    return lone_user(person) if isinstance(person, AccountKey) else person


def _digest(user: UserKey) -> str:
    return user.partition(":")[2]


def _accounts_of(store: Store, user: UserKey) -> list[AccountKey]:
    return [edge.account for edge in store.neighbourhood(user, hops=1).edges if isinstance(edge, Link)]


def _unclaimed(store: Store, sessions: Sequence[AccountKey]) -> list[AccountKey]:
    """Those of the sessions that the store does not know to be somebody's."""
    claimed = {end for known in store.evidence_of(sessions) for end in (known.evidence.account, known.evidence.other)}
    return [session for session in sessions if session not in claimed]


def _joined(store: Store, user: UserKey, platforms: Sequence[str]) -> UserKey | None:
    """Who a person is now whose account was one person by itself and then turned out to be another's too."""
    found = (store.user_of(AccountKey(platform, user.digest)) for platform in platforms)
    return next((other for other in found if other not in {None, user}), None)


def _histories(store: Store, people: Sequence[UserKey]) -> list[Event]:
    return [event for user in people for event in store.history(user, MAX_HISTORY)]


def _merge(stored: Sequence[Event], waiting: Sequence[Event]) -> list[Event]:
    events = {(event.type, event.event_id): event for event in (*waiting, *stored)}
    return sorted(
        events.values(), key=lambda event: (event.at, -1 if event.sequence is None else event.sequence, event.event_id)
    )
