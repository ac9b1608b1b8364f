"""A round's rows on the actors of a real cluster of two nodes: an actor is killed, and then a node."""

import gc
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch

from fedsec.cluster import Connection, require_ray
from fedsec.defense.shards import ColumnShards
from fedsec.errors import InputError
from fedsec.federation.updates import Federation
from fedsec.runs.experiment import build_experiment
from fedsec.runs.provenance import provenance
from fedsec.runs.sharded import room
from fedsec.runs.sharded.experiment import sharded_experiment
from fedsec.runs.sharded.ray_workers import RayWorkers, _Actor
from fedsec.runs.sharded.room import check_room
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import CellConfig

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="clusters of several nodes on one machine are POSIX"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
CELL = CellConfig.model_validate(
    {
        "dataset": {"name": "digits", "train_size": 200, "test_size": 50},
        "partition": {"name": "iid", "clients": 7},
        "model": {"name": "mlp", "hidden": [6]},
        "federation": {"algorithm": "fedavg", "rounds": 3, "local": {"steps": 2, "batch_size": 8, "lr": 0.2}},
        "attack": {"name": "ipm", "fraction": 0.2},
        "defense": [{"name": "nnm", "num_byzantine": 1}, "median"],
        "engine": "loop",
    }
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head of two CPUs and a node of one; this process is connected to it."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets lie in it, whose paths must be short
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_worker_niceness", "0")  # by default all other tests go first, and these end last
        patch.delenv("RAY_ADDRESS", raising=False)
        require_ray()
        from ray.cluster_utils import Cluster

        small = {"object_store_memory": 80 * 2**20}
        alone = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **small, **alone})
        cluster.add_node(num_cpus=1, **small)
        with Connection(cluster.address):
            yield cluster
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            cluster.shutdown()
            del cluster
            gc.collect()  # Ray leaves files open, which a test after this one would be blamed for
    shutil.rmtree(folder, ignore_errors=True)


def test_an_actor_and_a_node_are_killed_and_the_model_is_that_of_one_process(
    cluster: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = build_experiment(CELL, device=torch.device("cpu"), threads=1).federation
    expected = list(alone.run())
    exchanges: list[int] = []
    gather = RayWorkers.exchange

    def exchange(workers: RayWorkers, blocks: Sequence[slice]) -> ColumnShards:
        exchanges.append(workers._replaced)
        shards = gather(workers, blocks)
        homes = shards.map(lambda piece: require_ray().get_runtime_context().get_node_id())
        if len(exchanges) == 1:  # so that the other one stays on the node that is to be killed
            require_ray().kill(workers.actors[homes.index(cluster.head_node.node_id)])
        if len(exchanges) == 3:
            (node,) = cluster.worker_nodes
            assert node.node_id in homes
            cluster.remove_node(node, allow_graceful=False)
        return shards

    monkeypatch.setattr(RayWorkers, "exchange", exchange)
    federation = sharded_experiment(CELL, TaskSettings(tmp_path, "cpu", 1, actors=2, ray=cluster.address)).federation
    assert isinstance(federation, Federation)
    assert isinstance(alone, Federation)
    results = list(federation.run())
    federation.close()
    assert torch.equal(federation.parameters, alone.parameters)
    assert [result.metrics for result in results] == [result.metrics for result in expected]
    assert exchanges[:2] == [0, 1]  # the first exchange once more, with a new actor
    # A node's workers may still answer while it goes: the round in which it was killed is played again, or was over.
    assert len(exchanges) in (4, 5)
    assert exchanges[-1] == 2


class Machine(NamedTuple):
    cpus: float
    gpus: float = 0


def test_a_cluster_that_is_too_small_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [Machine(4), Machine(3, 1)]
    monkeypatch.setattr(room, "alive_nodes", lambda: nodes)
    check_room(3, 2)
    check_room(1, 2, gpus=True)
    with pytest.raises(InputError, match=r"4 actors of 2 CPUs each do not fit the cluster \(.*3 CPUs, 1 GPUs"):
        check_room(4, 2)
    with pytest.raises(InputError, match="2 actors of 2 CPUs and a GPU each do not fit"):
        check_room(2, 2, gpus=True)
    nodes.clear()
    with pytest.raises(InputError, match="no node is left"):
        check_room(1, 1)


def test_a_node_with_other_code_is_named() -> None:
    made_with = {**provenance(CELL, "cpu"), "torch": "0.1"}
    actor = _Actor(CELL.model_dump(mode="json"), "cpu", 1, made_with, 1)
    with pytest.raises(InputError, match=f"node {platform.node()} has another torch than the machine where"):
        actor.build()
