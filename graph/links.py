"""Links: which person an account belongs to, from what tables state and from the evidence between accounts.

A person is a connected component of accounts. What a table states joins without question, and so does a link between
two accounts of one platform, since it says just that. Logins and shared identities (a mail address, a telephone number)
join by their strength, the strongest first: two accounts are one person the more surely, the more speaks for it. All
pairs of one strength are looked at together, and where they would make one person of two accounts of one platform, or
of two persons of a table, all of them are left out: nothing says which of them is right, and a stranger's history shown
to somebody is worse than one found a little later. So the outcome depends on what is said and not on the order in which
it came.
"""

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations, groupby
from typing import Final, Protocol

from graph.keys import AccountKey, IdentityKey, UserKey
from graph.records import LONE, Evidence, Link

MOST_HOLDERS: Final = 20
"""An identity that more accounts have is a shop's counter or a null value: it says nothing about anybody."""

CROWDED: Final = f"more than {MOST_HOLDERS} accounts have it"
SAME_PLATFORM: Final = "it would join two accounts of one platform"
TWO_PERSONS: Final = "it would join two persons of an identity table"


@dataclass(frozen=True, slots=True)
class Settled:
    """What a batch of links changes."""

    changed: dict[AccountKey, Link]
    """The link of each account that gets a new one."""
    left: set[UserKey]
    """Persons whom an account left, to be removed if no account is left to them."""
    created: int
    """Accounts that had no link before."""


def settle(links: Iterable[Link], current: Mapping[AccountKey, Link]) -> Settled:
    """Settle links in their order against the current ones: evidence replaces a link, LONE never does."""
    settled: dict[AccountKey, Link] = {}
    for link in links:
        before = settled.get(link.account) or current.get(link.account)
        if before is None or (link.evidence != LONE and link != before):
            settled[link.account] = link
    changed = {account: link for account, link in settled.items() if link != current.get(account)}
    left = {
        current[account].user
        for account, link in changed.items()
        if account in current and current[account].user != link.user
    }
    return Settled(changed, left, sum(account not in current for account in changed))


@dataclass(frozen=True, slots=True)
class Known:
    """A piece of evidence that a store holds."""

    evidence: Evidence
    left_out: str | None = None
    """Why it is not believed; None where it is, or where it says nothing yet."""


class Facts(Protocol):
    """What a store is asked while it finds out whom a change touches."""

    def evidence_of(self, ends: Collection[str]) -> Iterable[Known]:
        """What is said about any of these accounts and identities, and was not taken back."""

    def holders(self, identities: Collection[str]) -> Mapping[str, int]:
        """How many accounts have each of these identities; those of none may be left out."""

    def stated_of(self, accounts: Collection[str], users: Collection[str]) -> Iterable[Link]:
        """The links that were stated of these accounts, and those stated to these persons."""


@dataclass(frozen=True, slots=True)
class Touched:
    """All that decides about some accounts: everything that is connected with them."""

    known: Mapping[str, Known]
    """By the id of the evidence."""
    stated: Mapping[AccountKey, Link]
    crowded: Set[str]


def touched(
    facts: Facts, ends: Iterable[AccountKey | IdentityKey], users: Iterable[str], before: Mapping[str, int]
) -> Touched:
    """Collect what is connected with these accounts, identities and persons, through evidence and statements.

    Args:
        before: how many accounts had each identity that is changing; one that was or is crowded leads no further.
    """
    known: dict[str, Known] = {}
    stated: dict[AccountKey, Link] = {}
    crowded: set[str] = set()
    done: set[str] = set()
    ahead: set[str] = {*ends, *users}
    while ahead:
        done |= ahead
        accounts = {key for key in ahead if key.startswith("account:")}
        people = {key for key in ahead if key.startswith("user:")}
        identities = ahead - accounts - people
        counts = facts.holders(identities) if identities else {}
        crowded |= {key for key, count in counts.items() if count > MOST_HOLDERS}
        open_ = {
            key for key in identities if min(counts.get(key, 0), before.get(key, MOST_HOLDERS + 1)) <= MOST_HOLDERS
        }
        ahead = set()
        for link in facts.stated_of(accounts, people):
            stated[link.account] = link
            ahead |= {link.account, link.user}
        for one in facts.evidence_of(accounts | open_):
            known[one.evidence.id] = one
            ahead |= {one.evidence.account, one.evidence.other}
        ahead -= done
    return Touched(known, stated, crowded)


@dataclass(frozen=True, slots=True)
class Resolved:
    """Who is who, among the accounts that were touched."""

    links: Mapping[AccountKey, Link]
    left_out: Mapping[str, str]
    """Why a piece of evidence is not believed, by its id."""


def resolve(all_: Touched) -> Resolved:
    """Say which person each of the accounts belongs to, and what was left out."""
    evidence = [one.evidence for one in all_.known.values()]
    stated = all_.stated
    groups = _Groups()
    for link in stated.values():
        groups.add(link)
    holders: dict[str, list[Evidence]] = defaultdict(list)
    for one in evidence:
        if one.is_within_a_platform:
            groups.join([one.account, one.other])
        elif not one.is_statement:
            holders[one.other].append(one)
    statements = [one for one in evidence if one.is_statement]
    shared = {identity: among for identity, among in holders.items() if identity not in all_.crowded}
    blocked = _join_by_strength(groups, shared.values(), statements)

    believed = [one for one in statements if groups.find(one.account) == groups.find(one.other)]
    left_out = {one.id: blocked[one.id] for one in statements if groups.find(one.account) != groups.find(one.other)}
    left_out |= {one.id: CROWDED for identity in holders.keys() & all_.crowded for one in holders[identity]}
    for among in shared.values():
        people: dict[str, list[Evidence]] = defaultdict(list)
        for one in among:
            people[groups.find(one.account)].append(one)
        for same in people.values():
            if len(same) > 1:
                believed += same
            elif same[0].id in blocked:
                left_out[same[0].id] = blocked[same[0].id]
    return Resolved(_links(groups, stated, believed), left_out)


class _Groups:
    """Accounts and persons, joined so far; each group knows its platforms and the persons that tables named."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self.platforms: dict[str, set[str]] = {}
        self.named: dict[str, set[UserKey]] = {}

    def add(self, link: Link) -> None:
        for key in (link.account, link.user):
            if key not in self._parent:
                self._parent[key] = key
                self.platforms[key], self.named[key] = set(), set()
        self.platforms[self.find(link.account)].add(link.account.platform)
        if link.evidence != LONE:
            self.named[self.find(link.account)].add(link.user)
        self.join([link.account, link.user])

    def find(self, key: str) -> str:
        root = key
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[key] != root:
            self._parent[key], key = root, self._parent[key]
        return root

    def join(self, keys: Iterable[str]) -> None:
        first, *others = {self.find(key) for key in keys}
        for other in others:
            self._parent[other] = first
            self.platforms[first] |= self.platforms.pop(other)
            self.named[first] |= self.named.pop(other)

    def conflict(self, roots: Collection[str]) -> str | None:
        """Why these groups cannot be one person without a statement that says so."""
        if sum(bool(self.named[root]) for root in roots) > 1:
            return TWO_PERSONS
        together = sum(len(self.platforms[root]) for root in roots)
        return None if together == len(set().union(*(self.platforms[root] for root in roots))) else SAME_PLATFORM


def _join_by_strength(
    groups: _Groups, shared: Iterable[Sequence[Evidence]], statements: Iterable[Evidence]
) -> dict[str, str]:
    """Join groups that evidence connects, the strongest pairs first; returns what was left out and why, by id."""
    pairs: dict[tuple[str, str], list[tuple[Evidence, ...]]] = defaultdict(list)
    between: list[tuple[str, str, tuple[Evidence, ...]]] = [(one.account, one.other, (one,)) for one in statements]
    between += [(one.account, other.account, (one, other)) for among in shared for one, other in combinations(among, 2)]
    for account, other, said in between:
        first, second = sorted((groups.find(account), groups.find(other)))
        if first != second:
            pairs[first, second].append(said)
    by_strength = sorted(((_strength(all_), pair) for pair, all_ in pairs.items()), key=lambda entry: -entry[0])
    blocked: dict[str, str] = {}
    for _, level in groupby(by_strength, key=lambda entry: entry[0]):
        met = [pair for _, pair in level]
        for cluster in _clusters([(groups.find(first), groups.find(second)) for first, second in met]):
            reason = groups.conflict(cluster)
            if reason is None:
                groups.join(cluster)
                continue
            for pair in met:
                if groups.find(pair[0]) in cluster:
                    blocked |= {one.id: reason for said in pairs[pair] for one in said}
    return blocked


def _strength(said: Sequence[tuple[Evidence, ...]]) -> float:
    """How sure it is that two groups are one person, if each login and each identity that they share errs by itself."""
    kinds = {one.other if not one.is_statement else one.id: one.strength for one, *_ in said}
    doubt = 1.0
    for strength in sorted(kinds.values()):
        doubt *= 1 - strength
    return round(1 - doubt, 9)


def _clusters(pairs: Sequence[tuple[str, str]]) -> list[set[str]]:
    """The connected components of these pairs, of two members and more."""
    cluster_of: dict[str, set[str]] = {}
    for first, second in pairs:
        if first == second:
            continue
        one, other = cluster_of.setdefault(first, {first}), cluster_of.setdefault(second, {second})
        if one is not other:
            one |= other
            cluster_of.update(dict.fromkeys(other, one))
    return list({id(cluster): cluster for cluster in cluster_of.values()}.values())


def _links(groups: _Groups, stated: Mapping[AccountKey, Link], believed: Sequence[Evidence]) -> dict[AccountKey, Link]:
    """The link of each account: as stated where that is what came out, else by the best of its evidence."""
    members: dict[str, list[AccountKey]] = defaultdict(list)
    for account in stated:
        members[groups.find(account)].append(account)
    best: dict[AccountKey, Evidence] = {}
    edges: dict[str, list[tuple[str, datetime | None]]] = defaultdict(list)
    for link in stated.values():
        edges[link.user].append((link.account, link.at))
        edges[link.account].append((link.user, link.at))
    for one in sorted(believed, key=lambda one: (one.strength, one.kind)):
        # An identity can be that of several persons: it joins within each of them.
        other = one.other if one.is_statement else f"{groups.find(one.account)} {one.other}"
        edges[one.account].append((other, one.at))
        edges[other].append((one.account, one.at))
        best[one.account] = one
        if isinstance(one.other, AccountKey):
            best[one.other] = one
    links = {}
    for root, accounts in members.items():
        user = min(groups.named[root], default=None) or stated[min(accounts)].user
        since = _since(user, edges)
        for account in accounts:
            link = stated[account]
            if link.user != user or (link.evidence == LONE and len(accounts) > 1):
                kind = best[account].kind if account in best else link.evidence
                link = Link(account, user, kind, since[account])
            links[account] = link
    return links


def _since(user: UserKey, edges: Mapping[str, Sequence[tuple[str, datetime | None]]]) -> dict[str, datetime | None]:
    """Since when everything has been connected with a person: the best road's newest step; None: always."""
    since: dict[str, datetime | None] = {}
    ahead: list[tuple[datetime, str]] = [(_ALWAYS, user)]
    while ahead:
        at, key = heapq.heappop(ahead)
        if key in since:
            continue
        since[key] = None if at == _ALWAYS else at
        for other, step in edges[key]:
            if other not in since:
                heapq.heappush(ahead, (max(at, step or _ALWAYS), other))
    return since


_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)
