"""Quarantine: the rows a run did not take, as Parquet under var/quarantine/<origin>/, to be looked at and tried again.

Parquet cannot be appended to, so each batch of a file that has bad rows is a part of its own, renamed into place in one
step: a run that is killed leaves what it found, whole. When a file has been read to its end, the parts of earlier runs
over it go; until then the newest part that names a line counts. So a row is listed once, however often it is read.

What is kept is what retry needs and a person understands: the place, the rule, and the one value that broke it,
without mail addresses, telephone numbers and ids of accounts. Whose row it was is kept as a pseudonym, so that it can
be erased.
"""

import fcntl
import hashlib
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from graph.keys import AccountKey
from ingest.errors import IngestError
from ingest.mapping import suggestion
from ingest.parse import Rejected
from ingest.rules import Rule
from ingest.sources.files import ExportFile, Stretch
from ingest.sources.growing import Place, is_begun
from ingest.sources.kafka import Partition

SCHEMA: Final = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("mapping", pa.string(), nullable=False),
        pa.field("section", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("data", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("field", pa.string(), nullable=False),
        pa.field("value", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("advice", pa.string(), nullable=False),
        pa.field("account", pa.string()),
        pa.field("file_state", pa.string(), nullable=False),
        pa.field("rejected_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""One rejected row; `file` is relative to `data`, `file_state` says whether it is still the file that was read."""

_DRAFT: Final = ".writing"

LONGEST: Final = 200
"""Characters of a value that are kept."""

_MOST_PARTS: Final = 100
"""Parts of one origin; more, as they come of following a file, become one."""


class Origin(NamedTuple):
    """Where rows come from: one file, read for one section of a mapping."""

    mapping: Path
    """The mapping's file, absolute."""
    section: str
    """items, events …"""
    position: int
    """Counted from 0 where the mapping reads this file for several sections of this name."""
    data: str
    """The data directory, absolute, or its URL without secrets."""
    file: str
    """Relative to the data directory; or its URL without secrets."""
    shared: bool = False
    """Several mappings may name it, and whichever comes first reads it: a table of identities over all platforms."""

    @property
    def digest(self) -> str:
        """The name of its folder in quarantine."""
        mapping = "" if self.shared else str(self.mapping)
        text = "\x1f".join((mapping, self.section, str(self.position), self.data, self.file))
        return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()


_GROWING: Final = "begins"


def state_of(file: ExportFile) -> str:
    """What tells a file from what it was: its size and when it was changed, as far as its file system knows.

    Of a stretch of a growing file it is what the file begins with, so that lines stay known when there are more.
    """
    if isinstance(file, Partition):
        return str(file.end)
    if file.stretch is not None:
        return f"{_GROWING} {file.stretch.stop} {file.stretch.fingerprint}"
    about = file.file_system.info(file.path)
    changed = next(
        (about[name] for name in ("mtime", "LastModified", "last_modified", "updated", "ETag") if name in about), ""
    )
    return f"{about.get('size')} {changed}"


def is_still(file: ExportFile, state: str) -> bool:
    """Whether the lines of a file are what they were in this state of it."""
    if isinstance(file, Partition):
        return True  # an offset names one message for good
    if not state.startswith(f"{_GROWING} "):
        return state == state_of(file)
    _, offset, fingerprint = state.split(" ")
    return is_begun(file, Place(int(offset), 0, fingerprint))


def as_read(file: ExportFile, states: Collection[str], lines: Collection[int]) -> ExportFile:
    """The file as far as these lines of it are known by these states of it: the beginning of one that has grown."""
    if isinstance(file, Partition):
        return file.between(min(lines), max(lines) + 1) if lines else file
    offset, fingerprint = max(
        ((int(state.split(" ")[1]), state.split(" ")[2]) for state in states if state.startswith(_GROWING)),
        default=(0, ""),
    )
    return replace(file, size=offset, stretch=Stretch(b"", 0, offset, 0, fingerprint)) if offset else file


@contextmanager
def alone(var: Path) -> Iterator[None]:
    """Hold what rewrites the quarantine now and again apart: what follows files, and a retry."""
    var.mkdir(parents=True, exist_ok=True)
    with (var / "ingest.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class BadRow(NamedTuple):
    """A row that was not taken."""

    line: int
    reason: Rejected
    """Its value as `redact` leaves it: what it holds is kept."""
    account: AccountKey | None = None
    """Whose it is, where that can be read."""


class UnknownRuleError(IngestError, ValueError):
    """A name that no rule has."""


class Quarantine:
    """The quarantine as one run writes it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._now = datetime.now(UTC)
        self._run = f"{self._now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"

    def add(self, origin: Origin, state: str, rows: Sequence[BadRow]) -> None:
        """Write bad rows of one file, in a state of it, down; they are on disk when this returns.

        Raises: IngestError if they cannot be written: a run does not go on without knowing what it left out.
        """
        folder = self._directory / origin.digest
        path = folder / f"{rows[0].line:012}-{self._run}.parquet"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _replace(path, self._table(origin, state, rows))
        except OSError as error:
            raise IngestError(
                f"bad rows cannot be put into {self._directory}: {error.strerror}; make room or give another --var, "
                "and repeat the run, which adds only what is missing"
            ) from None

    def settle(self, origin: Origin, line: int = 0) -> None:
        """The file has been read from a line to its end: what earlier runs found there no longer counts.

        Where many parts are left, as they come of following a file, they become one.
        """
        folder = self._directory / origin.digest
        for path in folder.glob(f"*{_DRAFT}"):
            path.unlink(missing_ok=True)
        for path in folder.glob("*.parquet"):
            if self._run not in path.stem and int(path.stem.partition("-")[0]) >= line:
                path.unlink(missing_ok=True)
        paths = sorted(folder.glob("*.parquet"))
        if line > 1 and len(paths) > _MOST_PARTS:
            rows = _newest(_parts(folder))
            _replace(folder / f"{rows['line'][0].as_py():012}-{self._run}-all.parquet", rows)
            for path in paths:
                path.unlink()
        _remove_if_empty(folder)

    def _table(self, origin: Origin, state: str, rows: Sequence[BadRow]) -> pa.Table:
        same = {
            "origin": origin.digest,
            "mapping": str(origin.mapping),
            "section": origin.section,
            "position": origin.position,
            "data": origin.data,
            "file": origin.file,
            "file_state": state,
            "rejected_at": self._now,
        }
        columns = {
            "line": [row.line for row in rows],
            "field": [row.reason.field for row in rows],
            "value": [row.reason.value for row in rows],
            "rule": [str(row.reason.rule) for row in rows],
            "detail": [row.reason.detail for row in rows],
            "advice": [row.reason.rule.advice for row in rows],
            "account": [row.account for row in rows],
        } | {name: [value] * len(rows) for name, value in same.items()}
        return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


@dataclass(frozen=True, slots=True)
class Broken:
    """Rejected rows of one file that broke one rule in one field."""

    file: str
    section: str
    field: str
    rule: Rule
    rows: int
    first: int
    """The lowest line."""
    detail: str
    """What is wrong in one of them, as the end of a sentence that begins with the value."""

    def __str__(self) -> str:
        what = f"{self.field or 'the row'} {self.detail}"
        return f"{self.rows:9,} x {self.rule}: {what} ({self.file}, {self.section}, first in line {self.first})"


def quarantined(var: Path) -> pa.Table:
    """All rejected rows, each once, by file and line.

    Raises: IngestError if a part cannot be read.
    """
    tables = [SCHEMA.empty_table()]
    for folder in _folders(var):
        tables += [_newest(_parts(folder))]
    return pa.concat_tables(tables).sort_by([("data", "ascending"), ("file", "ascending"), ("line", "ascending")])


def groups(rows: pa.Table) -> list[Broken]:
    """Rejected rows by file, rule and field, the most frequent first."""
    by = ["data", "file", "section", "field", "rule"]
    counted = rows.group_by(by).aggregate([("line", "count"), ("line", "min"), ("detail", "min")])
    counted = counted.sort_by([("line_count", "descending"), ("file", "ascending"), ("line_min", "ascending")])
    return [
        Broken(
            row["file"],
            row["section"],
            row["field"],
            _RULES[row["rule"]],
            row["line_count"],
            row["line_min"],
            row["detail_min"],
        )
        for row in counted.to_pylist()
    ]


def where(rows: pa.Table, *, rule: str | None = None, file: str | None = None) -> pa.Table:
    """The rejected rows of a rule, and of files whose name holds a text.

    Raises: UnknownRuleError if there is no such rule.
    """
    if rule is not None:
        if rule not in _RULES:
            near = suggestion(rule, list(_RULES)) or f": the rules are {', '.join(_RULES)}"
            raise UnknownRuleError(f"{rule!r} is no rule{near}")
        rows = rows.filter(pc.equal(rows["rule"], rule))
    if file is not None:
        rows = rows.filter(pc.match_substring(rows["file"], file))
    return rows


@dataclass(frozen=True, slots=True)
class Waiting:
    """The rejected rows of one file and section."""

    origin: Origin
    lines: frozenset[int]
    states: frozenset[str]
    """What `state_of` said of the file when they were read."""


def waiting(var: Path) -> list[Waiting]:
    """What there is to try again, file by file; raises IngestError if a part cannot be read."""
    found = []
    for folder in _folders(var):
        rows = _newest(_parts(folder))
        if not len(rows):
            continue
        newest = rows.slice(len(rows) - 1).to_pylist()[0]
        origin = Origin(Path(newest["mapping"]), newest["section"], newest["position"], newest["data"], newest["file"])
        if origin.digest != folder.name:
            origin = origin._replace(shared=True)
        lines, states = (frozenset(pc.unique(rows[name]).to_pylist()) for name in ("line", "file_state"))
        found.append(Waiting(origin, lines, states))
    return sorted(found, key=lambda each: each.origin)


def forget(var: Path, accounts: Collection[AccountKey]) -> int:
    """Remove the rejected rows of these accounts, for an erasure; returns how many there were.

    Rows that were too broken to say whose they are hold no value and nothing of the row.
    """
    gone = pa.array([str(account) for account in accounts], pa.string())
    forgotten = 0
    for folder in _folders(var):
        for draft in folder.glob(f"*{_DRAFT}"):  # of a run that was killed
            draft.unlink()
        for path in folder.glob("*.parquet"):
            rows = _read(path)
            kept = rows.filter(pc.invert(pc.is_in(rows["account"], value_set=gone)))
            if len(kept) == len(rows):
                continue
            forgotten += len(rows) - len(kept)
            if len(kept):
                _replace(path, kept)
            else:
                path.unlink()
        _remove_if_empty(folder)
    return forgotten


_RULES: Final = {str(rule): rule for rule in Rule}

_MAIL: Final = re.compile(r"[^\s@,;:<>\"'()]+@[^\s@,;:<>\"'()]+")
_PHONE: Final = re.compile(r"\+\d[\d ()./-]{6,}\d|(?<![\w.:-])\(?0\d{1,5}\)?[ /-]+\d[\d /-]{3,}\d")
"""International, or local with its code set apart; bare digits are more often a time or an item's id."""


def redact(value: str, private: Iterable[str] = ()) -> str:
    """A value without mail addresses, telephone numbers and these private texts, and cut where it is long."""
    for secret in sorted({text.strip() for text in private}, key=len, reverse=True):
        if secret and (secret == value.strip() or len(secret) > 2):
            value = value.replace(secret, "‹id›")
    value = _PHONE.sub("‹phone›", _MAIL.sub("‹mail›", value))
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"


def _folders(var: Path) -> Iterator[Path]:
    yield from (path for path in sorted((var / "quarantine").glob("*")) if path.is_dir())


def _parts(folder: Path) -> pa.Table:
    return pa.concat_tables([SCHEMA.empty_table(), *(_read(path) for path in sorted(folder.glob("*.parquet")))])


def _newest(rows: pa.Table) -> pa.Table:
    """Of the rows of one origin, the one that was written last for each line; in the order they were written."""
    import polars as pl

    frame = pl.DataFrame({"line": rows["line"].to_numpy(), "at": rows["rejected_at"].cast(pa.int64()).to_numpy()})
    last = frame.with_row_index("row").sort("at", maintain_order=True).unique("line", keep="last", maintain_order=True)
    return rows.take(pa.array(last["row"].to_numpy()))


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, schema=SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise IngestError(
            f"{path} cannot be read ({str(error).splitlines()[0][:200]}): delete it, and ingest the file it is of again"
        ) from None


def _replace(path: Path, rows: pa.Table) -> None:
    """Write a part beside its place and rename it, in one step."""
    draft = path.with_suffix(_DRAFT)
    pq.write_table(rows, draft, compression="zstd")
    draft.replace(path)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
