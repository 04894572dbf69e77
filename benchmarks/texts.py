"""Texts a second through the default text model, beside sentence-transformers' `encode`: same model, texts and threads.

    uv venv peer && uv pip install --python peer/bin/python sentence-transformers==6.2.0 -c constraints.txt
    python -m benchmarks.texts --peer peer/bin/python [--rounds 3] [--data ../shared/data] [--var var/benchmarks]

Real titles: the films of MovieLens-100k, and 1,500 of the platform food of food-kitchen, which ABXI (WWW 2025) made of
the Amazon review crawl of 2014 (McAuley et al.; benchmarks.ingest says how to get it). One thread each, a process each,
one after the other; speed is the fastest round's, by CPU time. The goal is 1.5 times the peer's at a cosine of .999
between its vectors and ours.
"""

import argparse
import csv
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.sources.movielens import fetch
from models.text import DEFAULT_MODEL, TextModel, locate_model

PEER: Final = Path(__file__).with_name("peers") / "sentence_transformers_encode.py"
FOOD: Final = 1_500


def main() -> None:
    """Measure both and print the table."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peer", type=Path, default=Path("peer/bin/python"), help="a Python that has sentence-transformers"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="where food-kitchen is")
    parser.add_argument("--var", type=Path, default=Path("var/benchmarks"))
    options = parser.parse_args()
    if not options.peer.exists():
        sys.exit(f"{options.peer} is not there: make the peer's environment as --help says, and name its Python")
    torch.set_num_threads(1)
    sets = {
        "MovieLens-100k, films": films(fetch(options.var / "sources" / "movielens-100k", _aside)),
        "food-kitchen, food": food(options.data / "food-kitchen" / "food" / "items.csv.gz"),
    }
    model = TextModel.load()
    print("| titles | number | sentence-transformers | isthmus | times | cosine: mean | least |")
    print("|---|---|---|---|---|---|---|")
    for name, texts in sets.items():
        theirs, peer_seconds = by_peer(options.peer, texts, options.rounds)
        ours, seconds = by_us(model, texts, options.rounds)
        cosine = (theirs * ours).sum(axis=1)
        speeds = f"{len(texts) / peer_seconds:.0f} | {len(texts) / seconds:.0f} | {peer_seconds / seconds:.2f}"
        print(f"| {name} | {len(texts):,} | {speeds} | {cosine.mean():.5f} | {cosine.min():.5f} |", flush=True)


def films(source: Path) -> Sequence[str]:
    """The titles of MovieLens-100k."""
    with (source / "ml-100k.item").open(encoding="utf-8") as file:
        return [line.split("\t")[1] for line in file.readlines()[1:]]


def food(path: Path) -> Sequence[str]:
    """Some of food-kitchen's titles."""
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        titles = [row["title"] for row in csv.DictReader(file) if row["title"]]
    return random.Random(0).sample(titles, FOOD)


def by_peer(python: Path, texts: Sequence[str], rounds: int) -> tuple[NDArray[np.float32], float]:
    """The peer's unit vectors, and CPU seconds of its fastest round."""
    with tempfile.TemporaryDirectory() as folder:
        vectors = Path(folder) / "vectors.npy"
        model = locate_model(DEFAULT_MODEL)[0]
        asked = {"model": model, "texts": texts, "rounds": rounds, "vectors": str(vectors)}
        done = subprocess.run([python, PEER], input=json.dumps(asked), text=True, stdout=subprocess.PIPE, check=True)
        return np.load(vectors), min(json.loads(done.stdout))


def by_us(model: TextModel, texts: Sequence[str], rounds: int) -> tuple[NDArray[np.float32], float]:
    """Our unit vectors, and CPU seconds of the fastest round."""
    model.encode(texts[:64])
    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        vectors = model.encode(texts)
        seconds.append(time.process_time() - started)
    return vectors, min(seconds)


def _aside(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
