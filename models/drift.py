"""Drift: how far what people do now is from what a bundle was trained on, as population stability indices.

Counts are by feature (platform, event type, item) and value. A bundle keeps those of the newest events of its snapshot,
not of all: a bundle that is trained again has seen the drift, so the next one is told from there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import log
from typing import Final

from graph.keys import ItemKey

NEWEST: Final = 20_000
"""Events that are looked at on either side, at most."""
POPULAR: Final = 20
"""Items that are told apart, those of the most events; all others are one."""
REST: Final = ""
"""The value that stands for all that are not told apart."""

Counts = Mapping[str, Mapping[str, int]]
"""Events by feature and value."""


def counted(events: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """How many of these events (item key, event type) are of each platform, type and item."""
    by_item, by_type, by_platform = Counter[str](), Counter[str](), Counter[str]()
    for item, type in events:
        by_item[item] += 1
        by_type[type] += 1
    for item, count in by_item.items():
        by_platform[ItemKey.parse(item).platform] += count
    return {"platform": dict(by_platform), "type": dict(by_type), "item": dict(by_item)}


def kept(counts: Counts) -> dict[str, dict[str, int]]:
    """These counts with the POPULAR items alone, fit for a manifest; of equal ones those first in the alphabet."""
    items = sorted(counts["item"].items(), key=lambda one: (-one[1], one[0]))
    popular = dict(items[:POPULAR])
    rest = sum(count for _, count in items[POPULAR:])
    return {name: dict(sorted(of.items())) for name, of in {**counts, "item": {**popular, REST: rest}}.items()}


def drift(reference: Counts, newest: Counts) -> dict[str, float]:
    """The population stability index of each feature; what the reference does not tell apart is one value, REST."""
    return {name: _stability(reference[name], newest.get(name, {})) for name in reference}


def _stability(reference: Mapping[str, int], newest: Mapping[str, int]) -> float:
    """sum (q - p) ln(q / p) over values, p and q being shares before and now: Jeffreys' divergence, at least 0.

    Up to .1 is read as no change and above .25 as a change that matters (Lewis, "An Introduction to Credit Scoring",
    1994; Siddiqi, "Credit Risk Scorecards", 2006). These are customs, no test: without any change it is (B - 1) (1/n +
    1/m) on average, over B values of n and m events (Yurdakul and Naranjo, "Statistical properties of the population
    stability index", Journal of Risk Model Validation 14, 2020), .04 for 21 values and 1,000 events on either side.
    Half an event is added to each value, so that none is 0.
    """
    known = {name: count for name, count in reference.items() if name != REST}
    before = [*known.values(), reference.get(REST, 0)]
    now = [newest.get(name, 0) for name in known]
    now.append(sum(newest.values()) - sum(now))
    sums = sum(before) + len(before) / 2, sum(now) + len(now) / 2
    shares = (((a + 0.5) / sums[0], (b + 0.5) / sums[1]) for a, b in zip(before, now, strict=True))
    return sum((q - p) * log(q / p) for p, q in shares)
