"""Preference: what a value says of how much a person wants an item, beside what that person gives otherwise.

A value is read as its share of the way from the lowest to the highest value of its platform's scale (the "percent of
maximum possible" of Cohen et al., Multivariate Behavioral Research 34(3), 1999), so values of all platforms compare.
Expected of a person is the mean of their shares so far, shrunk towards the neutral value of the scale:

    expected = (SHRINKAGE * neutral + sum of earlier shares) / (SHRINKAGE + number of earlier shares)

which is the b_u of Koren, "Factor in the Neighbors" (ACM TKDD 4(1), 2010), section 2.1, without items' deviations and
with a neutral value that a mapping states in the place of the overall mean. Only what came before counts: no event
changes what an earlier one says, and nothing of the future gets into the past.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from graph.records import AttributeValue, Event

SHRINKAGE: Final = 10.0
"""After so many values a person's own mean counts as much as the neutral value: lambda_3 of Koren for Netflix."""

LOW: Final = "value_low"
HIGH: Final = "value_high"
NEUTRAL: Final = "value_neutral"
"""Properties of an event whose value is to be read beside the person's others; its mapping says so (per_person)."""

_EQUAL: Final = 1e-6
"""What the rounding of sums may make of nothing."""


def scale_of(low: float, high: float, neutral: float) -> Mapping[str, AttributeValue]:
    """The properties that mark an event's value."""
    return {LOW: low, HIGH: high, NEUTRAL: neutral}


def preferences(
    user: NDArray[np.int64],
    value: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    neutral: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How far each value is above what is expected of its person, from -1 to 1.

    Args:
        user: [E] rows of people; the events of each stand together, in the order they happened.
        value, low, high, neutral: [E] each on the scale of its platform.
    """
    width = high - low
    share, middle = (value - low) / width, (neutral - low) / width
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    lengths = np.diff(starts, append=len(user))
    before = np.arange(len(user)) - np.repeat(starts, lengths)
    summed = np.cumsum(share) - share
    summed -= np.repeat(summed[starts], lengths)
    found: NDArray[np.float64] = share - (SHRINKAGE * middle + summed) / (SHRINKAGE + before)
    found[np.abs(found) < _EQUAL] = 0.0
    return found


def signs(preference: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where a person gave at least what was expected of them, -1 below."""
    return np.where(preference >= 0, 1.0, -1.0)


def event_weights(events: Sequence[Event]) -> list[float]:
    """The weights of one person's events, oldest first, as a snapshot's interactions have them."""
    weights = [event.weight for event in events]
    marked = [(at, scale) for at, event in enumerate(events) if (scale := _scale(event)) is not None]
    if marked:
        columns = np.array([scale for _, scale in marked], np.float64).T
        found = preferences(np.zeros(len(marked), np.int64), *columns)
        for (at, _), sign in zip(marked, signs(found).tolist(), strict=True):
            weights[at] = abs(weights[at]) * sign
    return weights


def _scale(event: Event) -> tuple[float, float, float, float] | None:
    """Value, lowest, highest and neutral value; None where the value is to be read by itself."""
    if event.value is None or NEUTRAL not in event.context:
        return None
    low, high, neutral = (event.context.get(name) for name in (LOW, HIGH, NEUTRAL))
    if not (isinstance(low, int | float) and isinstance(high, int | float) and isinstance(neutral, int | float)):
        return None
    return (event.value, low, high, neutral) if low < high else None


def scales(context: pa.ChunkedArray) -> Mapping[str, NDArray[np.float64]]:
    """The scale in each context (a canonical JSON object), NaN where there is none; nothing where none has one."""
    if not pc.any(pc.match_substring(context, f'"{NEUTRAL}":')).as_py():
        return {}
    found = {}
    for name in (LOW, HIGH, NEUTRAL):
        number = pc.struct_field(pc.extract_regex(context, f'"{name}":(?P<number>[-+.0-9eE]+)'), "number")
        found[name] = pc.fill_null(pc.cast(number, pa.float64()), float("nan")).to_numpy()
    return found
