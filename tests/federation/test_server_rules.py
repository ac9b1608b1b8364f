"""Rounds in which a rule cannot work with so few clients, and what the server says of a round."""

from collections.abc import Sequence

import pytest
import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Aggregator, Cohort, Gram, GramRule, Pipeline
from fedsec.defenses import NNM, Median, MultiKrum, TrimmedMean
from fedsec.errors import InputError
from fedsec.federation.broken_conditions import BrokenCondition
from fedsec.federation.server_rules import ServerRules, Verdict
from fedsec.seeds import Streams

ROWS = torch.tensor([[0.0], [1.0], [2.0], [50.0]])


def verdict(rule: Aggregator, handling: BrokenCondition, rows: Tensor = ROWS) -> Verdict:
    rules = ServerRules(rule, ["update"], Streams(0), {"w": torch.Size([1])}, handling)
    return rules({"update": rows}, torch.ones(len(rows)), {"update": None}, 7, range(len(rows)))


@pytest.mark.parametrize("handling", ["stop", "skip", "relax"])
def test_a_rule_that_can_work_does(handling: BrokenCondition) -> None:
    found = verdict(TrimmedMean(num_trimmed_per_side=1), handling)
    assert found.aggregates["update"].vector.item() == 1.5
    assert (found.withstands, found.broken) == (1, "")
    assert found.seconds > 0


def test_a_run_stops_in_a_round_with_too_few_clients() -> None:
    with pytest.raises(
        InputError, match=r"round 7, clients \[0, 1, 2, 3\]: MultiKrum: num_byzantine 1 needs at least 5 rows"
    ):
        verdict(MultiKrum(num_byzantine=1), "stop")


def test_a_round_is_skipped() -> None:
    found = verdict(MultiKrum(num_byzantine=1), "skip")
    assert (found.aggregates, found.withstands) == ({}, None)
    assert found.broken == "MultiKrum: num_byzantine 1 needs at least 5 rows, not 4"


@pytest.mark.parametrize(
    ("rule", "alike"),
    [
        (MultiKrum(num_byzantine=3), MultiKrum(num_byzantine=0)),
        (TrimmedMean(num_trimmed_per_side=5), TrimmedMean(num_trimmed_per_side=1)),
        (Pipeline([NNM(num_byzantine=2), Median()]), Pipeline([NNM(num_byzantine=1), Median()])),
        (Pipeline([NNM(num_byzantine=1), MultiKrum(num_byzantine=1)]), Pipeline([NNM(0), MultiKrum(0)])),
    ],
)
def test_a_rule_is_relaxed_as_little_as_need_be(rule: Aggregator, alike: Aggregator) -> None:
    found = verdict(rule, "relax")
    assert torch.equal(found.aggregates["update"].vector, alike(ROWS))
    assert found.broken
    with pytest.raises(InputError):  # it is itself again afterwards
        rule.max_rejected(len(ROWS))


def test_what_cannot_be_relaxed_stops_the_run() -> None:
    with pytest.raises(InputError, match=r"round 7.*num_selected 5"):
        verdict(MultiKrum(num_byzantine=0, num_selected=5), "relax")


class Broken(GramRule):
    """A rule with a defect, which is no broken condition."""

    def max_rejected(self, num_clients: int) -> int:
        return 0

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        raise InputError("a defect")


@pytest.mark.parametrize("handling", ["skip", "relax"])
def test_defects_are_not_taken_for_broken_conditions(handling: BrokenCondition) -> None:
    with pytest.raises(InputError, match=r"round 7.*a defect"):
        verdict(Broken(), handling)


def test_every_vector_has_a_rule_of_its_own_and_is_relaxed_alike() -> None:
    rules = ServerRules(MultiKrum(num_byzantine=1), ["update", "control"], Streams(0), {"w": torch.Size([1])}, "relax")
    rows = {"update": ROWS, "control": -ROWS}
    found = rules(rows, torch.ones(4), rules.generators(1), 1, range(4))
    relaxed: Sequence[float] = [found.aggregates[name].vector.item() for name in rows]
    assert relaxed == [MultiKrum(num_byzantine=0)(ROWS).item(), -MultiKrum(num_byzantine=0)(ROWS).item()]


def test_handlings_that_are_none() -> None:
    with pytest.raises(InputError, match="broken_condition must be one of stop, skip, relax, got 'ignore'"):
        ServerRules(Median(), ["update"], Streams(0), {}, "ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("handling", ["stop", "skip", "relax"])
def test_an_attacker_tries_the_rule_as_the_server_will_apply_it(handling: BrokenCondition) -> None:
    """In a round without an aggregate there is nothing to try; a relaxed rule is tried as it is then."""
    rule = TrimmedMean(num_trimmed_per_side=3)
    rules = ServerRules(rule, ["update"], Streams(0), {"w": torch.Size([1])}, handling)
    generator = torch.Generator().manual_seed(0)
    trial = rules.trial("update", generator, places=[0, 1, 2, 3], weights=torch.ones(4), clients=[0, 1, 2, 3])
    if handling != "relax":
        assert trial is None
        return
    assert trial is not None
    assert torch.equal(trial(ROWS), verdict(TrimmedMean(num_trimmed_per_side=3), "relax").aggregates["update"].vector)
    assert rule.max_rejected(7) == 3
