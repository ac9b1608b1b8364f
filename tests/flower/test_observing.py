"""What a curious server sees through Flower, and what is written down for later."""

from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord
from torch import nn

from fedsec.attacks import Analytic
from fedsec.defenses import Mean, Median
from fedsec.errors import InputError
from fedsec.flower import Received, RobustStrategy, observe, record
from fedsec.recording import open_recording
from fedsec.threat.observed.local_steps import LocalSteps

NODES = (2**64 - 5, 7, 9)


def trained(model: nn.Module, image: torch.Tensor, label: int) -> dict[str, torch.Tensor]:
    """One step of SGD on one image."""
    gradient = torch.autograd.grad(
        nn.functional.cross_entropy(model(image), torch.tensor([label])), list(model.parameters())
    )
    steps = dict(zip(model.state_dict(), gradient, strict=True))
    return {name: tensor - 0.1 * steps[name] for name, tensor in model.state_dict().items()}


def test_a_reply_becomes_an_observation_that_an_inversion_takes(flower: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    images = torch.rand(3, 1, 1, 4, 4)
    rounds: list[Received] = []
    strategy = RobustStrategy(Mean(), observers=[rounds.append])
    messages = flower.configured(strategy, model.state_dict(), NODES)
    replies = [
        flower.answer(messages[node], trained(model, image, place), num_examples=1)
        for place, (node, image) in enumerate(zip(NODES, images, strict=True))
    ]
    strategy.aggregate_train(1, replies)
    known: dict[str, Any] = {"model": model, "input_shape": (1, 4, 4), "num_classes": 3}
    for received in (rounds[0], Received.of_messages(1, ArrayRecord(model.state_dict()), replies)):
        seen = observe(received, NODES[0], local=LocalSteps(lr=0.1, steps=1), **known)
        assert seen.batch_size == 1
        found = Analytic().reconstruct(seen)
        assert found.labels.tolist() == [0]
        assert found.images is not None
        assert torch.allclose(found.images, images[0], atol=1e-4)
    with pytest.raises(InputError, match=f"came from node 8; it came from {7}"):
        observe(rounds[0], 8, local=None, **known)


def test_a_recording_holds_what_the_server_received(flower: Any, tmp_path: Path) -> None:
    state = flower.model().state_dict()
    moves = dict(zip(NODES, (0.1, 0.2, 0.3), strict=True))
    with record(tmp_path / "recording", num_clients=3) as recorder:
        strategy = RobustStrategy(Median(), observers=[recorder])
        model, _ = flower.play(strategy, state, moves)
        flower.play(strategy, model, moves, number=2)
    written = open_recording(tmp_path / "recording")
    assert written.rounds == (1, 2)
    assert {int(client) for client in written[1].clients} == {*NODES}


def test_no_node_ends_a_run_by_what_a_recording_cannot_hold(flower: Any, tmp_path: Path) -> None:
    state = flower.model().state_dict()
    counter = "1.num_batches_tracked"
    odd: list[Any] = [
        lambda reply: {name: tensor.double() for name, tensor in reply.items()},  # the first one, of all entries
        lambda reply: {name: tensor for name, tensor in reply.items() if name != counter},
        lambda reply: reply | {counter: torch.zeros(7, dtype=torch.int64)},
    ]
    nodes = (3, *NODES)
    with record(tmp_path / "recording") as recorder:
        strategy = RobustStrategy(Median(), observers=[recorder])
        messages = flower.configured(strategy, state, nodes)
        changes = dict(zip(sorted(nodes), [*odd, lambda reply: reply], strict=True))
        replies = [
            flower.answer(messages[node], changes[node](flower.shifted(state, 0.5)), num_examples=0) for node in nodes
        ]
        arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    written = open_recording(tmp_path / "recording")[1]
    assert {*written.clients} == {*nodes}
    assert written.num_examples is None
    for node in nodes:
        message = written.message(node)
        assert torch.equal(message["0.weight"], state["0.weight"] + 0.5)
        assert int(message[counter]) == (1 if node == NODES[0] else 0)  # else the server's own
