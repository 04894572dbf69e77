"""Whether reasons are the reasons: what a score loses when the event that a top path begins with had not happened.

    python -m benchmarks.explanations [--people 50] [--var var/benchmarks]

Real people of MovieLens-100k, the flagship of benchmarks.flagship on the first split: for the ten best items of each
person, the paths are added up and compared with the score; then the score is asked for again from a history without the
event of the largest path, and from one without an event drawn at random.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.flagship import trained
from benchmarks.quality import SPLIT_SEEDS, prepare_with_texts
from graph.errors import IsthmusError
from graph.interactions import Interactions
from models.explain import explain
from models.flagship import Flagship
from models.leads_to import LeadsTo
from train.regimes import suited

BEST = 10
NAME = "movielens-100k"


def told(flagship: Flagship, training: Interactions, people: int) -> tuple[float, float, float]:
    """The largest |score - its parts|; how often a score falls without the top path's event, and without any one."""
    random = np.random.default_rng(0)
    error, fell, fell_without_any, asked = 0.0, 0, 0, 0
    for user in random.choice(len(training.users), people, replace=False):
        history = training.histories(np.array([user]))
        scores = flagship.score(history)[0]
        offered = scores.copy()
        offered[history.item] = -np.inf
        best = np.argsort(-offered)[:BEST]
        for row, explanation in zip(best, explain(flagship, history, best), strict=True):
            error = max(error, abs(explanation.score - float(scores[row])))
            without, without_any = (
                flagship.score(history.where(np.arange(len(history.item)) != event))[0][row]
                for event in (explanation.paths[0].event, int(random.integers(len(history.item))))
            )
            asked += 1
            fell += bool(without < scores[row])
            fell_without_any += bool(without_any < scores[row])
    return error, fell / asked, fell_without_any / asked


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50, help="drawn from a fixed seed")
    parser.add_argument("--var", type=Path, default=Path("var/benchmarks"), help="where stores and runs are kept")
    arguments = parser.parse_args()
    try:
        snapshot = prepare_with_texts(NAME, Path(), arguments.var)
        config = replace(suited(snapshot, "random_per_user"), seed=SPLIT_SEEDS[0])
        model, _, _ = trained(snapshot, arguments.var / NAME, config)
    except IsthmusError as error:
        sys.exit(f"error: {error}")
    dense = replace(model.flagship, leads_to=LeadsTo.empty(len(model.flagship.bias)))
    print(f"{arguments.people} people, {BEST} items each\n")
    print(
        "| model | largest error of the sum | falls without the top path's event | without any one |\n|---|---|---|---|"
    )
    for name, flagship in (("isthmus", model.flagship), ("isthmus, dense", dense)):
        largest, fell, fell_without_any = told(flagship, model.prepared.split.train, arguments.people)
        print(f"| {name} | {largest:.1e} | {fell:.1%} | {fell_without_any:.1%} |", flush=True)


if __name__ == "__main__":
    main()
