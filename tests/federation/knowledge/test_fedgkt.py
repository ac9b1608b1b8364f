"""FedGKT's rounds against Algorithm 1 written out in plain loops, and each of its switches alone."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsec.data.augmentation import Augmentation
from fedsec.data.datasets import Normalization, Split
from fedsec.defense.knowledge import KnowledgeDefense
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.federation import Distillation, FedGKT, KnowledgeFederation, ServerTraining, Threat
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.models import build
from fedsec.seeds import Streams
from fedsec.threat import Knowledge

SHAPE, CLASSES, SIZES = (2, 8, 8), 3, (9, 5, 6)
LOCAL = LocalTraining(epochs=2, batch_size=4, lr=0.1, momentum=0.9)
SERVER = ServerTraining(epochs=2, batch_size=8, lr=0.01, weight_decay=0.01)
STREAMS = Streams(5)


class Client(nn.Module):
    """A stem with batch normalization, and a head."""

    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3) if norm else nn.Identity(), nn.ReLU()
        )
        self.head = nn.Linear(3, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.stem(images))

    def classify(self, features: Tensor) -> Tensor:
        out: Tensor = self.head(features.square().mean((2, 3)))
        return out


def server_network(channels: int = 3, classes: int = CLASSES) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, classes),
    )


def world(sizes: Sequence[int] = SIZES) -> ResidentData:
    """Every client's examples in an order of its own."""
    rng, count = np.random.default_rng(0), sum(sizes)
    images = torch.from_numpy(rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, CLASSES, count))
    ends = np.cumsum(sizes)
    clients = [rng.permutation(np.arange(end - size, end)) for end, size in zip(ends, sizes, strict=True)]
    return ResidentData.build(Split(images, labels), clients, Normalization((0.4,), (0.3,)), torch.device("cpu"))


def federation(algorithm: FedGKT, data: ResidentData | None = None, **more: Any) -> KnowledgeFederation:
    data = world() if data is None else data
    torch.manual_seed(0)
    client = more.pop("client", None) or Client(norm=more.pop("norm", True))
    server = more.pop("server", None) or server_network()
    test = Split(data.images[:7], data.label_of[:7])
    arguments: dict[str, Any] = {"streams": STREAMS, "rounds": 4, "num_classes": CLASSES, "evaluate_every": 99, **more}
    trainer = CohortTrainer(client, data, engine=arguments.pop("engine", "loop"))
    return KnowledgeFederation(client, server, trainer, test, algorithm=algorithm, **arguments)


def pixels(data: ResidentData, examples: Sequence[int]) -> Tensor:
    return (data.images[list(examples)].float() / 255 - 0.4) / 0.3


def algorithm_1(data: ResidentData, gkt: FedGKT, rounds: int) -> tuple[list[nn.Module], nn.Module, dict[int, Tensor]]:
    """The paper's pseudocode with a dictionary of logits, one example at a time where it costs nothing."""
    torch.manual_seed(0)
    first, server = Client(), server_network()
    nets = [copy.deepcopy(first) for _ in data.clients]
    known: dict[int, Tensor] = {}
    optimizer = torch.optim.Adam(server.parameters(), gkt.server.lr, weight_decay=gkt.server.weight_decay)
    temperature = gkt.distillation.temperature

    def kl(student: Tensor, teacher: Tensor) -> Tensor:
        target = F.softmax(teacher / temperature, 0)
        return temperature**2 * F.kl_div(F.log_softmax(student / temperature, 0), target, reduction="sum")

    for number in range(1, rounds + 1):
        sent: list[list[tuple[Tensor, Tensor, int]]] = []
        for place, net in enumerate(nets):
            net.train()
            mine = torch.optim.SGD(net.parameters(), gkt.local.lr, gkt.local.momentum)
            plan = plan_client(data, place, gkt.local, number, STREAMS)
            for row, size in zip(plan.examples.tolist(), plan.sizes.tolist(), strict=True):
                logits = net(pixels(data, row[:size]))
                loss = F.cross_entropy(logits, data.label_of[row[:size]])
                for out, example in zip(logits, row[:size], strict=True):
                    if example in known:
                        loss = loss + gkt.distillation.to_clients * kl(out, known[example]) / size
                mine.zero_grad()
                loss.backward()
                mine.step()
            net.eval()
            with torch.no_grad():
                features = [net.get_submodule("stem")(pixels(data, [e]))[0] for e in sorted(data.clients[place])]
                sent.append(
                    [
                        (h, net.classify(h[None])[0], int(e))  # type: ignore[operator]
                        for h, e in zip(features, sorted(data.clients[place]), strict=True)
                    ]
                )
        server.train()
        rng = STREAMS.numpy("server", "round", number)
        for _ in range(gkt.server.epochs_of(number)):
            if gkt.server.order == "mixed":  # one batch of everything: its order does not matter
                batches = [[each for message in sent for each in message]]
                rng.permutation(1), rng.permutation(len(batches[0]))
            else:  # a batch a client
                batches = []
                for place in rng.permutation(len(sent)):
                    rng.permutation(len(sent[place]))
                    batches.append(sent[place])
            for batch in batches:
                logits = server(torch.stack([h for h, _, _ in batch]))
                loss = F.cross_entropy(logits, data.label_of[[e for _, _, e in batch]])
                terms = [kl(out, theirs) for out, (_, theirs, _) in zip(logits, batch, strict=True)]
                loss = loss + gkt.distillation.to_server * torch.stack(terms).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        server.eval()
        with torch.no_grad():
            known |= {e: server(h[None])[0] for message in sent for h, _, e in message}
    return nets, server, known


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
@pytest.mark.parametrize("order", ["mixed", "clients"])
def test_two_rounds_are_algorithm_1(order: Any, engine: str) -> None:
    server = replace(SERVER, order=order, batch_size=99, epochs=(3, 2))
    gkt = FedGKT(LOCAL, server, Distillation(2.0, to_clients=0.7, to_server=0.5))
    data = world()
    found = federation(gkt, data, engine=engine)
    nets, expected, known = algorithm_1(world(), gkt, 2)
    found.play(), found.play()
    close = {"rtol": 2e-3, "atol": 2e-4}  # Adam's first steps divide gradients near zero by themselves
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.server.module.state_dict()[name], tensor, **close)  # type: ignore[arg-type]
    for place, net in enumerate(nets):
        torch.testing.assert_close(found.clients.parameters[place], found.trainer.layout.flatten(net), **close)
        torch.testing.assert_close(found.clients.statistics[place], found.trainer.statistics.flatten(net), **close)
    assert bool(found.clients.known.all())
    rows = torch.stack([known[example] for example in range(sum(SIZES))])
    torch.testing.assert_close(found.clients.logits, rows, **close)


def logits_by_hand(found: KnowledgeFederation, client: int) -> Tensor:
    """The server's logits of a client's examples as they are, by ascending number."""
    found.clients.load(client)
    with torch.no_grad():
        images = pixels(found.data, sorted(found.data.clients[client].tolist()))
        out: Tensor = found.server.module.eval()(found.clients.extractor(images))
    return out


@settings(max_examples=5, deadline=None)
@given(st.permutations(range(SIZES[0])), st.sampled_from([None, Augmentation(crop=2, cutout=3)]))
def test_logits_stay_with_their_examples_whatever_the_order(
    order: list[int], augmentation: Augmentation | None
) -> None:
    # Full batches without normalization: the order of a client's data must not matter. Augmented, the first training
    # sees views by place in the batch, so it is made too small to matter.
    local = LocalTraining(steps=2, batch_fraction=1.0, lr=1e-12 if augmentation else 0.1, augmentation=augmentation)
    gkt = FedGKT(local, replace(SERVER, batch_size=99, order="mixed", optimizer="sgd"))
    stores = []
    for turned in (False, True):
        data = world()
        if turned:
            data.clients[0] = data.clients[0][order]
        found = federation(gkt, data, norm=False)
        found.play(), found.play()
        stores.append(found.clients.logits)
    torch.testing.assert_close(stores[0], stores[1], rtol=1e-3, atol=1e-4)
    if augmentation is None:
        ids = np.sort(data.clients[0])
        torch.testing.assert_close(found.clients.logits[ids], logits_by_hand(found, 0), rtol=1e-3, atol=1e-5)
        assert (found.clients.logits[ids] - found.clients.logits[ids[::-1].copy()]).abs().max() > 1e-3


def watched(found: KnowledgeFederation) -> tuple[list[Any], dict[tuple[int, int], Knowledge]]:
    """The plans and teachers of each training, and the messages by (round, client), as they come."""
    trained: list[Any] = []
    messages: dict[tuple[int, int], Knowledge] = {}
    train = found.trainer.train

    def spied(start: Any, plans: Any, local: Any, teacher: Any = None) -> Any:
        trained.append((plans, teacher))
        return train(start, plans, local, teacher)

    found.trainer.train = spied  # type: ignore[method-assign]
    found.observers.append(lambda number, client, message: messages.update({(number, client): message}))
    return trained, messages


def test_a_client_distills_on_the_views_that_the_logits_are_of() -> None:
    local = replace(LOCAL, augmentation=Augmentation(crop=3, cutout=3))
    found = federation(FedGKT(local, SERVER), clients_per_round=2, rounds=5)
    trained, messages = watched(found)
    last: dict[int, tuple[int, Tensor, Tensor]] = {}
    checked = 0
    for number in range(1, 6):
        result = found.play()
        for client, plan in zip(result.clients, trained[-1][0], strict=True):
            assert plan.views is not None
            if client not in last:  # fresh views for every use
                both = np.concatenate([plan.examples[..., None], plan.views], -1).reshape(-1, 6)
                assert len(np.unique(both, axis=0)) > len(found.data.clients[client])
                continue
            earlier, parameters, statistics = last[client]
            found.trainer.layout.load(found.clients.module, parameters)
            found.trainer.statistics.load(found.clients.module, statistics)
            examples, views = torch.from_numpy(plan.examples), torch.from_numpy(plan.views)
            images, _ = found.data.batch(examples.flatten(), views.flatten(0, 1), local.augmentation)
            with torch.no_grad():
                features = found.clients.extractor(images)
            places = np.searchsorted(np.sort(found.data.clients[client]), plan.examples.flatten())
            torch.testing.assert_close(features, messages[earlier, client].features[places])
            checked += 1
        for client in result.clients:
            last[client] = number, found.clients.parameters[client].clone(), found.clients.statistics[client].clone()
    assert checked > 3


def test_partial_participation_leaves_the_others_alone() -> None:
    found = federation(FedGKT(LOCAL, SERVER), clients_per_round=1, rounds=6)
    seen: dict[int, int] = {}
    for number in range(1, 7):
        before = found.state()
        [client] = found.play().clients
        after = found.state()
        seen[client] = number
        moved = (after["clients.parameters"] != before["clients.parameters"]).any(1).tolist()
        assert [place for place, it in enumerate(moved) if it] == [client]
        changed = torch.nonzero((after["clients.logits"] != before["clients.logits"]).any(1)).flatten().tolist()
        assert set(changed) == set(found.data.clients[client].tolist())
        assert after["clients.heard"].tolist() == [seen.get(place, 0) for place in range(3)]
    assert len(seen) > 1


def batches_of(
    found: KnowledgeFederation, messages: dict[tuple[int, int], Knowledge] | None = None
) -> list[list[tuple[int, int]]]:
    """(client, place in its message) of each example of the server's training batches, of one round, in their order."""
    seen: list[Tensor] = []
    handle = found.server.module.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].clone()) if module.training else None
    )
    messages = watched(found)[1] if messages is None else messages
    found.play()
    handle.remove()
    rows = {
        row.numpy().tobytes(): (client, place)
        for (_, client), m in messages.items()
        for place, row in enumerate(m.features)
    }
    return [[rows[row.numpy().tobytes()] for row in batch] for batch in seen]


def test_the_server_s_order_is_clients_or_mixed_and_batches_are_even() -> None:
    everything = {(client, place) for client, size in enumerate(SIZES) for place in range(size)}
    by_client = batches_of(federation(FedGKT(LOCAL, replace(SERVER, batch_size=4, epochs=6))))
    assert all(len({client for client, _ in batch}) == 1 for batch in by_client)
    epochs = [by_client[i : i + 7] for i in range(0, 42, 7)]
    assert sorted(len(batch) for batch in epochs[0]) == [2, 3, 3, 3, 3, 3, 3]  # 9, 5 and 6 in at most 4 each
    assert all({e for batch in epoch for e in batch} == everything for epoch in epochs)
    assert len({tuple(dict.fromkeys(c for batch in epoch for c, _ in batch)) for epoch in epochs}) > 1
    assert len({tuple(e for batch in epoch for e in batch if e[0] == 0) for epoch in epochs}) == 6
    mixed = batches_of(federation(FedGKT(LOCAL, replace(SERVER, batch_size=7, epochs=2, order="mixed"))))
    assert [len(batch) for batch in mixed] == [7, 7, 6, 7, 7, 6]
    assert {e for batch in mixed[:3] for e in batch} == everything
    assert any(len({client for client, _ in batch}) > 1 for batch in mixed)


def test_epochs_follow_their_schedule() -> None:
    found = federation(FedGKT(LOCAL, replace(SERVER, epochs=[3, 1], batch_size=99, order="mixed")))
    assert [len(batches_of(found)) for _ in range(3)] == [3, 1, 1]


def test_a_direction_that_is_off_teaches_nothing() -> None:
    found = federation(FedGKT(LOCAL, SERVER, Distillation(to_clients=0.0)))
    other = federation(FedGKT(LOCAL, replace(SERVER, lr=0.5), Distillation(to_clients=0.0)))
    taught = federation(FedGKT(LOCAL, SERVER, Distillation(to_clients=1.0)))
    trained, _ = watched(found)
    for each in (found, other, taught):
        assert each.play().cost.download_bytes == 0  # type: ignore[union-attr]
        second = each.play().cost
        assert (second.download_bytes > 0) == (each is taught)  # type: ignore[union-attr]
    assert [teacher for _, teacher in trained] == [None, None]
    assert torch.equal(found.clients.parameters, other.clients.parameters)
    assert not torch.equal(found.clients.parameters, taught.clients.parameters)
    # Without distillation to it, the server is deaf to the clients' logits: a head makes no difference.
    servers = {}
    for weight in (0.0, 1.0):
        for scale in (1.0, 5.0):
            one = federation(FedGKT(LOCAL, SERVER, Distillation(to_server=weight)))
            message = one.clients.message
            one.clients.message = (  # type: ignore[method-assign]
                lambda client, number, message=message, scale=scale: replace(
                    message(client, number), logits=scale * message(client, number).logits
                )
            )
            one.play()
            servers[weight, scale] = one.server.module.state_dict()["0.weight"]
    assert torch.equal(servers[0.0, 1.0], servers[0.0, 5.0])
    assert not torch.equal(servers[1.0, 1.0], servers[1.0, 5.0])


def test_where_nothing_is_distilled_every_view_is_fresh() -> None:
    local = replace(LOCAL, augmentation=Augmentation(crop=3, cutout=3))
    found = federation(FedGKT(local, SERVER, Distillation(to_clients=0.0)))
    trained, _ = watched(found)
    found.play(), found.play()
    for number, (planned, _) in enumerate(trained, 1):
        for client, plan in enumerate(planned):
            expected = plan_client(found.data, client, local, number, STREAMS)
            assert np.array_equal(plan.examples, expected.examples)
            assert np.array_equal(plan.views, expected.views)


def test_asynchronously_the_server_keeps_everybody_s_newest_message() -> None:
    sync, alone = (
        federation(FedGKT(LOCAL, SERVER, asynchronous=flag), clients_per_round=1, rounds=6) for flag in (False, True)
    )
    _, messages = watched(alone)
    newest: dict[int, Tensor] = {}
    for number in range(1, 7):
        sync.play()
        before = alone.clients.logits.clone()
        [client] = alone.play().clients
        newest[client] = messages[number, client].features
        for other, features in newest.items():
            ids = np.sort(alone.data.clients[other])
            torch.testing.assert_close(alone.clients.logits[ids], alone.server.logits(features))
            assert not torch.equal(alone.clients.logits[ids], before[ids])
    assert len(newest) > 1
    assert not torch.equal(sync.clients.logits, alone.clients.logits)
    assert {client for batch in batches_of(alone, messages) for client, _ in batch} == set(newest) | {
        alone.sample(7)[0]
    }


class Scripted(KnowledgeDefense):
    """A loss of its own: the same for every example, as written down."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def supervise(self, logits: Tensor, labels: Tensor) -> Tensor:
        return 0 * logits.sum(1) + self.losses.pop(0)


def test_the_rate_drops_when_the_loss_has_not_got_better_for_long_enough() -> None:
    server = replace(
        SERVER, epochs=1, batch_size=99, order="mixed", lr=1.0, optimizer="sgd", weight_decay=0.0, patience=2
    )
    script = Scripted([3, 2, 2, 2.5, 1, 5, 5, 5, 5])
    found = federation(FedGKT(LOCAL, server, Distillation(to_server=0.0)), rounds=9, defense=script)
    rates = []
    for _ in range(9):
        found.play()
        rates.append(found.server.optimizer.lr)
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001])


def test_the_models_of_the_paper_work_together() -> None:
    client, server = build("resnet4", SHAPE, CLASSES), build("resnet7", (16, 8, 8), CLASSES)
    gkt = FedGKT(LocalTraining(epochs=1, batch_size=8), ServerTraining(epochs=1, batch_size=16))
    found = federation(gkt, client=client, server=server, rounds=2, threat=Threat())
    assert [result.evaluated for result in found.run()] == [False, True]
    assert found.num_parameters == sum(p.numel() for part in (client.stem, server) for p in part.parameters())  # type: ignore[union-attr]
