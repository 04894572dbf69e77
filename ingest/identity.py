"""Which accounts are one person: what identity tables say; an account without evidence is a person of its own."""

from collections.abc import Iterable
from typing import Final, Literal

from graph.keys import AccountKey, UserKey, lone_user
from graph.records import LONE, Account, Link
from graph.store import Store, WriteCounts

TABLE: Final = "identity-table"
"""The evidence of a link that a table gave."""


class People:
    """The accounts of a run and whose they are, written to the store as they become known."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stated: dict[AccountKey, UserKey] = {}
        self._known: set[AccountKey] = set()

    def state(self, account: AccountKey, user: UserKey) -> Literal["new", "same", "conflict"]:
        """Take note of what a table says; an account that it gives to two persons is a conflict with the first."""
        stated = self._stated.setdefault(account, user)
        if stated is not user and stated != user:
            return "conflict"
        if account in self._known:
            return "same"
        self._known.add(account)
        return "new"

    def write_stated(self, accounts: Iterable[tuple[AccountKey, UserKey]]) -> WriteCounts:
        """Write accounts with the persons that a table gave them to."""
        pairs = list(accounts)
        self._store.upsert_nodes(Account(account) for account, _ in pairs)
        return self._store.link(Link(account, user, TABLE) for account, user in pairs)

    def write_seen(self, accounts: Iterable[AccountKey]) -> WriteCounts:
        """Write those of the accounts that this run has not written yet, each as a person of its own.

        Where the store already has evidence of an account's person, that stands: LONE never replaces it.
        """
        new = [account for account in dict.fromkeys(accounts) if account not in self._known]
        self._known.update(new)
        written = self._store.upsert_nodes(Account(account) for account in new)
        self._store.link(Link(account, lone_user(account), LONE) for account in new)
        return written
