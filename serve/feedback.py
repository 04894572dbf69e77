"""Feedback: what became of the lists that were answered, in totals by variant and model.

An answer leaves its id, variant, model and size here, an event that names it what it was: no person, no item. Both are
gathered in memory and written about once a second, so a `kill -9` loses a second of them and no request waits. The
newest million lists are remembered; what comes later about an older one is not counted.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from graph.records import Event
from serve.database import Database
from serve.errors import OutboxError

FLUSH_S: Final = 1.0
MOST_LISTS: Final = 1_000_000
PATIENCE_S: Final = 60.0
"""How long something about a list waits for the list itself, which another replica may not have written yet."""
CONVERTING_WEIGHT: Final = 0.7
SURVEY: Final = "survey"
"""The key of an event's context under which a person's answer to a question about the list is, a number."""
_MOST_WAITING: Final = 100_000

_LOG = logging.getLogger("isthmus.feedback")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS lists (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, variant TEXT NOT NULL, model TEXT NOT NULL,
    clicked INTEGER NOT NULL DEFAULT 0, converted INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS outcomes (
    id TEXT NOT NULL, clicked INTEGER NOT NULL, converted INTEGER NOT NULL, rating REAL, survey REAL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS totals (
    variant TEXT, model TEXT, lists INTEGER NOT NULL DEFAULT 0, items INTEGER NOT NULL DEFAULT 0,
    clicked INTEGER NOT NULL DEFAULT 0, converted INTEGER NOT NULL DEFAULT 0,
    ratings INTEGER NOT NULL DEFAULT 0, rating_sum REAL NOT NULL DEFAULT 0,
    surveys INTEGER NOT NULL DEFAULT 0, survey_sum REAL NOT NULL DEFAULT 0, PRIMARY KEY (variant, model));
"""


@dataclass(frozen=True, slots=True)
class Total:
    """What became of the lists of one model under one variant."""

    variant: str
    model: str
    lists: int
    items: int
    clicked: int
    """Lists of which something was taken up."""
    converted: int
    """Lists of which something was bought, played, saved: an event of weight .7 or more, ratings aside."""
    ratings: int
    rating_sum: float
    surveys: int
    survey_sum: float


class Feedback(Database):
    """The file, and what is on its way to it."""

    def __init__(self, path: Path) -> None:
        """Open it, making it where it is missing. Raises: OutboxError."""
        super().__init__(path, _SCHEMA, durable=False)
        self._shown: deque[tuple[str, str, str, int]] = deque(maxlen=_MOST_WAITING)
        self._heard: deque[tuple[str, bool, bool, float | None, float | None, float]] = deque(maxlen=_MOST_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feedback", daemon=True)

    def start(self) -> None:
        """Begin to write once a second."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self.flush()

    def shown(self, id: str, variant: str, model: str, items: int) -> None:
        """A list was answered."""
        self._shown.append((id, variant, model, items))

    def heard(self, events: Iterable[Event]) -> None:
        """Events were accepted for the first time; those that name a list are about it."""
        for event in events:
            id = event.context.get("recommendation_id")
            if not isinstance(id, str):
                continue
            is_rating = event.type == "RATED"
            survey = event.context.get(SURVEY)
            self._heard.append(
                (
                    id,
                    event.weight > 0,
                    event.weight >= CONVERTING_WEIGHT and not is_rating,
                    event.value if is_rating else None,
                    float(survey) if isinstance(survey, int | float) and not isinstance(survey, bool) else None,
                    time.time(),
                )
            )

    def flush(self) -> None:
        """Write what was gathered, and add what is known by now to the totals."""
        shown = [self._shown.popleft() for _ in range(len(self._shown))]
        heard = [self._heard.popleft() for _ in range(len(self._heard))]
        if not shown and not heard and not self.read("SELECT 1 FROM outcomes LIMIT 1"):
            return
        with self.write() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO lists (id, variant, model) VALUES (?, ?, ?)", [one[:3] for one in shown]
            )
            connection.executemany(
                "INSERT INTO totals (variant, model, lists, items) VALUES (?, ?, 1, ?) "
                "ON CONFLICT DO UPDATE SET lists = lists + 1, items = items + excluded.items",
                [one[1:] for one in shown],
            )
            connection.executemany("INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?)", heard)
            for what in ("clicked", "converted"):
                # A list counts once, however often something of it was taken up.
                first = (
                    "SELECT DISTINCT o.id FROM outcomes o JOIN lists l USING (id) "  # noqa: S608
                    f"WHERE o.{what} AND NOT l.{what}"
                )
                connection.execute(
                    f"INSERT INTO totals (variant, model, {what}) "  # noqa: S608
                    f"SELECT variant, model, count(*) FROM lists WHERE id IN ({first}) GROUP BY variant, model "
                    f"ON CONFLICT DO UPDATE SET {what} = {what} + excluded.{what}"
                )
                connection.execute(f"UPDATE lists SET {what} = 1 WHERE id IN ({first})")  # noqa: S608
            connection.execute(
                "INSERT INTO totals (variant, model, ratings, rating_sum, surveys, survey_sum) "
                "SELECT l.variant, l.model, count(o.rating), coalesce(sum(o.rating), 0), count(o.survey), "
                "coalesce(sum(o.survey), 0) FROM outcomes o JOIN lists l USING (id) WHERE true "
                "GROUP BY l.variant, l.model "
                "ON CONFLICT DO UPDATE SET ratings = ratings + excluded.ratings, "
                "rating_sum = rating_sum + excluded.rating_sum, surveys = surveys + excluded.surveys, "
                "survey_sum = survey_sum + excluded.survey_sum"
            )
            connection.execute(
                "DELETE FROM outcomes WHERE at < ? OR id IN (SELECT id FROM lists)", (time.time() - PATIENCE_S,)
            )
            connection.execute("DELETE FROM lists WHERE number <= (SELECT max(number) FROM lists) - ?", (MOST_LISTS,))

    def totals(self) -> list[Total]:
        """By variant and model."""
        columns = "variant, model, lists, items, clicked, converted, ratings, rating_sum, surveys, survey_sum"
        return [Total(*row) for row in self.read(f"SELECT {columns} FROM totals ORDER BY variant, model")]  # noqa: S608

    def close(self) -> None:
        """Give back the file; safe to call again."""
        self._stop.set()
        super().close()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_S):
            try:
                self.flush()
            except OutboxError as error:
                _LOG.warning("a second of feedback is lost: %s", error)


def prometheus(totals: Sequence[Total]) -> bytes:
    """The totals as Prometheus reads them."""
    name = "isthmus_feedback_total"
    lines = [f"# HELP {name} Lists answered, and what became of them.", f"# TYPE {name} counter"]
    for total in totals:
        for what in ("lists", "items", "clicked", "converted", "ratings", "rating_sum", "surveys", "survey_sum"):
            labels = f'variant="{total.variant}",model="{total.model}",what="{what}"'
            lines.append(f"{name}{{{labels}}} {getattr(total, what)}")
    return ("\n".join(lines) + "\n").encode() if totals else b""
