"""FedGW against its formula written out, over rounds with other clients, and in a federation with noisy ones."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fedsec.attacks import Adaptive
from fedsec.defense import Pipeline
from fedsec.defenses import NNM, FedGW, Mean
from fedsec.defenses.fedgw import gaussian_weights
from fedsec.engine.local_training import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedAvg
from fedsec.federation.guards import RunDescription, problems
from fedsec.federation.secure_aggregation import SecureAggregation
from tests.federation.conftest import build  # noqa: F401

LOSSES = [0.5, 0.6, 0.55, 1.4, 0.52]


def written_out(losses: list[float], before: list[float]) -> list[float]:
    """One step of the authors' update for one epoch, client by client."""
    n, total = len(losses), sum(before)
    weights = [weight / total for weight in before]
    mean = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
    first, second = sum(weights) / n, sum(weight**2 for weight in weights) / n
    sigma2 = sum((loss - mean) ** 2 for loss in losses) / (n - 1)
    std2 = sigma2 * (second / first**2) / n
    rewards = [math.exp(-0.5 * (loss - mean) ** 2 / std2) for loss in losses]
    return [reward / sum(rewards) * total for reward in rewards]


def test_weights_are_those_of_the_formula_round_after_round() -> None:
    rule, rows = FedGW(), torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).double()
    weights = dict.fromkeys(range(6), 1.0)
    for clients, losses in (([0, 1, 2, 3, 4], LOSSES), ([4, 5, 0, 1, 3], [0.4, 0.45, 0.42, 0.47, 0.9])):
        news = written_out(losses, [weights[client] for client in clients])
        verdict = rule.aggregate(rows, clients=clients, losses=torch.tensor(losses).double())
        expected = torch.tensor(news).double() / sum(news)
        torch.testing.assert_close(verdict.influence, expected)
        torch.testing.assert_close(verdict.vector, expected @ rows)
        weights |= dict(zip(clients, news, strict=True))
    resumed = FedGW()
    resumed.restore(rule.state())
    more = {"clients": [2, 0, 4, 5, 1], "losses": torch.tensor([0.4, 0.5, 0.3, 0.4, 0.4])}
    assert torch.equal(resumed(rows, **more), rule(rows, **more))  # type: ignore[arg-type]


def test_who_has_noise_or_one_class_only_counts_less() -> None:
    weights = gaussian_weights(torch.tensor([*LOSSES, 0.01]).double(), torch.ones(6).double())
    assert weights[3] < 1e-3
    assert weights[5] < weights[:3].min()


@pytest.mark.parametrize(
    ("losses", "before", "expected"),
    [
        ([1.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1 / 3] * 3),
        ([2.0], [0.1], [1.0]),
        ([torch.nan, 1.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.5, 0.5]),
        ([torch.inf, torch.nan], [1.0, 1.0], [0.5, 0.5]),
        ([0.0, 1.0], [0.0, 0.0], [0.5, 0.5]),
        ([0.0, 1e3], [1.0, 0.0], [1.0, math.exp(-0.5)]),
    ],
)
def test_limits(losses: list[float], before: list[float], expected: list[float]) -> None:
    ours = gaussian_weights(torch.tensor(losses).double(), torch.tensor(before).double())
    aim = torch.tensor(expected).double()
    torch.testing.assert_close(ours, aim / aim.sum())


def test_rewards_that_underflow_leave_the_nearest() -> None:
    losses = torch.tensor([0.0, *[1.0] * 50, *[-1.0] * 50, 1e-3]).double()
    before = torch.tensor([1.0, *[1e-12] * 100, 1.0]).double()
    assert gaussian_weights(losses, before).isfinite().all()


def test_losses_are_asked_for_and_of_every_row() -> None:
    rows = torch.eye(3)
    with pytest.raises(InputError, match="asks each client for its loss; expected losses"):
        FedGW()(rows)
    with pytest.raises(InputError, match=r"losses must be 3 numbers, one a row, not \(2,\)"):
        FedGW()(rows, losses=torch.zeros(2))
    rows[1] = torch.nan
    verdict = FedGW().aggregate(rows, losses=torch.tensor([1.0, 50.0, 1.0]))
    assert verdict.influence.tolist() == [0.5, 0, 0.5]
    with pytest.raises(InputError, match="expected its clients and their weights"):
        FedGW().restore({"history": torch.zeros(2)})


def test_the_federation_tells_the_loss_of_the_received_model(build: Callable[..., Any]) -> None:  # noqa: F811
    federation = build(FedAvg(local=LocalTraining(steps=1, batch_size=4)), aggregator=FedGW(), clients_per_round=4)
    weights, bias = federation.parameters[:12].view(3, 4).clone(), federation.parameters[12:].clone()
    losses = []
    for client in range(4):
        images, labels = federation.data.client_examples(client)
        inputs = (images.flatten(1).float() / 255 - 0.5) / 0.5
        losses.append(nn.functional.cross_entropy(inputs @ weights.T + bias, labels))
    result = federation.play()
    expected = gaussian_weights(torch.stack(losses).double(), torch.ones(4).double())
    assert result.influence == pytest.approx(expected.tolist(), abs=1e-5)
    again = build(FedAvg(local=LocalTraining(steps=1, batch_size=4)), aggregator=FedGW(), clients_per_round=4)
    again.restore(federation.state(), 1)
    assert again.play().influence == federation.play().influence


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"attack": Adaptive(), "num_byzantine": 2}, "the best is to lie"),
        ({"rule": Pipeline([NNM(num_byzantine=1), FedGW()])}, "a pre-aggregator mixes their rows"),
        ({"secure_aggregation": SecureAggregation(4)}, "FedGW asks each client for its loss"),
    ],
)
def test_what_makes_nothing_of_losses_is_refused(more: dict[str, Any], why: str) -> None:
    sound: dict[str, Any] = {"rule": FedGW(), **more}
    assert why in " ".join(message for _, message in problems(RunDescription(FedAvg(), 12, 12, **sound)))
    assert not [*problems(RunDescription(FedAvg(), 12, 12, rule=Mean()))]


def test_losses_that_differ_by_rounding_alone_are_equal() -> None:
    """A model that begins with zeros has the loss log(classes) on all examples; devices round it differently."""
    losses = torch.full((4,), 10.0).log().double() * torch.tensor([1, 1 + 6e-8, 1 - 6e-8, 1 + 2e-7]).double()
    assert gaussian_weights(losses, torch.ones(4).double()).tolist() == [0.25] * 4
    losses[3] += 0.01
    assert gaussian_weights(losses, torch.ones(4).double())[3] < 0.1
