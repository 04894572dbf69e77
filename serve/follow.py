"""Follows the plan: a thread that loads what it names beside what answers, and then puts it in its place."""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from graph.errors import IsthmusError
from models.bundle import Bundle
from serve.recommender import Recommender
from serve.registry import Plan, Registry
from serve.scenarios import Scenario
from serve.variants import Variant, Variants

EVERY_S: Final = 0.2
_LOG = logging.getLogger("isthmus.models")


def load(bundle: Path, scenarios: Mapping[str, Scenario] | None = None) -> Recommender:
    """The answers of a bundle. Raises: BundleError."""
    from models.ranker import Ranker

    opened = Bundle.open(bundle)
    return Recommender(opened, Ranker(opened), scenarios)


class Follower:
    """Keeps a replica at the plan. What cannot be loaded is logged, and the old plan goes on answering."""

    def __init__(
        self, registry: Registry, load: Callable[[Path], Recommender], install: Callable[[Variants], None]
    ) -> None:
        """Load the plan now, before the first request. Raises: BundleError, RegistryError.

        Args:
            load: from a bundle's folder to its answers, such as `load`.
            install: takes what was loaded; called on the thread.
        """
        self.registry, self._load, self._install = registry, load, install
        self._loaded: dict[Path, Recommender] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._state = registry.state()
        self._take(registry.plan())
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        self._thread.start()

    def choose(self, plan: Plan, *, if_match: str | None = None) -> None:
        """Make it the plan, and answer by it here when this returns; the other replicas follow.

        Raises: BundleError if a bundle of it cannot be loaded, RegistryError; then all stays as it was.
        """
        with self._lock:
            for path in plan.bundles:
                if path not in self._loaded:
                    self._loaded[path] = self._load(path)
            self.registry.choose(plan, if_match=if_match)
            self._take(plan)

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stopped.wait(EVERY_S):
            if (state := self.registry.state()) == self._state:
                continue
            self._state = state
            try:
                with self._lock:
                    self._take(self.registry.plan())
            except IsthmusError as error:
                _LOG.error("the bundles in use go on: %s", error)

    def _take(self, plan: Plan) -> None:
        loaded = {path: self._loaded.get(path) or self._load(path) for path in plan.bundles}
        variants = [Variant(choice.name, loaded[Path(choice.bundle)], choice.share) for choice in plan.variants]
        self._install(Variants(variants, None if plan.shadow is None else loaded[Path(plan.shadow.bundle)]))
        self._loaded = loaded
