"""Retraining: what has come since the bundle in use was trained, whether that is worth training again, and who begins.

One replica of the machine at a time, the holder of a file lock, measures every few minutes and writes what it found to
a file that all of them read. Where the settings say so, it begins the job too.
"""

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from graph.errors import IsthmusError
from graph.store import Store
from models.bundle import read_manifest
from models.drift import drift
from serve.jobs import Job, Jobs
from serve.metrics import gauges_page
from serve.newest import Newest
from serve.registry import Registry, replace_file

Mode = Literal["propose", "start"]

EVERY_S: Final = 300.0
"""How often it is measured. Neo4j keeps the counts that are asked for; SQLite reads an index."""
POLL_S: Final = 2.0
"""How soon a changed plan is noticed."""

_LOG = logging.getLogger("isthmus.retraining")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When training again is proposed, and how soon it may begin by itself."""

    share: float = 0.1
    """New events, as a share of those that the bundle was trained on …"""
    events: int = 1000
    """… if they are so many at least; drift too is told of so many only (see models.drift)."""
    drift: float = 0.25
    """Population stability index of any feature: a change that matters (Lewis 1994, Siddiqi 2006)."""
    cool_down_s: float = 24 * 3600.0
    """From the end of one retraining, however it ended, to one that begins by itself."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found."""

    at: float
    """Seconds since 1970."""
    version: str
    """The bundle that answers; of several variants the first."""
    snapshot: str | None
    trained_on: int | None
    """Events of its snapshot; None where its manifest does not say."""
    new: int | None
    """Events that the store has beyond those; None where the store could not be asked."""
    sampled: int
    """Events over HTTP since the snapshot that drift is told of."""
    drift: Mapping[str, float] = field(default_factory=dict)
    """By feature; none where too few events are new."""

    @property
    def share(self) -> float | None:
        """New events by those that the bundle was trained on."""
        return None if self.new is None or not self.trained_on else self.new / self.trained_on


@dataclass(frozen=True, slots=True)
class Proposal:
    """Whether to train again, and why."""

    proposed: bool
    why: str


def propose(measured: Measured | None, thresholds: Thresholds) -> Proposal:
    """The rule: enough events are new, or what people do has drifted."""
    if measured is None:
        return Proposal(False, f"nothing was measured yet: that happens every {EVERY_S:.0f} s")
    if measured.trained_on is None:
        return Proposal(
            False, f"the bundle {measured.version} does not say what it was trained on: train once with this Isthmus"
        )
    drifted = {name: value for name, value in measured.drift.items() if value > thresholds.drift}
    if drifted:
        worst = max(drifted, key=drifted.__getitem__)
        return Proposal(
            True,
            f"what people do has drifted: the population stability index by {worst} is {drifted[worst]:.2f}, above "
            f"{thresholds.drift:g}, over {measured.sampled:,} events since the bundle was trained",
        )
    if measured.new is None or measured.share is None:
        return Proposal(False, "the store could not be asked how many events it has: it is asked again")
    said = f"{measured.new:,} events are new to a bundle trained on {measured.trained_on:,} ({measured.share:.1%})"
    if measured.new >= thresholds.events and measured.share >= thresholds.share:
        return Proposal(True, said)
    least = max(thresholds.events, round(thresholds.share * measured.trained_on))
    return Proposal(False, f"{said}: training again is worth it from {least:,} on, or when what people do drifts")


def may_start(
    proposal: Proposal, mode: Mode, last: Job | None, now: float, thresholds: Thresholds, *, variants: int = 1
) -> bool:
    """Whether a retraining may begin by itself.

    Args:
        last: the newest retraining, whoever asked for it: none begins beside one, nor soon after one.
        variants: bundles that answer people side by side; a comparison of yours is not ended by us.
    """
    if mode != "start" or not proposal.proposed or variants != 1:
        return False
    if last is None:
        return True
    return last.ended is not None and now - last.ended.timestamp() >= thresholds.cool_down_s


def read(var: Path) -> Measured | None:
    """What was measured last; None where nothing was, or by another version."""
    try:
        return Measured(**json.loads(_file(var).read_text()))
    except (OSError, ValueError, TypeError):
        return None


class Watch:
    """Measures, and begins a retraining where it is to, while it holds the lease."""

    def __init__(
        self,
        registry: Registry,
        newest: Newest,
        jobs: Jobs,
        ask: Callable[[Callable[[Store], int]], int | None],
        *,
        mode: Mode = "propose",
        thresholds: Thresholds | None = None,
    ) -> None:
        """
        Args:
            ask: asks the store, and gives None where it does not answer.
        """
        self._registry, self._newest, self._jobs, self._ask = registry, newest, jobs, ask
        self._mode, self._thresholds = mode, thresholds or Thresholds()
        self._var = jobs.path.parent
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retraining", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def look(self, now: float) -> Measured:
        """Measure now, tell all replicas, and begin a retraining if it is time. Raises: IsthmusError, OSError."""
        plan = self._registry.plan()
        found = self._measure(Path(plan.variants[0].bundle), now)
        replace_file(_file(self._var), json.dumps(asdict(found)).encode())
        proposal, last = propose(found, self._thresholds), self._jobs.newest("retrain")
        if may_start(proposal, self._mode, last, now, self._thresholds, variants=len(plan.variants)):
            job = self._jobs.add("retrain", {"plan": plan.tag})
            _LOG.warning("retraining begins by itself as job %s: %s", job.id, proposal.why)
        return found

    def _measure(self, bundle: Path, now: float) -> Measured:
        manifest = read_manifest(bundle)
        version, snapshot, said = str(manifest["version"]), manifest.get("snapshot"), manifest.get("events")
        if said is None:
            return Measured(now, version, snapshot, None, None, 0)
        stored = self._ask(count_events)
        sampled, counts = self._newest.counts(_cut(self._var, snapshot, bundle))
        drifted = drift(said["counts"], counts) if sampled >= self._thresholds.events else {}
        new = None if stored is None else max(0, stored - said["count"])
        return Measured(now, version, snapshot, said["count"], new, sampled, drifted)

    def _run(self) -> None:
        lease = os.open(self._var / "retraining.lease", os.O_CREAT | os.O_RDWR, 0o600)
        seen, due = None, 0.0
        try:
            while not self._stop.wait(POLL_S):
                try:
                    fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                state = self._registry.state()
                if state == seen and time.monotonic() < due:
                    continue
                seen, due = state, time.monotonic() + EVERY_S
                try:
                    self.look(time.time())
                except (IsthmusError, OSError) as error:
                    _LOG.warning("drift is measured again in %.0f s: %s", EVERY_S, error)
        finally:
            os.close(lease)


def count_events(store: Store) -> int:
    """How many events a store has."""
    edges = store.counts().edges
    return sum(edges.get(type, 0) for type in store.event_types())


def prometheus(measured: Measured | None, proposal: Proposal) -> bytes:
    """The figures as Prometheus reads them; those that are not known are left out."""
    gauges: list[tuple[str, str, Mapping[str, float]]] = []
    gauges.append(("isthmus_retraining_proposed", "1 if training again is proposed.", {"": int(proposal.proposed)}))
    if measured is not None and measured.new is not None:
        gauges.append(("isthmus_new_events", "Events that the bundle was not trained on.", {"": measured.new}))
    if measured is not None and measured.drift:
        labelled = {f'{{by="{name}"}}': value for name, value in measured.drift.items()}
        gauges.append(("isthmus_drift", "Population stability index of the newest events.", labelled))
    return gauges_page(*gauges)


def _cut(var: Path, snapshot: str | None, bundle: Path) -> float:
    """When the snapshot was cut, as far as its file says; the bundle was written a training later."""
    manifests = [var / "snapshots" / str(snapshot) / "manifest.json", bundle / "manifest.json"]
    return next(file.stat().st_mtime for file in manifests if file.is_file())


def _file(var: Path) -> Path:
    return var / "retraining.json"
