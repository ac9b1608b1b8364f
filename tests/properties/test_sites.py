"""Sites identified from updates: by a slow loop, and never by chance more often than it should."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from fedsec.attacks import Site
from fedsec.auditing import clopper_pearson
from fedsec.errors import InputError
from fedsec.properties.permutation import PermutationTest
from fedsec.properties.sites import centered, identify_sites
from fedsec.properties.sketch import Sketch
from fedsec.threat import PropertyView

ROUNDS, SITES, LENGTH = 6, 5, 12


def updates(shift: float, seed: int, missing: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Noise, and what a site always has of its own; some updates are missing."""
    draw = torch.Generator().manual_seed(seed)
    own = torch.randn(SITES, LENGTH, generator=draw)
    rounds = torch.arange(1, ROUNDS + 1).repeat_interleave(SITES)
    sites = torch.arange(SITES).repeat(ROUNDS)
    rows = 3.0 + shift * own[sites] + torch.randn(len(sites), LENGTH, generator=draw)
    kept = torch.randperm(len(sites), generator=draw)[missing:]
    return rows[kept], rounds[kept], sites[kept] + 10


@pytest.mark.parametrize("missing", [0, 9])
def test_the_share_is_that_of_a_loop_over_the_inference(missing: int) -> None:
    rows, rounds, sites = updates(0.6, 1, missing)
    unit, correct, attempts = centered(rows, rounds), 0, 0
    for place in range(len(rows)):
        others = rounds != rounds[place]
        here = [int(site) for site in sites[rounds == rounds[place]] if int(site) in sites[others].tolist()]
        if int(sites[place]) not in here or len(here) < 2:
            continue
        view = PropertyView(unit[place : place + 1], SITES, unit[others], sites[others] - 10)
        scores = Site().infer(view)[0]
        correct += max(here, key=lambda site: float(scores[site - 10])) == int(sites[place])
        attempts += 1
    found = identify_sites(rows, rounds, sites, permutations=19, generator=np.random.default_rng(0))
    assert (found.correct, found.attempts) == (correct, attempts)
    assert found.test.observed == correct / attempts
    assert found.chance == pytest.approx(1 / SITES) or missing


def test_any_inference_is_held_against_the_same_permutations() -> None:
    rows, rounds, sites = updates(0.6, 1, 9)
    quick, asked = (
        identify_sites(rows, rounds, sites, permutations=19, generator=np.random.default_rng(0), inference=inference)
        for inference in (None, Site())
    )
    assert (asked.correct, asked.attempts, asked.chance) == (quick.correct, quick.attempts, quick.chance)
    assert asked.test.null.tolist() == quick.test.null.tolist()
    assert len(set(asked.test.null.tolist())) > 3


def test_sites_that_differ_are_found_and_alike_ones_are_not() -> None:
    found = identify_sites(*updates(2.0, 2), permutations=199, generator=np.random.default_rng(1))
    assert found.test.observed > 0.9
    assert found.test.p == 1 / 200
    assert found.test.null.mean() == pytest.approx(0.2, abs=0.05)
    assert found.test.effect > 5


def test_under_the_null_p_values_are_uniform() -> None:
    """Identically distributed updates over seeds; ties make p-values larger, never smaller."""
    draw = np.random.default_rng(3)
    values = [identify_sites(*updates(0.0, seed, 4), permutations=39, generator=draw).test.p for seed in range(150)]
    for level in (0.05, 0.1, 0.25, 0.5):
        rejected = int(np.sum(np.array(values) <= level))
        assert stats.binomtest(rejected, len(values), level, alternative="greater").pvalue > 0.01
    assert np.mean(values) < 0.65


def test_permuting_across_rounds_would_not_matter_to_what_is_counted() -> None:
    """A site that takes part once can neither be found nor counted."""
    rows, rounds, sites = updates(1.0, 4)
    kept = (sites != 10) | (rounds == 1)
    found = identify_sites(rows[kept], rounds[kept], sites[kept], permutations=9, generator=np.random.default_rng(0))
    assert found.attempts == ROUNDS * (SITES - 1)


def test_one_round_tells_nothing() -> None:
    rows, rounds, sites = updates(1.0, 5)
    with pytest.raises(InputError, match="at least two rounds"):
        identify_sites(
            rows[rounds == 1],
            rounds[rounds == 1],
            sites[rounds == 1],
            permutations=9,
            generator=np.random.default_rng(0),
        )


def test_p_values_are_never_zero() -> None:
    assert PermutationTest(1.0, np.zeros(99)).p == 0.01
    assert PermutationTest(0.0, np.zeros(99)).p == 1.0
    assert PermutationTest(0.0, np.ones(99), larger=False).p == 0.01
    with pytest.raises(InputError, match="at least one permutation"):
        PermutationTest(0.0, np.zeros(0))


def test_sketches_keep_inner_products_on_average() -> None:
    rows = torch.randn(2, 300, generator=torch.Generator().manual_seed(0)) + 0.3
    exact = float(rows[0] @ rows[1])
    sketches = [Sketch(300, 50, torch.Generator().manual_seed(seed))(rows) for seed in range(400)]
    products = torch.tensor([float(one[0] @ one[1]) for one in sketches])
    assert float(products.mean()) == pytest.approx(exact, abs=4 * float(products.std()) / 20)
    bound = ((rows[0].norm() * rows[1].norm()) ** 2 + exact**2) / 50
    assert float(products.var()) < 1.3 * float(bound)
    assert torch.equal(Sketch(5, 9, torch.Generator())(rows[:, :5]), rows[:, :5].double())


def test_repeated_updates_of_a_site_do_not_narrow_the_interval() -> None:
    """Every round once more, number for number: of the same sites nothing more is known."""
    rows, rounds, sites = updates(0.6, 1)
    once = identify_sites(rows, rounds, sites, permutations=9, generator=np.random.default_rng(0))
    thrice = identify_sites(
        rows.repeat(3, 1),
        torch.cat([rounds + 100 * copy for copy in range(3)]),
        sites.repeat(3),
        permutations=9,
        generator=np.random.default_rng(0),
    )
    assert sum(thrice.attempts_by_site) == thrice.attempts == 3 * once.attempts
    assert sum(once.correct_by_site) == once.correct
    for share in (once, thrice):
        rate, as_if_sites = share.rate(0.95), clopper_pearson(round(share.test.observed * SITES), SITES)
        width = rate.high - rate.low
        assert rate.value == share.test.observed
        assert width == pytest.approx(as_if_sites.high - as_if_sites.low, abs=0.1)
    every = identify_sites(*updates(9.0, 2), permutations=9, generator=np.random.default_rng(0))
    assert every.test.observed == 1
    assert every.rate(0.95).low == clopper_pearson(SITES, SITES).low
