"""What training costs as a graph grows: seconds and memory of the network's steps and of the sparse part.

    python -m benchmarks.scale [--events 30000 100000 …] [--of network sparse] [--neighbours 0] [--save scale.png]

Events are synthetic and drawn from a seed: 20 a person, 50 an item, people of a hundred tastes who mostly stay with
theirs, items of a taste wanted as Zipf's law says, texts of 384 numbers around their taste. Each size runs in a process
of its own, one thread; seconds are those of its processor, which other work on the machine does not lengthen much. An
epoch's seconds are those of some steps times the steps of an epoch: nothing is trained to
the end here.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from graph.interactions import Interactions
from graph.vocabulary import Vocabulary
from models.leads_to import NEXT, LeadsTo
from models.relations import item_relations
from train.data import ItemSide, Windows, new_encoder
from train.loop import LoopConfig
from train.regimes import sized
from train.step import Objective

EVENTS_A_PERSON: Final = 20
EVENTS_AN_ITEM: Final = 50
TASTES: Final = 100
FAITHFUL: Final = 0.8
"""Share of events of a person's own taste."""
TEXT_DIM: Final = 384


def synthetic(events: int, seed: int = 0) -> Interactions:
    """So many events of people in the order of time, on one platform."""
    random = np.random.default_rng(seed)
    people, items = max(1, events // EVENTS_A_PERSON), max(TASTES, events // EVENTS_AN_ITEM)
    user = np.sort(random.integers(people, size=events))
    taste = random.integers(TASTES, size=people)[user]
    strange = random.random(events) > FAITHFUL
    taste[strange] = random.integers(TASTES, size=int(strange.sum()))
    of_a_taste = items // TASTES
    rank = np.minimum(random.zipf(1.3, events) - 1, of_a_taste * 1000) % of_a_taste
    return Interactions(
        user,
        taste + TASTES * rank,
        np.zeros(events, np.int64),
        np.arange(events) * 60,
        np.full(events, np.nan, np.float32),
        np.ones(events, np.float32),
        Vocabulary(f"user:{number}" for number in range(people)),
        Vocabulary(f"shop:{number}" for number in range(items)),
        ("PURCHASED",),
        ("shop",),
        np.zeros(items, np.int64),
    )


def texts(items: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """[items, TEXT_DIM] around the taste of each item."""
    random = np.random.default_rng(seed)
    tastes = random.standard_normal((TASTES, TEXT_DIM), dtype=np.float32)
    return tastes[np.arange(items) % TASTES] + random.standard_normal((items, TEXT_DIM), dtype=np.float32)


def network(
    events: Interactions, text: np.ndarray[Any, np.dtype[np.float32]], steps: int, neighbours: int | None = None
) -> Mapping[str, float]:
    """Seconds to prepare, of a step, and of the steps of an epoch, with the settings that suit so many events.

    Args:
        neighbours: that a step draws, in the place of what suits.
    """
    from torch_geometric.data import HeteroData

    config = sized(events, LoopConfig())
    if neighbours is not None:
        config = replace(config, objective=replace(config.objective, neighbours=neighbours))
    started = time.process_time()
    graph = item_relations(HeteroData(), events)
    warm = np.bincount(events.item, minlength=len(events.items)) > 0
    side = ItemSide(torch.from_numpy(text), torch.from_numpy(warm.astype(np.float32)), graph, {})
    torch.manual_seed(0)
    encoder = new_encoder(side, events, config.encoder)
    objective, windows = Objective(encoder, graph, config.objective), Windows(events, config.encoder.max_history)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=config.learning_rate, fused=True)
    prepared = time.process_time() - started
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    took = []
    for batch in islice(windows.batches(config.batch, random.permutation(len(windows)), random), steps):
        began = time.process_time()
        loss = objective(batch, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        took.append(time.process_time() - began)
    step = float(np.median(took))
    return {
        "neighbours": config.objective.neighbours,
        "prepare s": prepared,
        "step s": step,
        "epoch s": step * -(-len(windows) // config.batch),
    }


def sparse(events: Interactions, text: np.ndarray[Any, np.dtype[np.float32]]) -> Mapping[str, float]:
    """Seconds of one fit, with order and texts."""
    started = time.process_time()
    leads_to = LeadsTo.fit(events, NEXT, text)
    return {"fit s": time.process_time() - started, "weights": leads_to.weights.nnz}


def measured(of: str, size: int, steps: int, neighbours: int | None) -> Mapping[str, float]:
    """One size in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--one", of, "--events", str(size), "--steps", str(steps)]
    if neighbours is not None:
        command += ["--neighbours", str(neighbours)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: Mapping[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def shown(value: float) -> str:
    """Counts in full, what is measured in three digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """The slope of cost against size, both as logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def plot(file: Path, sizes: Sequence[int], costs: Mapping[str, Sequence[float]]) -> None:
    """Draw every cost against size, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, values in costs.items():
        axes.loglog(sizes, values, marker="o", label=f"{name}: size^{exponent(sizes, values):.2f}")
    axes.set(xlabel="events", ylabel="seconds, GiB")
    axes.legend()
    figure.savefig(file)


def main() -> None:
    """Print a table for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[30_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--steps", type=int, default=20, help="training steps that are timed")
    parser.add_argument("--of", choices=("network", "sparse"), nargs="+", default=["network", "sparse"])
    parser.add_argument(
        "--neighbours", type=int, help="drawn in a step, 0 for the whole graph; else what suits the size"
    )
    parser.add_argument("--one", choices=("network", "sparse"), help=argparse.SUPPRESS)
    parser.add_argument("--save", type=Path, help="draw cost against size into this file")
    arguments = parser.parse_args()
    if arguments.one:
        torch.set_num_threads(1)
        events = synthetic(arguments.events[0])
        text = texts(len(events.items))
        if arguments.one == "network":
            told = network(events, text, arguments.steps, arguments.neighbours)
        else:
            told = sparse(events, text)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"items": len(events.items), **told, "peak GiB": peak}))
        return
    costs: dict[str, list[float]] = {}
    for of in arguments.of:
        for number, size in enumerate(arguments.events):
            row = measured(of, size, arguments.steps, arguments.neighbours)
            if not number:
                print(f"\n| {of}: events | {' | '.join(row)} |\n|{'--:|' * (len(row) + 1)}")
            print(f"| {size:,} | {' | '.join(shown(value) for value in row.values())} |", flush=True)
            for name in ("epoch s", "fit s", "peak GiB"):
                if name in row:
                    costs.setdefault(f"{of}, {name}", []).append(row[name])
    if len(arguments.events) > 1:
        print("\ngrows as size to the power of")
        for name, values in costs.items():
            print(f"  {exponent(arguments.events, values):.2f}  {name}")
    if arguments.save:
        plot(arguments.save, arguments.events, costs)


if __name__ == "__main__":
    main()
