"""Links: which person an account ends up with when new evidence meets what a store already says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graph.keys import AccountKey, UserKey
from graph.records import LONE, Link


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
