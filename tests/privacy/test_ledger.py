"""Calibration and the ledger."""

import math
import warnings

import pytest
import torch

from fedsec.errors import InputError
from fedsec.privacy import Accountant, Epsilon, Ledger, Spending, accounting, calibrate, epsilon


@pytest.mark.parametrize(
    ("accountant", "target", "rate", "steps"),
    [
        ("rdp", 8.0, 0.04, 500),
        ("rdp", 0.05, 1.0, 3),
        ("prv", 2.0, 1.0, 4),
        ("gdp", 1.0, 0.02, 900),
    ],
)
def test_noise_is_the_least_that_keeps_to_the_target(
    accountant: Accountant, target: float, rate: float, steps: int
) -> None:
    found = calibrate(target, 1e-5, rate, steps, accountant)
    assert found == round(found, 3)
    assert epsilon([Spending(found, rate, steps)], 1e-5, accountant).value <= target
    assert epsilon([Spending(round(found - 0.001, 3), rate, steps)], 1e-5, accountant).value > target


def test_noise_agrees_with_opacus() -> None:
    from opacus.accountants.utils import get_noise_multiplier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it begins its search at a noise where its largest order is the best
        theirs = get_noise_multiplier(
            target_epsilon=3.0, target_delta=1e-5, sample_rate=1.0, steps=20, epsilon_tolerance=1e-4
        )
    assert calibrate(3.0, 1e-5, 1.0, 20) == pytest.approx(theirs, abs=0.0015)


def test_targets_out_of_reach_and_nonsense_are_refused() -> None:
    with pytest.raises(InputError, match="no noise_multiplier up to 10,000"):
        calibrate(1e-9, 1e-5, 1.0, 10**6)
    for target, rate, steps in ((0.0, 0.1, 1), (math.inf, 0.1, 1), (1.0, 0.0, 1), (1.0, 1.1, 1), (1.0, 0.1, 0)):
        with pytest.raises(InputError, match=r"target_epsilon must be|expected a sample_rate"):
            calibrate(target, 1e-5, rate, steps)


def test_a_ledger_charges_each_client_its_own() -> None:
    ledger = Ledger(3, 1e-5)
    assert ledger.maximum().value == 0
    for _ in range(4):
        ledger.spend(0, 0.1, 1.5, 10)
    ledger.spend(2, 0.1, 1.5, 40)
    ledger.spend(1, 0.1, 1.5, 41)
    assert ledger.epsilon(0) == ledger.epsilon(2) == epsilon([Spending(1.5, 0.1, 40)], 1e-5)
    assert ledger.maximum() == ledger.epsilon(1)
    assert ledger.maximum().value > ledger.epsilon(0).value
    assert ledger.spent[0] == (Spending(1.5, 0.1, 40),)
    ledger.spend(0, 0.1, 0.0, 1)
    assert ledger.maximum().value == math.inf


def test_a_budget_is_kept_to_the_last_step() -> None:
    ledger, steps = Ledger(1, 1e-5), 0
    budget = epsilon([Spending(1.0, 0.1, 25)], 1e-5).value
    while ledger.affords(0, 0.1, 1.0, 1, budget):
        ledger.spend(0, 0.1, 1.0, 1)
        steps += 1
    assert steps == 25
    assert ledger.epsilon(0).value == budget
    assert ledger.affords(0, 0.1, 1.0, 1, None)


def test_few_of_many_clients_are_accounted_by_prv(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest epsilon and who affords a round are as if all were computed; rdp says who need not be."""
    ledger = Ledger(8, 1e-4, "prv")
    for client in range(8):
        ledger.spend(client, 10 / (40 + 23 * client), 1.5, 5 + client)
    every = [ledger.epsilon(client) for client in range(8)]
    asked: list[str] = []
    plain = accounting._epsilon

    def counted(history: tuple[Spending, ...], delta: float, accountant: Accountant) -> Epsilon:
        asked.append(accountant)
        return plain(history, delta, accountant)

    monkeypatch.setattr(accounting, "_epsilon", counted)
    assert ledger.maximum() == max(every, key=lambda one: one.value)
    assert 1 <= asked.count("prv") < 5
    for client in range(8):
        after = epsilon([*ledger.spent[client], Spending(1.5, 0.1, 2)], 1e-4, "prv").value
        for budget in (0.95 * after, after, 2 * after):
            asked.clear()
            assert ledger.affords(client, 0.1, 1.5, 2, budget) == (budget >= after)
            assert ("prv" in asked) == (budget <= after)


def test_the_largest_by_prv_need_not_be_the_largest_by_rdp(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"rdp": {1.0: 5.0, 2.0: 4.5, 3.0: 4.2, 4.0: 3.9}, "prv": {1.0: 4.0, 2.0: 4.4, 3.0: 4.1, 4.0: 3.8}}

    def told(history: tuple[Spending, ...], delta: float, accountant: Accountant) -> Epsilon:
        return Epsilon(known[accountant][history[0].noise_multiplier], delta, accountant)

    monkeypatch.setattr(accounting, "_epsilon", told)
    ledger = Ledger(4, 1e-4, "prv")
    for client, noise in enumerate((4.0, 1.0, 3.0, 2.0)):
        ledger.spend(client, 0.1, noise, 1)
    assert ledger.maximum() == Epsilon(4.4, 1e-4, "prv")


def test_a_ledger_is_restored_exactly() -> None:
    ledger = Ledger(4, 1e-6, "prv")
    ledger.spend(0, 0.1, 1.7, 12)
    ledger.spend(0, 1 / 3, 0.1 + 0.2, 2)
    ledger.spend(3, 1e-7, 2.0, 2**40)
    again = Ledger(4, 1e-6, "prv")
    again.spend(1, 0.5, 1.0, 1)  # forgotten
    again.restore(ledger.state())
    assert again.spent == ledger.spent
    assert all(torch.equal(a, b) for a, b in zip(again.state().values(), ledger.state().values(), strict=True))
    empty = Ledger(4, 1e-6)
    again.restore(empty.state())
    assert again.spent == ((), (), (), ())


def test_states_of_other_ledgers_are_refused() -> None:
    ledger = Ledger(4, 1e-6)
    ledger.spend(3, 0.1, 1.7, 12)
    state = ledger.state()
    for wrong in (
        {},
        {**state, "spent_steps": state["spent_steps"].float()},
        {**state, "spent_noise": state["spent_noise"][:0]},
    ):
        with pytest.raises(InputError, match="a kept ledger"):
            ledger.restore(wrong)
    with pytest.raises(InputError, match=r"client must lie in \[0, 2\)"):
        Ledger(2, 1e-6).restore(state)
    assert ledger.spent[3] == (Spending(1.7, 0.1, 12),)


def test_clients_that_do_not_exist_are_refused() -> None:
    ledger = Ledger(2, 1e-5)
    for client in (-1, 2):
        with pytest.raises(InputError, match="client must lie"):
            ledger.spend(client, 0.1, 1.0, 1)
    with pytest.raises(InputError, match="at least one client"):
        Ledger(0, 1e-5)
