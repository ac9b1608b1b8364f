"""Models that are no longer finite: the run ends with the figures of a constant answer, whatever made them so."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsec.attacks import SignFlip
from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import Mean, Median
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedSGD, Scaffold, Threat, UpdateAlgorithm
from fedsec.seeds import Streams

WILD = LocalTraining(steps=3, batch_size=8, lr=1.0)


def federation(algorithm: UpdateAlgorithm, *, scale: float = 1e30, aggregator: Any = None, **more: Any) -> Federation:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 1, 2, 2), dtype=torch.uint8, generator=generator)
    labels = torch.tensor([0] * 9 + [1] * 20 + [2] * 11)
    data = ResidentData.build(
        Split(images, labels), list(np.arange(40).reshape(4, 10)), Normalization((0.5,), (0.5,)), torch.device("cpu")
    )
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    threat = Threat(frozenset({1}), SignFlip(scale=scale)) if scale else None
    return Federation(
        module,
        CohortTrainer(module, data),
        Split(images, labels),
        algorithm=algorithm,
        aggregator=aggregator or Mean(),
        streams=Streams(0),
        rounds=9,
        num_classes=3,
        threat=threat,
        evaluate_every=5,
        **more,
    )


@pytest.mark.parametrize("algorithm", [FedAvg(local=WILD), FedSGD(), Scaffold(local=WILD)])
def test_an_attack_that_blows_the_model_up_ends_the_run(algorithm: UpdateAlgorithm) -> None:
    run = federation(algorithm)
    results = list(run.run())
    last = results[-1]
    assert len(results) < 9
    assert [result.diverged for result in results] == [False] * (len(results) - 1) + [True]
    assert last.evaluated  # although no evaluation was due
    assert last.metrics["accuracy"] == 9 / 40
    assert last.per_class["per_class_accuracy"] == (1.0, 0.0, 0.0)
    assert not math.isfinite(last.metrics["loss"] or 0.0)
    again = federation(algorithm)
    again.restore(run.state(), run.round)
    assert again.over


def test_a_robust_rule_keeps_the_run_going() -> None:
    results = list(federation(FedAvg(local=WILD), aggregator=Median()).run())
    assert len(results) == 9
    assert not any(result.diverged for result in results)


def test_a_rate_that_no_float_can_hold_is_refused() -> None:
    with pytest.raises(InputError, match="server_lr must be at most 3e"):
        FedAvg(server_lr=1e39)
    *_, last = federation(FedAvg(local=WILD, server_lr=1e38), scale=0.0).run()
    assert last.diverged
