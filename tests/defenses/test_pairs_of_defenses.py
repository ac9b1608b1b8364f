"""What is told of two defenses in a row is right: exact values are exact, and noise is as large as it is said to be."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from fedsec.defense.updates import ClientSide, UpdateTransform, compose
from fedsec.defenses import ClipUpdate, GaussianNoise, Prune, Quantize, Sign, Soteria
from fedsec.threat import Distortion

# Of updates with root mean square 1 or so and 2,000 entries, norm 45.
MEMBERS: dict[str, UpdateTransform] = {
    "clip": ClipUpdate(10.0),
    "noise": GaussianNoise(0.3),
    "relative noise": GaussianNoise(0.3, relative=True),
    "prune": Prune(0.5),
    "prune over all": Prune(0.9, per_tensor=False),
    "quantize to ternary": Quantize(2),
    "quantize": Quantize(6),
    "quantize to nearest": Quantize(4, stochastic=False),
    "sign": Sign(),
    "soteria": Soteria(0.4),
}

_FLIPS = "noise turns signs around, which the comparison of signs has no word for: signs are told, and no noise"
_EVEN = (
    "equal magnitudes are rounded to themselves, but Quantize sees levels and not what they came from: noise is told"
)
UNTOLD: dict[tuple[str, str], str] = {
    ("noise", "sign"): _FLIPS,
    ("relative noise", "sign"): _FLIPS,
    ("sign", "quantize to ternary"): _EVEN,
    ("sign", "quantize"): _EVEN,
    ("sign", "quantize to nearest"): _EVEN,
}
"""Pairs of which what is told is wrong, and why nothing better is."""


@pytest.fixture(name="client", scope="module")
def _client() -> ClientSide:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 30, 3, stride=2), nn.Sigmoid(), nn.Flatten(), nn.Linear(270, 6))
    return ClientSide(model, torch.rand(2, 1, 7, 7, generator=generator), torch.tensor([0, 1]))


def drawn(client: ClientSide, seed: int) -> dict[str, Tensor]:
    """Like a gradient: parameters differ in scale, and most of their entries are small."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for scale, (name, row) in zip((0.5, 1.0, 1.0, 2.0), client.model.named_parameters(), strict=True):
        first, second = torch.randn(2, *row.shape, generator=generator)
        found[name] = scale * first * second.abs()
    return found


def errors(update: dict[str, Tensor], sent: dict[str, Tensor], told: Distortion) -> tuple[float, float]:
    """Root mean square of the error over what is told, and of the error where none is told over what was sent."""
    made, goals, deviations = [], [], []
    for name, row in update.items():
        kept = told.kept.get(name, torch.ones_like(row, dtype=torch.bool))
        value, goal = row[kept].double(), sent[name][kept].double()
        if told.signs:
            # A smooth sign of what is zero may be anything in between.
            value = value.sign() * goal.abs().mean() if len(goal) else value
        made.append(value)
        goals.append(goal)
        deviations.append(torch.full_like(goal, told.noise.get(name, 0.0)))
    one, goal, deviation = torch.cat(made), torch.cat(goals), torch.cat(deviations)
    if told.rescaled and not told.signs:
        # The attacker's candidate has any length; that of the best fit.
        weights = 1 / deviation.clamp_min(1e-9).square()
        one = one * (weights * one * goal).sum() / (weights * one * one).sum()
    noisy = deviation > 0
    error = one - goal
    calibration = float((error[noisy] / deviation[noisy]).square().mean().sqrt()) if bool(noisy.any()) else 1.0
    exact = float(error[~noisy].abs().max() / goal.square().mean().sqrt()) if bool((~noisy).any()) else 0.0
    return calibration, exact


@pytest.mark.parametrize(("first", "second"), list(product(MEMBERS, MEMBERS)))
def test_what_is_told_of_two_defenses_is_right(client: ClientSide, first: str, second: str) -> None:
    chain = compose([MEMBERS[first], MEMBERS[second]])
    found = []
    for seed in range(2):
        update = drawn(client, seed)
        sent = chain(update, client=client, generator=torch.Generator().manual_seed(100 + seed))
        told = chain.known(sent)
        found.append(errors(update, sent, told))
        for name, most in told.limit.items():
            assert bool((update[name][~told.kept[name]].abs() <= most).all())
    right = all(0.5 <= calibration <= 2 and exact < 1e-4 for calibration, exact in found)
    assert right != ((first, second) in UNTOLD), found


CHAINS: dict[str, list[UpdateTransform]] = {
    "rounded after clipping": [GaussianNoise(1.0), ClipUpdate(1.0), Quantize(2)],
    "rounded finely after clipping": [GaussianNoise(1.0), ClipUpdate(1.0), Quantize(4)],
    "noise after clipping": [GaussianNoise(1.0), ClipUpdate(1.0), GaussianNoise(0.1)],
    "less noise after clipping": [GaussianNoise(0.3), ClipUpdate(1.0), GaussianNoise(0.1)],
    "noise twice before clipping": [GaussianNoise(0.3), GaussianNoise(0.3), ClipUpdate(10.0)],
    "noise of its own size twice before clipping": [GaussianNoise(0.3, relative=True)] * 2 + [ClipUpdate(10.0)],
    "noise, clipped, twice": [GaussianNoise(0.3), ClipUpdate(20.0), GaussianNoise(0.1), ClipUpdate(10.0)],
}


@pytest.mark.parametrize("name", CHAINS)
def test_no_more_noise_is_told_than_what_was_sent_can_hold(client: ClientSide, name: str) -> None:
    """An attacker who takes everything for noise would give up."""
    chain = compose(CHAINS[name])
    for seed in range(4):
        update = drawn(client, seed)
        sent = chain(update, client=client, generator=torch.Generator().manual_seed(100 + seed))
        told = chain.known(sent)
        held = sum(float(row.double().square().sum()) for row in sent.values())
        assert sum(row.numel() * told.noise.get(each, 0.0) ** 2 for each, row in sent.items()) < 1.5 * held, told.noise


@pytest.mark.parametrize("before", [[], [GaussianNoise(0.3)]], ids=["alone", "after another"])
def test_noise_of_the_training_shrinks_with_the_update_too(client: ClientSide, before: list[UpdateTransform]) -> None:
    chain = compose([*before, ClipUpdate(10.0)])
    for seed in range(4):
        update = drawn(client, seed)
        generator = torch.Generator().manual_seed(100 + seed)
        noisy = {name: row + 0.3 * torch.randn(row.shape, generator=generator) for name, row in update.items()}
        sent = chain(noisy, client=client, generator=generator)
        told = Distortion(noise=dict.fromkeys(sent, 0.3)).then(chain.known(sent))
        true = 0.3 * (1 + len(before)) ** 0.5 * float(sent["3.weight"].norm() / noisy["3.weight"].norm())
        assert 0.4 * true < max(told.noise.values()) < 2.2 * true
        assert told.ceiling is not None
        assert max(told.noise.values()) < 2.5 * true


@pytest.mark.parametrize("first", [GaussianNoise(0.3), GaussianNoise(0.2)])
def test_noises_before_clipping_share_what_is_left_for_them(client: ClientSide, first: UpdateTransform) -> None:
    clip = ClipUpdate(10.0)
    chain = compose([first, GaussianNoise(0.3), GaussianNoise(0.3), clip])
    for seed in range(4):
        sent = chain(drawn(client, seed), client=client, generator=torch.Generator().manual_seed(100 + seed))
        ceiling, told = clip.known(sent).ceiling, max(chain.known(sent).noise.values())
        assert ceiling is not None
        assert 0 < told <= 1.001 * ceiling
        more = Distortion(noise=dict.fromkeys(sent, 0.3)).then(chain.known(sent))
        assert max(more.noise.values()) <= 1.001 * ceiling
