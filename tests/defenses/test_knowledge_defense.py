"""The contract of defenses of knowledge transfer: the gate, what subclasses may say, and how defenses compose."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defense.knowledge import Admission, KnowledgeDefense, compose
from fedsec.defenses import RobustLoss
from fedsec.errors import InputError
from fedsec.testing import check_knowledge_defense
from fedsec.threat import Knowledge

entropy = partial(F.cross_entropy, reduction="none")


def client(count: int, seed: int = 0) -> Knowledge:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    features = torch.rand(count, 2, 2, 2, generator=generator)
    return Knowledge(features, torch.randn(count, 3, generator=generator), labels)


class Fixed(KnowledgeDefense):
    """The same weights for every example; remembers what it was shown."""

    def __init__(self, examples: float, distillation: float) -> None:
        self.weights = examples, distillation
        self.shown: list[Knowledge] = []

    def screen(self, clients: Sequence[Knowledge]) -> list[Admission]:
        self.shown = list(clients)
        return [Admission(*(torch.full((len(each),), weight) for weight in self.weights)) for each in clients]


@given(
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    broken=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans()), max_size=8),
)
def test_the_gate_holds_back_exactly_what_is_not_finite(counts: list[int], broken: list[tuple[int, int, bool]]) -> None:
    clients = [client(count, seed) for seed, count in enumerate(counts)]
    bad: set[tuple[int, int]] = set()
    for number, row, in_features in broken:
        if number < len(counts) and row < counts[number]:
            (clients[number].features[row, 1, 0] if in_features else clients[number].logits[row])[1] = -torch.inf
            bad.add((number, row))
    defense = Fixed(0.5, 0.25)
    verdicts = defense.admit(clients)
    for number, (verdict, count) in enumerate(zip(verdicts, counts, strict=True)):
        lost = [row for row in range(count) if (number, row) in bad]
        assert verdict.examples.tolist() == [0.0 if row in lost else 0.5 for row in range(count)]
        assert verdict.distillation.tolist() == [0.0 if row in lost else 0.25 for row in range(count)]
        assert verdict.rejected == len(lost)
    finite = [count - sum(owner == number for owner, _ in bad) for number, count in enumerate(counts)]
    assert [len(each) for each in defense.shown] == [count for count in finite if count]
    assert all(bool(each.features.isfinite().all() and each.logits.isfinite().all()) for each in defense.shown)


def test_sound_clients_are_shown_without_a_copy() -> None:
    defense, sound = Fixed(1.0, 1.0), client(3)
    defense.admit([sound])
    assert defense.shown[0] is sound


def test_the_undefended_server() -> None:
    for defense in (KnowledgeDefense(), compose([])):
        (verdict,) = defense.admit([client(4)])
        assert verdict.examples.tolist() == verdict.distillation.tolist() == [1.0] * 4
        logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
        expected = [-float(row.softmax(0)[label].log()) for row, label in zip(logits, labels, strict=True)]
        assert defense.supervise(logits, labels).tolist() == pytest.approx(expected, rel=1e-5)


def test_weights_multiply_and_the_loss_is_that_of_the_one_that_has_one() -> None:
    both = compose([Fixed(0.5, 1.0), RobustLoss(1.0), compose([Fixed(0.5, 0.5), Fixed(1.0, 0.0)])])
    (verdict,) = both.admit([client(2)])
    assert verdict.examples.tolist() == [0.25, 0.25]
    assert verdict.distillation.tolist() == [0.0, 0.0]
    logits, labels = torch.randn(2, 3), torch.tensor([2, 0])
    assert torch.equal(both.supervise(logits, labels), RobustLoss(1.0).supervise(logits, labels))
    plain = compose([Fixed(1.0, 1.0)] * 2).supervise(logits, labels)
    assert torch.equal(plain, entropy(logits, labels))


def test_a_server_trains_with_one_loss() -> None:
    with pytest.raises(InputError, match="RobustLoss and RobustLoss each bring a loss of their own"):
        compose([RobustLoss(), compose([Fixed(1.0, 1.0), RobustLoss(0.5)])])


def defense(screen: Callable[[Sequence[Knowledge]], Any]) -> KnowledgeDefense:
    return type("Defense", (KnowledgeDefense,), {"screen": lambda self, clients: screen(clients)})()


def ones(count: int) -> Tensor:
    return torch.ones(count)


@pytest.mark.parametrize(
    ("screen", "message"),
    [
        (lambda clients: [], "Defense.screen: 0 admissions of 2 clients"),
        (lambda clients: [Admission(ones(3), ones(3))] * 2, "Defense.screen: 3 weights for the 2 examples"),
        (lambda clients: [Admission(ones(3), ones(2))] * 2, "3 weights of examples and 2 of logits differ"),
        (lambda clients: [Admission(ones(3) * 1.5, ones(3))] * 2, r"examples must lie in \[0, 1\]"),
        (lambda clients: [Admission(ones(3), -ones(3))] * 2, r"distillation must lie in \[0, 1\]"),
        (lambda clients: [Admission(ones(3), ones(3) * torch.nan)] * 2, r"distillation must lie in \[0, 1\]"),
        (lambda clients: [Admission(ones(3) > 0, ones(3))] * 2, "examples must be a vector of floating-point weights"),
        (lambda clients: [each.logits.neg_() for each in clients], r"changed `clients\[0\].logits` in place"),
    ],
)
def test_a_defense_that_breaks_the_contract(screen: Callable[[Sequence[Knowledge]], Any], message: str) -> None:
    for broken in (defense(screen), compose([Fixed(1.0, 1.0), defense(screen)])):
        with pytest.raises(InputError, match=message):
            broken.admit([client(3), client(2)])


def test_clients_must_be_alike() -> None:
    other = replace(client(2), features=torch.rand(2, 3, 2, 2))
    with pytest.raises(InputError, match="clients must agree in feature maps and classes"):
        KnowledgeDefense().admit([client(3), other])
    assert KnowledgeDefense().admit([]) == []


def test_the_contract_cannot_be_replaced() -> None:
    with pytest.raises(TypeError, match="may not define admit"):
        type("Cheat", (KnowledgeDefense,), {"admit": lambda self, clients: []})


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"screen": lambda self, clients: [torch.rand(1), *map(Admission.full, clients)][1:]}, "global random state"),
        ({"supervise": lambda self, logits, labels: entropy(logits, labels).mean()}, "one finite loss for each"),
        ({"supervise": lambda self, logits, labels: entropy(logits.detach(), labels)}, "can be differentiated"),
        ({"supervise": lambda self, logits, labels: -entropy(logits, labels)}, "falls as the label's logit rises"),
    ],
)
def test_the_conformance_check_notices(methods: dict[str, Any], message: str) -> None:
    check_knowledge_defense(KnowledgeDefense())
    with pytest.raises(AssertionError, match=message):
        check_knowledge_defense(type("Broken", (KnowledgeDefense,), methods)())
