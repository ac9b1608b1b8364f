"""Rounds whose rows pass by or lie on disk, against the same rounds with one matrix."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import ALIE, FreeRider, LabelFlip, SignFlip
from fedsec.data.datasets import Normalization, Split
from fedsec.defense import Cohort
from fedsec.defenses import ClipUpdate, DpFedAvg, FoolsGold, Krum, Mean, Median, TrimmedMean
from fedsec.engine import CohortTrainer, LocalResult, LocalTraining, ResidentData
from fedsec.engine.batches import BatchPlan
from fedsec.engine.messages import Start
from fedsec.errors import InputError
from fedsec.federation import FedAvg, FedDyn, Federation, FedProx, FedSGD, RoundResult, Scaffold, Threat, large_rounds
from fedsec.federation.algorithms.stragglers import Stragglers
from fedsec.federation.large_rounds import LocalRows
from fedsec.federation.secure_aggregation import SecureAggregation
from fedsec.seeds import Streams

CLIENTS = 23
LOCAL = LocalTraining(epochs=1, batch_size=3, lr=0.3)
TINY = 1e-6
"""GiB: a thousand bytes, less than any matrix here."""


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds are large from two clients on, and go by in parts of some seven."""
    monkeypatch.setattr(large_rounds, "MANY_CLIENTS", 2)
    monkeypatch.setattr(large_rounds, "PART_BYTES", 7 * 4 * 75)


def build(memory_gib: float | None = None, broken: bool = False, **settings: Any) -> Federation:
    generator = torch.Generator().manual_seed(0)
    sizes = [2 + client % 5 for client in range(CLIENTS)]
    bounds = np.cumsum([0, *sizes])
    images = torch.randint(0, 256, (bounds[-1], 1, 2, 2), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 3, (int(bounds[-1]),), generator=generator))
    parts = [np.arange(start, start + size) for start, size in zip(bounds, sizes, strict=False)]
    data = ResidentData.build(split, parts, Normalization((0.5,), (0.5,)), torch.device("cpu"))
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3))
    engine, threads = settings.pop("engine", "loop"), settings.pop("threads", 1)
    trainer = CohortTrainer(module, data, engine=engine, threads=threads, memory_gib=settings.pop("chunk_gib", None))
    settings = {"algorithm": FedAvg(local=LOCAL), "aggregator": Mean(), "rounds": 3, **settings}
    attack = settings.pop("attack", None)
    if attack is not None:
        settings["threat"] = Threat.draw(attack, 5, CLIENTS, Streams(3))
    run = Federation(module, trainer, split, streams=Streams(3), num_classes=3, memory_gib=memory_gib, **settings)
    if broken:  # one client's training goes wrong
        train = run.local_updates

        def lost(start: Start, clients: Sequence[int], number: int) -> LocalResult:
            result = train(start, clients, number)
            if 6 in clients:
                result.updates[list(clients).index(6), 3] = torch.nan
            return result

        run.local_updates = lost
    return run


def played(run: Federation) -> tuple[Tensor, list[RoundResult]]:
    results = [replace(result, aggregation_seconds=None) for result in run.run()]
    return run.parameters, results


def watch_cuts(trainer: CohortTrainer) -> set[int]:
    """How many clients train at once, noted as they do."""
    cuts, ask = set[int](), trainer.chunk_size

    def chunk_size(plans: Sequence[BatchPlan]) -> int:
        cuts.add(ask(plans))
        return ask(plans)

    trainer.chunk_size = chunk_size  # type: ignore[method-assign]
    return cuts


def compared(run: Federation, other: Federation, where: str) -> tuple[Tensor, Tensor]:
    """The models that both end with; all else that rounds tell is the same, but for rounding."""
    exchange = other.exchange
    assert isinstance(exchange, LocalRows)
    assert exchange.place().where == where
    parts: list[int] = []
    train = other.local_updates

    def watched(start: Start, clients: Sequence[int], number: int) -> LocalResult:
        parts.append(len(clients))
        return train(start, clients, number)

    other.local_updates = watched
    cuts, other_cuts = (watch_cuts(one.trainer) for one in (run, other))
    (model, results), (other_model, other_results) = played(run), played(other)
    assert cuts == other_cuts
    assert max(parts) < CLIENTS / 2
    for one, another in zip(results, other_results, strict=True):
        assert one.influence == pytest.approx(another.influence, rel=1e-4, abs=1e-9)
        assert one.metrics == pytest.approx(another.metrics, rel=1e-4)
        same = {"influence": (), "metrics": {}}
        assert replace(one, **same) == replace(another, **same)
    return model, other_model


ROUNDS: dict[str, dict[str, Any]] = {
    "one after another": {},
    "together": {"engine": "vectorized", "chunk_gib": 6e-6},
    "two threads": {"engine": "vectorized", "chunk_gib": 6e-6, "threads": 2},
    "proximal": {"algorithm": FedProx(local=LOCAL, mu=0.3)},
    "one gradient": {"algorithm": FedSGD(server_lr=0.5)},
    "some clients": {"clients_per_round": 17},
    "dropped": {"algorithm": FedAvg(local=LOCAL, stragglers=Stragglers(0.2, "drop"))},
    "clipped": {"transforms": [ClipUpdate(0.05)]},
    "label flippers": {"attack": LabelFlip()},
}


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("settings", ROUNDS.values(), ids=ROUNDS)
def test_the_mean_of_rows_that_pass_by_is_the_same_to_the_bit(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = build(**settings), build(**settings)
    monkeypatch.setattr(run.exchange, "place", large_rounds.RowPlace)
    assert torch.equal(*compared(run, other, "passing"))


@pytest.mark.usefixtures("many")
def test_parts_are_whole_chunks_and_as_many_for_each_thread() -> None:
    exchange = build(threads=2).exchange
    assert isinstance(exchange, LocalRows)
    assert [exchange.part(CLIENTS, at_once) for at_once in (1, 3, 20)] == [6, 6, CLIENTS]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    "settings",
    [
        {"attack": SignFlip(scale=3.0)},
        {"attack": FreeRider()},
        {"broken": True},
        {"aggregator": DpFedAvg(0.3, clip_norm=0.2), "algorithm": FedAvg(local=LOCAL, weighting="uniform")},
    ],
    ids=["sign flippers", "free riders", "a broken client", "private"],
)
def test_forged_rejected_and_bounded_rows_pass_by_within_rounding(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = build(**settings), build(**settings)
    monkeypatch.setattr(run.exchange, "place", large_rounds.RowPlace)
    torch.testing.assert_close(*compared(run, other, "passing"), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "settings",
    [
        {"aggregator": Median()},
        {"aggregator": TrimmedMean(num_trimmed_per_side=5), "attack": ALIE()},
        {"aggregator": Median(), "attack": SignFlip(), "broken": True},
        {
            "aggregator": Median(),
            "engine": "vectorized",
            "chunk_gib": 6e-6,
            "threads": 2,
            "transforms": [ClipUpdate(1)],
        },
    ],
    ids=["median", "a little is enough", "a broken client", "together"],
)
def test_coordinate_rules_from_disk_give_the_same_bits(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_rounds, "PART_BYTES", 7 * 4 * 75)
    other = build(memory_gib=TINY, folder=tmp_path, **settings)
    assert torch.equal(*compared(build(**settings), other, "disk"))
    assert list(tmp_path.iterdir()) == []


def test_gram_rules_work_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_rounds, "PART_BYTES", 7 * 4 * 75)
    settings = {"aggregator": Krum(num_byzantine=5), "attack": LabelFlip()}
    run, other = build(**settings), build(memory_gib=TINY, **settings)
    torch.testing.assert_close(*compared(run, other, "disk"), rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"algorithm": Scaffold(local=LOCAL)}, "Scaffold looks at them once more"),
        ({"algorithm": FedDyn(local=LOCAL)}, "FedDyn looks at them once more"),
        ({"algorithm": FedAvg(local=replace(LOCAL, worker_momentum=0.5))}, "worker_momentum remembers one of every"),
        ({"algorithm": FedProx(local=LOCAL, stragglers=Stragglers(0.5, "partial"))}, "stragglers are drawn among all"),
        ({"attack": ALIE()}, "ALIE sees the rows of honest clients"),
        ({"secure_aggregation": SecureAggregation(2)}, "secure aggregation sums groups of them"),
    ],
)
def test_what_needs_all_rows_keeps_the_matrix_and_says_so(settings: dict[str, Any], why: str) -> None:
    run = build(**settings)
    assert isinstance(run.exchange, LocalRows)
    place = run.exchange.place()
    assert place.where == "memory"
    assert place.why.startswith("the rows of 23 clients take")
    assert why in place.why
    run.play()


class LoudestClient(Mean):
    """A rule of somebody's who began with ours, and has not heard of rows that pass by."""

    def combine(self, cohort: Cohort) -> Tensor:
        return cohort.updates[cohort.updates.norm(dim=1).argmax()].clone()


def test_a_rule_made_of_the_mean_sees_all_rows_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = build(aggregator=LoudestClient()), build(aggregator=LoudestClient())
    expected = played(run)[0]
    monkeypatch.setattr(large_rounds, "MANY_CLIENTS", 2)
    assert torch.equal(played(other)[0], expected)
    with pytest.raises(InputError, match="LoudestClient looks at whole rows"):
        build(aggregator=LoudestClient(), memory_gib=TINY)


@pytest.mark.usefixtures("many")
def test_an_observer_of_whole_rounds_keeps_the_matrix_and_one_of_rows_does_not() -> None:
    run, whole, passed = build(attack=SignFlip()), list[Tensor](), dict[int, Tensor]()
    other = build(attack=SignFlip())
    run.observers.append(lambda number, clients, rows: whole.append(rows.clone()))
    other.row_observers.append(lambda number, clients, rows: passed.update(zip(clients, rows.clone(), strict=True)))
    assert isinstance(run.exchange, LocalRows)
    assert isinstance(other.exchange, LocalRows)
    assert (run.exchange.place().where, other.exchange.place().where) == ("memory", "passing")
    run.play()
    other.play()
    assert torch.equal(whole[0], torch.stack([passed[client] for client in range(CLIENTS)]))


def test_few_clients_have_one_matrix_without_a_word() -> None:
    run = build()
    assert isinstance(run.exchange, LocalRows)
    assert run.exchange.place() == large_rounds.RowPlace()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"aggregator": FoolsGold()}, "FoolsGold looks at whole rows, or remembers them"),
        ({"aggregator": Median(), "algorithm": Scaffold(local=LOCAL)}, "Scaffold looks at them once more"),
        ({"attack": ALIE()}, "ALIE sees the rows of honest clients"),
        ({"secure_aggregation": SecureAggregation(2)}, "secure aggregation sums groups of them"),
    ],
)
def test_what_does_not_fit_and_needs_all_rows_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=rf"twice that is more than memory_gib \(1e-06 GiB\), and {why}; expected"):
        build(memory_gib=TINY, **settings)


def test_a_limit_is_a_positive_number() -> None:
    with pytest.raises(InputError, match="memory_gib must be positive"):
        build(memory_gib=0.0)


@pytest.mark.usefixtures("many")
def test_a_round_of_which_nothing_is_finite_diverges() -> None:
    run = build()
    train = run.local_updates

    def lost(start: Start, clients: Sequence[int], number: int) -> LocalResult:
        result = train(start, clients, number)
        return replace(result, updates=result.updates * torch.nan)

    run.local_updates = lost
    result = run.play()
    assert result.diverged
    assert result.rejected == tuple(range(CLIENTS))


def test_an_interrupt_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_rounds, "PART_BYTES", 7 * 4 * 75)
    run = build(memory_gib=TINY, folder=tmp_path, aggregator=Median())
    train, calls = run.local_updates, list[int]()

    def interrupted(start: Start, clients: Sequence[int], number: int) -> LocalResult:
        calls.append(number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(start, clients, number)

    run.local_updates = interrupted
    with pytest.raises(KeyboardInterrupt):
        run.play()
    assert list(tmp_path.iterdir()) == []
    assert run.trainer.at_once is None
    run.local_updates = train
    assert torch.equal(played(run)[0], played(build(aggregator=Median()))[0])
