"""Ids in shards, on two processes: they learn what the whole table learns, in half the room, and can be resumed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from safetensors.torch import load_file
from torch import Tensor, nn

from graph.snapshot import Snapshot
from models.encoder import EncoderConfig, ItemEncoder
from tests.planted_training import SMALL, write_word_vectors
from train.data import Windows, new_encoder
from train.loop import BEST, Inputs, Prepared, TrainingError, _Run, _seed, prepare
from train.sharded import ShardedIds, data_parallel
from train.step import Objective

CONFIG = replace(SMALL, epochs=4, objective=replace(SMALL.objective, neighbours=3))
CPU = torch.device("cpu")

Told = dict[str, Any]
"""What one of the processes hands back."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes meet and leave a checkpoint."""
    return tmp_path_factory.mktemp("shards")


@pytest.fixture(scope="module")
def prepared(planted_snapshot: Snapshot, folder: Path) -> Prepared:
    vectors = write_word_vectors(planted_snapshot, folder / "vectors")
    return prepare(Inputs(planted_snapshot.path, vectors, folder / "log"), CONFIG)


@pytest.fixture(scope="module")
def told(prepared: Prepared, folder: Path) -> list[Told]:
    """What two processes have to say, of which each works through all of `by_hand`, `compared` and `resumed`."""
    torch.multiprocessing.spawn(_process, (prepared, folder), nprocs=2)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.told", weights_only=True) for rank in (0, 1)]


def _process(rank: int, prepared: Prepared, folder: Path) -> None:
    meeting = f"file://{folder / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    told = by_hand(rank) | compared(prepared, rank) | resumed(prepared, folder / "checkpoint", rank)
    torch.save(told, folder / f"{rank}.told")
    torch.distributed.destroy_process_group()


class Worker:
    """One of two data-parallel workers, or one alone, on the planted graph."""

    def __init__(self, prepared: Prepared, rank: int, workers: int, sharded: bool) -> None:
        self.rank, self.workers = rank, workers
        _seed(0)
        self.encoder = new_encoder(prepared.items, prepared.split.train, CONFIG.encoder)
        self.ids = ShardedIds(self.encoder.items, rank, workers) if sharded else None
        objective = Objective(self.encoder, prepared.items.graph, CONFIG.objective, self.ids)
        parallel = objective if workers == 1 else data_parallel(objective, self.ids)
        windows = Windows(prepared.split.train, CONFIG.encoder.max_history)
        self.run = _Run(CONFIG, self.encoder, parallel, windows, None, self.ids)

    def train(self, *values: float) -> None:
        """One epoch for each of these validation figures."""
        for value in values:
            _seed(10 * self.run.epoch + self.rank)
            self.run.train_epoch(self.rank, self.workers, CPU)
            self.run.finish_epoch(value)

    def weights(self) -> dict[str, Tensor]:
        """All of them on the first worker."""
        if self.ids is None:
            return dict(self.encoder.state_dict())
        with self.ids.gathered():
            return dict(self.encoder.state_dict())


TABLE = torch.arange(14.0).view(7, 2)
"""One row more for the first worker than for the second."""
ASKED = torch.tensor([[[6, 0], [6, 3]], [[1, 1], [6, 1]]])
"""What each of them asks for."""


def by_hand(rank: int) -> Told:
    items = ItemEncoder(7, 3, [], EncoderConfig(dim=2, heads=1))
    items.id = nn.Parameter(TABLE.clone())
    ids = ShardedIds(items, rank, 2)
    fetched, places = ids(ASKED[rank])
    (fetched[places].sum() * (1 + rank)).backward()
    ids.return_gradients()
    found = {"share": items.id.detach(), "vectors": fetched[places].detach()}
    return found | {"whole": ids.whole(items.id.detach()), "gradient": ids.whole(items.id.grad)}


def test_each_worker_fetches_the_rows_it_asks_for_and_each_share_has_the_mean_of_both_gradients(
    told: list[Told],
) -> None:
    assert [each["share"].tolist() for each in told] == [TABLE[0::2].tolist(), TABLE[1::2].tolist()]
    assert all(torch.equal(each["vectors"], TABLE[rows]) for each, rows in zip(told, ASKED, strict=True))
    assert torch.equal(told[0]["whole"], TABLE)
    assert told[1]["whole"] is None
    # The first worker takes row 6 twice, 0 and 3 once; the second 1 three times and 6 once, and counts double.
    # A training would not show it if the mean were a sum: AdamW hardly sees how large gradients are.
    assert told[0]["gradient"][:, 0].tolist() == [0.5, 3, 0, 0.5, 0, 0, 2]


def compared(prepared: Prepared, rank: int) -> Told:
    told: Told = {}
    for name in ("in shards", "each whole"):
        worker = Worker(prepared, rank, 2, name == "in shards")
        worker.train(0.1, 0.2)
        ids = worker.encoder.items.id
        moments = worker.run._optimizer.state[ids]
        state = ids, worker.run._best_weights["items.id"], moments["exp_avg"], moments["exp_avg_sq"]
        told[name] = worker.weights()
        told[f"rows {name}"] = [len(each) for each in state]
    return told


def test_shards_learn_what_the_whole_table_on_each_worker_learns_in_half_the_room(
    told: list[Told], prepared: Prepared
) -> None:
    num_items = len(prepared.split.train.items)
    assert told[0]["rows each whole"] == told[1]["rows each whole"] == [num_items] * 4
    assert told[0]["rows in shards"] == told[1]["rows in shards"] == [num_items // 2] * 4
    for name, value in told[0]["each whole"].items():
        torch.testing.assert_close(told[0]["in shards"][name], value, rtol=0, atol=1e-5)
        if name != "items.id":
            assert torch.equal(told[1]["in shards"][name], told[0]["in shards"][name]), name


def resumed(prepared: Prepared, folder: Path, rank: int) -> Told:
    folder.mkdir(exist_ok=True)
    undisturbed, before, after = (Worker(prepared, rank, 2, sharded=True) for _ in range(3))
    undisturbed.train(0.3, 0.2, 0.1, 0.4)
    before.train(0.3, 0.2)
    before.run.save(folder)
    torch.distributed.barrier()  # as Ray's report: the first worker has written the best weights when others read them
    after.run.restore(folder, CPU)
    told: Told = {"counts": [after.run.epoch, after.run.stale, after.run.best]}
    pairs = ((value, before.run._best_weights[name]) for name, value in after.run._best_weights.items())
    told["best"] = all(torch.equal(one, other) for one, other in pairs)
    after.train(0.1, 0.4)
    return told | {"undisturbed": undisturbed.weights(), "resumed": after.weights()}


def test_two_workers_go_on_from_a_checkpoint_of_shards_as_if_nothing_had_happened(told: list[Told]) -> None:
    for each in told:
        assert each["counts"] == [2, 1, 0.3]
        assert each["best"]
        for name, value in each["undisturbed"].items():
            assert torch.equal(each["resumed"][name], value), name


def test_another_number_of_workers_is_refused_a_checkpoint_of_shards_and_its_best_weights_are_whole(
    told: list[Told], prepared: Prepared, folder: Path
) -> None:
    assert told
    alone = Worker(prepared, 0, 1, sharded=False)
    with pytest.raises(TrainingError, match=r"state-0-of-2\.pt, state-1-of-2\.pt, and .* needs state\.pt.* as many"):
        alone.run.restore(folder / "checkpoint", CPU)
    alone.encoder.load_state_dict(load_file(folder / "checkpoint" / BEST))
