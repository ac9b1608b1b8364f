"""Attacks on somebody else's state dicts: the rows of the attack itself, and nobody else's changed."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import ALIE, IPM, Auto, FreeRider, LabelFlip, MinMax, NaN, Neurotoxin, SignFlip, forge_state_dicts
from fedsec.defenses import Median, StateLayout
from fedsec.errors import InputError
from fedsec.threat import AttackerView

torch.manual_seed(0)
REFERENCE = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()


def trained(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: values + torch.rand(values.shape).to(values.dtype) for name, values in REFERENCE.items()}


CLIENTS = [trained(seed) for seed in range(1, 8)]


def test_the_rows_are_the_attacks() -> None:
    layout, before = StateLayout.of(REFERENCE), deepcopy(CLIENTS)
    updates = layout.updates(CLIENTS)
    for attack in (MinMax(), ALIE(z=1.0), IPM(), SignFlip(scale=3)):
        received, report = forge_state_dicts(CLIENTS, attack, reference=REFERENCE, byzantine=[1, 4], round=3)
        honest = [0, 2, 3, 5, 6]
        start, generator = layout.start(), torch.Generator().manual_seed(3)
        view = AttackerView(updates[[1, 4]], updates[honest], start, 7, 2, 3, generator, clients=tuple(honest))
        torch.testing.assert_close(layout.updates(received)[[1, 4]], attack.craft(view))
        assert report == view.report
        assert all(received[place] is CLIENTS[place] for place in honest)
        assert list(received[1]) == list(REFERENCE)
        assert torch.equal(received[1]["1.running_mean"], CLIENTS[1]["1.running_mean"])
    assert all(torch.equal(a[name], b[name]) for a, b in zip(before, CLIENTS, strict=True) for name in a)


def test_numbers_arrays_ties_and_low_precision() -> None:
    weight = torch.full((2, 2), 3e4).half()
    reference = {"a": weight, "b": weight, "n": torch.tensor(1)}
    sent = {
        5: {"a": 2 * weight, "b": 2 * weight, "n": torch.tensor(2)},
        9: {"a": weight.numpy(), "b": weight.numpy(), "n": np.array(3)},
    }
    received, _ = forge_state_dicts(sent, SignFlip(scale=5), reference=reference, byzantine=1)
    assert list(received) == [5, 9]
    assert received[9] is sent[9]
    assert received[5]["a"] is received[5]["b"]
    assert received[5]["a"].dtype == torch.float16
    assert bool(received[5]["a"].isinf().all())
    arrays, _ = forge_state_dicts(sent, SignFlip(), reference=reference, byzantine=[9])
    assert isinstance(arrays[9]["a"], np.ndarray)


class Asked(SignFlip):
    """Says whom it was shown."""

    knowledge = "omniscient"

    def forge(self, view: AttackerView) -> Tensor:
        view.report["honest"] = " ".join(map(str, view.clients))
        return super().forge(view)


def test_attacks_get_what_they_know() -> None:
    unknown: dict[str, Any] = {"reference": REFERENCE, "byzantine": 2}
    with pytest.raises(InputError, match="Auto tries the server's defense; expected defense"):
        forge_state_dicts(CLIENTS, Auto(), **unknown)
    received, report = forge_state_dicts(CLIENTS, Auto(), defense="median", **unknown)
    assert not torch.equal(received[0]["0.weight"], CLIENTS[0]["0.weight"])
    assert report
    last = Median()(StateLayout.of(REFERENCE).updates(CLIENTS))
    lazy, _ = forge_state_dicts(CLIENTS, FreeRider(std=0.0), last_aggregate=last, round=2, **unknown)
    torch.testing.assert_close(StateLayout.of(REFERENCE).updates(lazy)[0], last)
    numbered = forge_state_dicts(dict(zip(range(20, 27), CLIENTS, strict=True)), Asked(), **unknown)
    assert numbered.report["honest"] == "22 23 24 25 26"
    broken, _ = forge_state_dicts(CLIENTS, NaN(), reference=REFERENCE, byzantine=np.int64(2))  # type: ignore[arg-type]
    assert bool(broken[0]["0.weight"].isnan().any())


@pytest.mark.parametrize(
    ("states", "attack", "byzantine", "message"),
    [
        (CLIENTS, LabelFlip(), 1, r"expected an attack on updates, not LabelFlip; call its poison\(...\)"),
        (CLIENTS, "sign_flip", 1, r"expected an attack on updates, such as SignFlip\(\), not str"),
        (CLIENTS, SignFlip, 1, r"SignFlip is a class; expected an object of it, SignFlip\(\.\.\.\)"),
        (CLIENTS, Neurotoxin(), 1, "Neurotoxin trains on the attackers' machines"),
        (CLIENTS, SignFlip(), 8, "8 of 7 clients cannot be Byzantine"),
        (CLIENTS, SignFlip(), [7], "no client 7 among"),
        (CLIENTS, SignFlip(), 0.5, r"byzantine must be clients, or how many, not 0\.5"),
        ([], SignFlip(), 0, "at least one state dict, got none"),
        (REFERENCE, SignFlip(), 1, "state dicts of all clients, not a single one"),
        ({3: CLIENTS[0], 6: {"0.bias": torch.ones(2)}}, SignFlip(), 1, "client 6: lacks '0.weight'"),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)
def test_what_cannot_be_forged_is_told(states: Any, attack: Any, byzantine: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        forge_state_dicts(states, attack, reference=REFERENCE, byzantine=byzantine)
