"""The first look as a person gets it: from nothing to answers over HTTP, and a second time from what is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graph.snapshot import read_snapshot
from graph.store import open_store
from models.bundle import Bundle
from models.explain import explain
from serve.security import free_port

ISTHMUS = Path(sys.executable).with_name("isthmus")


def _demo(var: Path) -> str:
    """What the demo prints with a model that is trained for one epoch."""
    done = subprocess.run(
        [ISTHMUS, "demo", "--once", "--var", var, "--port", str(free_port())],
        env={**os.environ, "ISTHMUS_TRAINING__EPOCHS": "1", "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _answers(shown: str) -> str:
    return shown.partition("fetched over HTTP")[2].partition("API")[0]


@pytest.mark.timeout(900)
def test_the_demo_walks_the_whole_road_and_a_second_time_reuses_it(tmp_path):
    first = _demo(tmp_path)
    for stage in ("fetch", "ingest", "embed", "snapshot", "train", "compare", "release", "Ray Serve"):
        assert re.search(rf"✓ .*{stage}.* s ", first), stage
    for model in ("popularity", "item-knn", "ease", "isthmus"):
        assert re.search(rf"{model}( +│ +0\.\d\d\d){{4}}", first), model
    answers = _answers(first)
    assert re.search(r"old-films +│ \S.* │ +-?\d+\.\d\d +│ [+-]\d+\.\d\d ", answers), answers
    assert re.search(r"new-films +│ \S.* │ +-?\d+\.\d\d +│ [+-]\d+\.\d\d ", answers), answers
    assert re.search(r"curl -s http://127\.0\.0\.1:\d+/v1/recommendations", first)
    with open_store(f"sqlite:///{tmp_path / 'demo' / 'graph.db'}") as store:
        counts = store.counts()
    assert counts.nodes["Item"] == 1682
    assert counts.nodes["User"] == 943
    assert counts.edges["RATED"] == 100_000
    assert counts.edges["LEADS_TO"] > 1682
    bundles = sorted((tmp_path / "demo" / "bundles").iterdir())

    second = _demo(tmp_path)
    assert "these files are in the graph already" in second
    assert "no text has changed" in second
    assert sorted((tmp_path / "demo" / "bundles").iterdir()) == bundles
    assert _answers(second) == answers
    _what_it_says_is_why(tmp_path / "demo", bundles[-1])


def _what_it_says_is_why(var: Path, path: Path) -> None:
    """Real people: paths add up to the score, and without the event of the largest one the score is lower."""
    flagship = Bundle.open(path).flagship
    events = read_snapshot(next((var / "snapshots").glob("*/manifest.json")).parent).interactions()
    lower = []
    for user in range(0, 940, 47):
        history = events.histories(np.array([user]))
        scores = flagship.score(history)[0]
        best = np.argsort(-scores)[:5]
        for row, explanation in zip(best, explain(flagship, history, best), strict=True):
            assert explanation.score == pytest.approx(float(scores[row]), abs=1e-4)
            without = history.where(np.arange(len(history.item)) != explanation.paths[0].event)
            lower.append(flagship.score(without)[0][row] < scores[row])
    assert np.mean(lower) > 0.85
