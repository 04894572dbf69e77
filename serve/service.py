"""What the routes use: a bundle's answers, the live state, the outbox and the threads to ask them on."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeVar

from graph.keys import AccountKey, Pseudonyms, UserKey
from graph.store import Store
from graph.tombstones import Tombstones
from serve import retraining
from serve.access import Guard
from serve.cursors import Cursors
from serve.feedback import Feedback
from serve.follow import Follower
from serve.jobs import Jobs
from serve.live import Live, Past, alone
from serve.metrics import Metrics
from serve.outbox import Outbox
from serve.recommender import Recommender
from serve.retraining import Measured, Mode, Proposal, Thresholds
from serve.search import Search
from serve.shadow import Shadow
from serve.shelf import Shelf
from serve.variants import Variants

STORE_TIMEOUT_S: Final = 0.3
"""How long an answer waits for the store before it goes on without it, as all do until the store answers again."""

_T = TypeVar("_T")


@dataclass
class Service:
    """A replica's parts, as the routes use them."""

    live: Live
    outbox: Outbox
    pseudonyms: Pseudonyms
    metrics: Metrics
    guard: Guard = field(default_factory=Guard)
    """Left out, everybody who reaches this server may do everything."""
    search: Search | None = None
    """Where texts can be searched."""
    follower: Follower | None = None
    """What keeps `variants` at the plan of a registry; None where a test sets them."""
    retrain: Mode = "propose"
    """Whether a retraining that is proposed begins by itself."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    """When it is proposed."""
    store_pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(16, "store"))
    """For questions to the store, which may hang."""
    disk_pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, "disk"))
    """For the outbox. Ranking stays on the event loop."""

    def __post_init__(self) -> None:
        self.shelf = Shelf(self.outbox.catalogue)
        self._variants: Variants | None = None

    @property
    def variants(self) -> Variants:
        """The bundles that answer, as they were made; setting them swaps: a request ends with what it began with."""
        assert self._variants is not None  # noqa: S101
        return self._variants

    @variants.setter
    def variants(self, variants: Variants) -> None:
        for variant in variants.variants:
            self.shelf.grow(variant.recommender)
        self._variants = variants

    @property
    def recommender(self) -> Recommender:
        """The answers of the first variant, with what was put and without what was deleted since: the same for a whole
        request. Setting it lets one bundle answer everybody."""
        return self.shelf.of(self.base)

    @recommender.setter
    def recommender(self, base: Recommender) -> None:
        self.variants = Variants.alone(base)

    @property
    def base(self) -> Recommender:
        """The answers of the first variant as its bundle was made."""
        return self.variants.variants[0].recommender

    @cached_property
    def shadow(self) -> Shadow:
        """Asks the variants' shadow besides."""
        return Shadow(self.metrics)

    @cached_property
    def tombstones(self) -> Tombstones:
        """Who was erased on this machine; the store knows of all, and takes nothing of theirs from the outbox."""
        return Tombstones(self.outbox.path.parent)

    @cached_property
    def cursors(self) -> Cursors:
        """Of all replicas, which share the secret."""
        return Cursors(self.pseudonyms.digest("cursors").encode())

    @cached_property
    def jobs(self) -> Jobs:
        """Long work, beside the outbox."""
        return Jobs(self.outbox.path.with_name("jobs.db"))

    @cached_property
    def feedback(self) -> Feedback:
        """What became of the lists that were answered."""
        return Feedback(self.outbox.path.with_name("feedback.db"))

    def proposal(self) -> tuple[Measured | None, Proposal]:
        """What one of the replicas measured last, and whether to train again."""
        measured = retraining.read(self.outbox.path.parent)
        return measured, retraining.propose(measured, self.thresholds)

    def is_erased(self, person: UserKey | AccountKey) -> bool:
        """Whether a person or account was erased, or is about to be."""
        return bool(self.tombstones.erased([person]))

    @property
    def is_ready(self) -> bool:
        """Whether there is a bundle to answer from."""
        return self._variants is not None

    async def past(self, person: UserKey | AccountKey) -> Past:
        """What a person did; nothing, if they were erased."""
        if self.is_erased(person):
            return Past((), degraded=False, user=alone(person))
        if self.live.store_rests:
            return self.live.of(person)
        platforms = self.recommender.bundle.platforms
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                return await in_pool(self.store_pool, lambda: self.live.of(person, platforms))
        except TimeoutError:
            late = TimeoutError(f"no answer from the store within {STORE_TIMEOUT_S} s")
            return self.live.without_store(person, late)

    async def ask(self, question: Callable[[Store], _T]) -> _T | None:
        """What the store says, or None where it cannot be had now."""
        if self.live.store_rests:
            return None
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                return await in_pool(self.store_pool, lambda: self.live.ask(question))
        except TimeoutError:
            self.live.rest(TimeoutError(f"no answer from the store within {STORE_TIMEOUT_S} s"))
            return None

    async def outbox_counts(self) -> tuple[int, int]:
        """Events on their way, and refused ones."""
        return await in_pool(self.disk_pool, self.outbox.counts)

    def close(self) -> None:
        """Give back the threads; what they hold is the owner's."""
        if self.search is not None:
            self.search.close()
        self.store_pool.shutdown(wait=False, cancel_futures=True)
        self.disk_pool.shutdown()
        for name in {"jobs", "feedback", "shadow"} & self.__dict__.keys():
            getattr(self, name).close()
        self.guard.close()


def in_pool(pool: ThreadPoolExecutor, work: Callable[[], _T]) -> asyncio.Future[_T]:
    """Do `work` on a thread of `pool`, while the event loop goes on."""
    return asyncio.get_running_loop().run_in_executor(pool, work)
