"""The leaderboard: models in the order of one figure, what is between them and chance, as text, JSON and a plot."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from train.compare import Entry
from train.evaluate import AT_K
from train.loop import TrainingError

RESAMPLES: Final = 10_000
_CELLS: Final = 4_000_000
"""Draws of people kept in memory at once."""


def cut_offs(metrics: Sequence[str]) -> tuple[int, ...]:
    """The cut-offs in names of metrics, such as 10 and 20 in ndcg@10, recall@20 and auc; 10 if there are none.

    Raises: TrainingError if one is no name of a metric, or the first one, which orders the models, has no better end.
    """
    if not metrics or metrics[0].startswith(("coverage", "diversity", "novelty")):
        raise TrainingError(
            f"{metrics[0] if metrics else 'nothing'} cannot order models: name ndcg@10 or the like first"
        )
    found = set()
    for name in metrics:
        kind, at, k = name.partition("@")
        if name in {"auc", "mrr"}:
            continue
        if kind not in AT_K or not at or not k.isdecimal() or int(k) < 1:
            raise TrainingError(
                f"{name!r} is no metric: give mrr, auc, or one of {', '.join(AT_K)} with a cut-off, such as ndcg@10"
            )
        found.add(int(k))
    return tuple(sorted(found or {10}))


def bootstrap(
    values: NDArray[np.float64], people: NDArray[np.int64], resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Means of M models over people drawn with replacement, the same people for all of them: paired.

    All queries of a person are drawn together, since they are not independent: the bootstrap of clusters (Davison and
    Hinkley, 1997, section 3.8), with the percentiles of Efron (1979).

    Args:
        values: [Q, M] of each query.
        people: [Q] whose it is.
    Returns: [resamples, M].
    """
    _, person = np.unique(people, return_inverse=True)
    number = int(person.max()) + 1
    sums = np.zeros((number, values.shape[1] + 1))
    np.add.at(sums, person, np.column_stack([values, np.ones(len(values))]))
    random, drawn = np.random.default_rng(seed), []
    for start in range(0, resamples, max(1, _CELLS // number)):
        size = min(resamples - start, max(1, _CELLS // number))
        people_of = random.integers(number, size=(size, number)) + np.arange(size)[:, None] * number
        times = np.bincount(people_of.ravel(), minlength=size * number).reshape(size, number)
        drawn.append(times @ sums)
    totals = np.concatenate(drawn)
    return np.asarray(totals[:, :-1] / totals[:, -1:])


@dataclass(frozen=True)
class Behind:
    """How far the best model is ahead of another."""

    difference: float
    low: float
    """95 % of resamples of the people lie between low and high: chance alone may explain it if 0 does too."""
    high: float


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """What a comparison found."""

    entries: Sequence[Entry]
    metric: str = "ndcg@10"
    """What the models are ordered by."""

    @cached_property
    def models(self) -> Sequence[str]:
        """Best first."""
        names = list(dict.fromkeys(entry.model for entry in self.entries))
        return sorted(names, key=lambda name: -statistics.mean(self.figures(name, self.metric)))

    @property
    def cohorts(self) -> Sequence[str]:
        """In the order of the report."""
        return list(dict.fromkeys(row.cohort for entry in self.entries for row in entry.report.rows))

    def of(self, model: str) -> Sequence[Entry]:
        """One for each seed."""
        return [entry for entry in self.entries if entry.model == model]

    def figures(self, model: str, metric: str, cohort: str = "all") -> Sequence[float]:
        """One for each seed; none where the model was not asked that."""
        rows = [row for entry in self.of(model) for row in entry.report.rows if row.cohort == cohort]
        return [row.value for row in rows if _named(row.metric) == metric]

    @cached_property
    def resampled(self) -> NDArray[np.float64]:
        """[R, M] means of the metric for each model, best first, over people drawn again and again."""
        values = [
            np.concatenate(
                [
                    of_queries
                    for entry in self.of(model)
                    for name, of_queries in entry.report.values.metrics.items()
                    if _named(name) == self.metric
                ]
            )
            for model in self.models
        ]
        people = np.concatenate([entry.report.values.user for entry in self.of(self.models[0])])
        return bootstrap(np.stack(values, axis=1).astype(np.float64), people)

    def interval(self, model: str) -> tuple[float, float]:
        """95 % of the resampled means of a model."""
        low, high = np.percentile(self.resampled[:, self.models.index(model)], (2.5, 97.5))
        return float(low), float(high)

    def behind(self, model: str) -> Behind:
        """The best model less this one."""
        best, place = self.models[0], self.models.index(model)
        low, high = np.percentile(self.resampled[:, 0] - self.resampled[:, place], (2.5, 97.5))
        means = [statistics.mean(self.figures(name, self.metric)) for name in (best, model)]
        return Behind(means[0] - means[1], float(low), float(high))

    def text(self, metrics: Sequence[str], cohort: str = "all") -> str:
        """Models as lines, best first, metrics as columns, for one cohort; costs and distances beside all."""
        shown = [metric for metric in metrics if any(self.figures(name, metric, cohort) for name in self.models)]
        asked = [model for model in self.models if any(self.figures(model, metric, cohort) for metric in shown)]
        costs = ["fit s", "score s", "peak GiB", "behind the best, 95 %"] if cohort == "all" else []
        queries = {row.num_queries for entry in self.entries for row in entry.report.rows if row.cohort == cohort}
        lines = [[f"{cohort}, {max(queries, default=0):,d} queries", *shown, *costs]]
        for model in asked:
            cells = [_spread(self.figures(model, metric, cohort)) for metric in shown]
            if costs:
                entries = self.of(model)
                cells += [f"{statistics.mean(entry.fit_seconds for entry in entries):.1f}"]
                cells += [f"{statistics.mean(entry.report.seconds for entry in entries):.1f}"]
                cells += [f"{max(entry.peak_bytes for entry in entries) / 2**30:.2f}", self._distance(model)]
            lines.append([model, *cells])
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        return "\n".join(
            "  ".join(
                [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
            )
            for line in lines
        )

    def _distance(self, model: str) -> str:
        if model == self.models[0]:
            return ""
        behind = self.behind(model)
        return f"{behind.difference:.4f} [{behind.low:.4f}, {behind.high:.4f}]"

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {"metric": self.metric, "models": [self._said(model) for model in self.models]}

    def _said(self, model: str) -> dict[str, Any]:
        entries = self.of(model)
        figures: dict[str, dict[str, Any]] = {}
        for row in (row for entry in entries for row in entry.report.rows):
            cell = figures.setdefault(row.cohort, {}).setdefault(_named(row.metric), {"seeds": [], "queries": []})
            cell["seeds"].append(row.value)
            cell["queries"].append(row.num_queries)
        for cell in (cell for cohort in figures.values() for cell in cohort.values()):
            cell |= {"mean": statistics.mean(cell["seeds"]), "sd": _deviation(cell["seeds"])}
        behind = self.behind(model)
        return {
            "model": model,
            "seeds": [entry.seed for entry in entries],
            "settings": [dict(entry.settings) for entry in entries],
            "fit_seconds": [entry.fit_seconds for entry in entries],
            "tune_seconds": [entry.tune_seconds for entry in entries],
            "score_seconds": [entry.report.seconds for entry in entries],
            "process_peak_bytes": [entry.peak_bytes for entry in entries],
            "interval": self.interval(model),
            "behind": {"difference": behind.difference, "low": behind.low, "high": behind.high},
            "figures": figures,
        }

    def save(self, folder: Path, about: dict[str, Any]) -> None:
        """Write leaderboard.json, which says what it is about too, and leaderboard.png."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "leaderboard.json").write_text(json.dumps({**about, **self.to_dict()}, indent=1) + "\n")
        self.draw(folder / "leaderboard.png")

    def draw(self, file: Path) -> None:
        """Bars of the metric with their intervals, best on top."""
        from matplotlib.figure import Figure

        means = [statistics.mean(self.figures(model, self.metric)) for model in self.models]
        ends = np.array([self.interval(model) for model in self.models])
        errors = np.abs(ends - np.array(means)[:, None]).T
        figure = Figure(figsize=(7, 1 + 0.4 * len(means)), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(self.models, means, xerr=errors, capsize=3, color="#4c72b0")
        axes.invert_yaxis()
        axes.set_xlabel(f"{self.metric}, 95 % of resamples of the people")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, dpi=150)


def _named(metric: str) -> str:
    """Full ranking says mrr@20 since it looks at the first places only; it is called mrr here."""
    return "mrr" if metric.startswith("mrr@") else metric


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{statistics.mean(values):.4f}" + (f" ± {_deviation(values):.4f}" if len(values) > 1 else "")


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
