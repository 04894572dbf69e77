"""The shelf: a bundle's answers, without the items that were deleted and with those that were put since it was made.

A deletion holds from the next request on, in every replica, since each request asks the catalogue for the number of its
last change. An item that was put comes in as soon as its text has been read, which a thread sees to.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graph.errors import IsthmusError, SnapshotError
from graph.vectors import read_vectors
from serve.catalogue import Catalogue, Change
from serve.errors import ServeError
from serve.recommender import Recommender

if TYPE_CHECKING:
    from models.text import TextEncoder

POLL_S: Final = 0.25
RETRY_S: Final = 30.0
"""How long texts wait after they could not be read."""

_LOG = logging.getLogger("isthmus.shelf")


class Shelf:
    """What is on offer in one replica. Safe to use from many threads."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._changes: dict[str, Change] = {}
        self._seen = 0
        self._offered: dict[int, _Offered] = {}

    def of(self, base: Recommender) -> Recommender:
        """The recommender over a bundle as it is to answer now."""
        self._look()
        found = self._offered.get(id(base))
        return self.grow(base) if found is None or found.base is not base else found.shown

    def grow(self, base: Recommender) -> Recommender:
        """Bring in what was put since; takes as long as copying the weights of the bundle's sparse part."""
        self._look()
        with self._lock:
            changes = dict(self._changes)
        put = [change for change in changes.values() if change.item is not None and change.stand_ins]
        grown = base.grown(put) if put else base
        with self._lock:
            shown = _without(grown, self._deleted())
            offered = _Offered(base, grown, shown, is_current=self._changes == changes)
            # Two are in use while one takes the other's place, and a few beside each other in a trial.
            self._offered = dict(list(self._offered.items())[-7:]) | {id(base): offered}
        return shown

    def refresh(self) -> None:
        """Bring what was put into all that is offered, where that has not happened yet."""
        self._look()
        for offered in list(self._offered.values()):
            if not offered.is_current:
                self.grow(offered.base)

    def _look(self) -> None:
        if self._catalogue.newest() == self._seen:
            return
        with self._lock:
            changes = self._catalogue.since(self._seen)
            if not changes:
                return
            self._changes |= {change.key: change for change in changes}
            deleted = self._deleted()
            self._offered = {
                key: replace(offered, shown=_without(offered.grown, deleted), is_current=False)
                for key, offered in self._offered.items()
            }
            self._seen = changes[-1].number

    def _deleted(self) -> frozenset[str]:
        return frozenset(key for key, change in self._changes.items() if change.item is None)


@dataclass(frozen=True)
class _Offered:
    base: Recommender
    grown: Recommender
    shown: Recommender
    is_current: bool
    """Whether all that was put is in it."""


def _without(recommender: Recommender, deleted: frozenset[str]) -> Recommender:
    return recommender.without(deleted) if deleted else recommender


class Reader:
    """A thread that reads the texts of items that were put, one replica of the machine at a time."""

    def __init__(
        self,
        catalogue: Catalogue,
        shelf: Shelf,
        lease: Path,
        read: Callable[[Sequence[Change]], Sequence[dict[str, float]]],
    ) -> None:
        self._catalogue, self._shelf, self._lease, self._read = catalogue, shelf, lease, read
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shelf", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End after what is at hand; what is left is read after the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s = POLL_S
        while not self._stop.wait(wait_s):
            wait_s = POLL_S
            try:
                self.step()
            except Exception as error:  # whatever it is, answers go on and the next try may do
                wait_s = RETRY_S
                known = isinstance(error, IsthmusError)
                _LOG.warning("items that were put wait for %.0f s: %s", RETRY_S, error, exc_info=not known)

    def step(self) -> None:
        """Read what waits, unless another replica is at it, and bring in what was read."""
        if self._catalogue.unread():
            lease = os.open(self._lease, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if changes := self._catalogue.unread():
                    self._catalogue.read(changes, self._read(changes))
            except BlockingIOError:
                pass
            finally:
                os.close(lease)
        self._shelf.refresh()


class Texts:
    """Finds what stands in for items by their texts, among the items of the bundle in use."""

    def __init__(
        self, vectors: Path, open_model: Callable[[str], "TextEncoder"], base: Callable[[], Recommender]
    ) -> None:
        """
        Args:
            vectors: the folder in which isthmus embed keeps a folder of vectors for each text model.
            open_model: opens a text model by the name that the bundle gives.
        """
        self._vectors, self._open_model, self._base = vectors, open_model, base
        self._model: tuple[str, TextEncoder] | None = None

    def __call__(self, changes: Sequence[Change]) -> list[dict[str, float]]:
        """What stands in for each of the items; nothing for those without text, and on platforms the bundle lacks.

        Raises: ServeError where the bundle's text vectors are not on this machine; TextError.
        """
        from models.grown import find_stand_ins, has_events

        bundle = self._base().bundle
        name = bundle.manifest.get("text_model")
        texts = [change.item.description if change.item else "" for change in changes]
        read = [place for place, text in enumerate(texts) if text and changes[place].key.platform in bundle.platforms]
        found: list[dict[str, float]] = [{} for _ in changes]
        if not read:
            return found
        try:
            vectors, _ = read_vectors(self._vectors / str(name) / "Item.parquet", bundle.items.keys)
        except SnapshotError as error:
            raise ServeError(
                f"items that were put are not recommended before the next training: the text vectors of {name}, which "
                f"the bundle was trained with, are not below {self._vectors} ({error})"
            ) from error
        if self._model is None or self._model[0] != name:
            self._model = str(name), self._open_model(str(name))
        encoded = self._model[1].encode([texts[place] for place in read])
        warm = has_events(bundle)
        for platform in {changes[place].key.platform for place in read}:
            lines = [line for line, place in enumerate(read) if changes[place].key.platform == platform]
            there = warm & (bundle.item_platform == bundle.platforms.index(platform))
            allowed = there if (there & vectors.any(axis=1)).any() else warm
            keys = bundle.items.keys
            for line, found_ in zip(lines, find_stand_ins(encoded[lines], vectors, allowed, keys), strict=True):
                found[read[line]] = found_
        return found


def named_model(name: str, configured: str | None) -> str:
    """What opens the text model whose vectors are filed under `name`; see models.text.vectors_name."""
    from models.text import vectors_name

    if configured is not None and vectors_name(configured) == name:
        return configured
    return name.replace("--", "/")
