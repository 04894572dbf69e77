"""The training loop: what each Ray worker runs, from the first epoch or from the last checkpoint."""

import ctypes
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from graph.errors import IsthmusError
from graph.interactions import Interactions
from graph.snapshot import read_snapshot
from graph.split import Split
from models.encoder import Encoder, EncoderConfig
from models.flagship import Flagship
from models.leads_to import LeadsTo
from train.adapt import Held, Start, begin
from train.data import ItemSide, SplitName, TrainingBatch, Windows, item_side, new_encoder, split_by
from train.evaluate import Task, evaluate
from train.log import Log
from train.sharded import ShardedIds, data_parallel
from train.step import Objective, ObjectiveConfig

if TYPE_CHECKING:
    import ray.train

METRIC: Final = "ndcg@10"
"""What decides which epoch was best: full ranking within the target's platform."""

VALIDATED: Final = 5000
"""People that every epoch is judged by, the same each time: all of them took as long as the epoch on 22,000 people."""

BEST: Final = "best.safetensors"
"""The weights of the best epoch, a file in each checkpoint."""

_STATE: Final = "state.pt"
_IDS: Final = "items.id"


class TrainingError(IsthmusError):
    """Training that cannot be done as asked."""


@dataclass(frozen=True)
class LoopConfig:
    """How to train, beside what to train on."""

    epochs: int = 16
    """Passes over all events, at most."""
    patience: int = 8
    """Epochs without a better validation figure after which training stops."""
    batch: int = 128
    """Windows of events in a step of one worker."""
    learning_rate: float = 3e-3
    """AdamW's, at its highest; it falls to a tenth along a cosine."""
    weight_decay: float = 0.05
    """AdamW's, on matrices only."""
    split: SplitName = "leave_one_out"
    """How validation and test events are held out."""
    validation_from: str | None = None
    """With the split temporal: the instant that validation begins at, ISO 8601, UTC where it names no other zone. None:
    of what people wanted, the newest tenth is test and the tenth before it validation."""
    test_from: str | None = None
    """The instant that validation ends and test begins at; given together with `validation_from`."""
    seed: int = 0
    """Of the split, the initial weights, the order of windows and the negatives."""
    only_platform: str | None = None
    """Train on the events of one platform, to see what the others bring; None trains on all."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience, self.batch) < 1:
            raise ValueError(
                f"epochs is {self.epochs}, patience {self.patience}, batch {self.batch}: give at least 1 of each"
            )
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError(
                f"learning_rate is {self.learning_rate} and weight_decay {self.weight_decay}: "
                "give a positive rate, such as 0.003, and a decay of at least 0"
            )
        self._instants()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LoopConfig":
        """The inverse of `dataclasses.asdict`."""
        parts = {"encoder": EncoderConfig(**values["encoder"]), "objective": ObjectiveConfig(**values["objective"])}
        return cls(**{**values, **parts})

    def parted(self, interactions: Interactions) -> Split:
        """The split of these events that this configuration asks for.

        Raises: SplitError.
        """
        return split_by(self.split, interactions, self.seed, self.only_platform, self._instants())

    def _instants(self) -> tuple[datetime, datetime] | None:
        given = {"validation_from": self.validation_from, "test_from": self.test_from}
        said = {name: value for name, value in given.items() if value is not None}
        if not said:
            return None
        shown = " and ".join(f"{name} is {value}" for name, value in given.items())
        if self.split != "temporal":
            raise ValueError(
                f"{shown}, the split {self.split}: instants are for the split temporal alone, leave them out"
            )
        if len(said) == 1:
            raise ValueError(f"{shown}: give both, or neither for the newest two tenths of what people wanted")
        try:
            start, end = (datetime.fromisoformat(value) for value in said.values())
        except ValueError:
            raise ValueError(f"{shown}: give two instants in ISO 8601, such as 2024-01-31T00:00Z") from None
        start, end = (each.replace(tzinfo=each.tzinfo or UTC) for each in (start, end))
        if start >= end:
            raise ValueError(f"{shown}: validation comes first, give the earlier instant to validation_from")
        return start, end

    def shortened(self) -> "LoopConfig":
        """For a run that begins with trained weights: a quarter of the epochs at a third of the learning rate."""
        return replace(self, epochs=max(1, self.epochs // 4), learning_rate=self.learning_rate / 3)


@dataclass(frozen=True)
class Inputs:
    """Where a worker finds what it trains on; every worker reads the same files."""

    snapshot: Path
    vectors: Path
    """The folder of one text model's vectors."""
    log: Path
    """Folder for metrics.jsonl and TensorBoard's files."""
    start: Start | None = None
    """The weights that training begins with; None begins with random ones."""
    others: tuple[Path, ...] = ()
    """The folders of vectors of other kinds, of images or sound, that items have too."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything of an Inputs in memory."""

    split: Split
    items: ItemSide


def prepare(inputs: Inputs, config: LoopConfig) -> Prepared:
    """Read the snapshot and the vectors; the graph around the items knows the training part alone."""
    snapshot = read_snapshot(inputs.snapshot)
    split = config.parted(snapshot.interactions())
    return Prepared(split, item_side(snapshot, split.train, inputs.vectors, inputs.others))


def train_on_worker(values: Mapping[str, Any]) -> None:
    """Ray Train's loop per worker; `values` is what `worker_values` made."""
    import ray.train
    import ray.train.torch

    config = LoopConfig.from_dict(values["config"])
    said = values["start"]
    start = said and Start(Path(said["run"]), Path(said["snapshot"]), said["weights"], said["platform"])
    others = tuple(Path(folder) for folder in values["others"])
    inputs = Inputs(Path(values["snapshot"]), Path(values["vectors"]), Path(values["log"]), start, others)
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()

    prepared = prepare(inputs, config)
    _seed(config.seed)
    training = prepared.split.train
    encoder = new_encoder(prepared.items, training, config.encoder).to(device)
    held = begin(encoder, training, start) if start else None
    parameters = held.num_parameters if held else sum(value.numel() for value in encoder.parameters())
    graph = {name: [hop.to(device) for hop in hops] for name, hops in prepared.items.graph.items()}
    # Ids that are held have no gradient and no moments: there is nothing to share out.
    sharded = workers > 1 and config.objective.neighbours > 0 and held is None
    ids = ShardedIds(encoder.items, rank, workers) if sharded else None
    objective = Objective(encoder, graph, config.objective, ids)
    windows = Windows(held.training if held else training, config.encoder.max_history)
    run = _Run(config, encoder, objective if workers == 1 else data_parallel(objective, ids), windows, held, ids)

    def validated() -> float:
        with ids.gathered() if ids is not None else nullcontext():
            value = _validate(encoder, prepared, graph, config) if rank == 0 else 0.0
        return _from_first(value, workers, device)

    kept = _Kept(Path(values["kept"])) if values["kept"] else None
    checkpoint = kept.last() if kept else ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            run.restore(Path(folder), device)
    elif start is not None:
        run.judge(validated())  # what it begins with may stay the best
    if kept is not None and checkpoint is not None:
        # What a run that had ended already says; Ray tells it by itself where it keeps the checkpoints.
        ray.train.report({"epoch": run.epoch, "best": run.best, "parameters": parameters}, checkpoint=checkpoint)
    log = Log(inputs.log, values["config"]) if rank == 0 else None
    while run.epoch < config.epochs and run.stale < config.patience:
        _seed(config.seed + 1000 * (run.epoch + 1) + rank)
        started = time.perf_counter()
        loss = run.train_epoch(rank, workers, device)
        _give_back_memory()
        trained = time.perf_counter()
        run.finish_epoch(validated())
        metrics = {
            "epoch": run.epoch,
            "loss": loss,
            METRIC: run.value,
            "best": run.best,
            "seconds": trained - started,
            "validation_seconds": time.perf_counter() - trained,
        }
        with tempfile.TemporaryDirectory() as folder:
            saved = None
            if kept is not None:
                saved = kept.keep(run)
            elif rank == 0 or ids is not None:  # Ray puts the files of all workers into one checkpoint
                run.save(Path(folder))
                saved = ray.train.Checkpoint.from_directory(folder)
            ray.train.report({**metrics, "parameters": parameters}, checkpoint=saved)
        if log is not None:
            log.write(metrics)


class _Run:
    """The state of a training that a checkpoint holds."""

    def __init__(
        self,
        config: LoopConfig,
        encoder: Encoder,
        objective: nn.Module,
        windows: Windows,
        held: Held | None,
        ids: ShardedIds | None,
    ) -> None:
        self._config, self._encoder, self._objective, self._windows = config, encoder, objective, windows
        self._held, self._ids = held, ids
        self._state = _STATE if ids is None else f"state-{ids.rank}-of-{ids.workers}.pt"
        named = list(encoder.named_parameters())
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [value for _, value in named if value.ndim > 1], "weight_decay": config.weight_decay},
                {"params": [value for _, value in named if value.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            fused=True,  # a tenth of the time, which is a third of a step where items are many and neighbours drawn
        )
        self.epoch, self.stale = 0, 0
        self.value, self.best = 0.0, -1.0
        self._best_weights: dict[str, torch.Tensor] = {}

    def train_epoch(self, rank: int, workers: int, device: torch.device) -> float:
        """One pass over this worker's share of the windows; every worker takes the same number of steps."""
        config = self._config
        self._objective.train()
        if not config.encoder.ordered:
            self._windows.shuffle(np.random.default_rng([config.seed, self.epoch, 1]))
        random = np.random.default_rng([config.seed, self.epoch])
        share = share_of(random.permutation(len(self._windows)), rank, workers)
        steps = max(1, -(-len(share) // config.batch))
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.epoch * 1009 + rank)
        total = 0.0
        for step, batch in enumerate(self._windows.batches(config.batch, share, random)):
            progress = (self.epoch + step / steps) / config.epochs
            for group in self._optimizer.param_groups:
                group["lr"] = config.learning_rate * (0.55 + 0.45 * float(np.cos(np.pi * progress)))
            total += self._step(batch.to(device), generator)
        return total / steps

    def _step(self, batch: TrainingBatch, generator: torch.Generator) -> float:
        device = batch.target.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = self._objective(batch, generator)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._ids is not None:
            self._ids.return_gradients()
        self._optimizer.step()
        if self._held is not None:
            self._held.restore()
        return float(loss.detach())

    def finish_epoch(self, value: float) -> None:
        """Count the epoch, and keep its weights if none was better."""
        self.epoch += 1
        self.stale += 1
        self.judge(value)

    def judge(self, value: float) -> None:
        """Keep the weights as they are now if none were better."""
        self.value = value
        if value > self.best:
            self.best, self.stale = value, 0
            self._best_weights = {name: part.detach().clone() for name, part in self._encoder.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Write all that `restore` needs, and the best weights beside it.

        Where ids are in shards, all workers call this: each writes its own state, the first one the best weights.
        """
        state = {
            "weights": self._encoder.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "counts": [self.epoch, self.stale, self.value, self.best],
        }
        torch.save(state, folder / self._state)
        weights = {name: part.contiguous() for name, part in self._best_weights.items()}
        if self._ids is not None:
            whole = self._ids.whole(weights[_IDS])
            if whole is None:
                return
            weights[_IDS] = whole
        save_file(weights, folder / BEST, {"relations": json.dumps(self._encoder.items.relations)})

    def restore(self, folder: Path, device: torch.device) -> None:
        """Go on where a checkpoint ended.

        Raises: TrainingError if ids are in other shards there.
        """
        if not (folder / self._state).is_file():
            found = ", ".join(sorted(file.name for file in folder.glob("state*.pt")))
            raise TrainingError(
                f"the checkpoint {folder} holds {found}, and this training needs {self._state}: ids are in shards, "
                "run it with as many workers as before"
            )
        state = torch.load(folder / self._state, map_location=device, weights_only=True)
        self._encoder.load_state_dict(state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.stale, self.value, self.best = state["counts"]
        self._best_weights = load_file(folder / BEST, device=str(device))
        if self._ids is not None:
            self._best_weights[_IDS] = self._ids.share_of(self._best_weights[_IDS])


class _Kept:
    """The checkpoints of a run in this process, of which Ray copies none to its storage: the last one, by epoch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def last(self) -> "ray.train.Checkpoint | None":
        import ray.train

        found = sorted(self._folder.glob("epoch-*"))
        return ray.train.Checkpoint.from_directory(found[-1]) if found else None

    def keep(self, run: _Run) -> "ray.train.Checkpoint":
        """Write the state of a run; a kill leaves this checkpoint or the one before, whole."""
        import ray.train

        before = list(self._folder.glob("epoch-*"))
        new, target = self._folder / ".new", self._folder / f"epoch-{run.epoch:06d}"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        run.save(new)
        new.rename(target)
        for folder in before:
            shutil.rmtree(folder, ignore_errors=True)
        return ray.train.Checkpoint.from_directory(target)


def share_of(order: NDArray[np.int64], rank: int, workers: int) -> NDArray[np.int64]:
    """The windows of one worker: all windows are somebody's, and everybody has as many.

    Where they do not come out even, some are taken twice: a worker with fewer steps would leave the others waiting.
    """
    return np.resize(order, -(-len(order) // workers) * workers)[rank::workers]


def best_encoder(folder: Path, prepared: Prepared, config: LoopConfig) -> Encoder:
    """The encoder of a checkpoint's best epoch."""
    encoder = new_encoder(prepared.items, prepared.split.train, config.encoder)
    encoder.load_state_dict(load_file(folder / BEST))
    return encoder.eval()


def worker_values(inputs: Inputs, config: LoopConfig, kept: Path | None = None) -> dict[str, Any]:
    """What `train_on_worker` takes, in a form that travels.

    Args:
        kept: where the loop itself keeps its checkpoints; None leaves them to Ray.
    """
    start = inputs.start
    return {
        "kept": kept and str(kept.absolute()),
        "start": start
        and {**start.named, "run": str(start.run.absolute()), "snapshot": str(start.snapshot.absolute())},
        "config": asdict(config),
        "snapshot": str(inputs.snapshot.absolute()),
        "vectors": str(inputs.vectors.absolute()),
        "log": str(inputs.log.absolute()),
        "others": [str(folder.absolute()) for folder in inputs.others],
    }


def validation_task(split: Split, people: int | None = None, seed: int = 0) -> Task:
    """Rank the validation events given the training part.

    Args:
        people: ask for so many of those who have one, drawn from the seed; None asks for all.
    """
    targets = split.validation
    asked = np.unique(targets.user)
    if people is not None and len(asked) > people:
        drawn = np.random.default_rng(seed).choice(asked, people, replace=False)
        targets = targets.where(np.isin(targets.user, drawn))
    return Task("validation", split.train, targets, ks=(10,), training=split.train)


def _validate(encoder: Encoder, prepared: Prepared, graph: Any, config: LoopConfig) -> float:
    if not len(prepared.split.validation):
        raise TrainingError("no event is held out for validation: ingest longer histories")
    flagship = Flagship.from_encoder(encoder, graph, LeadsTo.empty(len(prepared.split.train.items)))
    return evaluate(flagship, validation_task(prepared.split, VALIDATED, config.seed)).value(METRIC)


def _from_first(value: float, workers: int, device: torch.device) -> float:
    """The first worker's value, on all of them: they must agree on when to stop."""
    if workers == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    torch.distributed.broadcast(shared, src=0)
    return float(shared[0])


def _give_back_memory() -> None:
    """Let glibc return what lies free between tensors of many shapes: it grew by a gigabyte an epoch on beauty."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _seed(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
