"""What each defense of single updates sends, computed by hand, and what it tells an attacker who knows it."""

import math
from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsec.defense.updates import ClientSide, UpdateTransform, compose
from fedsec.defenses import ClipUpdate, GaussianNoise, Prune, Quantize, Sign, Soteria
from fedsec.errors import InputError
from fedsec.threat import Distortion


def vector(*values: float) -> dict[str, Tensor]:
    return {"w": torch.tensor(values)}


def sent(transform: UpdateTransform, *values: float) -> list[float]:
    found: list[float] = transform(vector(*values))["w"].tolist()
    return found


def test_clipping_keeps_the_direction() -> None:
    assert sent(ClipUpdate(1.0), 3.0, -4.0) == pytest.approx([0.6, -0.8])
    assert sent(ClipUpdate(5.0), 3.0, -4.0) == [3.0, -4.0]
    # The norm is that of all parameters together.
    both = ClipUpdate(2.5)({"a": torch.tensor([3.0]), "b": torch.tensor([[-4.0]])})
    assert (both["a"].item(), both["b"].item()) == pytest.approx((1.5, -2.0))
    # The squares of finite numbers overflow.
    assert sent(ClipUpdate(1.0), 3e30, -4e30) == pytest.approx([0.6, -0.8])
    assert ClipUpdate(1.0).known(both).rescaled


def test_pruning_drops_the_smallest() -> None:
    assert sent(Prune(0.5), 3.0, -1.0, 0.5, -2.0) == [3.0, 0.0, 0.0, -2.0]
    assert sent(Prune(0.74), 3.0, -1.0, 0.5, -2.0) == [3.0, 0.0, 0.0, -2.0]
    assert sent(Prune(0.25), 1.0, 1.0, -1.0, 1.0) == [0.0, 1.0, -1.0, 1.0]
    assert sent(Prune(0.7), *map(float, range(1, 11))) == [0.0] * 7 + [8.0, 9.0, 10.0]
    update = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([10.0, 20.0])}
    by_tensor, over_all = Prune(0.5)(update), Prune(0.5, per_tensor=False)(update)
    assert [row.tolist() for row in by_tensor.values()] == [[0.0, 2.0], [0.0, 20.0]]
    assert [row.tolist() for row in over_all.values()] == [[0.0, 0.0], [10.0, 20.0]]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.floats(0, 0.99))
@settings(deadline=None)
def test_the_smallest_go_and_of_equal_ones_the_first(values: list[int], ratio: float) -> None:
    number = math.floor(ratio * len(values) + 1e-9)
    gone = sorted(range(len(values)), key=lambda place: abs(values[place]))[:number]  # a stable sort
    kept = Prune(ratio)._largest_of(torch.tensor(values, dtype=torch.float32))
    assert [place for place in range(len(values)) if not kept[place]] == sorted(gone)


@pytest.mark.parametrize("per_tensor", [True, False])
def test_nothing_that_was_pruned_is_larger_than_what_was_kept(per_tensor: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    update = {"a": torch.randn(40, generator=generator), "b": 0.5 * torch.randn(5, 8, generator=generator)}
    prune = Prune(0.8, per_tensor)
    sent = prune(update)
    told = prune.known(sent)
    least = {name: float(row[row != 0].abs().min()) for name, row in sent.items()}
    assert told.limit == (least if per_tensor else dict.fromkeys(update, min(least.values())))
    assert all(float(update[name][~told.kept[name]].abs().max()) < told.limit[name] for name in update)
    # What was held back before may have any size, and so may what was made smaller, rounded or hidden.
    assert not Prune(0.8, per_tensor, error_feedback=True).known(sent).limit
    for later in (ClipUpdate(1e-3), Quantize(4), GaussianNoise(0.1), Sign()):
        chain = compose([prune, later])
        assert not chain.known(chain(update)).limit
    assert not Prune(0.0).known(update).limit


def test_what_was_pruned_is_seen_through_noise_and_scale() -> None:
    prune = Prune(0.5)
    made = prune(vector(3.0, -1.0, 0.5, -2.0))
    for later in ([], [GaussianNoise(0.01)], [Sign()], [ClipUpdate(0.1)], [Quantize(8)]):
        chain = compose([prune, *later])
        assert chain.known(chain(vector(3.0, -1.0, 0.5, -2.0))).kept["w"].tolist() == [True, False, False, True]
    # Two are left, and one of them is zero: so was all that was dropped.
    assert prune.known(vector(0.0, 0.0, 0.0, 1.0)).kept["w"].tolist() == [True] * 4
    assert prune.known(made).noise == {}


def test_signs() -> None:
    assert sent(Sign(), 3.0, -1.0, 0.0, 2.0) == [1.5, -1.5, 0.0, 1.5]
    assert sent(Sign(scaled=False), 3.0, -1.0, 0.0, 2.0) == [1.0, -1.0, 0.0, 1.0]
    assert Sign().known(vector(1.5, -1.5)).signs


def test_levels_of_quantization() -> None:
    # 3 bits: seven levels, three on each side, here a third apart.
    assert sent(Quantize(3, stochastic=False), 1.0, -0.5001, 0.1, 0.34) == pytest.approx([1, -2 / 3, 0, 1 / 3])
    assert sent(Quantize(2, stochastic=False), -4.0, 1.9, 2.1, 0.0) == [-4.0, 0.0, 4.0, 0.0]
    for bits in (2, 3, 8, 16):
        update = {"w": torch.randn(1000, generator=torch.Generator().manual_seed(bits), dtype=torch.float64)}
        made = Quantize(bits)(update)["w"]
        places = made / update["w"].abs().max() * (2 ** (bits - 1) - 1)
        assert torch.allclose(places, places.round(), atol=1e-6)
        assert float((made - update["w"]).abs().max()) <= float(update["w"].abs().max()) / (2 ** (bits - 1) - 1)


def test_stochastic_rounding_is_unbiased_and_its_noise_is_known() -> None:
    generator = torch.Generator().manual_seed(3)
    update = {"w": torch.rand(400, generator=generator) * 2 - 1}
    rounds = torch.stack([Quantize(3)(update, generator=generator)["w"] for _ in range(400)])
    error = (rounds.mean(0) - update["w"]).abs()
    # A step is a third; no error of a mean of 400 may exceed five of its largest standard deviations.
    assert float(error.max()) < 5 * (1 / 3) / 2 / 20
    assert float(error.mean()) > 1e-4
    measured = float((rounds - update["w"]).square().mean().sqrt())
    assert Quantize(3).known({"w": rounds[0]}).noise["w"] == pytest.approx(measured, rel=0.1)
    nearest = Quantize(3, stochastic=False)
    measured = float((nearest(update)["w"] - update["w"]).square().mean().sqrt())
    assert nearest.known(nearest(update)).noise["w"] == pytest.approx(measured, rel=0.1)


def test_noise_below_the_first_level_is_less_than_that_of_uniform_fractions() -> None:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(5000, generator=generator) * 1e-3
    values[0] = 1.0
    made = Quantize(2)({"w": values}, generator=generator)
    measured = float((made["w"] - values).square().mean().sqrt())
    assert Quantize(2).known(made).noise["w"] == pytest.approx(measured, rel=0.3)
    assert measured < 0.1 * 1 / math.sqrt(6)


def test_noise_and_its_known_deviation() -> None:
    update = {"a": torch.full((5000,), 3.0), "b": torch.full((5000,), 1.0)}
    rms = math.sqrt(5)
    for transform, wanted in ((GaussianNoise(0.5), 0.5), (GaussianNoise(0.5, relative=True), 0.5 * rms)):
        made = transform(update)
        for name, row in made.items():
            assert float((row - update[name]).std()) == pytest.approx(wanted, rel=0.05)
            assert float((row - update[name]).mean()) == pytest.approx(0, abs=5 * wanted / math.sqrt(5000))
            assert transform.known(made).noise[name] == pytest.approx(wanted, rel=0.05)


def heavy_tailed(seed: int = 7, size: int = 4000) -> Tensor:
    """Root mean square 1."""
    first, second = torch.randn(2, size, generator=torch.Generator().manual_seed(seed))
    found = first * second.abs()
    return found / found.square().mean().sqrt()


@pytest.mark.parametrize("later", [[], [GaussianNoise(0.001)], [Prune(0.5)]], ids=["last", "noise", "prune"])
def test_noise_shrinks_with_an_update_that_is_clipped(later: list[UpdateTransform]) -> None:
    for share in (0.1, 0.3, 0.5):
        deviation = math.sqrt(share / (1 - share))
        noisy = GaussianNoise(deviation)({"w": heavy_tailed()})
        factor = 1 / float(noisy["w"].norm())
        chain = compose([ClipUpdate(1.0), *later])
        sent = chain(noisy)
        told = compose([GaussianNoise(deviation), *chain.members]) if later else None  # type: ignore[attr-defined]
        by_server = Distortion(noise={"w": deviation}, rescaled=True).then(chain.known(sent)).noise["w"]
        added = 0.001 if later and isinstance(later[0], GaussianNoise) else 0.0
        # A signal's own small entries make it look larger; before clipping it was 60 times as large.
        assert 0.8 < by_server / math.hypot(factor * deviation, added) < 2.5
        if told is not None:
            assert told.known(sent).noise["w"] == pytest.approx(by_server)


def test_noise_is_told_as_it_is_where_nothing_was_clipped() -> None:
    noisy = GaussianNoise(0.3)({"w": heavy_tailed()})
    clip = ClipUpdate(1.1 * float(noisy["w"].norm()))
    assert compose([GaussianNoise(0.3), clip]).known(clip(noisy)).noise == {"w": 0.3}
    assert clip.known(clip(noisy)).rescaled


def test_noise_is_given_up_where_all_may_be_noise() -> None:
    """A Gaussian signal looks like noise; taken for it, it would be given no weight."""
    signal = {"w": torch.randn(4000, generator=torch.Generator().manual_seed(1))}
    chain = compose([GaussianNoise(0.1), ClipUpdate(1.0)])
    told = chain.known(chain(signal))
    assert told.noise == {}
    assert told.rescaled
    for few in (signal["w"][:20], torch.tensor(2.0)):
        assert chain.known(chain({"w": few})).noise == {}


@pytest.mark.parametrize("draw", [heavy_tailed, lambda: torch.randn(4000)], ids=["heavy-tailed", "gaussian"])
@pytest.mark.parametrize(
    ("prune", "off"),
    # Of the second parameter nothing is left by the last.
    [(Prune(0.5), 0.15), (Prune(0.9), 0.25), (Prune(0.9, per_tensor=False), 0.4)],
    ids=["half", "most", "all"],
)
def test_relative_noise_is_not_read_off_pruned_zeros(draw, prune: Prune, off: float) -> None:  # type: ignore[no-untyped-def]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        update = {"a": draw(), "b": 0.01 * draw()}
    rms = math.sqrt(sum(float(row.square().mean()) for row in update.values()) / 2)
    chain = compose([GaussianNoise(0.1, relative=True), prune])
    assert chain.known(chain(update)).noise["a"] == pytest.approx(0.1 * rms, rel=off)


def test_zeros_of_rounding_are_not_taken_for_pruned() -> None:
    update = {"w": heavy_tailed()}
    chain = compose([Prune(0.5), Quantize(2)])
    told = chain.known(chain(update))
    assert bool(told.kept["w"].all())
    measured = float((chain(update)["w"] - update["w"]).square().mean().sqrt())
    assert told.noise["w"] == pytest.approx(measured, rel=0.5)
    # Of a sign, rounding leaves its zeros alone.
    signs = compose([Quantize(2), Sign()])
    sent = signs(update)
    assert torch.equal(signs.known(sent).kept["w"], sent["w"] != 0)
    assert signs.known(sent).noise == {}


class Split(nn.Module):
    """Features that pixels move at known rates: pixel i times rates[i]."""

    def __init__(self, rates: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("rates", rates)
        self.register_buffer("shift", shift)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.head(images.flatten(1) * self.rates + self.shift)
        return found


def defended(ratio: float, images: Tensor, rates: Tensor, shift: Tensor, **options: str) -> Mapping[str, Tensor]:
    model = Split(rates, shift)
    labels = torch.zeros(len(images), dtype=torch.int64)
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    update = dict(zip(["head.weight", "head.bias"], rows, strict=True))
    made = Soteria(ratio, **options)(update, client=ClientSide(model, images, labels))
    for name, row in update.items():
        kept = made[name] != 0
        assert torch.equal(made[name][kept], row[kept])
    assert torch.equal(made["head.bias"], update["head.bias"])
    return made


def test_soteria_drops_columns_by_its_criterion() -> None:
    rates = torch.tensor([1.0, 2.0, 4.0, -8.0])
    images = torch.tensor([1.0, 1.0, 1.0, 1.0]).view(1, 1, 2, 2)
    # r = 1, 2, 4 and 8 - 4 = -4: |r| / |rate| = 1, 1, 1 and 1/2 with a shift of 4 in the last, 3 in the second.
    shift = torch.tensor([0.0, 4.0, 0.0, 4.0])
    made = defended(0.5, images, rates, shift)
    dropped = (made["head.weight"] == 0).all(0)
    assert dropped.tolist() == [True, True, False, False]  # 1, 3, 1, 1/2; of equal ones the first
    assert Soteria(0.5).known(made).kept["head.weight"].tolist() == [[False, False, True, True]] * 3
    assert "head.bias" not in Soteria(0.5).known(made).kept


def test_soteria_takes_the_mean_over_examples() -> None:
    rates, shift = torch.ones(4), torch.zeros(4)
    images = torch.tensor([[2.0, -3.0, 1.0, 0.5], [2.0, 3.5, -1.1, 0.5]]).view(2, 1, 2, 2)
    made = defended(0.25, images, rates, shift, layer="head")
    # Signs must not cancel: the second entry measures 3 and 3.5, the first 2 and 2.
    assert (made["head.weight"] == 0).all(0).tolist() == [False, True, False, False]


def test_soteria_says_what_it_needs() -> None:
    client = ClientSide(Split(torch.ones(4), torch.zeros(4)), torch.ones(1, 1, 2, 2), torch.tensor([0]))
    with pytest.raises(InputError, match="looks at the client's model and images"):
        Soteria(0.5)({"head.weight": torch.ones(3, 4)})
    with pytest.raises(InputError, match=r"no matrix 'tail.weight'"):
        Soteria(0.5, layer="tail")({"head.weight": torch.ones(3, 4)}, client=client)
    with pytest.raises(InputError, match="expected a model with a linear layer"):
        Soteria(0.5)({"conv.weight": torch.ones(3, 4, 1, 1)}, client=client)
    with pytest.raises(InputError, match="is NoneType; expected the name of a linear layer"):
        Soteria(0.5)({"other.weight": torch.ones(3, 4)}, client=client)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClipUpdate(0.0), "max_norm must be positive and finite, not 0.0"),
        (lambda: ClipUpdate(math.inf), "max_norm must be positive"),
        (lambda: GaussianNoise(-1.0), "std must be finite and not negative, not -1.0"),
        (lambda: Prune(1.0), r"ratio must lie in \[0, 1\), not 1.0"),
        (lambda: Quantize(1), r"bits must lie in \[2, 16\], not 1"),
        (lambda: Sign(False, True), "error_feedback needs scaled"),
        (lambda: Soteria(math.nan), r"ratio must lie in \[0, 1\), not nan"),
    ],
)
def test_settings_out_of_range(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        make()
