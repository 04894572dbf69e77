"""A training run: Ray Train's workers, their checkpoints, what happens when one of them dies."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph.cluster import start_ray
from train.log import LINES
from train.loop import METRIC, Inputs, LoopConfig, TrainingError, train_on_worker, worker_values

Progress = Callable[[dict[str, Any]], None]
"""Is told the metrics of every epoch as it ends."""


@dataclass(frozen=True)
class WorkerConfig:
    """Who trains."""

    workers: int = 1
    """Ray workers, each with its share of people and, where neighbours are drawn, of the id vectors (`train.sharded`);
    0 trains in this process without a cluster."""
    gpu: bool | None = None
    """Whether each worker takes a GPU; None takes one when this machine has one."""
    cpus_per_worker: int = 1
    """Cores that each worker takes."""
    max_failures: int = 3
    """How often the workers are started again from the last checkpoint when one dies."""
    address: str | None = None
    """The Ray cluster to join; None starts one of this process's own on this machine."""

    def __post_init__(self) -> None:
        if self.workers < 0 or self.cpus_per_worker < 1 or self.max_failures < 0:
            raise ValueError(
                f"workers is {self.workers}, cpus_per_worker {self.cpus_per_worker}, max_failures "
                f"{self.max_failures}: give at least 0, 1 and 0"
            )


@dataclass(frozen=True)
class TrainingResult:
    """What a run left."""

    checkpoint: Path
    """Folder of the last checkpoint; the best weights are in it too."""
    best: float
    """Validation NDCG@10 of the best epoch, of the dense part alone."""
    epochs: int
    seconds: float
    parameters: int = 0
    """Numbers that were trained; 0 where a run of before does not say."""


def train(
    inputs: Inputs, config: LoopConfig, who: WorkerConfig, storage: Path, progress: Progress | None = None
) -> TrainingResult:
    """Train until the epochs or the patience end.

    Args:
        storage: a folder that all workers share; checkpoints go below it. A run that was killed goes on from there.
        progress: called in another thread.
    Raises: TrainingError if the workers failed more often than allowed.
    """
    import ray
    import ray.train
    import ray.train.torch
    import torch
    from ray.exceptions import RayError
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.exceptions import TrainingFailedError

    started = time.perf_counter()
    gpu = torch.cuda.is_available() if who.gpu is None else who.gpu
    if who.workers:
        start_ray(who.address, log_to_driver=True)
    storage.mkdir(parents=True, exist_ok=True)
    trainer = ray.train.torch.TorchTrainer(
        train_on_worker,
        train_loop_config=worker_values(inputs, config, None if who.workers else storage / "in-process"),
        scaling_config=ScalingConfig(
            num_workers=who.workers,
            use_gpu=gpu,
            resources_per_worker=None
            if who.workers == 0
            else {"CPU": who.cpus_per_worker, **({"GPU": 1} if gpu else {})},
        ),
        run_config=RunConfig(
            name="run",
            storage_path=str(storage.absolute()),
            failure_config=FailureConfig(max_failures=who.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    with _following(inputs.log / LINES, progress):
        try:
            result = trainer.fit()
        except (RayError, TrainingFailedError) as error:
            raise TrainingError(
                f"training failed ({error}); its checkpoints are in {storage}, run the same command again to go on"
            ) from error
    if result.checkpoint is None or result.metrics is None:
        raise TrainingError(f"training left no checkpoint in {storage}: run the same command again")
    told, seconds = result.metrics, time.perf_counter() - started
    return TrainingResult(Path(result.checkpoint.path), told["best"], told["epoch"], seconds, told.get("parameters", 0))


class _following:  # noqa: N801 - used like a function
    """Reads the lines that the first worker adds to a file, in a thread, while the block runs."""

    def __init__(self, file: Path, progress: Progress | None) -> None:
        self._file, self._progress = file, progress
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self._file.unlink(missing_ok=True)
        if self._progress is not None:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._progress is not None:
            self._thread.join()

    def _follow(self) -> None:
        seen = 0
        while True:
            done = self._done.wait(0.3)
            written = self._file.read_text() if self._file.exists() else ""
            lines = written[: written.rfind("\n") + 1].splitlines()  # the last one may be half written
            for line in lines[seen:]:
                self._progress(json.loads(line))  # type: ignore[misc]
            seen = len(lines)
            if done:
                return


__all__ = ["METRIC", "Inputs", "LoopConfig", "TrainingError", "TrainingResult", "WorkerConfig", "train"]
