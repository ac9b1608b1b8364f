"""A vertical federation against plain SGD of the joint network, and whoever has no labels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsec.attacks import LabelFlip
from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import CutClip
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.batches import plan_batches
from fedsec.errors import InputError
from fedsec.federation import Threat, Vertical, VerticalFederation
from fedsec.federation.split.columns import ColumnNetwork, column_bounds
from fedsec.federation.split.network import Crossing
from fedsec.models import build
from fedsec.seeds import Streams
from fedsec.tasks import Regression

COUNT, STREAMS = 13, Streams(3)
LOCAL = LocalTraining(epochs=1, batch_size=4, lr=0.2, momentum=0.5)


def network(shape: tuple[int, ...] = (1, 4, 5), outputs: int = 3) -> ColumnNetwork:
    torch.manual_seed(0)
    return ColumnNetwork(lambda own, width: build("mlp", own, width, hidden=[4]), shape, 2, 3, (5,), outputs)


def federation(algorithm: Vertical, **more: Any) -> VerticalFederation:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (COUNT, 1, 4, 5), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 3, (COUNT,), generator=generator))
    shares = [np.arange(7), np.arange(7, COUNT)]
    data = ResidentData.build(split, shares, Normalization((0.5,), (0.5,)), torch.device("cpu"))
    settings: dict[str, Any] = {"rounds": 2, "num_classes": 3, "streams": STREAMS, **more}
    module = network()
    return VerticalFederation(
        module, CohortTrainer(module, data, engine="loop"), split, algorithm=algorithm, **settings
    )


def test_it_is_sgd_of_the_joint_network() -> None:
    run, joint = federation(Vertical(LOCAL)), network()
    sgd = torch.optim.SGD(joint.parameters(), 0.2, momentum=0.5)
    for number in (1, 2):
        plan = plan_batches(np.arange(COUNT), LOCAL, STREAMS.numpy("vertical", "round", number))
        sgd.state.clear()
        for examples, size in zip(plan.examples, plan.sizes, strict=True):
            images, labels = run.data.batch(torch.from_numpy(examples[:size]))
            loss = nn.functional.cross_entropy(joint(images), labels)
            for parameter, gradient in zip(
                joint.parameters(), torch.autograd.grad(loss, tuple(joint.parameters())), strict=True
            ):
                parameter.grad = gradient
            sgd.step()
        result = run.play()
    expected = torch.cat([parameter.detach().reshape(-1) for parameter in joint.parameters()])
    torch.testing.assert_close(run.parameters, expected, rtol=1e-5, atol=1e-6)
    assert result.cost is not None
    assert result.cost.upload_bytes == result.cost.download_bytes == COUNT * 3 * 4
    assert run.activations(np.arange(4), 1).shape == (4, 3)


def test_each_party_sees_its_own_gradients_and_a_kept_run_goes_on_to_the_bit() -> None:
    whole, first, second = (federation(Vertical(LOCAL)) for _ in range(3))
    seen: list[Crossing] = []
    first.observers.append(seen.append)
    whole.play(), whole.play(), first.play()
    assert {crossing.client for crossing in seen} == {0, 1}
    assert sum(len(crossing.examples) for crossing in seen if crossing.client == 1) == COUNT
    assert not torch.equal(seen[0].gradients, seen[1].gradients)
    second.restore(first.state(), 1)
    second.play()
    assert torch.equal(second.parameters, whole.parameters)


def test_defenses_act_for_each_party() -> None:
    run, seen = federation(Vertical(LOCAL), defenses=[CutClip(0.01)]), []
    run.observers.append(lambda crossing: seen.append(crossing.gradients.norm(dim=1).max().item()))
    run.play()
    assert max(seen) <= 0.01 * (1 + 1e-5)


def test_columns_are_shared_out_evenly() -> None:
    assert column_bounds(5, 2) == [(0, 3), (3, 5)]
    joint, images = network((6,), 1), torch.rand(2, 6)
    assert [part.shape[1] for part in joint.columns(images)] == [3, 3]
    assert joint(images).shape == (2, 1)


def test_numbers_are_predicted_too() -> None:
    split = Split(torch.rand(8, 6), torch.rand(8))
    data = ResidentData.build(
        split, [np.arange(4), np.arange(4, 8)], Normalization((0.0,), (1.0,)), torch.device("cpu")
    )
    module = network((6,), 1)
    trainer = CohortTrainer(module, data, engine="loop", task=Regression())
    run = VerticalFederation(
        module, trainer, split, algorithm=Vertical(LOCAL), rounds=1, num_classes=None, streams=STREAMS
    )
    assert run.play().metrics["mean_squared_error"] is not None


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: Vertical(LOCAL, width=0), "width must be at least 1, got 0"),
        (lambda: Vertical(LOCAL, top=(4, 0)), r"top: layers must be at least 1 wide, got \[4, 0\]"),
        (lambda: column_bounds(2, 3), "2 columns cannot be shared out among 3 parties"),
        (lambda: federation(Vertical(LOCAL), clients_per_round=1), "all of 2 take part"),
        (
            lambda: federation(Vertical(LOCAL), threat=Threat(frozenset({1}), LabelFlip())),
            "the labels are the server's",
        ),
    ],
)
def test_what_cannot_be_is_refused(build_it: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_it()
