"""What every attack on updates may do in a federation, and how its memory is kept."""

from collections.abc import Sequence

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from fedsec.attacks import ALIE, ATTACKS, IPM, Backdoor, EdgeCase, Fang, Mimic, ModelReplacement, NaN
from fedsec.defense.shards import LocalShards
from fedsec.defense.trial import CallableTrial
from fedsec.errors import InputError
from fedsec.federation.forgery import Forgery
from fedsec.seeds import Streams
from fedsec.threat import AttackerMachine, DataPoisoning, DefenseTrial, UpdatePoisoning

CLIENTS = (3, 4, 7, 8, 11, 12, 15, 16, 20)
ON_UPDATES = [
    name
    for name, attack in ATTACKS.items()
    if issubclass(attack, UpdatePoisoning) and not issubclass(attack, DataPoisoning) and not attack.trains
]


def trial(name: str, places: Sequence[int], generator: torch.Generator) -> DefenseTrial:
    return CallableTrial(lambda rows: rows.median(0).values)


def nobody(clients: Sequence[int], round_number: int) -> list[AttackerMachine]:
    """Machines of attacks that do not train."""
    raise AssertionError("an attack that trains has tests of its own")


def play(forgery: Forgery, round_number: int, sends: Sequence[str] = ("update",)) -> dict[str, Tensor]:
    """A round with two attackers among nine clients; what the server received."""
    generator = torch.Generator().manual_seed(round_number)
    sent = {name: torch.randn(9, 6, generator=generator) for name in sends}
    before = {name: rows.clone() for name, rows in sent.items()}
    received = forgery(sent, CLIENTS, [2, 5], torch.ones(6), round_number, trial, [1 / 9] * 9)
    forgery.remember({name: rows.mean(0) for name, rows in received.items()})
    assert all(torch.equal(rows, before[name]) for name, rows in sent.items())
    honest = [place for place in range(9) if place not in (2, 5)]
    assert all(torch.equal(rows[honest], before[name][honest]) for name, rows in received.items())
    return received


@pytest.mark.parametrize("name", ON_UPDATES)
def test_only_the_attackers_rows_change_and_a_kept_memory_goes_on(name: str) -> None:
    whole = Forgery(ATTACKS[name](), ("update",), Streams(0), nobody)  # type: ignore[operator]
    expected = [play(whole, number)["update"] for number in (1, 2, 3)]
    half = Forgery(ATTACKS[name](), ("update",), Streams(0), nobody)  # type: ignore[operator]
    play(half, 1)
    play(half, 2)
    kept = save(half.state())
    resumed = Forgery(ATTACKS[name](), ("update",), Streams(0), nobody)  # type: ignore[operator]
    resumed.restore(load(kept), torch.device("cpu"))
    assert torch.equal(play(resumed, 3)["update"].nan_to_num(7), expected[2].nan_to_num(7))


def test_each_vector_has_a_memory_of_its_own() -> None:
    both = Forgery(Mimic(), ("update", "variate"), Streams(0), nobody)
    for number in (1, 2):
        play(both, number, ("update", "variate"))
    state = both.state()
    assert int(state["update.rounds"]) == int(state["variate.rounds"]) == 2
    assert not torch.equal(state["update.mean"], state["variate.mean"])
    assert "client" in both.report


def test_an_attack_that_can_do_nothing_in_a_round_is_honest_in_it_and_says_so() -> None:
    forgery = Forgery(Fang("krum"), ("update",), Streams(0), nobody)
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    received = forgery({"update": rows}, range(5), [0, 1], torch.zeros(3), 1, trial, [1 / 5] * 5)
    assert torch.equal(received["update"], rows)
    assert forgery.report == {
        "remark": "Fang: target krum needs at least 7 clients for 2 Byzantine ones, not 5; Krum withstands no more"
    }
    play(forgery, 2)
    assert "lambda" in forgery.report


BY_COLUMNS = [
    *(name for name in ON_UPDATES if getattr(ATTACKS[name](), "by_columns", False)),  # type: ignore[operator]
    "model_replacement",
]


def test_who_forges_any_columns() -> None:
    coordinates = {"alie", "bit_flip", "infinity", "ipm", "nan", "sign_flip", "zero"}
    assert {*BY_COLUMNS} == coordinates | {"model_replacement"}
    assert not ALIE("auto").by_columns
    assert not IPM(scatter=0.1).by_columns
    assert not NaN(num_values=1).by_columns
    assert not ModelReplacement(max_norm=1.0).by_columns
    assert EdgeCase(1, 2, boost=2.0).by_columns
    assert Backdoor(boost=2.0).by_columns


@pytest.mark.parametrize("name", BY_COLUMNS)
@pytest.mark.parametrize("lost", [[], [3], [3, 5]])
def test_pieces_are_forged_as_whole_rows_are(name: str, lost: list[int]) -> None:
    rows = torch.randn(9, 6, generator=torch.Generator().manual_seed(4))
    rows[lost, 5] = torch.nan
    whole, cut = (Forgery(ATTACKS[name](), ("update",), Streams(0), nobody) for _ in range(2))  # type: ignore[operator]
    expected = whole({"update": rows}, CLIENTS, [2, 5], torch.ones(6), 2, trial, [0.1, 0.2, 0.3] * 3)["update"]
    pieces = LocalShards([rows[:, :2], rows[:, 2:]])
    forged = cut.on_shards(pieces, CLIENTS, [2, 5], torch.ones(6), 2, [0.1, 0.2, 0.3] * 3)
    assert isinstance(forged, LocalShards)
    received = torch.cat(forged.pieces, dim=1)
    finite = expected.isfinite().all(1)
    assert torch.equal(received.isfinite().all(1), finite)
    assert torch.equal(received[finite], expected[finite])
    assert cut.report == whole.report
    assert torch.equal(torch.cat(pieces.pieces, dim=1).nan_to_num(7), rows.nan_to_num(7))


def test_who_looks_at_whole_updates_is_refused_pieces_of_them() -> None:
    rows = torch.randn(9, 6)
    forgery = Forgery(Mimic(), ("update",), Streams(0), nobody)
    with pytest.raises(InputError, match="Mimic looks at whole updates; expected one matrix, not shards"):
        forgery.on_shards(LocalShards([rows]), CLIENTS, [2, 5], torch.ones(6), 2, [1 / 9] * 9)
    shards = LocalShards([rows])
    assert forgery.on_shards(shards, CLIENTS, [], torch.ones(6), 2, [1 / 9] * 9) is shards
