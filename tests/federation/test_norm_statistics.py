"""What `bn` does with running statistics, on a layer small enough for pencil and paper."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import LogitPoison, SignFlip
from fedsec.data.datasets import Normalization, Split
from fedsec.defense import Aggregator
from fedsec.defenses import Mean, Median
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.errors import InputError
from fedsec.federation import Centralized, FedAvg, Federation, FedProx, FedSGD, Threat, UpdateAlgorithm
from fedsec.seeds import Streams

# Client 0 has pixels 0 and 2, client 1 has 4, 4, 8 and 8 (as the model sees them). One step on all of them.
PIXELS = ([0, 2], [4, 4, 8, 8])
MEANS, VARIANCES = [1.0, 6.0], [2.0, 16 / 3]  # unbiased
MOMENTUM = 0.25
ONE_BATCH = LocalTraining(steps=1, batch_size=4, lr=1e-9)
TEST_PIXELS, TEST_LABELS = [0, 1, 2, 4], [0, 0, 0, 1]


class OneNorm(nn.Module):
    """Batch normalization of a single pixel, then a logit and its opposite."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1, momentum=MOMENTUM)
        self.slope = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        x = self.slope * self.norm(images.flatten(1))
        return torch.cat([x, -x], dim=1)


def federation(bn: Any, steps: int = 1, aggregator: Aggregator | None = None, **more: Any) -> Federation:
    images = torch.tensor([pixel for client in PIXELS for pixel in client], dtype=torch.uint8).view(-1, 1, 1, 1)
    split = Split(images, torch.tensor([0, 1, 0, 1, 0, 1]))
    bounds = np.cumsum([0, *map(len, PIXELS)])
    clients = [np.arange(a, b) for a, b in pairwise(bounds)]
    scale = Normalization((0.0,), (1 / 255,))
    data = ResidentData.build(split, clients, scale, torch.device("cpu"))
    module = OneNorm()
    return Federation(
        module,
        CohortTrainer(module, data, cumulative=bn == "reset"),
        Split(torch.tensor(TEST_PIXELS, dtype=torch.uint8).view(-1, 1, 1, 1), torch.tensor(TEST_LABELS)),
        algorithm=more.pop("algorithm", None) or FedAvg(local=LocalTraining(steps=steps, batch_size=4, lr=1e-9)),
        aggregator=aggregator or Mean(),
        streams=Streams(0),
        rounds=3,
        num_classes=2,
        bn=bn,
        **more,
    )


def close(found: Tensor, expected: list[Any]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def moved(mean: float, variance: float, times: int = 1, start: tuple[float, float] = (0.0, 1.0)) -> tuple[float, float]:
    """A running mean and variance after `times` equal batches."""
    kept = (1 - MOMENTUM) ** times
    return kept * start[0] + (1 - kept) * mean, kept * start[1] + (1 - kept) * variance


def weighted(values: list[tuple[float, float]]) -> list[float]:
    """By the number of images: 2 and 4."""
    return [(2 * a + 4 * b) / 6 for a, b in zip(*values, strict=True)]


def test_average_moves_by_the_momentum_and_averages_by_the_clients_weights() -> None:
    fed = federation("average")
    assert fed.statistics.tolist() == [0, 1]
    fed.play()
    first = weighted([moved(m, v) for m, v in zip(MEANS, VARIANCES, strict=True)])
    close(fed.statistics, first)
    fed.play()
    second = weighted([moved(m, v, start=(first[0], first[1])) for m, v in zip(MEANS, VARIANCES, strict=True)])
    close(fed.statistics, second)
    assert fed.weights()["norm.running_mean"].tolist() == pytest.approx(second[:1])


def test_reset_describes_the_last_round_alone() -> None:
    fed = federation("reset", steps=3)
    for _ in range(2):
        fed.play()
        expected = weighted(list(zip(MEANS, VARIANCES, strict=True)))
        close(fed.statistics, expected)


def test_local_keeps_each_client_s_own_and_evaluates_with_them() -> None:
    fed = federation("local")
    result = fed.play()
    own = [moved(m, v) for m, v in zip(MEANS, VARIANCES, strict=True)]
    close(fed.client_statistics, [list(each) for each in own])
    assert fed.statistics.tolist() == [0, 1]
    # A pixel above a client's running mean is class 0.
    right = [
        sum((pixel > mean) == (label == 0) for pixel, label in zip(TEST_PIXELS, TEST_LABELS, strict=True)) / 4
        for mean, _ in own
    ]
    assert len(set(right)) == 2
    assert result.client_values == pytest.approx(right)
    assert result.evaluated
    assert result.metrics["accuracy"] == pytest.approx(sum(right) / 2)
    fed.threat = Threat(frozenset({0}))
    honest = fed.play()
    assert honest is not None
    assert honest.metrics["accuracy"] == fed.evaluate([1]).metrics["accuracy"]
    assert honest.metrics["accuracy"] != fed.evaluate([0]).metrics["accuracy"]
    again = [moved(m, v, 2) for m, v in zip(MEANS, VARIANCES, strict=True)]
    close(fed.client_statistics, [list(each) for each in again])
    torch.testing.assert_close(fed.weights()["client_statistics"], fed.client_statistics)


def test_recalibrate_measures_the_new_model_on_the_round_s_clients() -> None:
    fed = federation("recalibrate", evaluate_every=2)
    fed.play()
    assert fed.statistics.tolist() == [0, 1]
    fed.play()
    close(fed.statistics, weighted(list(zip(MEANS, VARIANCES, strict=True))))


def test_statistics_are_no_part_of_what_a_robust_rule_sees() -> None:
    seen: list[torch.Size] = []

    class Watching(Median):
        def reduce(self, chunk: Tensor, *rest: Any) -> Tensor:
            seen.append(chunk.shape)
            return super().reduce(chunk, *rest)

    fed = federation("average", aggregator=Watching())
    fed.play()
    assert seen == [(2, 3)]  # scale, shift and slope
    assert fed.parameters.numel() == 3


def test_what_is_sent_is_counted() -> None:
    """Scale, shift and slope are three numbers, the layer's statistics two."""
    sizes, flops = {}, {}
    for bn in ("average", "reset", "local", "recalibrate"):
        cost = federation(bn).play().cost
        assert cost is not None
        sizes[bn] = cost.upload_bytes, cost.download_bytes
        flops[bn] = cost.flops
    both, model = (4 * 5, 4 * 5), (4 * 3, 4 * 3)
    # Before the evaluation the new model comes once more, and statistics go.
    assert sizes == {"average": both, "reset": both, "local": model, "recalibrate": (4 * 5, 4 * 6)}
    rarely = federation("recalibrate", evaluate_every=2).play().cost
    assert rarely is not None
    assert (rarely.upload_bytes, rarely.download_bytes) == model


@pytest.mark.parametrize("bn", ["average", "reset", "local", "recalibrate"])
@pytest.mark.parametrize("algorithm", [FedSGD(), FedProx(local=ONE_BATCH), Centralized(local=ONE_BATCH)])
def test_every_algorithm_goes_with_every_choice(algorithm: UpdateAlgorithm, bn: str) -> None:
    fed = federation(bn, algorithm=algorithm)
    for _ in range(2):
        fed.play()
    assert bool(fed.parameters.isfinite().all())
    if bn == "average":
        close(fed.statistics, weighted([moved(m, v, 2) for m, v in zip(MEANS, VARIANCES, strict=True)]))


@pytest.mark.parametrize("bn", ["average", "local", "recalibrate"])
def test_a_rejected_client_s_statistics_count_nowhere(bn: str) -> None:
    fed = federation(bn)
    honest = fed.local_updates

    def broken(start: Any, clients: Any, round_number: int) -> Any:
        result = honest(start, clients, round_number)
        result.updates[0, 0] = torch.nan
        return result

    fed.local_updates = broken
    assert fed.play().rejected == (0,)
    if bn == "local":
        close(fed.client_statistics, [[0, 1], list(moved(MEANS[1], VARIANCES[1]))])
    else:
        close(fed.statistics, [MEANS[1], VARIANCES[1]] if bn == "recalibrate" else list(moved(MEANS[1], VARIANCES[1])))


def test_statistics_that_are_not_finite_are_not_measured_either(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = federation("recalibrate")
    found = torch.tensor([[torch.inf, 1.0], [MEANS[1], VARIANCES[1]]])
    monkeypatch.setattr(fed.trainer, "recalibrated", lambda parameters, clients: found)
    fed.play()
    close(fed.statistics, [MEANS[1], VARIANCES[1]])


def test_what_was_handed_out_does_not_change_any_more() -> None:
    fed = federation("local")
    fed.play()
    kept, weights = fed.state(), fed.weights()
    before = kept["client_statistics"].clone()
    fed.play()
    assert torch.equal(kept["client_statistics"], before)
    assert torch.equal(weights["client_statistics"], before)
    assert not torch.equal(fed.client_statistics, before)


def test_observers_see_the_model_that_was_sent_whatever_was_evaluated() -> None:
    seen = []
    fed = federation("local")
    fed.observers.append(lambda number, clients, rows: seen.append(fed.module.state_dict()["norm.running_mean"].item()))
    fed.play()
    fed.play()
    assert seen == [0, 0]


def test_a_client_whose_statistics_are_not_finite_is_left_out_of_them() -> None:
    fed = federation("average")
    honest = fed.local_updates

    def broken(start: Any, clients: Any, round_number: int) -> Any:
        result = honest(start, clients, round_number)
        result.statistics[0, 0] = torch.nan
        return result

    fed.local_updates = broken
    fed.play()
    close(fed.statistics, list(moved(MEANS[1], VARIANCES[1])))


@pytest.mark.parametrize("bn", ["average", "reset", "local", "recalibrate"])
def test_a_restored_federation_ends_with_the_same_bits(bn: str) -> None:
    threat = Threat(frozenset({1}), SignFlip())
    whole, half, resumed = (federation(bn, threat=threat, clients_per_round=1) for _ in range(3))
    for _ in range(3):
        whole.play()
    half.play()
    resumed.restore(half.state(), 1)
    assert torch.equal(resumed.module.slope, half.module.slope)
    for result in resumed.run():
        last = result
    assert last.round == 3
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name
    assert all(torch.equal(tensor, resumed.weights()[name]) for name, tensor in whole.weights().items())


def test_a_state_of_something_else_is_refused() -> None:
    fed = federation("average")
    with pytest.raises(InputError, match=r"expected \['parameters', 'statistics'\]"):
        fed.restore({"parameters": torch.zeros(3)}, 1)
    with pytest.raises(InputError, match=r"statistics of a kept state is torch\.float32 of shape \(4,\)"):
        fed.restore({"parameters": torch.zeros(3), "statistics": torch.zeros(4)}, 1)


def test_local_does_not_go_with_a_rule_that_evaluates_the_global_model() -> None:
    class Evaluating(Mean):
        needs_global_model = True

    with pytest.raises(InputError, match="bn: local keeps no running statistics at the server, and Evaluating"):
        federation("local", aggregator=Evaluating())


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(InputError, match="average, local, reset, recalibrate, got 'fedbn'"):
        federation("fedbn")


def test_an_attack_on_knowledge_is_refused_where_updates_are_exchanged() -> None:
    with pytest.raises(InputError, match="LogitPoison poisons knowledge, and FedAvg exchanges updates"):
        federation("average", threat=Threat(frozenset({1}), LogitPoison()))
