from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.auditing import (
    Bonferroni,
    EpsilonBound,
    Explicit,
    SplitCanaries,
    approximate_dp_bound,
    audit_one_run,
    ceiling,
    epsilon_of_mu,
    gaussian_dp_bound,
    guess_grid,
)
from fedsec.errors import InputError

STRATEGIES = [Bonferroni(), SplitCanaries(), Explicit(30, 30), Bonferroni([(20, 20), (40, 0)])]
DELTA = 1e-5


def canaries(seed: int, count: int, mu: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a Gaussian mechanism, and who was in."""
    generator = np.random.default_rng(seed)
    included = generator.integers(0, 2, count).astype(bool)
    return generator.normal(size=count) + mu * included, included


def both(*arguments: Any, **settings: Any) -> list[EpsilonBound]:
    return list(audit_one_run(*arguments, **settings).values())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("direction", ["higher", "both"])
def test_scores_of_nothing_show_something_as_rarely_as_stated(strategy: Any, direction: Any) -> None:
    runs = 120
    shown = np.zeros(2)
    for seed in range(runs):
        bounds = both(*canaries(seed, 64, 0.0), DELTA, strategy=strategy, direction=direction)
        shown += [bound.epsilon_lower > 0 for bound in bounds]
    assert (shown / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)).all()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_a_gaussian_mechanism_is_accused_as_rarely_as_stated_and_seen_at_all(strategy: Any) -> None:
    mu, runs = 1.5, 60
    bounds = [both(*canaries(1000 + seed, 100, mu), DELTA, strategy=strategy) for seed in range(runs)]
    lower = np.array([[bound.epsilon_lower for bound in pair] for pair in bounds])
    assert (lower > epsilon_of_mu(mu, DELTA)).mean() <= 0.05
    assert (lower.mean(0) > [0.4, 0.8]).all()
    assert (lower[:, 1] >= lower[:, 0]).mean() > 0.8


def test_small_samples_of_nothing_show_nothing() -> None:
    for seed in range(40):
        scores, included = canaries(seed, 12, 0.0)
        for bound in both(scores, included, DELTA, direction="both", confidence=0.99):
            assert bound.epsilon_lower == 0


def test_scores_that_say_the_contrary_show_as_much_to_whoever_looks_in_both_directions() -> None:
    included = np.random.default_rng(0).integers(0, 2, 100).astype(bool)
    scores = np.linspace(0, 0.1, 100) - included
    for bound in both(scores, included, DELTA):
        assert bound.epsilon_lower == 0
    reverse = both(scores, included, DELTA, direction="both")
    assert [bound.epsilon_lower for bound in reverse] == [
        bound.epsilon_lower for bound in both(-scores, included, DELTA, direction="both")
    ]
    assert reverse[0].epsilon_lower > 2
    assert [bound.choices for bound in reverse] == [8, 8]
    for bound, lower in zip(reverse, both(scores, included, DELTA, direction="lower"), strict=True):
        assert bound.epsilon_lower < lower.epsilon_lower  # the second direction is paid for


def test_an_explicit_choice_is_the_bound_of_its_counts() -> None:
    scores, included = canaries(3, 100, 2.0)
    bounds = audit_one_run(scores, included, DELTA, strategy=Explicit(20, 10))
    order = np.argsort(scores)
    correct = included[order[-20:]].sum() + (~included[order[:10]]).sum()
    for bound in bounds.values():
        assert (bound.guesses, bound.guessed_in, bound.guessed_out, bound.correct) == (30, 20, 10, correct)
    assert bounds["approximate_dp"].epsilon_lower == approximate_dp_bound(100, 30, correct, DELTA)
    mu = gaussian_dp_bound(100, 30, correct)
    assert bounds["gaussian_dp"].mu_lower == mu
    assert bounds["gaussian_dp"].epsilon_lower == epsilon_of_mu(mu, DELTA)


def test_every_choice_of_a_list_is_paid_for() -> None:
    scores, included = canaries(4, 100, 2.0)
    alone = audit_one_run(scores, included, DELTA, strategy=Bonferroni([(50, 50)]))["approximate_dp"]
    more = audit_one_run(scores, included, DELTA, strategy=Bonferroni([(50, 50), (1, 0)]))["approximate_dp"]
    of_two = audit_one_run(scores, included, DELTA, strategy=Bonferroni([(50, 50)]), choices=2)["approximate_dp"]
    assert alone.epsilon_lower == approximate_dp_bound(100, 100, alone.correct, DELTA, 0.95)
    assert more.epsilon_lower == approximate_dp_bound(100, 100, alone.correct, DELTA, 0.975) < alone.epsilon_lower
    assert (of_two.epsilon_lower, of_two.choices) == (more.epsilon_lower, more.choices)


def test_a_split_chooses_on_canaries_that_it_does_not_count() -> None:
    scores, included = canaries(5, 101, 3.0)
    bound = audit_one_run(scores, included, DELTA, strategy=SplitCanaries(0.4))["gaussian_dp"]
    assert bound.canaries == 61
    assert bound.guesses <= 61
    assert bound.choices == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1.0, 3.0]), st.sampled_from(STRATEGIES[:3]))
def test_only_the_order_of_scores_counts(seed: int, mu: float, strategy: Any) -> None:
    scores, included = canaries(seed, 64, mu)
    bounds = both(scores, included, DELTA, strategy=strategy)
    assert bounds == both(np.exp(scores) * 7 - 3, included, DELTA, strategy=strategy)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 1.0, 3.0]))
def test_who_is_in_and_who_is_out_may_be_exchanged(seed: int, mu: float) -> None:
    scores, included = canaries(seed, 64, mu)
    even = Bonferroni([(32, 32), (10, 10)])
    bounds = both(scores, included, DELTA, strategy=even)
    assert bounds == both(-scores, ~included, DELTA, strategy=even)


def test_equal_scores_tell_nothing_even_where_canaries_are_listed_by_inclusion() -> None:
    for bound in both([1.0] * 200, [True] * 100 + [False] * 100, DELTA):
        assert bound.epsilon_lower == 0
        assert "same score" in bound.note
    mostly_equal = [1.0] * 198 + [2.0, 2.0]
    for bound in both(mostly_equal, [True] * 100 + [False] * 100, DELTA):
        assert bound.epsilon_lower == 0


def test_a_perfect_audit_reaches_its_ceiling_and_says_that_it_could_not_show_more() -> None:
    in_even_numbers = np.arange(400) % 2 == 0
    for strategy in STRATEGIES:
        bounds = audit_one_run(in_even_numbers.astype(float), in_even_numbers, DELTA, strategy=strategy)
        for method, bound in bounds.items():
            assert bound.correct == bound.guesses
            assert bound.ceiling >= bound.epsilon_lower > 0.9 * bound.ceiling
            assert "could show more" in bound.note
            if not isinstance(strategy, SplitCanaries):
                assert bound.ceiling == ceiling(400, DELTA, strategy=strategy)[method]


def test_a_ceiling_knows_that_coins_are_seldom_even() -> None:
    included = np.arange(100) < 60
    everyone = audit_one_run(included.astype(float), included, DELTA, strategy=Explicit(50, 50))["approximate_dp"]
    assert everyone.correct == 90
    assert everyone.ceiling == everyone.epsilon_lower < ceiling(100, DELTA, strategy=Explicit(50, 50))["approximate_dp"]


def test_ceilings_grow_with_canaries_and_shrink_with_choices() -> None:
    for method in ("approximate_dp", "gaussian_dp"):
        ceilings = [ceiling(count, DELTA)[method] for count in (20, 100, 500)]
        assert ceilings == sorted(set(ceilings))
        assert ceiling(100, DELTA, choices=3)[method] < ceilings[1]
        assert ceiling(100, DELTA, direction="both")[method] == ceiling(100, DELTA, choices=2)[method]


def test_too_few_canaries_are_refused_with_the_number_that_would_do() -> None:
    with pytest.raises(InputError, match=r"4 canaries can show nothing.*Expected 5"):
        audit_one_run([1, 2, 3, 4], [0, 0, 1, 1], DELTA)
    audit_one_run([1, 2, 3, 4, 5], [0, 0, 1, 1, 1], DELTA)
    assert ceiling(4, DELTA) == {"approximate_dp": 0, "gaussian_dp": 0}


def test_at_delta_0_gaussian_noise_has_no_finite_epsilon() -> None:
    bounds = audit_one_run(*canaries(0, 64, 3.0), 0.0)
    assert 0 < bounds["approximate_dp"].epsilon_lower < 4
    assert bounds["gaussian_dp"].as_dict()["epsilon_lower"] is None
    assert "delta 0" in bounds["gaussian_dp"].note


def test_a_delta_that_allows_everything_is_named_and_costs_the_other_method_nothing() -> None:
    included = np.arange(200) % 2 == 0
    bounds = audit_one_run(included.astype(float), included, 0.03)
    assert bounds["approximate_dp"].epsilon_lower == bounds["approximate_dp"].ceiling == 0
    assert "delta 0.03 alone allows" in bounds["approximate_dp"].note
    assert bounds["gaussian_dp"].epsilon_lower > 2


def test_bad_settings_are_refused() -> None:
    scores, included = canaries(0, 64, 0.0)
    for settings_, message in (
        ({"confidence": 1.0}, "confidence"),
        ({"delta": -1}, "delta"),
        ({"direction": "up"}, "direction"),
        ({"choices": 0}, "choices"),
        ({"strategy": Explicit(60, 5)}, "add up to 1 to 64"),
        ({"strategy": Explicit(-1, 5)}, "not be negative"),
        ({"strategy": Bonferroni([])}, "got none"),
    ):
        with pytest.raises(InputError, match=message):
            audit_one_run(scores, included, **({"delta": DELTA} | settings_))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="share"):
        SplitCanaries(1.0)


def test_the_grid_is_short_and_has_nothing_too_small() -> None:
    assert guess_grid(160) == ((60, 60), (40, 40), (20, 20), (20, 0), (10, 0))
    assert guess_grid(20) == ((8, 7), (5, 5))
    assert guess_grid(3) == ((2, 1),)
