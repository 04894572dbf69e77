"""Training on the planted graph: text vectors of its words, a small configuration, a run in this process."""

import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graph.snapshot import Snapshot
from models.encoder import EncoderConfig
from train.loop import Inputs, LoopConfig
from train.run import TrainingResult, WorkerConfig, train
from train.step import ObjectiveConfig

TEXT_DIM: Final = 32
TEXT_MODEL: Final = "words"

SMALL: Final = LoopConfig(
    epochs=30,
    patience=30,
    batch=8,
    learning_rate=1e-2,
    encoder=EncoderConfig(dim=32, heads=2, max_history=20),
    objective=ObjectiveConfig(negatives=32),
)
"""Enough to learn the planted answers in a few seconds."""


@dataclass(frozen=True)
class PlantedRun:
    """What a training run on the planted graph was given and what it left."""

    inputs: Inputs
    config: LoopConfig
    result: TrainingResult


def word_vector(text: str) -> NDArray[np.float32]:
    """[TEXT_DIM] of length 1: the sum of a fixed random vector for each word, so that shared words are seen."""
    total = np.zeros(TEXT_DIM)
    for word in re.findall(r"\w+", text.lower()):
        seed = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
        total += np.random.default_rng(seed).normal(size=TEXT_DIM)
    return (total / max(float(np.linalg.norm(total)), 1e-9)).astype(np.float32)


def write_word_vectors(snapshot: Snapshot, folder: Path) -> Path:
    """Write the vectors of a snapshot's items as ingest would, and return the folder of their model."""
    model = folder / TEXT_MODEL
    model.mkdir(parents=True)
    columns = (snapshot.items[name].to_pylist() for name in ("key", "title", "text"))
    rows = [(key, f"{title or ''}. {text or ''}") for key, title, text in zip(*columns, strict=True)]
    vectors = np.stack([word_vector(text) for _, text in rows])
    table = {
        "key": [key for key, _ in rows],
        "text_hash": [blake2b(text.encode(), digest_size=8).hexdigest() for _, text in rows],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), TEXT_DIM),
    }
    pq.write_table(pa.table(table), model / "Item.parquet")
    return model


def write_no_vectors(folder: Path) -> Path:
    """What ingest writes of a graph without any text: a file that holds none."""
    model = folder / TEXT_MODEL
    model.mkdir(parents=True)
    nothing = pa.array([], pa.string())
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([], pa.float32()), 1)
    pq.write_table(pa.table({"key": nothing, "text_hash": nothing, "vector": vectors}), model / "Item.parquet")
    return model


def train_planted(snapshot: Snapshot, folder: Path, config: LoopConfig = SMALL) -> PlantedRun:
    """Train in this process, without a cluster, on text vectors written below a folder."""
    inputs = Inputs(snapshot.path, write_word_vectors(snapshot, folder / "vectors"), folder / "log")
    return PlantedRun(inputs, config, train(inputs, config, WorkerConfig(workers=0), folder / "storage"))
