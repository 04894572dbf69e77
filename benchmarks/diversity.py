"""What `diversity` costs and brings: NDCG@10 against how far the items of a list are from each other.

    python -m benchmarks.diversity [--people 943] [--var var/benchmarks]

Real people of MovieLens-100k (inside the wheel of recbole, fetched on the first run) and the flagship of
benchmarks.flagship on the first split: told of the training and validation parts, it lists ten of all other films, and
the test part says which were wanted. Distances are 1 - cosine, of the model's own vectors, by which the list is chosen,
and of the vectors of the titles' text, by which it is not.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.flagship import trained
from benchmarks.quality import SPLIT_SEEDS, prepare_with_texts
from graph.errors import IsthmusError
from graph.interactions import join
from graph.vectors import read_vectors
from models.rerank import rerank
from models.retrieval import top_k
from train.loop import Prepared
from train.metrics import diversity_at_k, ndcg_at_k
from train.regimes import suited

NAME: Final = "movielens-100k"
K: Final = 10
POOL: Final = 400
"""Of the best, as serve.recommender takes them."""
DIVERSITIES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=943, help="the first so many who have test events")
    parser.add_argument("--var", type=Path, default=Path("var/benchmarks"), help="where stores and runs are kept")
    arguments = parser.parse_args()
    try:
        snapshot = prepare_with_texts(NAME, Path(), arguments.var)
        config = replace(suited(snapshot, "random_per_user"), seed=SPLIT_SEEDS[0])
        model, run, _ = trained(snapshot, arguments.var / NAME, config)
    except IsthmusError as error:
        sys.exit(f"error: {error}")
    prepared, vectors = model.prepared, np.asarray(model.flagship.vectors)
    text, _ = read_vectors(run.inputs.vectors / "Item.parquet", prepared.split.train.items.keys)
    split = prepared.split
    people = np.unique(split.test.user[split.test.weight > 0])[: arguments.people]
    scores = model.flagship.score(join(split.train, split.validation).histories(people))
    offered = _offered(prepared, people)
    pools, best = top_k(scores, POOL, offered)
    print(f"{len(people)} people, {K} of the best {POOL}\n")
    print("| diversity | NDCG@10 | of none | distance by the model | distance by text | films shown |")
    print("|--:|--:|--:|--:|--:|--:|")
    first = None
    for diversity in DIVERSITIES:
        lists = np.stack(
            [
                pool[rerank(relevance, vectors[pool], K, diversity=diversity)]
                for pool, relevance in zip(pools, best, strict=True)
            ]
        )
        ndcg = _ndcg(lists, prepared, people)
        first = ndcg if first is None else first
        near, read = (float(diversity_at_k(lists, K, each).mean()) for each in (vectors, text))
        shown = len(np.unique(lists))
        print(f"| {diversity:.1f} | {ndcg:.4f} | {ndcg / first:.0%} | {near:.3f} | {read:.3f} | {shown} |", flush=True)


def _offered(prepared: Prepared, people: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[B, N] what a person has not had yet."""
    place = np.full(len(prepared.split.train.users), -1)
    place[people] = np.arange(len(people))
    offered = np.ones((len(people), len(prepared.split.train.items)), dtype=np.bool_)
    for part in (prepared.split.train, prepared.split.validation):
        inside = place[part.user] >= 0
        offered[place[part.user[inside]], part.item[inside]] = False
    return offered


def _ndcg(lists: NDArray[np.int64], prepared: Prepared, people: NDArray[np.int64]) -> float:
    test = prepared.split.test.where(prepared.split.test.weight > 0)
    wanted = [np.unique(test.item[test.user == person]) for person in people]
    hits = np.stack([np.isin(shown, own) for shown, own in zip(lists, wanted, strict=True)])
    return float(ndcg_at_k(hits, np.array([len(own) for own in wanted]), K).mean())


if __name__ == "__main__":
    main()
