"""What a class says of its methods holds for those methods, and for no others that a subclass puts in their place."""

import torch
from torch import Tensor

from fedsec.attacks import IPM, NaN, SignFlip
from fedsec.defense import Aggregator, Cohort, Gram
from fedsec.defenses import FLAME, Bucketing, Krum, Mean, Median
from fedsec.threat import AttackerView


class FirstRow(Mean):
    def combine(self, cohort: Cohort) -> Tensor:
        return cohort.updates[0].clone()


class AgainFirstRow(FirstRow):
    """Replaces nothing of what it inherits."""


class HalfMean(Mean):
    by_columns = True

    def combine(self, cohort: Cohort) -> Tensor:
        return super().combine(cohort) / 2


class Counting:
    def weights(self, gram: Gram, cohort: Cohort) -> Tensor:
        return torch.ones(cohort.num_rows, dtype=torch.float64)


class CountingKrum(Counting, Krum):
    """Its method comes from a class that knows nothing of rules."""


class CountingFLAME(FLAME):
    weights = Counting.weights


class RenamedMean(Mean):
    """The mean by another name."""

    def max_rejected(self, num_clients: int) -> int:
        return 0


class OtherBuckets(Bucketing):
    def mixing(self, gram: Gram, cohort: Cohort) -> Tensor:
        return torch.eye(cohort.num_rows, dtype=torch.float64)


class LongestIPM(IPM):
    def forge(self, view: AttackerView) -> Tensor:
        return view.own * view.honest.norm()


def test_a_rule_that_replaces_a_method_does_not_inherit_what_was_said_of_it() -> None:
    said: dict[Aggregator, tuple[bool, bool]] = {
        Mean(): (True, True),
        RenamedMean(): (True, True),
        FirstRow(): (False, False),
        AgainFirstRow(): (False, False),
        HalfMean(): (True, False),
        Median(): (True, False),
        Krum(num_byzantine=1): (True, False),
        CountingKrum(num_byzantine=1): (False, False),
        FLAME(noise=0): (True, False),
        FLAME(noise=0.1): (False, False),
        CountingFLAME(noise=0): (False, False),
    }
    assert {rule: (rule.by_columns, rule.streams) for rule in said} == said


def test_nor_do_mixtures_and_attacks() -> None:
    assert Bucketing(2).by_columns
    assert not OtherBuckets(2).by_columns
    assert [attack.by_columns for attack in (SignFlip(), NaN(), NaN(num_values=1), IPM(), IPM(scatter=0.1))] == [
        True,
        True,
        False,
        True,
        False,
    ]
    assert not LongestIPM().by_columns
