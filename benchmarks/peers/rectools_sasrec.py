"""A peer beside us: RecTools' SASRec with sampled softmax on an Amazon data set, in an environment of its own.

    uv venv peer && uv pip install --python peer/bin/python "rectools[torch]==0.19.0"
    peer/bin/python benchmarks/peers/rectools_sasrec.py [--only beauty] [--data ../shared/data] [--epochs 200]

Leave-one-out: the last event of each person is test, the one before it validation, trained on what came earlier.
Settings are those that reproduce eSASRec's table (2025): 64 wide, one block, dropout .2, 256 negatives, learning rate
.001. Every fifth epoch ranks validation for 5,000 people; without a better NDCG@10 in eight such rounds training ends.
Test is ranked by the best epoch's weights, told of validation. CPU seconds are of the whole process, ranking apart.
"""

import argparse
import copy
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

EVERY = 5
PATIENCE = 8
PEOPLE = 5000


def figures(model: SASRecModel, told: pd.DataFrame, targets: pd.DataFrame) -> tuple[float, float]:
    """HR@10 and NDCG@10 of one target for each person, full ranking without what they had."""
    lists = model.recommend(
        targets[Columns.User].to_numpy(),
        Dataset.construct(told),
        k=10,
        filter_viewed=True,
        on_unsupported_targets="ignore",
    )
    hits = lists.merge(targets[[Columns.User, Columns.Item]], on=[Columns.User, Columns.Item])
    gains = 1 / np.log2(hits[Columns.Rank].to_numpy() + 1)
    return len(hits) / len(targets), float(gains.sum()) / len(targets)


def main() -> None:
    """Print a line for each round, and the test figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("beauty", "sports", "toys"), default="beauty")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the Amazon data sets")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)

    events = pd.read_csv(arguments.data / "beauty-sports-toys" / arguments.only / "events.csv.gz")
    events = events.sort_values(["account", "position"])
    left = events.groupby("account").cumcount(ascending=False)
    events = pd.DataFrame(
        {
            Columns.User: events["account"],
            Columns.Item: events["item"],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2014-01-01") + pd.to_timedelta(events["position"], unit="s"),
        }
    )
    training, told = events[left >= 2], events[left >= 1]
    validation, test = events[left == 1], events[left == 0]
    asked = validation.sample(min(PEOPLE, len(validation)), random_state=arguments.seed)

    model = SASRecModel(
        n_blocks=1,
        n_heads=1,
        n_factors=64,
        dropout_rate=0.2,
        session_max_len=50,
        loss="sampled_softmax",
        n_negatives=256,
        lr=1e-3,
        batch_size=128,
        epochs=arguments.epochs,  # what a copy of the model may have seen; each round takes its own
        deterministic=True,
    )
    best, best_model, stale, ranking = -1.0, model, 0, 0.0
    for epoch in range(EVERY, arguments.epochs + 1, EVERY):
        model.fit_partial(Dataset.construct(training), min_epochs=EVERY, max_epochs=EVERY)
        trained = time.process_time() - ranking
        rate, ndcg = figures(model, training, asked)
        ranking = time.process_time() - trained
        print(f"epoch {epoch}: {trained:.0f} CPU-s, validation HR@10 {rate:.4f}, NDCG@10 {ndcg:.4f}", flush=True)
        stale += 1
        if ndcg > best:
            best, best_model, stale = ndcg, copy.deepcopy(model), 0
        if stale == PATIENCE:
            break
    rate, ndcg = figures(best_model, told, test)
    print(f"test: HR@10 {rate:.4f}, NDCG@10 {ndcg:.4f}")


if __name__ == "__main__":
    main()
