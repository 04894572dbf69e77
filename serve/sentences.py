"""Sentences: why an item is in a list, in plain English from templates; what they name comes from the item's paths."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

_DID: Final[Mapping[str, str]] = {
    "PURCHASED": "bought",
    "VIEWED": "looked at",
    "CLICKED": "clicked on",
    "COMMENTED": "commented on",
    "ASKED": "asked about",
}
"""Where the event type's own word would not do."""
_LEADS: Final[Mapping[str, str]] = {
    "LEADS_TO": "people who liked it went on to this",
    "NEXT": "this is what people go on to",
    "TOGETHER": "the same people like both",
    "SIMILAR": "the two are alike",
    "SAME_WORK": "the two are the same work",
}
_MOST_REASONS: Final = 2


def reason(platform: str, paths: Sequence[Mapping[str, Any]]) -> str:
    """One sentence or two: the event that spoke most for an item and how, and what else spoke for it.

    Args:
        platform: the item's.
        paths: of the answer's item, as serve.api.Path has them; largest contribution first.
    """
    by_event: dict[str, list[Mapping[str, Any]]] = {}
    for path in paths:
        if path["event"] is not None and path["contribution"] > 0:
            by_event.setdefault(path["event"]["item_id"], []).append(path)
    ordered = sorted(by_event.values(), key=lambda group: -sum(path["contribution"] for path in group))
    if not ordered:
        return f"Liked by many on {platform}."
    how = list(dict.fromkeys(_how(path) for path in ordered[0]))[:_MOST_REASONS]
    first = f"Because you {_did(ordered[0][0]['event'])}: {' and '.join(how)}."
    if len(ordered) == 1:
        return first
    return f"{first} You also {_did(ordered[1][0]['event'])}."


def reason_of_similar(title: str) -> str:
    """Why an item is among those like another."""
    return f"Like “{title}”."


def _did(event: Mapping[str, Any]) -> str:
    verb = _DID.get(event["type"], event["type"].lower().replace("_", " "))
    value = f" {event['value']:g}" if event["type"] == "RATED" and event["value"] is not None else ""
    return f"{verb} “{event['title']}”{value}"


def _how(path: Mapping[str, Any]) -> str:
    if path["via"] is not None:
        kind, _, name = path["via"].partition(":")
        return f"both have the {kind.replace('_', ' ')} “{name}”"
    return _LEADS.get(path["relation"], f"the two are near by {path['relation'].lower().replace('_', ' ')}")
