"""The contract of attacks on knowledge transfer: no subclass gets past it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fedsec.errors import InputError
from fedsec.testing import check_knowledge_poisoning
from fedsec.threat import Knowledge, KnowledgePoisoning

HONEST = Knowledge(torch.rand(4, 2, 3, 3), torch.rand(4, 3), torch.tensor([0, 1, 2, 2]))


def copied() -> Knowledge:
    return Knowledge(HONEST.features.clone(), HONEST.logits.clone(), HONEST.labels.clone())


def attack(corrupt: Callable[[Knowledge], Any]) -> KnowledgePoisoning:
    class Attack(KnowledgePoisoning):
        def corrupt(self, knowledge: Knowledge, *, num_classes: int, generator: torch.Generator) -> Any:
            return corrupt(knowledge)

    return Attack()


def distort(corrupt: Callable[[Knowledge], Any], num_classes: int = 3) -> Knowledge:
    return attack(corrupt).distort(copied(), num_classes=num_classes, generator=torch.Generator())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features": torch.rand(4, 2, 3)}, r"features must be floating-point feature maps"),
        ({"features": torch.ones(4, 2, 3, 3, dtype=torch.int64)}, "not torch.int64"),
        ({"features": torch.rand(4, 0, 3, 3)}, r"of shape \(4, 0, 3, 3\)"),
        ({"logits": torch.rand(4)}, "logits must be floating-point numbers"),
        ({"logits": torch.rand(4, 1)}, "at least two classes"),
        ({"logits": torch.ones(4, 3, dtype=torch.int64)}, "logits must be floating-point"),
        ({"labels": torch.tensor([0, 1, 2, 3])}, r"labels must lie in \[0, 3\), but reach from 0 to 3"),
        ({"labels": torch.tensor([0, 1, 2, -1])}, "reach from -1 to 2"),
        ({"labels": torch.tensor([0, 1, 2, 2]).int()}, "a vector of int64, not torch.int32"),
        ({"labels": torch.tensor([0, 1, 2])}, "4 features, 4 logits and 3 labels do not match"),
        ({"logits": torch.rand(3, 3)}, "4 features, 3 logits and 4 labels do not match"),
        ({"logits": torch.rand(4, 3, device="meta")}, "must lie on one device"),
    ],
)
def test_knowledge_that_contradicts_itself(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"Knowledge: .*{message}"):
        replace(HONEST, **wrong)


def test_take_keeps_rows_together() -> None:
    mask = torch.tensor([True, False, False, True])
    for rows in (mask, mask.nonzero().flatten()):
        taken = HONEST.take(rows)
        assert len(taken) == 2
        assert torch.equal(taken.features, HONEST.features[[0, 3]])
        assert torch.equal(taken.logits, HONEST.logits[[0, 3]])
        assert taken.labels.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (lambda each: each.take(torch.arange(3)), r"Attack.corrupt: features must keep shape \(4, 2, 3, 3\)"),
        (lambda each: replace(each, features=each.features.double()), "features must keep .*float32"),
        (lambda each: replace(each, logits=each.logits[:, [0, 1, 2, 0]]), "logits must keep shape"),
        (lambda each: replace(each, logits=each.logits.half()), "logits must keep .*float32"),
        (lambda each: replace(each, labels=each.labels + 1), r"labels must lie in \[0, 3\)"),
        (lambda each: (each.features.zero_(), each)[1], "Attack.corrupt changed `features` in place"),
        (lambda each: (each.logits.neg_(), each)[1], "Attack.corrupt changed `logits` in place"),
        (lambda each: (each.labels.zero_(), each)[1], "Attack.corrupt changed `labels` in place"),
    ],
)
def test_attack_that_breaks_the_contract(corrupt: Callable[[Knowledge], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        distort(corrupt)


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(InputError, match="Attack: logits of 3 classes, but num_classes is 4"):
        distort(lambda each: each, num_classes=4)


def test_features_and_logits_may_hold_anything() -> None:
    made = distort(lambda each: replace(each, features=each.features * torch.nan, logits=each.logits * torch.inf))
    assert made.features.isnan().all()
    assert not made.logits.isfinite().any()


def test_the_check_cannot_be_replaced() -> None:
    with pytest.raises(TypeError, match="may not define distort"):
        type("Cheat", (KnowledgePoisoning,), {"distort": lambda self, *args, **options: None})


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (lambda each: replace(each, logits=each.logits + 1), "logits must stay as they are"),
        (lambda each: each, "features must change"),
        (lambda each: replace(each, features=torch.rand_like(each.features)), "global random state"),
        (lambda each: (each.features.data.zero_(), each)[1], "the knowledge must not change"),
    ],
)
def test_the_conformance_check_notices(corrupt: Callable[[Knowledge], Any], message: str) -> None:
    check_knowledge_poisoning(attack(lambda each: replace(each, features=-each.features - 1)), changes=("features",))
    with pytest.raises(AssertionError, match=message):
        check_knowledge_poisoning(attack(corrupt), changes=("features",))
