"""What an epoch brought, for people: lines of JSON, TensorBoard, and MLflow where its environment names a server."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graph.errors import IsthmusError

if TYPE_CHECKING:
    pass

LINES: Final = "metrics.jsonl"
SERVER: Final = "MLFLOW_TRACKING_URI"
"""The variable by which MLflow itself is told where its server is; unset, nothing is sent anywhere."""
_EXPERIMENT: Final = "isthmus"
_KEPT: Final = "mlflow-run"
_NOT_IN_NAMES: Final = re.compile(r"[^\w\-. :/]")


class LogError(IsthmusError):
    """Metrics that cannot be sent as asked."""


class Log:
    """Writes metrics as they come."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        """
        Args:
            folder: where lines and TensorBoard's files go; a run that goes on writes on in the same ones.
            config: what MLflow shows as the run's parameters.
        Raises: LogError if an MLflow server is named and the library is not installed.
        """
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._lines = folder / LINES
        self._board = SummaryWriter(str(folder))
        self._mlflow = _MLflow(folder, config) if os.environ.get(SERVER) else None

    def write(self, metrics: Mapping[str, float]) -> None:
        """Numbers of one epoch, among them "epoch"."""
        with self._lines.open("a") as stream:
            stream.write(json.dumps(metrics) + os.linesep)
        for name, value in metrics.items():
            self._board.add_scalar(name, value, int(metrics["epoch"]))
        self._board.flush()
        if self._mlflow is not None:
            self._mlflow.write(metrics)


class _MLflow:
    """One run on an MLflow server, which a training that was stopped takes up again."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at its import
        try:
            from mlflow import MlflowClient
        except ModuleNotFoundError as missing:
            raise LogError(
                f"{SERVER} is set but {missing.name} is missing: pip install 'isthmus[mlflow]', or unset it"
            ) from missing
        self._client: MlflowClient = MlflowClient()
        kept = folder / _KEPT
        if kept.exists():
            self._run = kept.read_text()
            return
        found = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(_EXPERIMENT)
        self._run = self._client.create_run(experiment, run_name=folder.parent.name).info.run_id
        for name, value in _flat(config):
            self._client.log_param(self._run, name, value)
        kept.write_text(self._run)

    def write(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self._run, _NOT_IN_NAMES.sub("_at_", name), value, step=int(metrics["epoch"]))


def _flat(config: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield within + name, value
