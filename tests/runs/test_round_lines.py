"""Lines of `rounds.jsonl`: what is kept of a round."""

from fedsec.federation.rounds import RoundResult
from fedsec.runs.cell import _line


def line_of(clients: int) -> list[float]:
    result = RoundResult(
        round=1,
        clients=tuple(range(clients)),
        byzantine=(),
        rejected=(),
        influence=(1 / clients,) * clients,
        metrics={},
    )
    influence: list[float] = _line(result, 1.0, "accuracy")["influence"]
    return influence


def test_influences_of_many_clients_still_sum_to_one() -> None:
    assert line_of(7)[0] == 0.142857
    assert line_of(300)[0] == 0.003333
    for clients in (3_000, 70_000):
        assert abs(sum(line_of(clients)) - 1) < 1e-3
