"""The registry: the bundles below a folder, and the plan that says which of them answer; all replicas follow its file.

The plan is one small file that is replaced whole, so a replica that starts again, or a server that does, goes on with
what was chosen last. Whoever changes it may say which plan was meant (its tag), so that two people cannot undo each
other unseen.
"""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from models.bundle import Bundle, BundleError, newest_bundle, read_manifest
from serve.errors import ServeError
from serve.variants import DEFAULT

_PLAN: Final = "serving.json"


class RegistryError(ServeError):
    """The plan cannot be read, written, or is none."""


class PlanChangedError(RegistryError):
    """Somebody changed the plan in between."""


@dataclass(frozen=True)
class Choice:
    """A bundle and its share of the people."""

    name: str
    version: str
    bundle: str
    """The path of its folder."""
    share: float = 1.0

    @classmethod
    def of(cls, bundle: Path, name: str = DEFAULT, share: float = 1.0) -> Self:
        """That of a folder. Raises: BundleError if there is none in it."""
        return cls(name, str(read_manifest(bundle)["version"]), str(bundle.resolve()), share)


@dataclass(frozen=True)
class Plan:
    """Which bundles answer."""

    variants: Sequence[Choice]
    shadow: Choice | None = None
    """Is asked besides and shown to nobody; its share says nothing."""
    chosen: bool = False
    """Over HTTP, so it outlives a restart; else it is what the server was started with."""

    def __post_init__(self) -> None:
        names = [choice.name for choice in self.variants]
        if not names or len(set(names)) < len(names):
            raise RegistryError(f"the variants are called {', '.join(names) or 'nothing'}: give each a name of its own")
        total = sum(choice.share for choice in self.variants)
        if min(choice.share for choice in self.variants) <= 0 or abs(total - 1) > 1e-6:
            raise RegistryError(f"the shares of the variants add up to {total:g}: give shares above 0 that make 1")

    @classmethod
    def alone(cls, bundle: Path, *, chosen: bool = False) -> Self:
        """One bundle for everybody. Raises: BundleError if there is none in the folder."""
        return cls((Choice.of(bundle),), chosen=chosen)

    @property
    def bundles(self) -> list[Path]:
        """All that it needs, each once."""
        return [Path(path) for path in dict.fromkeys(choice.bundle for choice in self.all)]

    @property
    def versions(self) -> set[str]:
        """Those of its bundles."""
        return {choice.version for choice in self.all}

    @property
    def all(self) -> list[Choice]:
        """The shadow included."""
        return [*self.variants, *([] if self.shadow is None else [self.shadow])]

    @property
    def tag(self) -> str:
        """Which plan this is, for If-Match."""
        return hashlib.blake2b(_content(self), digest_size=8).hexdigest()


class Registry:
    """Bundles below a folder and the plan. Any number of processes may use it at once."""

    def __init__(self, bundles: Path, var: Path) -> None:
        """
        Args:
            bundles: where `isthmus train` writes them.
            var: where the plan is kept.
        """
        self.bundles, self._var = Path(bundles), Path(var)
        self._file = self._var / _PLAN

    def manifests(self) -> list[dict[str, Any]]:
        """What the bundles below the folder say of themselves, the newest first; damaged ones are left out."""
        found = []
        for file in sorted(self.bundles.glob("[!.]*/manifest.json"), key=_written, reverse=True):
            try:
                found.append({**read_manifest(file.parent), "written_at": _written(file)})
            except BundleError:
                continue
        return found

    def path(self, version: str) -> Path:
        """The folder of a version. Raises: BundleError if there is none."""
        used = {choice.version: choice.bundle for choice in self.plan().all} if self._file.exists() else {}
        path = Path(used.get(version, self.bundles / version))
        if not (path / "manifest.json").is_file():
            raise BundleError(f"there is no bundle {version} below {self.bundles}: GET /v1/models lists what there is")
        return path

    def plan(self) -> Plan:
        """The plan now. Raises: RegistryError."""
        try:
            fields = json.loads(self._file.read_text())
            shadow = fields["shadow"]
            choices = tuple(Choice(**choice) for choice in fields["variants"])
            return Plan(choices, None if shadow is None else Choice(**shadow), fields["chosen"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RegistryError(
                f"the plan {self._file} cannot be read ({type(error).__name__}): start with isthmus serve --bundle"
            ) from error

    def at_start(self, bundle: Path | None) -> Plan:
        """The plan to start with: a given bundle, or what was chosen over HTTP, or the newest.

        Raises: BundleError if there is no bundle, or one of them is damaged.
        """
        plan = None
        if bundle is None and self._file.exists():
            plan = self.plan()
        if plan is None or not plan.chosen:
            plan = Plan.alone(bundle or newest_bundle(self.bundles))
        for path in plan.bundles:
            Bundle.open(path)
        return self.choose(plan)

    def choose(self, plan: Plan, *, if_match: str | None = None) -> Plan:
        """Make it the plan; returns it. Its bundles have been opened before: nobody can answer from a damaged one.

        Args:
            if_match: the tag of the plan that this one replaces.
        Raises: PlanChangedError if another plan is in force than `if_match` says, RegistryError; the old plan stays.
        """
        with self._locked():
            if if_match is not None and if_match != (now := self.plan().tag):
                raise PlanChangedError(f"the plan is {now} by now, not {if_match}: look at it again first")
            replace_file(self._file, _content(plan))
        return plan

    def state(self) -> tuple[int, int] | None:
        """Something that differs whenever the file was replaced; None without a file."""
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._var.mkdir(parents=True, exist_ok=True)
            with (self._var / f".{_PLAN}.lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise RegistryError(f"the plan {self._file} cannot be written ({error}): give a writable folder") from error


def _content(plan: Plan) -> bytes:
    return json.dumps(asdict(plan), indent=2, sort_keys=True).encode()


def _written(file: Path) -> float:
    return file.stat().st_mtime


def replace_file(file: Path, content: bytes) -> None:
    """Write it beside and put it in place, on disk before anybody is told."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
