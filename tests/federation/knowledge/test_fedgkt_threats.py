"""FedGKT among Byzantine clients, interrupted, evaluated and paid for; and what it refuses."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import FeaturePoison, LabelFlip, LogitPoison, SignFlip
from fedsec.data.augmentation import Augmentation
from fedsec.data.datasets import Normalization, Split
from fedsec.defense.knowledge import Admission, KnowledgeDefense
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.errors import InputError
from fedsec.federation import Distillation, FedGKT, KnowledgeFederation, RoundResult, ServerTraining, Threat
from fedsec.federation.threat import poison_data
from fedsec.metrics.evaluation import Evaluation
from fedsec.models import build
from fedsec.models.costs import module_costs
from fedsec.seeds import Streams
from fedsec.threat import Knowledge, KnowledgePoisoning

SHAPE, CLASSES, SIZES = (1, 8, 8), 3, (9, 5, 6, 4)
LOCAL = LocalTraining(epochs=1, batch_size=4, lr=0.1, momentum=0.9)
SERVER = ServerTraining(epochs=2, batch_size=8, lr=0.01)
GKT = FedGKT(LOCAL, SERVER)
STREAMS = Streams(3)


def small_client() -> nn.Module:
    return build("resnet4", SHAPE, CLASSES)


def small_server(channels: int = 16, classes: int = CLASSES, **options: Any) -> nn.Module:
    return build("resnet7", (channels, 8, 8), classes, **options)


def federation(algorithm: FedGKT = GKT, **more: Any) -> KnowledgeFederation:
    rng, count = np.random.default_rng(0), sum(SIZES)
    images = torch.from_numpy(rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, CLASSES, count))
    ends = np.cumsum(SIZES)
    clients = more.pop("clients", None)
    if clients is None:
        clients = [np.arange(end - size, end) for end, size in zip(ends, SIZES, strict=True)]
    data = ResidentData.build(Split(images, labels), clients, Normalization((0.5,), (0.25,)), torch.device("cpu"))
    threat = more.get("threat", Threat())
    poison_data(data, threat, CLASSES, STREAMS)
    torch.manual_seed(0)
    client = more.pop("client", None) or small_client()
    server = more.pop("server", None) or small_server()
    arguments: dict[str, Any] = {"streams": STREAMS, "rounds": 5, "num_classes": CLASSES, "evaluate_every": 99, **more}
    trainer = CohortTrainer(client, data, engine="loop")
    test = Split(images[:11], labels[:11])
    return KnowledgeFederation(client, server, trainer, test, algorithm=algorithm, **arguments)


def received(found: KnowledgeFederation) -> dict[tuple[int, int], Knowledge]:
    messages: dict[tuple[int, int], Knowledge] = {}
    found.observers.append(lambda number, client, message: messages.update({(number, client): message}))
    return messages


def server_weights(found: KnowledgeFederation) -> Tensor:
    return torch.cat([p.detach().flatten() for p in found.server.module.parameters()])


def test_flipped_labels_reach_the_client_and_the_server() -> None:
    clean, flipped = federation(), federation(threat=Threat(frozenset({1}), LabelFlip()))
    messages, lies = received(clean), received(flipped)
    result = flipped.play()
    clean.play()
    assert result.byzantine == (1,)
    for client in range(4):
        assert torch.equal(messages[1, client].labels, lies[1, client].labels) == (client != 1)
        assert torch.equal(clean.clients.parameters[client], flipped.clients.parameters[client]) == (client != 1)
    assert min(flipped.clients.examples[1]) == sum(SIZES)  # examples of its own
    assert bool(flipped.clients.known[flipped.clients.examples[1]].all())
    assert not bool(flipped.clients.known[9:14].any())  # nobody's any more


@pytest.mark.parametrize("attack", [FeaturePoison("noise"), FeaturePoison("shuffle"), LogitPoison("negate")])
def test_poisoned_knowledge_comes_from_byzantine_clients_alone(attack: KnowledgePoisoning) -> None:
    clean, poisoned = federation(), federation(threat=Threat(frozenset({0, 2}), attack))
    messages, lies = received(clean), received(poisoned)
    clean.play(), poisoned.play()
    for client in range(4):
        mine, theirs = messages[1, client], lies[1, client]
        same = torch.equal(mine.features, theirs.features) and torch.equal(mine.logits, theirs.logits)
        assert same == (client not in (0, 2))
    assert torch.equal(clean.clients.parameters, poisoned.clients.parameters)
    assert not torch.equal(server_weights(clean), server_weights(poisoned))
    deaf = [
        federation(replace(GKT, distillation=Distillation(to_server=0.0)), threat=Threat(frozenset(b), attack))
        for b in ([], [0, 2])
    ]
    for each in deaf:
        each.play()
    assert torch.equal(*map(server_weights, deaf)) == isinstance(attack, LogitPoison)


def test_accuracy_is_that_of_the_honest_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    own = [Evaluation({"accuracy": accuracy, "loss": 1.0}) for accuracy in (0.1, 0.2, 0.4, 0.8)]
    for byzantine, expected in (({1}, 1.3 / 3), ({0, 2}, 0.5), ({0, 1, 2, 3}, 0.375)):
        fed = federation(threat=Threat(frozenset(byzantine), LabelFlip()), evaluate_every=1)
        monkeypatch.setattr(fed, "evaluate_each", lambda clients: [own[client] for client in clients])
        played = fed.play()
        assert played.client_values == (0.1, 0.2, 0.4, 0.8)
        assert played.evaluated
        assert played.metrics["accuracy"] == pytest.approx(expected)


class Broken(KnowledgePoisoning):
    """Sends features that are no numbers."""

    def corrupt(self, knowledge: Knowledge, *, num_classes: int, generator: torch.Generator) -> Knowledge:
        return replace(knowledge, features=knowledge.features * torch.nan)


class OnlyLast(KnowledgeDefense):
    """Leaves out everything but the last client that it is shown, whose first example counts half."""

    def screen(self, clients: Sequence[Knowledge]) -> list[Admission]:
        found = [Admission(torch.zeros(len(each)), torch.zeros(len(each))) for each in clients[:-1]]
        weights = torch.ones(len(clients[-1]))
        weights[0] = 0.5
        return [*found, Admission(weights, torch.zeros_like(weights))]


def test_what_is_no_number_is_rejected_and_shifts_nothing() -> None:
    found = federation(threat=Threat(frozenset({0, 3}), Broken()))
    result = found.play()
    assert result.rejected == result.byzantine == (0, 3)
    assert result.influence == pytest.approx((0, 5 / 11, 6 / 11, 0))
    assert all(bool(tensor.isfinite().all()) for tensor in found.state().values() if tensor.ndim > 1)
    assert found.clients.known[:9].any().item() is False
    assert found.play().cost.download_bytes == 11 / 4 * 12  # type: ignore[union-attr]
    assert bool(found.clients.parameters.isfinite().all())


def test_a_round_in_which_nothing_is_admitted_leaves_the_server_as_it_was() -> None:
    found = federation(threat=Threat(frozenset(range(4)), Broken()))
    before = found.server.state()
    result = found.play()
    assert result.influence == (0, 0, 0, 0)
    assert result.rejected == (0, 1, 2, 3)
    after = found.server.state()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_defense_s_weights_are_those_of_the_loss() -> None:
    algorithm = FedGKT(LOCAL, ServerTraining(epochs=1, batch_size=99, optimizer="sgd", lr=0.1, weight_decay=0.0))
    torch.manual_seed(7)
    server = small_server()
    twin = small_server()
    twin.load_state_dict(server.state_dict())
    found = federation(algorithm, defense=OnlyLast(), server=server)
    messages = received(found)
    result = found.play()
    assert result.influence == (0, 0, 0, 1)
    assert result.rejected == ()  # screened, but not by the gate
    sent = messages[1, 3]
    weights = torch.tensor([0.5, 1, 1, 1])
    (F.cross_entropy(twin.train()(sent.features), sent.labels, reduction="none") * weights).mean().backward()
    with torch.no_grad():
        expected = torch.cat([(p - 0.1 * p.grad).flatten() for p in twin.parameters()])  # type: ignore[operator]
    torch.testing.assert_close(server_weights(found), expected, rtol=1e-4, atol=1e-5)


class TeachersOnly(KnowledgeDefense):
    """Believes no label, but all logits."""

    def screen(self, clients: Sequence[Knowledge]) -> list[Admission]:
        return [Admission(torch.zeros(len(each)), torch.ones(len(each))) for each in clients]


def test_examples_whose_labels_are_not_believed_may_still_teach() -> None:
    for algorithm, moves in ((GKT, True), (replace(GKT, distillation=Distillation(to_server=0.0)), False)):
        found = federation(algorithm, defense=TeachersOnly())
        before = server_weights(found)
        assert found.play().influence == (0, 0, 0, 0)
        assert torch.equal(server_weights(found), before) != moves


class Dice(KnowledgePoisoning):
    """Sends logits drawn at random."""

    def corrupt(self, knowledge: Knowledge, *, num_classes: int, generator: torch.Generator) -> Knowledge:
        return replace(knowledge, logits=torch.randn(knowledge.logits.shape, generator=generator))


def test_attackers_draw_anew_for_each_client_and_round() -> None:
    found = federation(threat=Threat(frozenset({0, 1}), Dice()))
    messages = received(found)
    found.play(), found.play()
    first = [messages[number, client].logits[:5] for number in (1, 2) for client in (0, 1)]
    assert not any(torch.equal(a, b) for i, a in enumerate(first) for b in first[:i])


class Certain(KnowledgePoisoning):
    """Sends logits as large as numbers go; the gate lets them pass, for they are finite."""

    def corrupt(self, knowledge: Knowledge, *, num_classes: int, generator: torch.Generator) -> Knowledge:
        logits = torch.full_like(knowledge.logits, -3e38)
        logits[:, 0] = 3e38
        return replace(knowledge, logits=logits)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_finite_logits_however_large_do_not_abort_a_run(temperature: float) -> None:
    found = federation(replace(GKT, distillation=Distillation(temperature)), threat=Threat(frozenset({1}), Certain()))
    for _ in range(2):
        assert found.play().rejected == ()
    assert all(bool(tensor.isfinite().all()) for name, tensor in found.state().items() if tensor.ndim)


AUGMENTED = replace(LOCAL, augmentation=Augmentation(crop=2))


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        (GKT, {}),
        (replace(GKT, local=AUGMENTED, server=replace(SERVER, epochs=(2, 1), patience=1)), {"clients_per_round": 2}),
        (replace(GKT, asynchronous=True), {"clients_per_round": 2}),
        (
            replace(GKT, local=AUGMENTED, server=replace(SERVER, optimizer="sgd", momentum=0.9), asynchronous=True),
            {"clients_per_round": 1, "threat": Threat(frozenset({0, 2}), FeaturePoison("noise"))},
        ),
    ],
    ids=["synchronous", "partial", "asynchronous", "everything"],
)
def test_an_interrupted_run_ends_with_the_same_bits(algorithm: FedGKT, more: dict[str, Any]) -> None:
    whole = federation(algorithm, **more)
    results: list[RoundResult] = []
    for result in whole.run():
        results.append(result)
        if result.round == 3:
            kept = whole.state()
    expected = whole.state()
    assert not any("feature" in name for name in expected)
    for resumed in (federation(algorithm, **more), whole):  # the latter has messages from rounds to come
        resumed.restore(kept, 3)
        assert list(resumed.run()) == results[3:]
        found = resumed.state()
        assert expected.keys() == found.keys()
        assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_a_state_of_another_federation_is_refused() -> None:
    found = federation()
    state = found.state()
    with pytest.raises(InputError, match="kept state"):
        found.restore({**state, "more": torch.zeros(1)}, 1)
    with pytest.raises(InputError, match="expected"):
        found.restore({**state, "clients.parameters": state["clients.parameters"][:2]}, 1)


def test_evaluation_is_each_client_s_extractor_and_then_the_server() -> None:
    found = federation(evaluate_every=1, clients_per_round=2)
    result = found.play()
    weights, rows = found.weights(), {}
    for client in result.clients:
        twin, server = small_client().eval(), small_server().eval()
        own = {name.removeprefix("clients."): t[client] for name, t in weights.items() if name.startswith("clients.")}
        twin.load_state_dict(own, strict=False)
        server.load_state_dict({n.removeprefix("server."): t for n, t in weights.items() if n.startswith("server.")})
        images = (found.evaluator.images.float() / 255 - 0.5) / 0.25
        with torch.no_grad():
            logits = server(twin.get_submodule("stem")(images))
        right = (logits.argmax(1) == found.evaluator.targets).double().mean().item()
        rows[client] = right, F.cross_entropy(logits, found.evaluator.targets).item()
    assert result.client_values == pytest.approx([rows[client][0] for client in result.clients])
    assert result.evaluated
    assert result.metrics["accuracy"] == pytest.approx(np.mean([row[0] for row in rows.values()]))
    assert result.metrics["loss"] == pytest.approx(np.mean([row[1] for row in rows.values()]), rel=1e-4)
    assert len({round(row[1], 4) for row in rows.values()}) == 2


def test_the_cost_at_the_edge_by_hand() -> None:
    found = federation(replace(GKT, local=replace(LOCAL, epochs=3)))
    first, second = found.play().cost, found.play().cost
    assert first is not None
    assert second is not None
    assert first.upload_bytes == second.upload_bytes == 6 * (4 * 16 * 8 * 8 + 4 * 3 + 4)  # 24 examples, 4 clients
    assert (first.download_bytes, second.download_bytes) == (0, 6 * 4 * 3)
    costs = module_costs(small_client(), SHAPE)
    assert first.flops == 18 * costs.training_flops + 6 * costs.forward_flops


class AlwaysDropping(nn.Module):
    """Dropout that evaluation does not switch off."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, training=True)


def test_a_servers_network_that_draws_does_so_from_its_own_stream() -> None:
    def run() -> KnowledgeFederation:
        return federation(server=nn.Sequential(small_server(), nn.Linear(CLASSES, CLASSES), nn.Dropout(0.5)), rounds=2)

    torch.manual_seed(1)
    whole = run()
    whole.play()
    halfway = whole.state()
    whole.play()
    resumed = run()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    resumed.restore(halfway, 1)
    resumed.play()
    assert torch.equal(torch.get_rng_state(), before)
    states = whole.state(), resumed.state()
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []
    draws = [STREAMS.key("server", "round", number, "model") for number in (1, 2)]
    assert draws[0] != draws[1]


def test_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(16, 8, 8\) of an image of \(1, 8, 8\), which the server's network cannot"):
        federation(server=small_server(channels=8))
    with pytest.raises(InputError, match=r"\(16, 8, 8\).*gives \(5,\), expected 3 logits"):
        federation(server=small_server(classes=5))
    with pytest.raises(InputError, match="client network gives"):
        federation(client=build("resnet4", SHAPE, 4))
    with pytest.raises(InputError, match="no feature extractor"):
        federation(client=build("mlp", SHAPE, CLASSES))
    with pytest.raises(InputError, match="server's network draws random numbers in evaluation mode"):
        federation(server=nn.Sequential(small_server(), AlwaysDropping()))


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(InputError, match="SignFlip poisons updates, and FedGKT sends none"):
        federation(threat=Threat(frozenset({0}), SignFlip()))
    with pytest.raises(InputError, match="example 1 belongs to both client 0 and client 1"):
        federation(clients=[np.array([0, 1]), np.array([1, 2])])


def test_a_server_that_diverges_ends_the_run_with_figures() -> None:
    wild = ServerTraining(epochs=3, optimizer="sgd", lr=1e30, batch_size=8)
    run = federation(FedGKT(LOCAL, wild), rounds=3)
    (result,) = run.run()
    assert (result.round, result.diverged) == (1, True)
    first_class = (run.evaluator.targets == 0).double().mean().item()
    assert result.metrics["accuracy"] == first_class
    assert result.client_values == (first_class,) * len(result.clients)
    with pytest.raises(InputError, match="no longer finite after 1 round;"):
        run.play()


def test_a_single_example_that_cannot_be_normalized_is_bad_input_in_words() -> None:
    server = nn.Sequential(nn.Flatten(), nn.Linear(1024, CLASSES), nn.BatchNorm1d(CLASSES))
    found = federation(replace(GKT, server=replace(SERVER, batch_size=1)), server=server)
    with pytest.raises(InputError, match="batch of 1 has no more"):
        found.play()
    assert not server.training
    # One more than a multiple of the batch size: the rest is spread over the batches.
    federation(
        replace(GKT, server=replace(SERVER, batch_size=4)),
        server=nn.Sequential(nn.Flatten(), nn.Linear(1024, CLASSES), nn.BatchNorm1d(CLASSES)),
    ).play()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": ()}, "epochs"),
        ({"epochs": (2, 0)}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"patience": 0}, "patience"),
        ({"optimizer": "lamb"}, "lamb"),
        ({"momentum": 0.9}, "its own"),
        ({"lr": 0.0}, "lr > 0"),
        ({"order": "random"}, "random"),
    ],
)
def test_bad_settings_of_the_server_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ServerTraining(**settings)


def test_bad_settings_of_the_distillation_are_refused() -> None:
    for bad in ({"temperature": 0.0}, {"to_clients": -1.0}, {"to_server": float("nan")}):
        with pytest.raises(InputError, match="distillation"):
            Distillation(**bad)
