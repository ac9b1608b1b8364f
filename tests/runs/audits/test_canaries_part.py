"""What any canaries conclude from scores: every choice is paid for, and a claim is contradicted by the bound alone."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedsec.auditing import guess_grid
from fedsec.privacy import Epsilon
from fedsec.runs.audits import canaries_examples
from fedsec.runs.audits.canaries_part import CanaryPart


class Scored(CanaryPart):
    """Canaries of which one score knows everything and the other nothing."""

    metric = "epsilon_lower"
    claimed: float | None = None
    broken = False

    def attach(self, *_: Any) -> None: ...

    def scores(self) -> Mapping[str, np.ndarray]:
        noise = np.random.default_rng(0).standard_normal(len(self.included))
        return {"white_box": self.included + 0.1 * noise, "loss": np.full_like(noise, np.nan) if self.broken else noise}

    def claim(self, delta: float | None) -> Epsilon | None:
        return None if self.claimed is None else Epsilon(self.claimed, delta or 1e-3, "rdp")


@pytest.fixture
def scored(audited: Any, examples: dict[str, Any]) -> Any:
    return lambda **settings: Scored(
        audited.cell(examples, **{f"audit__canaries__{key}": value for key, value in settings.items()}).config
    )


def test_every_score_and_every_number_of_guesses_is_paid_for(scored: Any) -> None:
    bounds = scored().conclude().record["bounds"]
    tests = 2 * len(guess_grid(100, 0.05 / 2))
    assert {bound["choices"] for by_method in bounds.values() for bound in by_method.values()} == {tests}
    assert {bound["strategy"] for by_method in bounds.values() for bound in by_method.values()} == {"bonferroni"}


def test_a_split_counts_half_of_the_canaries(scored: Any) -> None:
    bound = scored(threshold="split").conclude().record["bounds"]["white_box"]["approximate_dp"]
    assert (bound["strategy"], bound["canaries"], bound["choices"]) == ("split", 50, 2)


def test_a_claim_is_contradicted_by_a_bound_above_it_and_by_no_other(scored: Any) -> None:
    part = scored()
    part.claimed = 1.0
    lower = part.conclude().record["epsilon_lower"]
    assert lower > 2
    for claimed, exceeds in ((lower - 0.01, True), (lower + 0.01, False)):
        part.claimed = claimed
        conclusion = part.conclude()
        assert conclusion.record["exceeds"] is exceeds
        assert [note for note in conclusion.notes if "contradicts the claim" in note] == list(conclusion.notes)[
            :exceeds
        ]
        assert conclusion.metrics["epsilon_lower"] == conclusion.record["epsilon_lower"] > 2
        assert conclusion.record["delta"] == 1e-3  # the claim's own
    assert scored(delta=1e-6).conclude().record["delta"] == 1e-6


def test_scores_that_are_not_finite_bound_nothing_and_are_paid_for_all_the_same(scored: Any) -> None:
    part = scored()
    whole = part.conclude().record
    part.broken = True
    conclusion = part.conclude()
    assert [*conclusion.record["bounds"]] == ["white_box"]
    assert "loss: some canaries have no finite score" in conclusion.notes[0]
    assert conclusion.record["epsilon_lower"] == whole["bounds"]["white_box"]["approximate_dp"]["epsilon_lower"]


def test_coins_are_fair_and_each_canary_s_own(scored: Any) -> None:
    many = scored(count=200).included
    assert 70 < many.sum() < 130
    assert np.array_equal(scored(count=200).included, many)


def test_the_claim_is_that_of_the_client_that_spent_most(
    audited: Any, examples: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = canaries_examples.ExampleCanaries(audited.cell(examples, audit__canaries__client=[0, 1]).config)
    part.client_of = np.arange(100) % 2
    ledger = SimpleNamespace(spent={0: 1.0, 1: 3.0, 2: 9.0}, delta=1e-4, accountant="rdp")
    part.federation = SimpleNamespace(privacy=SimpleNamespace(ledger=ledger))  # type: ignore[assignment]
    monkeypatch.setattr(canaries_examples, "epsilon", Epsilon)
    for delta, expected in ((None, 1e-4), (1e-6, 1e-6)):
        claim = part.claim(delta)
        assert claim is not None
        assert (claim.value, claim.delta) == (3.0, expected)
