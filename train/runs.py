"""Runs: trainings kept below var/training, each in a folder that what it was trained on names; none is done twice."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from train.loop import Inputs, LoopConfig, TrainingError
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

    @classmethod
    def newest(cls, var: Path) -> "Run":
        """The run that ended last below a var folder; TrainingError if none has."""
        results = sorted((var / "training").glob(f"*/{_RESULT}"), key=lambda file: file.stat().st_mtime)
        if not results:
            raise TrainingError(f"nothing was trained below {var}: run isthmus train first, or name its --var")
        said = json.loads(results[-1].read_text())["run"]
        return cls(said["snapshot"], said["text_model"], LoopConfig.from_dict(said["config"]), var)

    @cached_property
    def folder(self) -> Path:
        """Where its checkpoints and logs are."""
        content = json.dumps(self._said, sort_keys=True).encode()
        return self.var / "training" / hashlib.blake2b(content, digest_size=8).hexdigest()

    @property
    def inputs(self) -> Inputs:
        """Where its workers find what they train on."""
        return Inputs(
            self.var / "snapshots" / self.snapshot, self.var / "vectors" / self.text_model, self.folder / "log"
        )

    def result(self) -> TrainingResult | None:
        """What it left, or None where it has not ended."""
        file = self.folder / _RESULT
        if not file.exists():
            return None
        said: Mapping[str, Any] = json.loads(file.read_text())["result"]
        checkpoint = self.folder / said["checkpoint"]
        return TrainingResult(**{**said, "checkpoint": checkpoint}) if checkpoint.is_dir() else None

    def fit(self, who: WorkerConfig, progress: Progress | None = None) -> TrainingResult:
        """Train, going on where a run that was killed had come; a run that has ended is not done again."""
        done = self.result()
        if done is not None:
            return done
        result = train(self.inputs, self.config, who, self.folder, progress)
        said = {**asdict(result), "checkpoint": os.path.relpath(result.checkpoint, self.folder)}
        (self.folder / _RESULT).write_text(json.dumps({"run": self._said, "result": said}) + "\n")
        return result

    def bundle(self) -> Path | None:
        """The bundle that was released from it, if one was."""
        for manifest in sorted((self.var / "bundles").glob("*/manifest.json")):
            said = json.loads(manifest.read_text())
            if {
                "snapshot": said["snapshot"],
                "text_model": said["text_model"],
                "config": said["training"],
            } == self._said:
                return manifest.parent
        return None

    @property
    def _said(self) -> dict[str, Any]:
        return {"snapshot": self.snapshot, "text_model": self.text_model, "config": asdict(self.config)}
