"""The checks for plugin authors notice what they are there for."""

import random
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.attacks import LabelFlip, SignFlip
from fedsec.defense import Cohort, CoordinateRule, Scratch
from fedsec.defenses import Mean
from fedsec.errors import InputError
from fedsec.testing import check_aggregator, check_data_poisoning, check_inversion, check_update_poisoning
from fedsec.threat import AttackerView, Inversion, Observation, Reconstruction, UpdatePoisoning

calls = count()


def rule(reduce: Callable[[Tensor], Tensor], **attributes: Any) -> CoordinateRule:
    class Rule(CoordinateRule):
        def max_rejected(self, num_clients: int) -> int:
            return num_clients - 1

        def reduce(self, chunk: Tensor, cohort: Cohort, scratch: Scratch) -> Tensor:
            return reduce(chunk)

        def share(self, chunk: Tensor, cohort: Cohort, scratch: Scratch) -> Tensor:
            return torch.full((len(chunk),), 1 / len(chunk))

    for name, value in attributes.items():
        setattr(Rule, name, value)
    return Rule()


def test_a_good_rule_passes() -> None:
    check_aggregator(rule(lambda chunk: chunk.float().div(len(chunk)).sum(0)))
    check_aggregator(rule(lambda chunk: chunk[0]), permutation_invariant=False)
    check_aggregator(rule(lambda chunk: chunk[0] * 0 + 1), translation_equivariant=False)


@pytest.mark.parametrize(
    ("broken", "options", "message"),
    [
        (rule(lambda chunk: chunk[0]), {}, "order of the clients"),
        (rule(lambda chunk: chunk.amax(0) * 0 + 1), {}, "common shift"),
        (rule(lambda chunk: chunk.float().mean(0) + next(calls)), {}, "same result twice"),
        (rule(lambda chunk: chunk.float().mean(0) * torch.nan), {}, "finite result"),
        (rule(lambda chunk: chunk.float().sum(0) / len(chunk)), {}, "huge finite rows"),
        (rule(lambda chunk: chunk.amax(0)), {"num_byzantine": 1}, "beyond the honest rows"),
        (rule(lambda chunk: torch.rand(1) + chunk.amax(0)), {}, "global random state"),
        (rule(lambda chunk: np.random.rand() + chunk.amax(0)), {}, "global random state"),
        (rule(lambda chunk: random.random() + chunk.amax(0)), {}, "global random state"),
        (
            rule(lambda chunk: chunk.amax(0), share=lambda self, chunk, cohort, scratch: torch.ones(len(chunk))),
            {},
            "sum to one",
        ),
        (
            rule(
                lambda chunk: chunk.amax(0), share=lambda self, chunk, cohort, scratch: torch.arange(len(chunk)) - 4.9
            ),
            {},
            "not negative",
        ),
        (rule(lambda chunk: chunk.float().div(len(chunk)).sum(0), uses_weights=True), {}, "weights must matter"),
    ],
)
def test_a_broken_rule_fails(broken: CoordinateRule, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_aggregator(broken, **options)


class Forgetful(Mean):
    """Remembers how old it is, but does not say so."""

    age = 0

    def combine(self, cohort: Cohort) -> Tensor:
        return super().combine(cohort) + self.age

    def remember(self, cohort: Cohort, vector: Tensor) -> None:
        self.age += 1

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.age = 0


class Gullible(Mean):
    def restore(self, state: Mapping[str, Tensor]) -> None:
        pass


@pytest.mark.parametrize(
    ("broken", "message"),
    [(Forgetful(), "equal states must give equal results in round 2"), (Gullible(), "a state that is not its own")],
)
def test_what_a_rule_does_later_follows_from_its_state(broken: Mean, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_aggregator(broken)


def test_mean_does_not_withstand_anything() -> None:
    with pytest.raises(AssertionError, match="beyond the honest rows"):
        check_aggregator(Mean(), num_byzantine=1)


class Careless(LabelFlip):
    def corrupt(self, images: Tensor, labels: Tensor, *, num_classes: int, generator: torch.Generator) -> Any:
        return images, torch.randint(0, num_classes, labels.shape)


class Seeded(LabelFlip):
    def corrupt(self, images: Tensor, labels: Tensor, *, num_classes: int, generator: torch.Generator) -> Any:
        return images, labels * 0 + next(calls) % 2


class Copies(LabelFlip):
    def corrupt(self, images: Tensor, labels: Tensor, *, num_classes: int, generator: torch.Generator) -> Any:
        return images.clone(), labels


@pytest.mark.parametrize(
    ("attack", "message"),
    [(Careless(), "global random state"), (Seeded(), "equal generators"), (Copies(), "returned as they are")],
)
def test_a_broken_data_attack_fails(attack: LabelFlip, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_data_poisoning(attack)


def test_images_may_change_where_that_is_said() -> None:
    check_data_poisoning(Copies(), changes_images=True)


def test_a_broken_update_attack_fails() -> None:
    class Fickle(SignFlip):
        def forge(self, view: AttackerView) -> Tensor:
            return view.own * next(calls)

    class Global(SignFlip):
        def forge(self, view: AttackerView) -> Tensor:
            return torch.randn_like(view.own)

    class Unsaid(SignFlip):
        knowledge = "everything"  # type: ignore[assignment]

    with pytest.raises(AssertionError, match="equal views"):
        check_update_poisoning(Fickle())
    with pytest.raises(AssertionError, match="global random state"):
        check_update_poisoning(Global())
    with pytest.raises(AssertionError, match="own or omniscient"):
        check_update_poisoning(Unsaid())


class Omniscient(UpdatePoisoning):
    """Sends what a function makes of the view and of how often it was asked before."""

    knowledge = "omniscient"

    def __init__(self, forge: Callable[[AttackerView, int], Tensor], *, remembers: bool = True) -> None:
        self.function, self.remembers, self.rounds = forge, remembers, 0

    def forge(self, view: AttackerView) -> Tensor:
        self.rounds += 1
        return self.function(view, self.rounds) + torch.zeros_like(view.own)

    def state(self) -> dict[str, Tensor]:
        return {"rounds": torch.tensor(self.rounds)} if self.remembers else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if not self.remembers:
            super().restore(state)
        elif state.keys() != {"rounds"}:
            raise InputError("expected the number of rounds")
        else:
            self.rounds = int(state["rounds"])


def test_symmetries_and_the_memory_of_attacks_are_checked() -> None:
    check_update_poisoning(Omniscient(lambda view, rounds: view.honest.mean(0) * rounds))
    first = Omniscient(lambda view, rounds: view.honest[0])
    check_update_poisoning(first, permutation_invariant=False)
    with pytest.raises(AssertionError, match="the order of the honest clients must not matter"):
        check_update_poisoning(first)
    by_id = Omniscient(lambda view, rounds: view.honest[view.clients.index(12)])
    check_update_poisoning(by_id)
    constant = Omniscient(lambda view, rounds: torch.ones_like(view.own))
    check_update_poisoning(constant, positively_homogeneous=False)
    with pytest.raises(AssertionError, match="updates twice as large"):
        check_update_poisoning(constant)
    with pytest.raises(AssertionError, match="equal states must give equal rows in round 2"):
        check_update_poisoning(Omniscient(lambda view, rounds: view.honest.mean(0) * rounds, remembers=False))
    with pytest.raises(AssertionError, match="InputError, because of a state that is not its own"):
        check_update_poisoning(Careless(lambda view, rounds: view.honest.mean(0), remembers=False))


class Careless(Omniscient):
    """Takes any state for its own."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        pass


class Gray(Inversion):
    """Gray images and the labels that were granted, after something that it must not do."""

    def __init__(self, misdeed: Callable[[Observation], object]) -> None:
        self.misdeed = misdeed

    def recover(self, observations: Any, *, generator: torch.Generator, watch: Any) -> list[Reconstruction]:
        (seen,) = observations
        self.misdeed(seen)
        return [Reconstruction(torch.full((seen.batch_size, *seen.input_shape), 0.5), seen.labels)]


@pytest.mark.parametrize(
    ("misdeed", "message"),
    [
        # Through .data, which PyTorch does not count as a write.
        (lambda seen: [row.data.zero_() for row in seen.update.values()], "the observation must not change"),
        (lambda seen: [row.data.zero_() for row in seen.model.parameters()], "the observation must not change"),
        (lambda seen: seen.update.popitem(), "the observation must not change"),
        (lambda seen: torch.rand(1), "global random state"),
    ],
)
def test_a_broken_inversion_fails(misdeed: Callable[[Observation], object], message: str) -> None:
    check_inversion(Gray(lambda seen: None), gain=None)
    with pytest.raises(AssertionError, match=message):
        check_inversion(Gray(misdeed), gain=None)


def test_gray_images_recover_nothing() -> None:
    with pytest.raises(AssertionError, match="a PSNR of at least 6"):
        check_inversion(Gray(lambda seen: None))
