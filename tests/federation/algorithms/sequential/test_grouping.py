"""Superclients by what is known of clients: the greedy choice and the estimates written out, in a federation, too."""

from collections.abc import Callable
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.attacks import LabelFlip
from fedsec.engine import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import Federation, FedSeq, Threat
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.algorithms.sequential.grouping import Grouping, groups_of
from fedsec.federation.algorithms.sequential.pretraining import _components, grouped

LOCAL = LocalTraining(epochs=1, batch_size=3, lr=0.3)
Build = Callable[..., Federation]
Gradient = Callable[[Federation, Tensor, np.ndarray], Tensor]


def by_hand(points: np.ndarray, sizes: list[int], size: int, measure: str) -> list[tuple[int, ...]]:
    """The greedy choice in plain loops over lists."""

    def fit(known: list[float], own: list[float]) -> float:
        if measure == "cosine":
            product = sum(a * b for a, b in zip(known, own, strict=True))
            return 1 - product / (sum(a * a for a in known) * sum(b * b for b in own)) ** 0.5
        mix = [(a + b) / 2 for a, b in zip(known, own, strict=True)]
        if measure == "gini":
            return 1 - sum(p * p for p in mix)
        return 1 - sum(p * log(p * len(mix)) for p in mix if p > 0)

    rows, left, groups = points.tolist(), list(range(len(points))), []
    while left:
        group: list[int] = []
        for _ in range(size):
            total = sum(sizes[client] for client in group)
            known = [1 / len(rows[0])] * len(rows[0])
            if group:
                known = [sum(rows[c][k] * sizes[c] for c in group) / total for k in range(len(rows[0]))]
            best = max(left, key=lambda client: fit(known, rows[client]))
            group.append(best)
            left.remove(best)
        groups.append(tuple(sorted(group)))
    return groups


@pytest.mark.parametrize("measure", ["kl", "gini", "cosine"])
def test_the_greedy_choice_by_hand(measure: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        points, sizes = rng.dirichlet([0.3] * 4, 12), rng.integers(1, 50, 12).tolist()
        groups = groups_of(Grouping(measure=measure), points, sizes, 3, 0)
        assert groups == by_hand(points, sizes, 3, measure)


@pytest.mark.parametrize("name", ["greedy", "kmeans"])
def test_clients_of_one_class_each_come_together_with_all_others(name: Any) -> None:
    classes = [0, 0, 1, 2, 1, 2, 0, 1, 2]
    points = np.eye(3)[classes] * 0.94 + 0.02
    for group in groups_of(Grouping(name), points, [10] * 9, 3, 7):
        assert sorted(classes[client] for client in group) == [0, 1, 2]


def test_estimates_are_how_sure_own_networks_are_of_exemplars(build: Build, gradient: Gradient) -> None:
    """Each client trains from the initial weights by batches of its own stream; all in float64 here."""
    grouping = Grouping(epochs=3, exemplars=2)
    run = build(FedSeq(local=LOCAL, grouping=grouping), clients_per_round=None)
    start, streams, rows = run.parameters.double(), run.streams.branch("fedseq", "pretraining"), []
    images, labels = run.evaluator.images.flatten(1).double() / 255 / 0.5 - 1, run.evaluator.targets.tolist()
    for client in range(4):
        model = start
        plan = plan_client(run.data, client, replace(LOCAL, epochs=3), 1, streams)
        for examples, size in zip(plan.examples, plan.sizes, strict=True):
            model = model - LOCAL.lr * gradient(run, model, examples[:size])
        sure = torch.softmax(images @ model[:12].view(3, 4).T + model[12:], 1)
        exemplars = [[place for place, label in enumerate(labels) if label == one][:2] for one in range(3)]
        row = np.array([sum(float(sure[place, one]) for place in exemplars[one]) for one in range(3)])
        rows.append(row / row.sum())
    assert isinstance(run.algorithm, FedSeq)
    sizes = run.data.sizes(range(4)).tolist()
    assert run.algorithm.superclients.members == by_hand(np.stack(rows), sizes, 2, "kl")
    labels_of = [run.data.client_examples(client)[1].tolist() for client in range(4)]
    mixes = np.array([[own.count(one) / len(own) for one in range(3)] for own in labels_of])
    found = run.conclusion()["superclients"]
    assert found["estimates_apart"] == pytest.approx(np.abs(np.stack(rows) - mixes).sum(1).mean() / 2, abs=1e-3)
    assert found["even_mixes_apart"] == pytest.approx(np.abs(1 / 3 - mixes).sum(1).mean() / 2, abs=1e-4)
    assert torch.equal(run.parameters.double(), start)  # nothing of it is left in the model


@pytest.mark.parametrize(("variance", "count"), [(0.5, 1), (0.9, 2), (1.0, 3)])
def test_components_are_the_fewest_with_so_much_of_the_variance(variance: float, count: int) -> None:
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(7, 3)))[0].T
    heights = np.linalg.qr(rng.normal(size=(9, 3)))[0]
    heights = np.linalg.qr(heights - heights.mean(0))[0] * np.sqrt([0.6, 0.35, 0.05])  # centered, with these shares
    points = _components(heights @ directions + 5.0, variance)
    assert points.shape == (9, count)
    assert np.abs(points) == pytest.approx(np.abs(heights[:, :count]))


def test_clients_are_known_by_the_data_that_they_corrupted(build: Build) -> None:
    threat, settings = Threat(frozenset({2}), LabelFlip()), FedSeq(local=LOCAL, grouping=Grouping("random"))
    honest, attacked = (build(settings, threat=one, clients_per_round=None) for one in (Threat(), threat))
    labels = [honest.data.client_examples(client)[1].tolist() for client in range(4)]
    labels[2] = [2 - one for one in labels[2]]
    members = attacked.conclusion()["superclients"]["members"]
    together = [[one for client in group for one in labels[client]] for group in members]
    mixes = [[own.count(one) / len(own) for one in range(3)] for own in together]
    apart = np.mean([sum(p * log(3 * p) for p in mix if p) for mix in mixes])
    assert attacked.conclusion()["superclients"]["superclients_from_even"] == pytest.approx(apart, abs=1e-4)
    assert honest.conclusion() != attacked.conclusion()


def test_a_random_grouping_is_none_that_tells_how_even_it_is(build: Build) -> None:
    drawn, told = (
        build(FedSeq(local=LOCAL, grouping=one), clients_per_round=None) for one in (None, Grouping("random"))
    )
    assert list(drawn.run()) == list(told.run())
    assert torch.equal(drawn.parameters, told.parameters)
    assert drawn.conclusion() == {}
    found = told.conclusion()["superclients"]
    assert found["superclients_from_even"] < found["clients_from_even"]


@pytest.mark.parametrize("grouping", [Grouping(epochs=1), Grouping("kmeans", "classifier", epochs=1)])
def test_a_kept_run_goes_on_to_the_bit(build: Build, grouping: Grouping) -> None:
    threat = Threat(frozenset({2}), LabelFlip())
    whole, first, second = (build(FedSeq(local=LOCAL, grouping=grouping), threat=threat) for _ in range(3))
    for _ in range(3):
        whole.play()
    first.play()
    second.restore(first.state(), 1)
    for _ in range(2):
        second.play()
    assert torch.equal(whole.parameters, second.parameters)
    assert whole.conclusion() == second.conclusion()


def test_a_network_without_a_last_layer_of_classes_is_refused(build: Build) -> None:
    run = build(FedSeq(local=LOCAL))
    run.num_classes = 4
    with pytest.raises(InputError, match="no last layer with a row of weights for each class"):
        grouped(run, replace(run.algorithm, grouping=Grouping("kmeans", "classifier")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "alike"}, "grouping: name must be one of random, greedy, kmeans, got 'alike'"),
        ({"epochs": 0}, "grouping: epochs must be at least 1, got 0"),
        ({"variance": 0.0}, "grouping: variance must lie in"),
        ({"estimate": "classifier"}, "expected measure cosine, or estimate confidence"),
    ],
)
def test_bad_options_say_what_was_expected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grouping(**options)
