"""A list of defenses as one rule: the same numbers as one after the other, and as in a scenario."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fedsec.defense import Aggregator, Cohort, Gram, PreAggregator
from fedsec.defenses import (
    NNM,
    Bucketing,
    ClipUpdate,
    DpFedAvg,
    GaussianNoise,
    Mean,
    Median,
    MultiKrum,
    Pipeline,
    Prune,
    RobustLoss,
    Soteria,
    TrimmedMean,
)
from fedsec.engine.parameters import ParameterLayout
from fedsec.errors import AggregationError, InputError
from fedsec.federation import Federation
from fedsec.runs.experiment import build_experiment
from fedsec.scenario import load_scenario


def normal(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


UPDATES = normal(9, 700)


def test_a_pipeline_is_its_parts_one_after_the_other() -> None:
    before = UPDATES.clone()
    clipped = torch.stack([ClipUpdate(1.0)({"w": row})["w"] for row in UPDATES])
    assert torch.equal(Pipeline([ClipUpdate(1.0), Median()])(UPDATES), Median()(clipped))
    pruned = torch.stack([ClipUpdate(1.0)(Prune(0.5)({"w": row}))["w"] for row in UPDATES])
    assert torch.equal(Pipeline([Prune(0.5), ClipUpdate(1.0), Mean()])(UPDATES), Mean()(pruned))
    assert Pipeline([ClipUpdate(1.0), Median()])(UPDATES.numpy()).tolist() == Median()(clipped).tolist()
    for rule in (Median(), TrimmedMean(0.2), MultiKrum(2), Mean(), Row(3)):
        mixed = NNM(2)(clipped)
        piped = Pipeline([ClipUpdate(1.0), NNM(2), rule])
        torch.testing.assert_close(piped(UPDATES), rule(mixed), rtol=1e-5, atol=1e-6)
        twice = Pipeline([NNM(2), NNM(1), rule])(UPDATES)
        torch.testing.assert_close(twice, rule(NNM(1)(NNM(2)(UPDATES))), rtol=1e-5, atol=1e-6)
    assert torch.equal(UPDATES, before)


def test_influences_are_the_clients_own() -> None:
    updates = UPDATES.clone()
    updates[4, 0] = torch.nan
    finite = [row for row in range(9) if row != 4]
    for rule in (Mean(), MultiKrum(3, num_selected=1)):
        pipeline = Pipeline([Bucketing(1), NNM(3), rule])
        aggregate = pipeline.aggregate(updates, generator=seeded(1))
        assert aggregate.rejected == (4,)
        assert float(aggregate.influence[4]) == 0
        assert float(aggregate.influence.sum()) == pytest.approx(1)
        parts = aggregate.influence.float()[finite] @ updates[finite]
        torch.testing.assert_close(aggregate.vector, parts, rtol=1e-5, atol=1e-6)
    with pytest.raises(AggregationError, match=r"Pipeline: rows .* at most 0"):
        Pipeline([NNM(0), MultiKrum(0)])(updates)


def test_weights_reach_the_rule_through_a_mixture() -> None:
    weights = [1.0, 2, 3, 4]
    updates = normal(4, 30)
    aggregate = Pipeline([Bucketing(1), Mean()]).aggregate(updates, weights, generator=seeded(2))
    torch.testing.assert_close(aggregate.vector, Mean()(updates, weights))
    torch.testing.assert_close(aggregate.influence, torch.tensor(weights).double() / 10)
    assert Pipeline([ClipUpdate(1.0), Mean()]).uses_weights
    assert not Pipeline([ClipUpdate(1.0), Median()]).uses_weights


def test_rows_that_are_not_finite_go_as_they_are_and_are_rejected() -> None:
    updates = UPDATES.clone()
    updates[0] = torch.inf
    aggregate = Pipeline([ClipUpdate(1.0), Median()]).aggregate(updates)
    assert aggregate.rejected == (0,)
    assert torch.equal(aggregate.vector, Median()(torch.stack([ClipUpdate(1.0)(row) for row in updates[1:]])))


def test_every_client_draws_its_own_numbers() -> None:
    noise = Pipeline([GaussianNoise(1.0), Mean()])
    zeros = torch.zeros(50, 2000)
    assert float(noise(zeros, generator=seeded(1)).std()) == pytest.approx(50**-0.5, rel=0.1)
    assert torch.equal(noise(zeros, generator=seeded(1)), noise(zeros, generator=seeded(1)))
    with pytest.raises(InputError, match="draws random numbers; expected a generator"):
        noise(zeros)
    with pytest.raises(InputError, match="expected a generator for each client"):
        noise.sent(zeros)
    with pytest.raises(InputError, match="3 generators do not go with 50 clients"):
        noise.sent(zeros, [seeded(1)] * 3)


def test_the_numbers_are_those_of_a_scenarios_list() -> None:
    """What clients of a federation send, and what its server makes of it, bit for bit."""
    module = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 2))
    layout = ParameterLayout.of(module)
    rows = normal(9, layout.size, seed=4)
    for transforms in ([ClipUpdate(1.0)], [Prune(0.5), GaussianNoise(0.1, relative=True), ClipUpdate(0.5)]):
        sent = []
        for client, row in enumerate(rows):
            generator, named = seeded(client), layout.views(row)
            for transform in transforms:  # as the federation's clients do it
                named = transform(named, generator=generator)
            sent.append(torch.cat([named[name].reshape(-1) for name in layout.shapes]))
        pipeline = Pipeline([*transforms, Median()], shapes=layout.shapes)
        assert torch.equal(pipeline.sent(rows, [seeded(client) for client in range(9)]), torch.stack(sent))
        if not pipeline.draws:
            assert torch.equal(pipeline(rows), Median()(torch.stack(sent)))
        assert pipeline.server is pipeline.rule
    with pytest.raises(InputError, match="shapes of 692 numbers do not go with rows of 5"):
        pipeline.sent(torch.zeros(2, 5), [seeded(0)] * 2)


def test_a_scenario_takes_the_same_list(tmp_path: Path) -> None:
    """A round of a federation from a file, and what its clients sent put through a pipeline by hand."""
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        "dataset: {name: digits, train_size: 200}\nmodel: {name: mlp, hidden: [8]}\npartition: {clients: 7}\n"
        "federation: {rounds: 1, local: {steps: 2, batch_size: 8, lr: 0.1}}\n"
        "defense: [{name: clip, max_norm: 0.05}, {name: nnm, num_byzantine: 1}, {name: bucketing, size: 2}, median]\n"
    )
    config = load_scenario(file).cells()[0].config
    federation = build_experiment(config, device=torch.device("cpu"), threads=1).federation
    assert isinstance(federation, Federation)
    start, received = federation.parameters.clone(), list[Tensor]()
    federation.observers.append(lambda number, clients, rows: received.append(rows.clone()))
    result = federation.play()
    assert received[0].norm(dim=1).max() <= 0.05 * (1 + 1e-6)
    server = Pipeline([NNM(1), Bucketing(2), Median()])
    generator = federation.streams.torch("noise", "server", "round", 1)
    aggregate = server.aggregate(received[0], generator=generator)
    assert torch.equal(federation.parameters - start, (start + aggregate.vector) - start)
    assert result.influence == tuple(aggregate.influence.tolist())


@pytest.mark.parametrize(
    ("defense", "message"),
    [
        ("[{name: nnm, num_byzantine: 1}, {name: clip, max_norm: 1.0}, median]", "expected it after what clients do"),
        ("[median, bucketing]", "the server's rule acts last"),
    ],
)
def test_a_scenario_says_where_mixing_belongs(tmp_path: Path, defense: str, message: str) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(f"dataset: digits\npartition: {{clients: 7}}\ndefense: {defense}\n")
    with pytest.raises(InputError, match=message):
        load_scenario(file)


class Row(Aggregator):
    """No rule of columns: it is given mixed rows."""

    def __init__(self, row: int) -> None:
        self.row = row

    def max_rejected(self, num_clients: int) -> int:
        return 0

    def combine(self, cohort: Cohort) -> Tensor:
        return cohort.updates[self.row].clone()

    def shares(self, cohort: Cohort) -> Tensor:
        return torch.eye(len(cohort.updates))[self.row]


class Momentum(PreAggregator):
    """Has a memory: how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def num_mixed(self, num_clients: int) -> int:
        return num_clients

    def mixing(self, gram: Gram, cohort: Cohort) -> Tensor:
        self.calls += 1
        return torch.eye(len(gram))

    def state(self) -> dict[str, Tensor]:
        return {"calls": torch.tensor([self.calls])}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.calls = int(state["calls"])


def test_state_is_carried_and_restored() -> None:
    first, second = Momentum(), Momentum()
    pipeline = Pipeline([first, NNM(1), second, Median()])
    pipeline(UPDATES)
    second(UPDATES)
    assert pipeline.state() == {"0.calls": torch.tensor([1]), "2.calls": torch.tensor([2])}
    for unknown in ("calls", "4.calls", "what no stage remembers"):
        with pytest.raises(InputError, match=f"Pipeline: no stage of 4 remembers .*{unknown}"):
            pipeline.restore({**pipeline.state(), unknown: torch.zeros(1)})
    pipeline.restore({"0.calls": torch.tensor([7]), "2.calls": torch.tensor([9])})
    assert (first.calls, second.calls) == (7, 9)


def test_orders_that_make_no_sense() -> None:
    for members in (
        [],
        [ClipUpdate(1.0)],
        [Median(), ClipUpdate(1.0)],
        [NNM(1), ClipUpdate(1.0), Median()],
        [Median(), Mean()],
    ):
        with pytest.raises(InputError, match="then pre-aggregators, then one rule at the end"):
            Pipeline(members)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="RobustLoss changes neither single updates nor rows"):
        Pipeline([RobustLoss(), Median()])  # type: ignore[list-item]
    with pytest.raises(InputError, match="DpFedAvg accounts for clients that move one row each, and NNM mixes"):
        Pipeline([NNM(1), DpFedAvg(1.0)])
    with pytest.raises(InputError, match="looks at the client's model"):
        Pipeline([Soteria(), Median()])(UPDATES)
    with pytest.raises(InputError, match="num_byzantine 2 needs at least 7 rows, not 5"):
        Pipeline([Bucketing(2), MultiKrum(2)])(UPDATES, generator=seeded(1))
    nested = Pipeline([ClipUpdate(1.0), Pipeline([NNM(2), Median()])])
    assert torch.equal(nested(UPDATES), Pipeline([ClipUpdate(1.0), NNM(2), Median()])(UPDATES))


def test_the_servers_part() -> None:
    pipeline = Pipeline([ClipUpdate(1.0), NNM(2), Median()])
    sent = pipeline.sent(UPDATES)
    assert torch.equal(pipeline.server(sent), pipeline(UPDATES))
    assert Pipeline([Mean()]).server is not None
    private = DpFedAvg(1.0)
    assert Pipeline([ClipUpdate(1.0), private]).server is private
