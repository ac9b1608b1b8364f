"""What a server does with data of its own: what a client would, from draws of its own, for rules that trust it."""

import numpy as np
import pytest
import torch
from torch import nn

from fedsec.data.datasets import Normalization, Split
from fedsec.defense import Aggregator, Cohort, Gram, GramRule
from fedsec.defenses import FLTrust, Mean
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.choice import EngineName
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedProx, FedSGD, Scaffold, Stragglers, UpdateAlgorithm
from fedsec.federation.server_data import ServerData, server_examples, without
from fedsec.seeds import Streams

CPU = torch.device("cpu")
LOCAL = LocalTraining(steps=3, batch_size=4, lr=0.5)


class ServerOnly(GramRule):
    """The server's update and nothing else: shows what it is."""

    normalized = False
    needs_server_update = True

    def max_rejected(self, num_clients: int) -> int:
        return 0

    def references(self, cohort: Cohort) -> torch.Tensor:
        assert cohort.server_update is not None
        return cohort.server_update[None]

    def weights(self, gram: Gram, cohort: Cohort) -> torch.Tensor:
        return torch.tensor([0.0] * len(gram) + [1.0])


def split(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 2, 2), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(0, 3, (count,), generator=generator))


def data_of(own: Split, clients: int) -> ResidentData:
    shares = np.array_split(np.arange(len(own.targets)), clients)
    return ResidentData.build(own, shares, Normalization((0.0,), (1.0,)), CPU)


def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


def federation(
    algorithm: UpdateAlgorithm,
    rule: Aggregator,
    *,
    server: bool = True,
    engine: EngineName = "auto",
    rounds: int = 3,
    seed: int = 0,
) -> Federation:
    module, streams = model(), Streams(seed)
    own = CohortTrainer(module, data_of(split(9, seed=7), 1), engine=engine)
    return Federation(
        module,
        CohortTrainer(module, data_of(split(30, seed=1), 3), engine=engine),
        split(20, seed=2),
        algorithm=algorithm,
        aggregator=rule,
        streams=streams,
        rounds=rounds,
        num_classes=3,
        server_data=ServerData(own, algorithm, streams) if server else None,
    )


@pytest.mark.parametrize("algorithm", [FedAvg(local=LOCAL), FedProx(local=LOCAL, mu=0.3), FedSGD()])
def test_the_server_does_what_a_client_with_its_data_would(algorithm: UpdateAlgorithm) -> None:
    fed = federation(algorithm, ServerOnly())
    alone = Federation(
        model(),
        CohortTrainer(model(), data_of(split(9, seed=7), 1)),
        split(20, seed=2),
        algorithm=algorithm,
        aggregator=Mean(),
        streams=Streams(0),
        rounds=3,
        num_classes=3,
    )
    if not isinstance(algorithm, FedSGD):  # batches are drawn, and the server's draws are its own
        assert fed.server_data is not None
        alone.streams = fed.server_data.streams
        alone.local_updates = alone.train
    for _ in range(2):
        fed.play()
        alone.play()
        torch.testing.assert_close(fed.parameters, alone.parameters)


def test_its_draws_are_no_client_s() -> None:
    """A client with the server's examples, and its number 0, draws other batches."""
    streams = Streams(3)
    own = ServerData(CohortTrainer(model(), data_of(split(9, seed=7), 1)), FedAvg(local=LOCAL), streams)
    names = [("client", 0, "round", 1), ("client", 0, "round", 1, "model"), ("sampling", 1)]
    assert all(own.streams.seed(*name) != streams.seed(*name) for name in names)
    assert own.streams.seed("client", 0, "round", 1) != own.streams.seed("client", 0, "round", 2)


def test_both_engines_trust_alike() -> None:
    parameters = []
    engines: tuple[EngineName, ...] = ("loop", "vectorized")
    for engine in engines:
        fed = federation(FedAvg(local=LOCAL), FLTrust(), engine=engine)
        list(fed.run())
        parameters.append(fed.parameters)
    torch.testing.assert_close(*parameters)


def test_a_restored_run_ends_with_the_same_bits() -> None:
    whole, half, resumed = (federation(FedAvg(local=LOCAL), FLTrust()) for _ in range(3))
    results = list(whole.run())
    half.play()
    resumed.restore(half.state(), 1)
    assert list(resumed.run()) == results[1:]
    assert torch.equal(resumed.parameters, whole.parameters)


def test_the_server_is_never_slow() -> None:
    slow = FedAvg(local=LOCAL, stragglers=Stragglers(0.9, "partial"))
    own = federation(slow, ServerOnly())
    other = federation(FedAvg(local=LOCAL), ServerOnly())
    own.play()
    other.play()
    assert torch.equal(own.parameters, other.parameters)


def test_a_rule_that_trusts_nothing_costs_the_server_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = federation(FedAvg(local=LOCAL), Mean())
    monkeypatch.setattr(ServerData, "update", lambda *arguments: pytest.fail("trained for nobody"))
    fed.play()


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(InputError, match=r"federation\.server_data: FLTrust trusts .* server_data: \{examples: 100\}"):
        federation(FedAvg(local=LOCAL), FLTrust(), server=False)
    with pytest.raises(InputError, match="the server cannot train like a client of Scaffold"):
        federation(Scaffold(local=LOCAL), Mean())


def test_examples_are_drawn_by_a_stream_and_biased_as_said() -> None:
    def drawn(count: int, bias: float | None = None, seed: int = 0) -> np.ndarray:
        return server_examples(count, 1000, np.random.default_rng(seed), bias=bias, classes=np.arange(1000) % 10)

    assert len({*drawn(50)}) == 50
    assert {*drawn(20)} <= {*drawn(50)}
    assert not np.array_equal(drawn(50), drawn(50, seed=1))
    counts = np.bincount(drawn(50, bias=0.6) % 10, minlength=10)
    assert counts.max() == 30
    assert counts.sum() == 50
    assert np.bincount(drawn(40, bias=0.0) % 10, minlength=10).min() == 0
    for count, bias, problem in ((1000, None, "fewer than all 1000"), (200, 1.0, r"200 examples of class \d are")):
        with pytest.raises(InputError, match=problem):
            drawn(count, bias)
    with pytest.raises(InputError, match="a bias needs classes"):
        server_examples(5, 100, np.random.default_rng(0), bias=0.1)


def test_what_the_server_took_no_client_has_and_none_is_left_without() -> None:
    clients = [np.array([4, 1, 7]), np.array([0, 2])]
    assert [share.tolist() for share in without(clients, np.array([1, 2]))] == [[4, 7], [0]]
    with pytest.raises(InputError, match="takes all 2 examples of client 1"):
        without(clients, np.array([0, 2]))
