"""Runs: trainings kept below var/training, each in a folder that what it was trained on names; none is done twice."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from graph.snapshot import read_snapshot
from graph.vectors import digests, read_vectors
from train.adapt import Start
from train.data import FORM
from train.loop import BEST, Inputs, LoopConfig, TrainingError
from train.run import Progress, TrainingResult, WorkerConfig, train

_RESULT: Final = "result.json"


@dataclass(frozen=True)
class Run:
    """One configuration on one snapshot with one text model's vectors."""

    snapshot: str
    """The snapshot's id."""
    text_model: str
    """The name of the folder of its vectors."""
    config: LoopConfig
    var: Path
    start: Start | None = None
    """The earlier run that it begins with; None begins with random weights."""
    vectors: tuple[str, ...] = ()
    """The names of the folders of vectors of other kinds, of images or sound."""
    ended_with: Mapping[str, str | None] | None = field(default=None, compare=False)
    """The digests of the vectors of a run that is read back; None takes those of the files of now, when first asked."""

    @classmethod
    def newest(cls, var: Path) -> "Run":
        """The run that ended last below a var folder; TrainingError if none has."""
        for _, said in _ended(var):
            return cls._read(said["run"], var)
        if any((var / "training").glob(f"*/{_RESULT}")):
            raise TrainingError(f"what was trained below {var} is of an earlier program: run isthmus train again")
        raise TrainingError(f"nothing was trained below {var}: run isthmus train first, or name its --var")

    @classmethod
    def _read(cls, said: Mapping[str, Any], var: Path) -> "Run":
        start = Start.below(var, said["start"]) if "start" in said else None
        config, held = LoopConfig.from_dict(said["config"]), said["vectors"]
        others = tuple(name for name in held if name != said["text_model"])
        return cls(said["snapshot"], said["text_model"], config, var, start, others, held)

    def continued(self, platform: str | None = None) -> "Run":
        """This run, beginning with the best weights of the newest one that ended on another snapshot and fits.

        A run on the same snapshot is not continued, so that asking twice does not train twice.

        Args:
            platform: train its parameters alone, see `Start.platform`.
        Raises: TrainingError if there is no such run or platform, or the split would ask for what was trained on.
        """
        if self.config.split != "leave_one_out":
            raise TrainingError(
                f"the split {self.config.split} parts a new snapshot anew and may ask for events that the "
                "earlier run was trained on: continue with leave_one_out, or train without --continue"
            )
        platforms = sorted(set(read_snapshot(self.inputs.snapshot).items["platform"].to_pylist()))
        if platform is not None and platform not in platforms:
            raise TrainingError(f"{platform!r} is none of the platforms {', '.join(platforms)}: name one of them")
        for folder, said in _ended(self.var):
            earlier = self._read(said["run"], self.var)
            weights = Path(said["result"]["checkpoint"]) / BEST
            there = earlier.inputs.snapshot.is_dir() and (folder / weights).is_file()
            if there and earlier.snapshot != self.snapshot and _learned_alike(earlier, self):
                start = Start(folder, earlier.inputs.snapshot, str(weights), platform)
                return replace(self, start=start, ended_with=None)
        raise TrainingError(
            f"nothing below {self.var} can be continued on the snapshot {self.snapshot}: that takes a run on another "
            f"snapshot that is still there, with leave_one_out, text vectors of {self.text_model}, the same --vectors "
            "and training.encoder; train without --continue and --adapt"
        )

    @cached_property
    def folder(self) -> Path:
        """Where its checkpoints and logs are; raises SnapshotError where vectors of other kinds are not there."""
        content = json.dumps(self._said, sort_keys=True).encode()
        return self.var / "training" / hashlib.blake2b(content, digest_size=8).hexdigest()

    @property
    def inputs(self) -> Inputs:
        """Where its workers find what they train on."""
        text, *others = (self.var / "vectors" / name for name in (self.text_model, *self.vectors))
        return Inputs(self.var / "snapshots" / self.snapshot, text, self.folder / "log", self.start, tuple(others))

    def result(self) -> TrainingResult | None:
        """What it left, or None where it has not ended."""
        file = self.folder / _RESULT
        if not file.exists():
            return None
        said: Mapping[str, Any] = json.loads(file.read_text())["result"]
        checkpoint = self.folder / said["checkpoint"]
        return TrainingResult(**{**said, "checkpoint": checkpoint}) if checkpoint.is_dir() else None

    def other_now(self) -> list[str]:
        """The names of its vectors whose files hold others than it was trained on; raises SnapshotError."""
        now = digests(self.inputs.vectors, self.inputs.others)
        return [name for name, digest in self._said["vectors"].items() if now[name] != digest]

    def fit(self, who: WorkerConfig, progress: Progress | None = None) -> TrainingResult:
        """Train, going on where a run that was killed had come; a run that has ended is not done again.

        Raises: SnapshotError if there are no text vectors; TrainingError.
        """
        done = self.result()
        if done is not None:
            return done
        read_vectors(self.inputs.vectors / "Item.parquet", ())  # what is missing is said here and not by a worker
        result = train(self.inputs, self.config, who, self.folder, progress)
        said = {**asdict(result), "checkpoint": os.path.relpath(result.checkpoint, self.folder)}
        (self.folder / _RESULT).write_text(json.dumps({"run": self._said, "result": said}) + "\n")
        return result

    def bundle(self) -> Path | None:
        """The bundle that was released from it, if one was."""
        for manifest in sorted((self.var / "bundles").glob("*/manifest.json")):
            said = json.loads(manifest.read_text())
            of = {name: said.get(name) for name in ("form", "snapshot", "text_model", "vectors")}
            of |= {"config": said["training"]} | ({"start": said["start"]} if "start" in said else {})
            if of == self._said:
                return manifest.parent
        return None

    @cached_property
    def _said(self) -> Mapping[str, Any]:
        said: dict[str, Any] = {
            "form": FORM,
            "snapshot": self.snapshot,
            "text_model": self.text_model,
            "vectors": self.ended_with,
            "config": asdict(self.config),
        }
        if self.ended_with is None:
            folder = self.var / "vectors"
            said["vectors"] = digests(folder / self.text_model, [folder / name for name in self.vectors])
        return said if self.start is None else {**said, "start": self.start.named}


def _ended(var: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The folder of each run of this form that ended below a var folder and what it says of itself, newest first."""
    results = (var / "training").glob(f"*/{_RESULT}")
    for file in sorted(results, key=lambda file: file.stat().st_mtime, reverse=True):
        said = json.loads(file.read_text())
        if said["run"].get("form") == FORM:
            yield file.parent, said


def _learned_alike(one: Run, other: Run) -> bool:
    """Whether two runs differ in schedule and data at most."""
    return (one.text_model, one.vectors) == (other.text_model, other.vectors) and all(
        getattr(one.config, name) == getattr(other.config, name) for name in ("encoder", "split", "only_platform")
    )
