"""The hybrid sparse attack, by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedsec.attacks import Sparse
from fedsec.errors import InputError
from fedsec.threat import AttackerView
from fedsec.threat.byzantine.spread import published_z

View = Callable[..., AttackerView]


def test_by_hand(attacker_view: View, random_rows: Callable[..., Tensor]) -> None:
    honest = random_rows(7, 10, 1, torch.float64)
    parameters = random_rows(1, 10, 2, torch.float64)[0]
    sensitivity = (parameters * honest.mean(0)).abs()
    chosen = set(sorted(range(10), key=lambda column: -float(sensitivity[column]))[:3])
    view = attacker_view(honest, 3, parameters=parameters)
    rows = Sparse(density=0.3, scale=4.0).craft(view)
    z = published_z(10, 3)
    assert view.report == {"z": z}
    for column in range(10):
        size = 4.0 if column in chosen else z
        expected = float(honest[:, column].mean() - size * honest[:, column].std())
        assert rows[:, column].tolist() == pytest.approx([expected] * 3)


def test_the_mask_stays(attacker_view: View) -> None:
    honest = torch.tensor([[1.0, 5.0, 0.0], [3.0, 7.0, 2.0]])
    attack = Sparse(density=0.01, scale=10.0, z=0.0)
    moved = []
    for parameters in ([1.0, 0.1, 0.0], [0.0, 0.0, 1.0]):
        rows = attack.craft(attacker_view(honest, 1, parameters=torch.tensor(parameters)))
        moved.append((rows[0] != honest.mean(0)).tolist())
    assert moved == [[True, False, False]] * 2
    fresh = Sparse(density=0.01, scale=10.0, z=0.0)
    rows = fresh.craft(attacker_view(honest, 1, parameters=torch.tensor([0.0, 0.0, 1.0])))
    assert (rows[0] != honest.mean(0)).tolist() == [False, False, True]


@pytest.mark.parametrize("options", [{"density": 0.0}, {"density": 1.1}, {"scale": -1.0}, {"z": "auto"}])
def test_malformed(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="Sparse: "):
        Sparse(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Sparse: remembers its mask"):
        Sparse().restore({"masks": torch.zeros(3)})
