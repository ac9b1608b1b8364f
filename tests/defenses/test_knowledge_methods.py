"""The robust loss against its formula, and the screening on clients that are honest, few, unlike, or lying."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fedsec.attacks import FeaturePoison, LogitPoison
from fedsec.defenses import KnowledgeScreening, RobustLoss
from fedsec.errors import InputError
from fedsec.threat import Knowledge, KnowledgePoisoning


@given(q=st.floats(0.01, 1.0), seed=st.integers(0, 100))
def test_generalized_cross_entropy_is_its_formula(q: float, seed: int) -> None:
    logits = 3 * torch.randn(4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = torch.tensor([0, 4, 2, 2])
    losses = RobustLoss(q).supervise(logits, labels)
    for row, label, loss in zip(logits.tolist(), labels.tolist(), losses.tolist(), strict=True):
        likely = math.exp(row[label]) / sum(math.exp(value) for value in row)
        assert loss == pytest.approx((1 - likely**q) / q, rel=1e-9)


def test_its_limits_are_cross_entropy_and_the_absolute_error() -> None:
    logits, labels = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 4
    almost = RobustLoss(1e-9).supervise(logits, labels)
    assert torch.allclose(almost, F.cross_entropy(logits, labels, reduction="none"), rtol=1e-7)
    # The absolute error to a one-hot label sums to twice 1 - p.
    absolute = (logits.softmax(1) - F.one_hot(labels, 4)).abs().sum(1) / 2
    assert torch.allclose(RobustLoss(1.0).supervise(logits, labels), absolute)


def test_impossible_examples_have_a_finite_loss_and_pull_little() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    for loss, largest in ((RobustLoss(0.7).supervise, 1e-6), (RobustLoss(1e-3).supervise, 1.0)):
        losses = loss(logits, torch.tensor([1]))
        assert bool(losses.isfinite().all())
        assert float(torch.autograd.grad(losses.sum(), logits)[0].abs().max()) < largest


def honest(count: int, seed: int, classes: int = 10, size: float = 1.0, width: int = 8) -> Knowledge:
    """A client with images of few classes and networks of its own: a stem, and a small network on its features."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    images = torch.rand(10, 3, 8, 8, generator=generator)[labels] + torch.rand(count, 3, 8, 8, generator=generator)
    kernel = torch.randn(width, 3, 3, 3, generator=generator) / 5
    features = F.conv2d(images - 1, kernel, padding=1).relu() * size
    body = torch.randn(32, width, 3, 3, generator=generator) / 5
    head = torch.randn(10, 32, generator=generator)
    logits = F.conv2d(features, body, padding=1).relu().mean((2, 3)) @ head.T
    right = torch.rand(count, generator=generator) < 0.5
    return Knowledge(features, logits, torch.where(right, logits.argmax(1), labels))


def lie(attack: KnowledgePoisoning, client: Knowledge) -> Knowledge:
    return attack.distort(client, num_classes=10, generator=torch.Generator().manual_seed(99))


def left_out(defense: KnowledgeScreening, clients: list[Knowledge]) -> list[int]:
    """Numbers of the clients of which nothing is used; the examples of all others count fully."""
    verdicts = defense.admit(clients)
    assert all(each.examples.unique().tolist() in ([0.0], [1.0]) for each in verdicts)
    return [number for number, each in enumerate(verdicts) if not bool(each.examples.any())]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("classes", [1, 2, 10])
def test_honest_clients_are_kept_however_few_and_unlike(number: int, classes: int) -> None:
    for seed in range(3):
        sizes = [0.7 + 0.2 * (index % 4) for index in range(number)]
        clients = [honest(40 + 30 * (k % 3), 10 * seed + k, classes, size) for k, size in enumerate(sizes)]
        assert left_out(KnowledgeScreening(), clients) == []


@pytest.mark.parametrize("number", [3, 4, 10])
@pytest.mark.parametrize("factor", [10.0, 0.1, 1e30])
def test_clients_of_another_scale_are_left_out(number: int, factor: float) -> None:
    clients = [honest(50, seed) for seed in range(number)]
    clients[1] = lie(FeaturePoison("scale", factor), clients[1])
    assert left_out(KnowledgeScreening(consistency=None), clients) == [1]
    assert left_out(KnowledgeScreening(threshold=None), clients) == []


def test_identical_clients_and_a_zero_deviation() -> None:
    client = honest(50, 0)
    grown = [replace(client, features=client.features * factor) for factor in (1.0, 1.0, 1.0, 2.5)]
    # Less than e times as large is never suspicious, though the others agree exactly.
    assert left_out(KnowledgeScreening(), grown) == []
    assert left_out(KnowledgeScreening(threshold=3.0), grown) == [3]


def test_of_two_clients_nobody_knows_who_is_wrong() -> None:
    clients = [honest(50, 0), lie(FeaturePoison("scale"), honest(50, 1))]
    assert left_out(KnowledgeScreening(), clients) == []


@pytest.mark.parametrize("mode", ["shuffle", "noise"])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_features_that_do_not_explain_the_logits_are_left_out(mode: Any, number: int) -> None:
    for seed in range(5):
        clients = [honest(60, 10 * seed + k, classes=2) for k in range(number)]
        clients[0] = lie(FeaturePoison(mode), clients[0])
        assert left_out(KnowledgeScreening(), clients) == [0]
        assert left_out(KnowledgeScreening(consistency=None), clients) == []


def test_small_clients_and_constant_logits_are_not_judged() -> None:
    shuffled = lie(FeaturePoison("shuffle"), honest(31, 0))
    constant = replace(honest(60, 1), logits=torch.arange(10.0).expand(60, 10).clone())
    silent = replace(honest(60, 2), logits=torch.zeros(60, 10))
    assert left_out(KnowledgeScreening(), [shuffled, constant, silent]) == []


def test_features_of_zero_do_not_break_it() -> None:
    dead = replace(honest(60, 1), features=torch.zeros(60, 8, 8, 8))
    assert left_out(KnowledgeScreening(), [honest(60, 0), dead, honest(60, 2)]) == [1]


@pytest.mark.parametrize("mode", ["mirror", "negate"])
def test_logits_teach_only_where_they_agree_with_the_label(mode: Any) -> None:
    for client in (honest(60, 0), lie(LogitPoison(mode), honest(60, 0))):
        (verdict,) = KnowledgeScreening().admit([client])
        best = [row.index(max(row)) for row in client.logits.tolist()]
        agrees = [float(first == label) for first, label in zip(best, client.labels.tolist(), strict=True)]
        assert verdict.distillation.tolist() == agrees
        assert verdict.examples.tolist() == [1.0] * 60
        (trusting,) = KnowledgeScreening(agreement=False).admit([client])
        assert trusting.distillation.tolist() == [1.0] * 60


def test_what_it_cannot_see() -> None:
    client = honest(60, 0)
    flipped = Knowledge(client.features, client.logits.flip(1), 9 - client.labels)
    (verdict,) = KnowledgeScreening().admit([flipped])
    assert torch.equal(verdict.distillation, KnowledgeScreening().admit([client])[0].distillation)
    assert bool(verdict.examples.all())


@pytest.mark.parametrize(
    ("defense", "options", "message"),
    [
        (RobustLoss, {"q": 0.0}, r"q must lie in \(0, 1\], not 0.0"),
        (RobustLoss, {"q": 1.1}, "q must lie"),
        (RobustLoss, {"q": float("nan")}, "q must lie"),
        (KnowledgeScreening, {"threshold": 0.0}, "threshold must be positive and finite"),
        (KnowledgeScreening, {"threshold": float("inf")}, "threshold must be positive and finite"),
        (KnowledgeScreening, {"consistency": 0.0}, r"consistency must lie in \(0, 1\)"),
        (KnowledgeScreening, {"consistency": 1.0}, r"consistency must lie in \(0, 1\)"),
    ],
)
def test_options_out_of_range(defense: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"{defense.__name__}: {message}"):
        defense(**options)
