"""A follow that looks when it is asked to."""

import threading
from pathlib import Path

from graph.keys import Pseudonyms
from graph.store import Store
from ingest.follow import follow
from ingest.mapping import read_mapping
from ingest.report import IngestReport

PSEUDONYMS = Pseudonyms(b"0123456789abcdef")


class Follower:
    """One that reads what the folder's shop.yaml describes."""

    def __init__(self, store: Store, data: Path) -> None:
        self.said: list[str] = []
        self._stop = threading.Event()
        mapping = read_mapping(data / "shop.yaml")
        self._looks = follow(
            [mapping], store, PSEUDONYMS, data / "var", data=data, stop=self._stop, say=self.said.append, look_s=0.001
        )

    def look(self) -> dict[str, tuple[int, int, int, int]]:
        """What became of what was found, by the end of its name; waits until there is something."""
        return counted(next(self._looks))

    def end(self) -> None:
        self._stop.set()
        assert not list(self._looks)


def counted(report: IngestReport) -> dict[str, tuple[int, int, int, int]]:
    """Read, accepted, duplicates and rejected of each file, by the end of its name."""
    return {
        each.file.rpartition("/")[2]: (each.read, each.accepted, each.duplicates, each.rejected)
        for each in report.files
    }
