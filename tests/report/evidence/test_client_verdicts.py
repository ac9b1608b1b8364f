"""Who was counted, counted less or left out, from lines of `rounds.jsonl`."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from fedsec.report.evidence import client_verdicts
from fedsec.report.evidence.client_verdicts import UpdateVerdict, verdict_matrix


def line(number: int, byzantine: list[int], **more: Any) -> dict[str, Any]:
    return {"round": number, "clients": [0, 1, 2, 3], "byzantine_in_round": byzantine, **more}


def test_each_update_gets_its_verdict() -> None:
    lines = [
        line(1, [2], suspected=[0, 2], influence=[0.0, 0.45, 0.0, 0.55]),
        line(2, [2], suspected=[], rejected=[3], influence=[0.5, 0.4, 0.1, 0.0]),
        {"round": 3, "clients": [1, 2], "byzantine_in_round": [], "influence": [0.75, 0.25]},
    ]
    matrix = verdict_matrix(lines)
    assert matrix is not None
    out, less, counted, absent = (
        UpdateVerdict.LEFT_OUT,
        UpdateVerdict.COUNTED_LESS,
        UpdateVerdict.COUNTED,
        UpdateVerdict.ABSENT,
    )
    assert (matrix.clients, matrix.rounds, matrix.attackers) == ((2, 0, 1, 3), (1, 2, 3), 1)
    assert matrix.verdicts.tolist() == [
        [out, less, counted],  # 0.25 of two is half an equal share, and not less
        [out, counted, absent],
        [counted, counted, counted],
        [counted, out, absent],
    ]
    assert matrix.byzantine.tolist() == [[True, True, False], [False] * 3, [False] * 3, [False] * 3]
    assert (matrix.count(out, byzantine=True), matrix.count(out, byzantine=False)) == (1, 2)
    assert matrix.suspects


def test_nothing_is_told_where_nobody_attacks_or_nobody_is_named() -> None:
    assert verdict_matrix([line(1, [])]) is None
    assert verdict_matrix([{"round": 1, "byzantine_in_round": [1]}]) is None
    assert verdict_matrix([]) is None
    matrix = verdict_matrix([line(1, [3])])  # of a rule that says nothing
    assert matrix is not None
    assert not matrix.suspects
    assert set(matrix.verdicts.ravel().tolist()) == {UpdateVerdict.COUNTED}


def test_of_many_clients_the_most_excluded_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_verdicts, "MOST_CLIENTS", 20)
    monkeypatch.setattr(client_verdicts, "MOST_ROUNDS", 7)
    rng = np.random.default_rng(0)
    clients, attackers = list(range(50)), [45, 46, 47]
    out = {number: rng.choice(50, 9, replace=False).tolist() for number in range(1, 21)}
    lines = [
        {"round": number, "clients": clients, "byzantine_in_round": attackers, "suspected": suspects}
        for number, suspects in out.items()
    ]
    matrix = verdict_matrix(lines)
    assert matrix is not None
    assert len(matrix.clients) == 20
    assert (matrix.num_clients, matrix.num_rounds) == (50, 20)
    assert matrix.clients[:3] == (45, 46, 47)
    often = {client: sum(client in suspects for suspects in out.values()) for client in range(45)}
    shown = [client for client in matrix.clients if client in often]
    assert shown == sorted(shown)
    hidden = often.keys() - set(shown)
    assert min(often[client] for client in shown) >= max(often[client] for client in hidden)
    assert matrix.rounds == tuple(range(1, 21, 3))
    for (row, client), (column, number) in product(enumerate(matrix.clients), enumerate(matrix.rounds)):
        assert (matrix.verdicts[row, column] == UpdateVerdict.LEFT_OUT) == (client in out[number])
