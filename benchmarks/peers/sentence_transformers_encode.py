"""A peer beside us: sentence-transformers' `encode` of the same model, in an environment of its own.

    uv venv peer && uv pip install --python peer/bin/python sentence-transformers==6.2.0 -c constraints.txt
    python -m benchmarks.texts --peer peer/bin/python

benchmarks.texts runs it: a line of JSON with the model's folder, the texts, the rounds and where to write the vectors
comes in, a line of JSON with the CPU seconds of each round goes out. Settings are the defaults of `encode`, which sorts
by length and takes 32 texts at once; vectors are of length one.
"""

import json
import sys
import time

import numpy as np
import torch
from sentence_transformers import SentenceTransformer


def main() -> None:
    """Embed all texts once a round, after some that do not count."""
    asked = json.loads(sys.stdin.readline())
    torch.set_num_threads(1)
    model = SentenceTransformer(asked["model"], device="cpu")
    model.encode(asked["texts"][:64])
    seconds = []
    for _ in range(asked["rounds"]):
        started = time.process_time()
        vectors = model.encode(asked["texts"], normalize_embeddings=True, show_progress_bar=False)
        seconds.append(time.process_time() - started)
    np.save(asked["vectors"], vectors)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
