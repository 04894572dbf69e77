"""Metrics of each epoch reach lines of JSON, TensorBoard and, where one is named, an MLflow server."""

import builtins
import json
from pathlib import Path

import pytest

from train.log import LINES, Log, LogError

CONFIG = {"epochs": 2, "encoder": {"dim": 64}}


def epoch(number: int) -> dict[str, float]:
    return {"epoch": number, "loss": 1 / number, "ndcg@10": 0.1 * number}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that MLflow itself writes to, in the place of a server."""
    folder = tmp_path / "mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", folder.as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return folder


def test_every_epoch_is_a_line_and_a_point_on_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    log = Log(tmp_path, CONFIG)
    log.write(epoch(1))
    log.write(epoch(2))
    assert [json.loads(line) for line in (tmp_path / LINES).read_text().splitlines()] == [epoch(1), epoch(2)]
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    assert not list(tmp_path.glob("mlflow*"))


def test_mlflow_shows_the_configuration_and_every_epoch_of_a_run_that_was_stopped(server: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folder = tmp_path / "training" / "0123" / "log"
    Log(folder, CONFIG).write(epoch(1))
    Log(folder, CONFIG).write(epoch(2))
    client = MlflowClient()
    experiment = client.get_experiment_by_name("isthmus")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "0123"
    assert run.data.params == {"epochs": "2", "encoder.dim": "64"}
    points = client.get_metric_history(run.info.run_id, "ndcg_at_10")
    assert [(point.step, point.value) for point in points] == [(1, 0.1), (2, 0.2)]


def test_a_server_without_the_library_is_an_error_that_says_what_to_install(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name, *rest):
        if name == "mlflow":
            raise ModuleNotFoundError("No module named 'mlflow'", name="mlflow")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LogError, match=r"pip install 'isthmus\[mlflow\]'"):
        Log(tmp_path / "log", CONFIG)
    assert not server.exists()
