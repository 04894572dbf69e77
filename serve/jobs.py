"""Jobs: long work asked for over HTTP, kept on disk and done by processes of the command line, one lane at a time.

A lane is a thread of one replica of the machine, the holder of a file lock, that starts the oldest job of its kinds and
waits for it. Erasures have a lane of their own, so that no training holds them up. A process ends with its lane; a job
that was cut off begins again, a few times at most: all that jobs do may be done twice.
"""

import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from serve.database import Database

Kind = Literal["import", "train", "retrain", "erase", "recommend"]
State = Literal["queued", "running", "done", "failed"]

TRIES: Final[Mapping[Kind, int]] = {"import": 3, "train": 3, "retrain": 3, "erase": 20, "recommend": 3}
"""How often a job is begun. An erasure that fails begins again, as the store may only be down; others do not."""
ERASE_AGAIN_S: Final = 15.0
LANES: Final[Mapping[str, Sequence[Kind]]] = {"erase": ("erase",), "work": ("import", "train", "retrain", "recommend")}
POLL_S: Final = 0.5
STOP_S: Final = 10.0
"""How long a process that is told to end may take."""
_SAID: Final = 2000
"""Characters of what a process printed last that are kept."""

_LOG = logging.getLogger("isthmus.jobs")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, kind TEXT NOT NULL, arguments TEXT NOT NULL,
    state TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, started REAL, ended REAL, said TEXT);
"""
_COLUMNS: Final = "id, kind, arguments, state, tries, created, started, ended, said"


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work."""

    id: str
    kind: Kind
    arguments: Mapping[str, Any]
    """Gone once an erasure is done."""
    state: State
    tries: int
    created: datetime
    started: datetime | None
    ended: datetime | None
    said: str | None
    """What its process printed last, or why it failed."""


class Jobs(Database):
    """The file. Any number of threads and processes may use it at once."""

    def __init__(self, path: Path) -> None:
        """Open it, making it where it is missing. Raises: OutboxError."""
        super().__init__(path, _SCHEMA)

    def add(self, kind: Kind, arguments: Mapping[str, Any]) -> Job:
        """Keep a job to be done; the one that waits already where it is the same."""
        said = orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS).decode()
        with self.write() as connection:
            same = connection.execute(
                "SELECT id FROM jobs WHERE kind = ? AND arguments = ? AND state = 'queued'", (kind, said)
            ).fetchone()
            id = uuid.uuid4().hex if same is None else same[0]
            if same is None:
                connection.execute(
                    "INSERT INTO jobs (id, number, kind, arguments, state, created) "
                    "VALUES (?, (SELECT coalesce(max(number), 0) + 1 FROM jobs), ?, ?, 'queued', ?)",
                    (id, kind, said, time.time()),
                )
        found = self.find(id)
        assert found is not None  # noqa: S101
        return found

    def find(self, id: str) -> Job | None:
        """The job of this id."""
        rows = self.read(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", [id])  # noqa: S608
        return _job(rows[0]) if rows else None

    def newest(self, kind: Kind) -> Job | None:
        """The job of this kind that was asked for last."""
        rows = self.read(f"SELECT {_COLUMNS} FROM jobs WHERE kind = ? ORDER BY number DESC LIMIT 1", [kind])  # noqa: S608
        return _job(rows[0]) if rows else None

    def begin(self, kinds: Sequence[Kind]) -> Job | None:
        """Take the oldest job of these kinds that waits."""
        query = f"""
            UPDATE jobs SET state = 'running', tries = tries + 1, started = ?2 WHERE number = (
                SELECT min(number) FROM jobs WHERE state = 'queued' AND kind IN (SELECT value FROM json_each(?1)))
            RETURNING {_COLUMNS}
        """  # noqa: S608
        if not self.read("SELECT 1 FROM jobs WHERE state = 'queued' LIMIT 1"):
            return None
        with self.write() as connection:
            rows = connection.execute(query, (orjson.dumps(kinds).decode(), time.time())).fetchall()
        return _job(rows[0]) if rows else None

    def end(self, job: Job, *, failed: bool, said: str) -> None:
        """Say what became of a job; of a person who was erased nothing is left here."""
        is_erasure = job.kind == "erase" and not failed
        with self.write() as connection:
            connection.execute(
                "UPDATE jobs SET state = ?, ended = ?, said = ?, arguments = iif(?, '{}', arguments) WHERE id = ?",
                ("failed" if failed else "done", time.time(), None if is_erasure else said, is_erasure, job.id),
            )
        if is_erasure:
            self.empty_log()

    def requeue(self, kinds: Sequence[Kind]) -> int:
        """Let jobs of these kinds that were cut off wait again, or fail after TRIES times; returns how many."""
        query = """
            UPDATE jobs SET state = iif(tries < ?2, 'queued', 'failed'),
                ended = iif(tries < ?2, NULL, ?3), said = iif(tries < ?2, NULL, 'it was cut off ' || tries || ' times')
            WHERE state = 'running' AND kind = ?1
        """
        with self.write() as connection:
            return sum(connection.execute(query, (kind, TRIES[kind], time.time())).rowcount for kind in kinds)


class Lane:
    """A thread that does the jobs of some kinds, one after the other, while it holds the lane's lease."""

    def __init__(self, jobs: Jobs, name: str, environment: Mapping[str, str], folder: Path) -> None:
        """
        Args:
            name: of LANES.
            environment: what `isthmus` finds in its environment, secrets included.
            folder: where it is started, and looks for isthmus.yaml.
        """
        self._jobs, self._kinds, self._name = jobs, LANES[name], name
        self._environment, self._folder = environment, folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"jobs-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, with the process at hand, which begins again after the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S + 5)

    def _run(self) -> None:
        path = self._jobs.path.with_name(f"jobs.{self._name}.lease")
        lease = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            while not self._stop.is_set():
                try:
                    fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._stop.wait(2 * POLL_S)
                    continue
                try:
                    self._work()
                except Exception:
                    _LOG.exception("the lane %s stands still for a moment", self._name)
                    self._stop.wait(10 * POLL_S)
        finally:
            os.close(lease)

    def _work(self) -> None:
        self._jobs.requeue(self._kinds)
        while not self._stop.is_set():
            job = self._jobs.begin(self._kinds)
            if job is None:
                self._stop.wait(POLL_S)
            else:
                self.do(job)

    def do(self, job: Job) -> None:
        """Run a job's process to its end."""
        log = self._jobs.path.parent / "jobs" / f"{job.id}.log"
        log.parent.mkdir(exist_ok=True)
        with open(os.open(log, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600), "r+") as output:
            process = subprocess.Popen(
                [*_ending_with_us(), sys.executable, str(_PROGRAM), *COMMANDS[job.kind](job.arguments, self._var)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(self._environment),
                cwd=self._folder,
            )
            while process.poll() is None and not self._stop.wait(0.05):
                pass
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                return
            output.seek(0)
            said = output.read()[-_SAID:].strip()
        if job.kind == "erase":
            log.unlink()
        if process.returncode < 0:
            _LOG.warning("job %s (%s) was ended by signal %d", job.id, job.kind, -process.returncode)
            self._jobs.requeue(self._kinds)
            return
        failed = process.returncode != 0
        if failed and job.kind == "erase" and job.tries < TRIES["erase"]:
            _LOG.error("job %s (erase) failed and begins again in %.0f s", job.id, ERASE_AGAIN_S)
            self._stop.wait(ERASE_AGAIN_S)
            self._jobs.requeue(self._kinds)
            return
        self._jobs.end(job, failed=failed, said=said)
        if failed:
            _LOG.error("job %s (%s) failed with exit code %d", job.id, job.kind, process.returncode)

    @property
    def _var(self) -> Path:
        return self._jobs.path.parent


_PROGRAM: Final = Path(__file__).resolve().parents[1] / "isthmus.py"
IMPORTS: Final = "imports"
"""The folder below var that mappings and exports are imported from."""
RECOMMENDATIONS: Final = "recommendations"
"""The folder below var that lists are written to."""


def _erase(arguments: Mapping[str, Any], var: Path) -> list[str]:
    return ["erase", arguments["user_id"], "--yes"]


def _train(arguments: Mapping[str, Any], var: Path) -> list[str]:
    return ["train", *_schedule(arguments)]


def _retrain(arguments: Mapping[str, Any], var: Path) -> list[str]:
    plan = arguments.get("plan")
    return ["retrain", *_schedule(arguments), *([] if plan is None else ["--plan", plan])]


def _schedule(arguments: Mapping[str, Any]) -> list[str]:
    epochs = arguments.get("epochs")
    going_on = ["--continue"] if arguments.get("continue") else []
    return [*going_on, *([] if epochs is None else ["--epochs", str(epochs)])]


def _recommend(arguments: Mapping[str, Any], var: Path) -> list[str]:
    file = var.resolve() / RECOMMENDATIONS / f"{arguments['name']}.parquet"
    given = [(f"--{name}", arguments.get(name)) for name in ("limit", "filter", "scenario")]
    # With = a value that begins with a dash is no option.
    return ["recommend", "--to", str(file), *(f"{name}={value}" for name, value in given if value is not None)]


def _import(arguments: Mapping[str, Any], var: Path) -> list[str]:
    folder = var.resolve() / IMPORTS
    return ["ingest", *(str(folder / name) for name in arguments["mappings"]), "--data", str(folder)]


COMMANDS: Final[Mapping[Kind, Callable[[Mapping[str, Any], Path], list[str]]]] = {
    "erase": _erase,
    "train": _train,
    "retrain": _retrain,
    "import": _import,
    "recommend": _recommend,
}
"""What `isthmus` is told for each kind, from a job's arguments and the folder var."""


def environment(given: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """What a job's process finds: `own` variables over those of this process that are not Ray's or this server's."""
    ours = ("RAY_", "PROMETHEUS_")
    return {name: value for name, value in given.items() if not name.startswith(ours)} | dict(own)


def _ending_with_us() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _job(row: Sequence[Any]) -> Job:
    id, kind, arguments, state, tries, *times, said = row
    created, started, ended = (None if at is None else datetime.fromtimestamp(at, UTC) for at in times)
    assert created is not None  # noqa: S101
    return Job(id, kind, orjson.loads(arguments), state, tries, created, started, ended, said)
