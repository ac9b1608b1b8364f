"""Free riders, by hand."""

from collections.abc import Callable

import pytest
import torch

from fedsec.attacks import FreeRider
from fedsec.errors import InputError
from fedsec.threat import AttackerView

View = Callable[..., AttackerView]


def test_the_last_aggregate_is_sent_again(attacker_view: View) -> None:
    last = torch.tensor([1.0, -2.0, 3.0])
    view = attacker_view(torch.zeros(2, 3), 2, last_aggregate=last, round=2)
    assert torch.equal(FreeRider(std=0.0).craft(view), last.expand(2, 3))
    assert torch.equal(FreeRider("disguise", std=0.0).craft(view), torch.zeros(2, 3))
    assert torch.equal(FreeRider(std=0.0).craft(attacker_view(torch.zeros(2, 3), 2)), torch.zeros(2, 3))


def test_noise_decays_and_differs_between_attackers(attacker_view: View) -> None:
    rounds = [attacker_view(torch.zeros(1, 3000), 2, round=number) for number in (1, 4)]
    first, fourth = (FreeRider("disguise", std=2.0, decay=0.5).craft(view) for view in rounds)
    assert float(first.std()) == pytest.approx(2, rel=0.05)
    torch.testing.assert_close(fourth, first / 2)
    assert not torch.equal(first[0], first[1])
    later = attacker_view(torch.zeros(1, 3000), 2, round=9)
    assert torch.equal(FreeRider("disguise", std=2.0, decay=0.0).craft(later), first)


@pytest.mark.parametrize("options", [{"mode": "sleep"}, {"std": -1.0}, {"decay": -1.0}, {"decay": float("inf")}])
def test_malformed(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="FreeRider: "):
        FreeRider(**options)  # type: ignore[arg-type]
