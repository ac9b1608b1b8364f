"""Split learning against plain loops over the whole network: the cut must not show in what is learned."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import LabelFlip, SignFlip
from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import Marvell, Mean
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.optimizers import RateSchedule
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, SplitFederation, SplitLearning, Threat
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.split.network import Crossing
from fedsec.models import build
from fedsec.seeds import Streams

SIZES, CLASSES, STREAMS = (8, 5), 3, Streams(3)
LOCAL = LocalTraining(epochs=2, batch_size=3, lr=0.3, momentum=0.9, weight_decay=0.01)
SHAPE = (1, 4, 4)
Made = tuple[nn.Module, CohortTrainer, Split]


def parts(sizes: tuple[int, ...] = SIZES, model: str = "cnn", **options: Any) -> Made:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (sum(sizes), *SHAPE), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, CLASSES, (sum(sizes),), generator=generator))
    shares = [np.arange(begin, end) for begin, end in pairwise(np.cumsum([0, *sizes]))]
    data = ResidentData.build(split, shares, Normalization((0.5,), (0.5,)), torch.device("cpu"))
    torch.manual_seed(0)
    module = build(model, SHAPE, CLASSES, **({"channels": [2, 3]} if model == "cnn" else {}), **options)
    return module, CohortTrainer(module, data, engine="loop"), split


def federation(algorithm: SplitLearning, *, sizes: tuple[int, ...] = SIZES, **more: Any) -> SplitFederation:
    settings: dict[str, Any] = {"rounds": 2, "num_classes": CLASSES, "streams": STREAMS, **more}
    module, trainer, split = parts(sizes, settings.pop("model", "cnn"))
    return SplitFederation(module, trainer, split, algorithm=algorithm, **settings)


def turn(module: nn.Module, run: SplitFederation, client: int, number: int) -> None:
    """A client's steps on the whole network, in plain PyTorch."""
    local = run.algorithm.local.in_round(number)
    plan = plan_client(run.data, client, local, number, run.streams)
    sgd = torch.optim.SGD(module.parameters(), local.lr, momentum=local.momentum, weight_decay=local.weight_decay)
    for examples, size in zip(plan.examples, plan.sizes, strict=True):
        images, labels = run.data.batch(torch.from_numpy(examples[:size]))
        loss = nn.functional.cross_entropy(module(images), labels, label_smoothing=local.label_smoothing)
        for parameter, gradient in zip(
            module.parameters(), torch.autograd.grad(loss, tuple(module.parameters())), strict=True
        ):
            parameter.grad = gradient
        sgd.step()


def vector(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])


CUTS = [{"cut": 1}, {"cut": 2}, {"cut": 1, "labels": "client"}, {"cut": 1, "labels": "server"}]


@pytest.mark.parametrize("options", CUTS)
def test_a_relay_of_two_clients_is_sgd_of_the_whole_network(options: dict[str, Any]) -> None:
    run, by_hand = federation(SplitLearning(LOCAL, **options)), parts()[0]
    for number in (1, 2):
        for client in (0, 1):
            turn(by_hand, run, client, number)
        run.play()
    torch.testing.assert_close(run.parameters, vector(by_hand), rtol=1e-5, atol=1e-6)


def test_rates_and_labels_are_as_local_training_says() -> None:
    local = replace(LOCAL, schedule=RateSchedule("step", every=1, gamma=0.5), label_smoothing=0.2)
    run, by_hand = federation(SplitLearning(local), sizes=(6,)), parts((6,))[0]
    for number in (1, 2):
        turn(by_hand, run, 0, number)
        run.play()
    torch.testing.assert_close(run.parameters, vector(by_hand), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("labels", ["shared", "client"])
def test_clients_in_parallel_are_federated_averaging(labels: Any) -> None:
    run = federation(SplitLearning(LOCAL, labels=labels, turns="parallel"))
    module, trainer, split = parts()
    averaged = Federation(
        module,
        trainer,
        split,
        algorithm=FedAvg(local=LOCAL),
        aggregator=Mean(),
        streams=STREAMS,
        rounds=2,
        num_classes=3,
    )
    for _ in range(2):
        run.play(), averaged.play()
    torch.testing.assert_close(run.parameters, averaged.parameters, rtol=1e-5, atol=1e-6)


def test_one_step_of_clients_in_parallel_is_one_on_all_their_batches() -> None:
    one = LocalTraining(steps=1, batch_fraction=1.0, lr=0.3)
    run, by_hand = federation(SplitLearning(one, turns="parallel")), parts()[0]
    images, labels = run.data.batch(torch.arange(sum(SIZES)))
    gradients = torch.autograd.grad(nn.functional.cross_entropy(by_hand(images), labels), tuple(by_hand.parameters()))
    expected = vector(by_hand) - 0.3 * torch.cat([one.reshape(-1) for one in gradients])
    run.play()
    torch.testing.assert_close(run.parameters, expected, rtol=1e-5, atol=1e-6)


def test_what_crosses_is_seen_as_it_was() -> None:
    seen: list[Crossing] = []
    for labels in ("shared", "client"):
        run, by_hand = federation(SplitLearning(LOCAL, labels=labels), sizes=(5,)), parts((5,))[0]
        run.observers.append(seen.append)
        run.play()
        first, images, targets = seen[0], *run.data.batch(torch.from_numpy(seen[0].examples))
        features = [*by_hand.features.children()]  # type: ignore[union-attr]
        sent = features[1](features[0](images))
        outputs = sent if labels == "shared" else features[3](features[2](sent))
        rest = features[2:] if labels == "shared" else []
        logits = by_hand.classify(  # type: ignore[operator]
            nn.Sequential(*rest)(outputs)
        )
        (gradients,) = torch.autograd.grad(nn.functional.cross_entropy(logits, targets, reduction="sum"), outputs)
        torch.testing.assert_close(first.sent, sent.detach())
        torch.testing.assert_close(first.outputs, outputs.detach())
        torch.testing.assert_close(first.gradients, gradients, rtol=1e-4, atol=1e-6)
        seen.clear()


def test_observers_change_nothing_and_a_kept_run_goes_on_to_the_bit() -> None:
    whole, first, second = (federation(SplitLearning(LOCAL), rounds=3) for _ in range(3))
    first.observers.append(lambda crossing: None)
    for _ in range(3):
        whole.play()
    first.play()
    second.restore(first.state(), 1)
    for _ in range(2):
        second.play()
    assert torch.equal(second.parameters, whole.parameters)


def test_bytes_are_counted() -> None:
    run = federation(SplitLearning(LocalTraining(epochs=1, batch_size=3)), sizes=(6,))
    cost = run.play().cost
    assert cost is not None
    bottom = (2 * 25 + 2) * 4
    assert cost.upload_bytes == 6 * (2 * 2 * 2 * 4 + 4) + bottom
    assert cost.download_bytes == 6 * (2 * 2 * 2 * 4) + bottom
    u_shaped = federation(SplitLearning(LocalTraining(epochs=1, batch_size=3), labels="client"), sizes=(6,)).play().cost
    assert u_shaped is not None
    own = bottom + (3 * 3 + 3) * 4
    assert u_shaped.upload_bytes == 6 * (2 * 2 * 2 * 4 + 3 * 4) + own
    assert u_shaped.download_bytes == u_shaped.upload_bytes


def test_byzantine_clients_poison_their_labels() -> None:
    honest, poisoned = (
        federation(SplitLearning(LOCAL), threat=threat) for threat in (Threat(), Threat(frozenset({1}), LabelFlip()))
    )
    assert honest.play().byzantine == ()
    assert poisoned.play().byzantine == (1,)
    assert not torch.allclose(honest.parameters, poisoned.parameters)


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: SplitLearning(LOCAL, cut=0), "cut must be at least 1, got 0"),
        (lambda: SplitLearning(LOCAL, head=2), "head goes with labels: client, got 2 blocks with labels: shared"),
        (lambda: SplitLearning(LOCAL, labels="nobody"), "labels must be one of shared, server, client, got 'nobody'"),  # type: ignore[arg-type]
        (lambda: SplitLearning(LocalTraining(steps=1, batch_size=1, worker_momentum=0.5)), "send no updates"),
        (lambda: SplitLearning(replace(LOCAL, clip_norm=1.0)), "has the whole gradient to clip"),
        (lambda: federation(SplitLearning(LOCAL, cut=3)), "has 3 blocks, and cut 3 leave none to the server"),
        (lambda: federation(SplitLearning(LOCAL), model="logistic"), "Logistic cannot be cut; expected mlp"),
        (
            lambda: federation(SplitLearning(LOCAL), threat=Threat(frozenset({1}), SignFlip())),
            "SignFlip poisons updates, and SplitLearning sends none; expected an attack on data",
        ),
        (
            lambda: federation(SplitLearning(LOCAL), defenses=[Marvell()]),
            "Marvell is made for 2 classes, and the data have 3",
        ),
        (
            lambda: federation(SplitLearning(LOCAL, labels="server"), threat=Threat(frozenset({1}), LabelFlip())),
            "the labels are the server's",
        ),
    ],
)
def test_what_cannot_be_is_refused(build_it: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_it()
