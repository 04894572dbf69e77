"""The leaderboard: the order, what chance may explain, what is written down."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from train.compare import Entry
from train.evaluate import Report, Row, Values
from train.leaderboard import Leaderboard, bootstrap, cut_offs
from train.loop import TrainingError

PEOPLE = 400


def entry(model: str, values: Sequence[float] | np.ndarray, seed: int = 0, users: np.ndarray | None = None) -> Entry:
    """A model with a figure for each query."""
    queries = np.asarray(values, dtype=np.float32)
    rows = [
        Row("all", "ndcg@10", float(queries.mean()), len(queries)),
        Row("all", "mrr@10", 0.25, len(queries)),
        Row("cold items", "ndcg@10", 0.125, 3),
    ]
    rows = rows[:2] if model == "popularity" else rows
    of = Values(np.arange(len(queries)) if users is None else users, {"ndcg@10": queries, "mrr@10": queries})
    report = Report("test", model, rows, 2.0, of)
    return Entry(model, seed, {"ridge": 300.0}, report, fit_seconds=1.5, tune_seconds=4.0, peak_bytes=2**30)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(PEOPLE)


def test_a_planted_difference_is_found():
    same = noise(0)
    board = Leaderboard([entry("worse", same), entry("better", same + 0.05 + 0.1 * noise(1))])
    assert board.models == ["better", "worse"]
    behind = board.behind("worse")
    assert behind.difference == pytest.approx(0.1, abs=0.01)
    assert 0 < behind.low < behind.difference < behind.high


def test_two_models_that_differ_by_chance_alone_are_not_told_apart():
    """Of 40 pairs without a difference, 5 % are expected to be told apart."""
    apart = 0
    for pair in range(40):
        values = np.stack([noise(2 * pair + 10), noise(2 * pair + 11)], axis=1)
        drawn = bootstrap(values, np.arange(PEOPLE), resamples=1000)
        low, high = np.percentile(drawn[:, 0] - drawn[:, 1], (2.5, 97.5))
        apart += bool(low > 0 or high < 0)
    assert apart <= 6


def test_a_model_is_not_ahead_of_itself():
    board = Leaderboard([entry("a", noise(0)), entry("b", noise(0))])
    assert board.behind("b") == board.behind("a")
    assert (board.behind("b").low, board.behind("b").high) == (0, 0)


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = noise(3)[:, None]
    drawn = bootstrap(values, np.arange(PEOPLE))
    assert drawn.shape == (10_000, 1)
    assert drawn.mean() == pytest.approx(values.mean(), abs=1e-3)
    assert drawn.std() == pytest.approx(values.std() / np.sqrt(PEOPLE), rel=0.05)


def test_all_queries_of_a_person_are_drawn_together():
    """Ten copies of every query are no more evidence than one."""
    once = bootstrap(noise(3)[:, None], np.arange(PEOPLE))
    often = bootstrap(np.tile(noise(3), 10)[:, None], np.tile(np.arange(PEOPLE) * 7, 10))
    np.testing.assert_allclose(once, often)


def test_few_draws_at_once_are_as_many_in_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("train.leaderboard._CELLS", PEOPLE * 7)
    assert bootstrap(noise(3)[:, None], np.arange(PEOPLE), resamples=100).shape == (100, 1)


def test_the_table_has_a_line_for_each_model_that_was_asked():
    board = Leaderboard([entry("popularity", [0, 0.25]), entry("ease", [0.5, 0.5])])
    lines = [line.split() for line in board.text(["ndcg@10", "mrr", "hr@10"]).splitlines()]
    assert lines[0][:5] == ["all,", "2", "queries", "ndcg@10", "mrr"]
    assert lines[1] == ["ease", "0.5000", "0.2500", "1.5", "2.0", "1.00"]
    assert lines[2][:3] == ["popularity", "0.1250", "0.2500"]
    assert lines[2][6:] == ["0.3750", "[0.2500,", "0.5000]"]
    cold = board.text(["ndcg@10"], "cold items").splitlines()
    assert [line.split() for line in cold] == [["cold", "items,", "3", "queries", "ndcg@10"], ["ease", "0.1250"]]


def test_seeds_become_a_mean_and_a_standard_deviation():
    board = Leaderboard([entry("ease", [0.5, 0.5]), entry("ease", [0.25, 0.25], seed=1)])
    assert "0.3750 ± 0.1768" in board.text(["ndcg@10"])


def test_what_is_saved_holds_every_figure_and_a_picture(tmp_path: Path):
    entries = [entry(model, noise(n) * height, seed) for seed in (0, 1) for n, (model, height) in enumerate(HEIGHTS)]
    board = Leaderboard(entries)
    board.save(tmp_path / "new", {"snapshot": "abc", "protocol": "leave_one_out"})
    said = json.loads((tmp_path / "new" / "leaderboard.json").read_text())
    assert (said["snapshot"], said["protocol"], said["metric"]) == ("abc", "leave_one_out", "ndcg@10")
    best, second = said["models"]
    assert (best["model"], best["behind"]) == ("ease", {"difference": 0, "low": 0, "high": 0})
    assert best["seeds"] == [0, 1]
    assert best["settings"] == [{"ridge": 300.0}] * 2
    assert best["fit_seconds"] == [1.5, 1.5]
    assert best["process_peak_bytes"] == [2**30] * 2
    assert set(best["figures"]) == {"all", "cold items"}
    cell = best["figures"]["all"]["ndcg@10"]
    assert cell["queries"] == [PEOPLE, PEOPLE]
    assert cell["mean"] == pytest.approx(np.mean(cell["seeds"]))
    low, high = second["interval"]
    assert low < second["figures"]["all"]["ndcg@10"]["mean"] < high
    assert (tmp_path / "new" / "leaderboard.png").read_bytes().startswith(b"\x89PNG")


HEIGHTS = (("popularity", 0.5), ("ease", 1.0))


def test_cut_offs_are_read_from_the_names_of_metrics():
    assert cut_offs(["ndcg@20", "auc", "hr@5", "coverage@20"]) == (5, 20)
    assert cut_offs(["mrr"]) == (10,)


@pytest.mark.parametrize("names", [["ndcg"], ["ndcg@0"], ["ndcg@x"], ["auc@10"], ["ndcg@10", "gini"]])
def test_a_metric_that_is_none_is_refused(names: Sequence[str]):
    with pytest.raises(TrainingError, match="is no metric"):
        cut_offs(names)


@pytest.mark.parametrize("names", [[], ["coverage@10"], ["novelty@10", "ndcg@10"]])
def test_what_is_not_better_when_higher_cannot_order_models(names: Sequence[str]):
    with pytest.raises(TrainingError, match="cannot order models"):
        cut_offs(names)
