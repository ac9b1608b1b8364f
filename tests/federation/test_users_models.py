"""Models that draw, or change buffers: what a federation makes of them from round to round."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.data.dataset import Split
from fedsec.data.normalization import Normalization
from fedsec.defenses import Mean, Soteria
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.batch_norm import NormStatistics
from fedsec.engine.messages import LocalResult
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedSGD, Scaffold
from fedsec.federation.algorithms import UpdateAlgorithm
from fedsec.seeds import Streams

LOCAL = LocalTraining(epochs=1, batch_size=4, lr=0.1)


class Usual(nn.Module):
    """Dropout, a running center and a counter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.drop, self.head = nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)
        self.register_buffer("center", torch.zeros(8))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.linear(images.flatten(1))
        if self.training:
            with torch.no_grad():
                self.center.lerp_(hidden.mean(0), 0.5)  # type: ignore[operator]
                self.count += 1
        logits: Tensor = self.head(self.drop(torch.relu(hidden - self.center)))
        return logits


def federation(
    algorithm: UpdateAlgorithm, *, threads: int = 1, bn: NormStatistics = "average", **more: Any
) -> Federation:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 1, 2, 2), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 3, (40,), generator=generator))
    data = ResidentData.build(
        split, list(np.arange(40).reshape(5, 8)), Normalization((0.5,), (0.5,)), torch.device("cpu")
    )
    module = Usual()
    return Federation(
        module,
        CohortTrainer(module, data, threads=threads),
        split,
        algorithm=algorithm,
        aggregator=Mean(),
        streams=Streams(0),
        rounds=4,
        num_classes=3,
        clients_per_round=3,
        bn=bn,
        **more,
    )


@pytest.mark.parametrize(
    "algorithm",
    [FedAvg(local=LOCAL), FedSGD(server_lr=0.1), Scaffold(local=LOCAL, option="I"), Scaffold(local=LOCAL)],
    ids=["steps", "gradients", "both", "scaffold"],
)
def test_a_run_is_the_same_with_any_number_of_threads_and_after_an_interruption(algorithm: UpdateAlgorithm) -> None:
    torch.manual_seed(1)
    whole = federation(algorithm)
    for _ in range(4):
        whole.play()
    torch.manual_seed(2)
    first = federation(algorithm, threads=2)
    for _ in range(2):
        first.play()
    again = federation(algorithm)
    again.restore({name: tensor.clone() for name, tensor in first.state().items()}, 2)
    for _ in range(2):
        again.play()
    assert torch.equal(whole.parameters, again.parameters)
    assert torch.equal(whole.statistics, again.statistics)
    assert whole.parameters.isfinite().all()


def test_defenses_that_run_the_clients_model_draw_from_its_stream() -> None:
    runs = []
    for seed in (1, 2):
        run = federation(FedAvg(local=LOCAL), transforms=[Soteria(0.5)])
        torch.manual_seed(seed)
        run.play()
        runs.append(run.parameters)
    assert torch.equal(*runs)


def test_the_server_averages_buffers_and_hands_them_out() -> None:
    run = federation(FedAvg(local=LOCAL))
    assert list(run.trainer.statistics.buffers) == ["center", "count"]
    run.play()
    run.play()
    assert run.module.count.item() == 4  # two rounds of two steps each
    assert run.module.center.abs().max() > 1e-3
    torch.testing.assert_close(run.module.center, run.statistics[:8])
    assert {"center", "count"} <= run.weights().keys()


def test_buffers_stay_at_home_where_statistics_do() -> None:
    run = federation(FedAvg(local=LOCAL), bn="local")
    run.play()
    rows = run.client_statistics
    taken = rows[:, -1] > 0
    assert int(taken.sum()) == 3
    assert torch.equal(rows[~taken], torch.zeros(2, 9))


def test_recalibration_cannot_find_them_anew() -> None:
    with pytest.raises(InputError, match=r"bn: recalibrate .* but not 'center'"):
        federation(FedAvg(local=LOCAL), bn="recalibrate")


def test_the_memory_of_a_round_is_checked_before_any_client_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where clients are trained elsewhere, one by one, as cells of one round share them."""

    def elsewhere(*_: Any) -> LocalResult:
        raise AssertionError("nobody may train")

    monkeypatch.setattr("fedsec.engine.memory.free_bytes", lambda device: 1000)
    with pytest.raises(InputError, match="local training needs about"):
        federation(FedAvg(local=LOCAL), local_updates=elsewhere)
    with pytest.raises(InputError, match="local training needs about"):
        federation(FedSGD())
