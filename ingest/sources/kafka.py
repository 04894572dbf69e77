"""A Kafka topic: each partition is a file that grows, a message is a row of JSON, and its offset stands for the line.

How far a mapping has read a topic is kept by Kafka, as the committed offsets of a group of its own.
"""

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ingest.errors import SourceError, SourceUnavailableError
from ingest.sources.files import ExportFile, Stretch
from ingest.sources.json_lines import record_of
from ingest.sources.records import Record, Records
from ingest.sources.rows import Malformed

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

PROPERTIES: Final = "ISTHMUS_KAFKA_PROPERTIES"
"""The environment's name for a file of librdkafka's properties (security.protocol=SASL_SSL …), one a line."""

MESSAGES: Final = 50_000
"""Offsets that are read before it is noted that they were."""

TIMEOUT_S: Final = 20.0
"""How long a broker may take to answer."""


@dataclass(frozen=True, slots=True)
class Partition(ExportFile):
    """One partition of a topic as it was when it was found; its size is the offset after its last message."""

    servers: str = ""
    topic: str = ""
    number: int = 0
    oldest: int = 0
    """The offset of its oldest message: those before it were deleted by Kafka."""

    @property
    def end(self) -> int:
        return self.size or 0

    def now(self) -> "Partition":
        """The partition as it is now.

        Raises: SourceUnavailableError.
        """
        with _explained(self.shown):
            oldest, end = _consumer(self.servers, "isthmus").get_watermark_offsets(self._at(), timeout=TIMEOUT_S)
        return replace(self, oldest=oldest, size=end)

    def between(self, start: int, stop: int) -> "Partition":
        """The messages of these offsets alone."""
        stretch = Stretch(b"", start, stop, start - 1, "")
        return replace(self, stretch=stretch)

    def committed(self, group: str) -> int | None:
        """How far a group has read it; None where it has not begun.

        Raises: SourceUnavailableError.
        """
        with _explained(self.shown):
            (found,) = _consumer(self.servers, group).committed([self._at()], timeout=TIMEOUT_S)
            if found.error is not None:
                raise _unavailable(self.shown, found.error)
            return None if found.offset < 0 else found.offset

    def commit(self, group: str, offset: int) -> None:
        """Note that a group has read all messages before this offset; Kafka has it when this returns.

        Raises: SourceUnavailableError.
        """
        with _explained(self.shown):
            for done in _consumer(self.servers, group).commit(offsets=[self._at(offset)], asynchronous=False) or ():
                if done.error is not None:
                    raise _unavailable(self.shown, done.error)

    def _at(self, offset: int = -1) -> Any:
        from confluent_kafka import OFFSET_INVALID, TopicPartition

        return TopicPartition(self.topic, self.number, OFFSET_INVALID if offset < 0 else offset)


def partitions(url: str) -> list[Partition]:
    """The partitions of a topic; none when there is no such topic.

    Args:
        url: kafka://host:port,host:port/topic.
    Raises: SourceError if the URL names no topic or the driver is missing; SourceUnavailableError.
    """
    servers, topic = _parts(url)
    with _explained(url):
        consumer = _consumer(servers, "isthmus")
        found = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
        if found.error is not None:
            if found.error.name() == "UNKNOWN_TOPIC_OR_PART":
                return []
            raise _unavailable(url, found.error)
        each = []
        for number in sorted(found.partitions):
            name = f"{url.rstrip('/')}/{number}"
            each.append(Partition(None, name, name, name, None, servers=servers, topic=topic, number=number).now())
    return each


class MessageSource:
    """The messages of a partition, from the oldest or those of a stretch.

    Args:
        declared, wanted: as in `Records`; a column that none of the first messages has is empty in them.
    """

    def __init__(self, file: Partition, declared: Sequence[str] = (), wanted: Collection[str] | None = None) -> None:
        self._file = file
        stretch = file.stretch
        self._start = self._next = max(file.oldest, 0 if stretch is None else stretch.start)
        self._stop = file.end if stretch is None else stretch.stop
        with _explained(file.shown):
            self._consumer = _connect(file.servers, "isthmus")
            self._consumer.assign([file._at(self._start)])
        self.close = self._consumer.close
        try:
            records = Records(self._decoded(), [*declared, *(wanted or ())], wanted)
        except SourceError:
            self.close()
            raise
        self.columns, self.rows = records.columns, records.rows

    def position(self) -> float:
        return (self._next - self._start) / max(1, self._stop - self._start)

    def _decoded(self) -> Iterator[tuple[int, Record | Malformed]]:
        while self._next < self._stop:
            with _explained(self._file.shown):
                message = self._consumer.poll(TIMEOUT_S)
            if message is None:
                raise _unavailable(self._file.shown, f"no message came in {TIMEOUT_S:g} s")
            if (offset := self._offset(message)) is None:
                continue
            self._next = offset + 1
            if offset < self._stop and message.error() is None:
                yield offset, _decode(message.value())

    def _offset(self, message: "Message") -> int | None:
        """Where the partition has been read to; None for news of the connection, which mends itself."""
        if (error := message.error()) is None:
            return message.offset()
        if error.name() != "_PARTITION_EOF":
            if error.retriable() or error.name() in {"_TRANSPORT", "_ALL_BROKERS_DOWN"}:
                return None
            raise _unavailable(self._file.shown, error)
        if (message.offset() or 0) < self._stop:
            raise _unavailable(self._file.shown, f"it ends at {message.offset()} and not at {self._stop}")
        return self._stop - 1


def _decode(value: str | bytes | None) -> Record | Malformed:
    if value is None:
        return Malformed("is a message without a value")
    try:
        return record_of(value if isinstance(value, str) else value.decode())
    except UnicodeDecodeError:
        return Malformed("has bytes that are not utf-8", undecodable=True)


def _parts(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    topic = parts.path.strip("/")
    if "@" in parts.netloc or parts.query:
        raise SourceError(
            f"{url} holds a user or settings: put librdkafka's properties (sasl.username=…) into a file, and its name "
            f"into {PROPERTIES}"
        )
    if not parts.netloc or not topic or "/" in topic:
        raise SourceError(f"{url} names no topic: write kafka://host:9092/topic")
    return parts.netloc, topic


@lru_cache
def _consumer(servers: str, group: str) -> "Consumer":
    """One that asks and notes, and is never told to read."""
    return _connect(servers, group)


def _connect(servers: str, group: str) -> "Consumer":
    try:
        from confluent_kafka import Consumer
    except ImportError as error:
        raise SourceError(
            f"Kafka needs a driver that is not installed: pip install 'isthmus[kafka]' ({error})"
        ) from None
    log = logging.getLogger("isthmus.kafka")
    log.addHandler(logging.NullHandler())  # what the driver would print, our errors say
    return Consumer(
        _properties()
        | {
            "bootstrap.servers": servers,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "allow.auto.create.topics": False,
        },
        logger=log,
    )


def _properties() -> dict[str, Any]:
    """The properties of the file that the environment names. Raises: SourceError, without what the file holds."""
    path = os.environ.get(PROPERTIES)
    if not path:
        return {}
    try:
        lines = [line.strip() for line in Path(path).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{PROPERTIES} names {path}, which cannot be read ({type(error).__name__})") from None
    given = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = line.partition("=")
        if line and not line.startswith("#"):
            if not equals:
                raise SourceError(f"{path}: line {number} is no property: write name=value")
            given[name.strip()] = value.strip()
    return given


@contextmanager
def _explained(shown: str) -> Iterator[None]:
    """What the driver raises, as one sentence."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        if type(error).__name__ != "KafkaException":
            raise
        raise _unavailable(shown, error.args[0]) from None


def _unavailable(shown: str, error: object) -> SourceUnavailableError:
    said = error.str() if hasattr(error, "str") else str(error)
    return SourceUnavailableError(f"{shown} cannot be read: {said}; see to the broker")
