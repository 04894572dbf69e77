"""The log of the replicas: a JSON object a line, in one file of `var/logs` that they share, of bounded size."""

import fcntl
import logging
import os
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 64 << 20
"""From here on the file is put aside as serve.jsonl.1, over the one before."""
FIELDS: Final = {"levelname": "level", "name": "logger"}


def write_logs(folder: Path) -> None:
    """Let all that this process says under `isthmus`, from INFO on, go to `serve.jsonl` in `folder`."""
    from pythonjsonlogger.orjson import OrjsonFormatter

    folder.mkdir(parents=True, exist_ok=True)
    handler = _SharedFile(folder / "serve.jsonl")
    handler.setFormatter(
        OrjsonFormatter(["levelname", "name", "process", "message"], rename_fields=FIELDS, timestamp="at")
    )
    logger = logging.getLogger("isthmus")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


class _SharedFile(WatchedFileHandler):
    """Several processes append to one file, and go on with a new one when one of them has put it aside."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        super().__init__(path, encoding="utf-8")
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.stream is not None and os.fstat(self.stream.fileno()).st_size >= MAX_BYTES:
                self._put_aside()
            super().emit(record)
        except OSError:
            self.handleError(record)  # to stderr: a full disk is no reason not to answer

    def _put_aside(self) -> None:
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._path.stat().st_size >= MAX_BYTES:
                self._path.replace(self._path.with_suffix(".jsonl.1"))
                self._path.touch(mode=0o600)
