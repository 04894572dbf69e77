"""Seconds of the processor until a model is as good as a peer's best, from events and text vectors in memory.

    python -m benchmarks.convergence [--only beauty] [--data ../shared/data] [--var var/benchmarks]

One thread. "sparse part": the linear model fitted in one way and its decay chosen on validation. "isthmus": the
network trained, the blend chosen, and all of that. The peers' figures are LightGCN's of RecBole on MovieLens-100k (71
CPU-s, ../shared/design/FACTS.md) and SASRec's of RecTools on beauty, which benchmarks/peers/rectools_sasrec.py prints.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from benchmarks.quality import SPLIT_SEEDS, parser_of, prepare_with_texts
from graph.errors import IsthmusError
from graph.snapshot import Snapshot
from graph.split import Split
from models.leads_to import CLOSE, NEXT, LeadsTo
from models.text import DEFAULT_MODEL, vectors_name
from train.blend import DECAYS
from train.compare import held_out_task, withheld_task
from train.evaluate import Task, evaluate
from train.loop import VALIDATED, prepare, validation_task
from train.regimes import suited
from train.release import assemble
from train.run import WorkerConfig, train
from train.runs import Run

MOVIELENS: Final = "movielens-100k"
TASKS: Final[Mapping[str, Callable[[Split], Task]]] = {
    MOVIELENS: lambda split: withheld_task(split, ks=(20,)),
    "beauty": lambda split: held_out_task(split, ks=(10,)),
}


def measure(name: str, snapshot: Snapshot, var: Path) -> None:
    """Print a table: what was spent, and what the test part says of it."""
    if name == MOVIELENS:
        config, linear = replace(suited(snapshot, "random_per_user"), seed=SPLIT_SEEDS[0]), CLOSE
    else:
        config, linear = suited(snapshot, "leave_one_out"), NEXT
    inputs = Run(snapshot.id, vectors_name(DEFAULT_MODEL), config, var).inputs
    prepared = prepare(inputs, config)
    split, text = prepared.split, prepared.items.text.numpy()
    asked = validation_task(split, VALIDATED, config.seed)
    test = TASKS[name](split)
    [cut] = test.ks
    print(f"\n## {name}\n\n| model | CPU s | test NDCG@{cut} |\n|---|--:|--:|")

    began = time.process_time()
    fitted = LeadsTo.fit(split.train, linear, text)
    _, decay = max((evaluate(fitted.with_query(decay, 1.0), asked).value("ndcg@10"), decay) for decay in DECAYS)
    spent = time.process_time() - began
    value = evaluate(fitted.with_query(decay, 1.0), test).value(f"ndcg@{cut}")
    print(f"| sparse part | {spent:.1f} | {value:.4f} |", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        scratch = replace(inputs, log=Path(folder) / "log")
        result = train(scratch, config, WorkerConfig(workers=0), Path(folder) / "storage")
        trained = time.process_time() - began
        model = assemble(scratch, config, result.checkpoint)
        spent = time.process_time() - began
    dense = replace(model.flagship, leads_to=LeadsTo.empty(len(model.flagship.bias)))
    print(f"| isthmus, dense | {trained:.1f} | {evaluate(dense, test).value(f'ndcg@{cut}'):.4f} |")
    print(f"| isthmus | {spent:.1f} | {evaluate(model.flagship, test).value(f'ndcg@{cut}'):.4f} |", flush=True)


def main() -> None:
    """Print the tables."""
    arguments = parser_of(__doc__, TASKS).parse_args()
    torch.set_num_threads(1)
    try:
        for name in [arguments.only] if arguments.only else TASKS:
            snapshot = prepare_with_texts(name, arguments.data, arguments.var)
            measure(name, snapshot, arguments.var / name)
    except IsthmusError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
