"""What is measured after a round: an attack's own test beside the task's metrics, and metrics of one's own."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.data.dataset import Split
from fedsec.data.normalization import Normalization
from fedsec.defenses import Mean
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, Threat
from fedsec.metrics.balanced_accuracy import BalancedAccuracy
from fedsec.metrics.measure import Measure
from fedsec.seeds import Streams
from fedsec.threat import DataPoisoning, Probe

TARGET = 2


def stamped(images: Tensor) -> Tensor:
    images = images.clone()
    images[..., -1, -1] = 255
    return images


class Backdoor(DataPoisoning):
    """A white pixel in the corner shall mean class 2: one method to poison, one to say what success is."""

    def corrupt(
        self, images: Tensor, labels: Tensor, *, num_classes: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        half = len(images) // 2
        return torch.cat([stamped(images[:half]), images[half:]]), torch.cat(
            [torch.full_like(labels[:half], TARGET), labels[half:]]
        )

    def probes(
        self, images: Tensor, labels: Tensor, *, num_classes: int, generator: torch.Generator
    ) -> Sequence[Probe]:
        others = stamped(images[labels != TARGET])
        return [Probe("attack_success_rate", others, torch.full((len(others),), TARGET))]


def examples(number: int, seed: int) -> Split:
    """Images whose class is where they are bright; the corner that the trigger sits in is dark."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 3
    images = torch.randint(0, 60, (number, 1, 4, 4), generator=generator, dtype=torch.uint8)
    images[torch.arange(number), 0, labels] += 120
    images[..., -1, -1] = 0
    return Split(images, labels)


def federation(attack: DataPoisoning | None, byzantine: Iterable[int] = (), **more: Any) -> Federation:
    train, threat, streams = examples(120, 0), Threat(frozenset(byzantine), attack), Streams(0)
    data = ResidentData.build(
        train, np.array_split(np.arange(120), 4), Normalization((0.5,), (0.25,)), torch.device("cpu")
    )
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 3))
    local = LocalTraining(epochs=3, batch_size=10, lr=0.2)
    more = {"num_classes": 3, **more}
    return Federation(
        model,
        CohortTrainer(model, data),
        examples(60, 1),
        algorithm=FedAvg(local=local),
        aggregator=Mean(),
        streams=streams,
        rounds=4,
        threat=threat,
        **more,
    )


def test_a_backdoor_brings_its_success_rate() -> None:
    rates = {}
    for byzantine in ({0, 1}, set[int]()):
        results = list(federation(Backdoor(), byzantine, evaluate_every=2).run())
        assert [result.metrics.keys() for result in results] == [{"accuracy", "loss", "attack_success_rate"}] * 4
        assert [result.evaluated for result in results] == [False, True, False, True]
        assert results[0].metrics["attack_success_rate"] is None
        assert (results[-1].metrics["accuracy"] or 0) > 0.9
        rates[len(byzantine)] = results[-1].metrics["attack_success_rate"] or 0.0
    assert rates[2] > 0.9
    assert rates[0] < 0.5


def test_an_attack_without_an_aim_adds_nothing() -> None:
    (result, *_) = federation(None).run()
    assert result.metrics.keys() == {"accuracy", "loss"}


def test_a_metric_of_ones_own_stands_beside_the_task_s() -> None:
    (result, *_) = federation(None, measures={"balanced": BalancedAccuracy()}).run()
    # 20 test examples of each class.
    assert result.metrics["balanced"] == pytest.approx(result.metrics["accuracy"])


class Broken(Backdoor):
    """Brings a test that does not fit."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe

    def probes(
        self, images: Tensor, labels: Tensor, *, num_classes: int, generator: torch.Generator
    ) -> Sequence[Probe]:
        return [self.probe]


IMAGE, LABEL = torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (
            Probe("x", IMAGE.float(), LABEL),
            r"Broken.probes: x has images of shape \(1, 4, 4\), torch.float32; expected",
        ),
        (Probe("x", IMAGE[..., 1:], LABEL), r"x has images of shape \(1, 4, 3\)"),
        (Probe("x", IMAGE, LABEL, "recall"), "x measures 'recall'; expected one of accuracy, loss"),
        (Probe("x", IMAGE, LABEL.float()), "expected targets of torch.int64, got torch.float32"),
        (Probe("loss", IMAGE, LABEL), "metrics: loss would be measured twice"),
    ],
)
def test_a_probe_that_does_not_fit_is_refused(probe: Probe, message: str) -> None:
    with pytest.raises(InputError, match=message):
        federation(Broken(probe))


@pytest.mark.parametrize("targets", [LABEL[:0], torch.zeros(2, dtype=torch.int64)])
def test_a_probe_has_one_target_for_each_example(targets: Tensor) -> None:
    with pytest.raises(InputError, match="probe x: expected as many targets as examples and at least one"):
        Probe("x", IMAGE, targets)


class Scribbling(Backdoor):
    """Writes into the test set."""

    def probes(
        self, images: Tensor, labels: Tensor, *, num_classes: int, generator: torch.Generator
    ) -> Sequence[Probe]:
        images.fill_(0)
        return []


def test_a_test_set_is_left_as_it_is() -> None:
    with pytest.raises(InputError, match=r"Scribbling.probes"):
        federation(Scribbling())


class Constant(Measure):
    """Always the same."""

    def measure(self, outputs: Tensor, targets: Tensor) -> float:
        return 0.25


def test_two_metrics_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="accuracy would be measured twice"):
        federation(None, measures={"accuracy": Constant()})


def test_what_a_constant_answer_scores() -> None:
    run = federation(None)
    run.evaluator.targets = torch.tensor([0, 2, 2, 1, 2])
    assert run.evaluator.constant_answer() == {"accuracy": 3 / 5}


@pytest.mark.parametrize(
    ("num_classes", "said"), [(4, r"expected \(1, 4\)"), (2, r"labels run from 0 to 2; expected 0..1")]
)
def test_a_model_or_labels_of_other_classes_are_refused(num_classes: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        federation(None, num_classes=num_classes)
