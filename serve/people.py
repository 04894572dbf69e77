"""Similar people: who shares what a person wanted, found in the graph, and compared as the model sees them.

Only pseudonyms come out. Nothing is kept: who is erased from the store is in no answer from then on.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np

from graph.keys import AccountKey, ItemKey, UserKey, lone_user
from graph.records import Event
from graph.store import Store
from serve.recommender import Recommender, signals_of

NEWEST_ITEMS: Final = 20
"""Of what a person wanted, so many items lead to others."""
NEIGHBOURS: Final = 200
"""Of those who did something with such an item, at most so many are looked at."""
CANDIDATES: Final = 40
"""So many are compared, those first who share most of what few share."""
HISTORY: Final = 200
"""Newest events of each that are compared."""


@dataclass(frozen=True)
class Alike:
    """Somebody like a person."""

    user: UserKey
    similarity: float
    """Cosine of what both ask for on every platform, as the model reads their events."""
    shared_items: int
    """Of the person's newest ones."""


def similar_people(
    store: Store, recommender: Recommender, user: UserKey, past: Sequence[Event], limit: int
) -> list[Alike]:
    """Those most like a person who did this, best first; nobody for whom nothing leads to others."""
    own = recommender.taste(signals_of(past))
    if own is None:
        return []
    wanted = list(dict.fromkeys(event.item for event in reversed(past) if event.weight > 0))[:NEWEST_ITEMS]
    worth: Counter[AccountKey] = Counter()
    shared: dict[AccountKey, set[ItemKey]] = {}
    for item in wanted:
        edges = store.neighbourhood(item, hops=1, limit=NEIGHBOURS).edges
        accounts = {edge.account for edge in edges if isinstance(edge, Event) and edge.weight > 0 and edge.item == item}
        for account in accounts:
            worth[account] += 1 / log(2 + len(accounts))  # type: ignore[assignment]
            shared.setdefault(account, set()).add(item)
    people: dict[UserKey, set[ItemKey]] = {}
    for account, _ in worth.most_common():
        other = store.user_of(account) or lone_user(account)
        if other != user and (other in people or len(people) < CANDIDATES):
            people.setdefault(other, set()).update(shared[account])
        if len(people) == CANDIDATES:
            break
    found = []
    for other, items in people.items():
        taste = recommender.taste(signals_of(store.history(other, HISTORY)))
        if taste is not None:
            found.append(Alike(other, float(np.dot(own, taste)), len(items)))
    return sorted(found, key=lambda alike: (-alike.similarity, alike.user))[:limit]
