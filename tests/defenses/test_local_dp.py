"""LocalDp: what it sends, and what it is worth in truth beside what it is called."""

import math

import pytest
import torch

from fedsec.auditing import delta_of_mu
from fedsec.defenses import LocalDp
from fedsec.errors import InputError

UPDATE = {"a": torch.full((100, 30), 3.0), "b": torch.full((1000,), -4.0)}


def test_it_shortens_and_adds_noise_of_the_textbook_calibration() -> None:
    defense = LocalDp(clipping_norm=2.0, epsilon=0.5, delta=1e-5, sensitivity=0.1)
    assert defense.std == pytest.approx(0.1 * math.sqrt(2 * math.log(1.25e5)) / 0.5)
    sent = defense(UPDATE, generator=torch.Generator().manual_seed(1))
    length = math.sqrt(3000 * 9 + 1000 * 16)
    noise = torch.cat([(sent[name] - UPDATE[name] * 2.0 / length).flatten() for name in UPDATE])
    assert float(noise.std()) == pytest.approx(defense.std, rel=0.05)
    assert abs(float(noise.mean())) < 4 * defense.std / 4000**0.5
    known = defense.known(sent)
    assert known.rescaled
    assert known.noise == pytest.approx({"a": defense.std, "b": defense.std})


def test_epsilon_holds_below_one_and_not_for_a_smaller_sensitivity() -> None:
    for epsilon in (0.1, 0.5, 1.0):
        assert LocalDp(1.0, epsilon, 1e-5).epsilon_spent() < epsilon
        # The distance of two updates of norm C is up to 2 C.
        assert LocalDp(1.0, epsilon, 1e-5, sensitivity=1.0).epsilon_spent() > epsilon
    # Above one the textbook's calibration is not proven, and from some size on it is wrong.
    assert LocalDp(1.0, 10.0, 1e-5).epsilon_spent() == pytest.approx(10.394, abs=1e-3)


def test_rounds_add_up() -> None:
    defense = LocalDp(1.0, 1.0, 1e-5)
    assert [defense.epsilon_spent(rounds) for rounds in (1, 10, 100)] == pytest.approx([0.751, 2.688, 10.394], abs=1e-3)
    spent = defense.epsilon_spent(100, delta=1e-3)
    assert delta_of_mu(10 * 2 / defense.std, spent) == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clipping_norm": 0.0}, "clipping_norm must be positive"),
        ({"epsilon": 0.0}, "epsilon must be positive"),
        ({"delta": 0.0}, "delta"),
        ({"sensitivity": math.inf}, "sensitivity must be positive"),
    ],
)
def test_what_flower_accepts_and_divides_by_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LocalDp(**{"clipping_norm": 1.0, "epsilon": 1.0, "delta": 1e-5, **options})
