"""Which accounts are one person: what tables state, and evidence; an account without either is a person of its own."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final, Literal

from graph.keys import AccountKey, UserKey, lone_user
from graph.records import LONE, Account, Evidence, Link
from graph.store import Store, WriteCounts

TABLE: Final = "identity-table"
"""The evidence of a link that a table gave."""

_MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_PHONE = re.compile(r"\+?[0-9]{6,15}")
_HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128}")


def normal_identity(kind: str, raw: str) -> str | None:
    """The one form of a mail address or telephone number, fit to be made a pseudonym of; None where it is neither.

    It is the SHA-256 of the address in lower case, or of the number's digits after a plus sign: what platforms give
    away in the place of the address, so one that hashes and one that does not still meet. A hash stays as it is.
    """
    text = raw.strip().lower()
    if _HASH.fullmatch(text):
        return text
    if kind == "phone":
        text = re.sub(r"[\s()./-]", "", text)
        text = f"+{text[2:]}" if text.startswith("00") else text
    if not (_PHONE if kind == "phone" else _MAIL).fullmatch(text):
        return None
    return hashlib.sha256(text.encode()).hexdigest()


class People:
    """The accounts of a run and whose they are, written to the store as they become known."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stated: dict[AccountKey, UserKey] = {}
        self._known: set[AccountKey] = set()
        self._evidence = False

    def erased(self, accounts: Iterable[AccountKey]) -> set[str]:
        """Those of the accounts that were erased: none of their rows is taken again."""
        return self._store.erased(set(accounts))

    def erase_again(self, pairs: Collection[tuple[AccountKey, UserKey]]) -> set[str]:
        """Those of a table's accounts that were erased or are given to a person who was; these are erased as well."""
        people = self._store.erased({user for _, user in pairs})
        for user in people:
            self._store.erase(UserKey.parse(user), [account for account, owner in pairs if owner == user])
        return self.erased(account for account, _ in pairs)

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

    def write_evidence(self, rows: Collection[tuple[Evidence, ...]]) -> int:
        """Write the evidence of rows and the accounts it is about; returns how many rows say something new."""
        said = [one for row in rows for one in row]
        self._evidence |= bool(said)
        self.write_seen(end for one in said for end in (one.account, one.other) if isinstance(end, AccountKey))
        new = {one.id for one in self._store.add_evidence(said)} if said else set()
        telling = 0
        for row in rows:
            ids = {one.id for one in row}
            telling += not ids.isdisjoint(new)
            new -= ids
        return telling

    def left_out(self) -> list[tuple[str, int]]:
        """Why evidence in the store is not believed, and how many pieces; nothing where the run brought no evidence."""
        reasons: Counter[str] = Counter()
        for batch in self._store.read_evidence() if self._evidence else ():
            reasons.update(reason for reason in batch["left_out"].to_pylist() if reason)
        return reasons.most_common()
