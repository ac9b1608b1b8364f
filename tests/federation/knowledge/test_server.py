"""FedGKT's server alone: what it keeps between rounds, how it computes, and what it does not look at."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.data.datasets import Normalization, Split
from fedsec.defense.knowledge import Admission, KnowledgeDefense
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.precision import Compute
from fedsec.errors import AggregationError, InputError
from fedsec.federation import Distillation, FedGKT, KnowledgeFederation, ServerTraining
from fedsec.federation.knowledge.inbox import Inbox
from fedsec.federation.knowledge.rounds import _compute
from fedsec.federation.knowledge.server import KnowledgeServer
from fedsec.models import build
from fedsec.seeds import Streams
from fedsec.threat import Knowledge

CHANNELS, CLASSES, EXAMPLES = 4, 3, 14
SETTINGS = ServerTraining(epochs=2, batch_size=5, order="mixed", lr=0.01)
STREAMS = Streams(2)


class Network(nn.Sequential):
    """A convolution whose weights lie differently in channels_last, and batch normalization."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(CHANNELS, 5, 3, padding=1, bias=False),  # before a normalization its gradient is rounding alone
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(20, CLASSES),
        )


class Viewing(nn.Module):
    """Takes it for granted how feature maps lie in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(16, 4, 3, padding=1), nn.Linear(256, CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.linear(self.convolution(features).view(len(features), -1))
        return out


def server(settings: ServerTraining = SETTINGS, compute: Compute | None = None, **more: Any) -> KnowledgeServer:
    torch.manual_seed(0)
    defense = more.pop("defense", KnowledgeDefense())
    return KnowledgeServer(Network(), FedGKT(server=settings, **more), defense, STREAMS, compute)


def inbox() -> tuple[Inbox, dict[int, Admission]]:
    """Messages of two clients, all of which counts."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(EXAMPLES, CHANNELS, 6, 6, generator=generator)
    logits = torch.randn(EXAMPLES, CLASSES, generator=generator)
    labels = torch.arange(EXAMPLES) % CLASSES
    made = Inbox({0: 8, 1: 6}, features, logits)
    for client, part in ((0, slice(0, 8)), (1, slice(8, EXAMPLES))):
        made.put(client, Knowledge(features[part], logits[part], labels[part]))
    return made, {client: Admission.full(made.of(client)) for client in (0, 1)}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def test_logits_that_do_not_teach_may_be_anything() -> None:
    states = []
    for filler in (torch.nan, 0.0):
        made, messages = server(), inbox()
        box, admissions = messages
        box.logits[8:] = filler
        admissions[1] = Admission(torch.ones(6), torch.zeros(6))
        made.train(box, admissions, 1)
        states.append(made.state())
    same(*states)


class Steep(KnowledgeDefense):
    """A finite loss whose gradients are as large as numbers go."""

    def supervise(self, logits: Tensor, labels: Tensor) -> Tensor:
        return 1e30 * super().supervise(logits, labels)


def test_a_network_that_its_last_step_broke_is_no_result() -> None:
    settings = replace(SETTINGS, epochs=1, batch_size=99, optimizer="sgd", lr=1e30)
    made = server(settings, defense=Steep(), distillation=Distillation(to_server=0.0))
    with pytest.raises(AggregationError, match="round 3: the server's network is no longer finite"):
        made.train(*inbox(), 3)
    # A buffer that is not finite, where no parameter shows it.
    made = server(replace(settings, lr=1e-30), distillation=Distillation(to_server=0.0))
    made.module[1].running_mean[0] = torch.inf  # type: ignore[index, union-attr]
    with pytest.raises(AggregationError, match="network is no longer finite"):
        made.train(*inbox(), 1)


class Scripted(KnowledgeDefense):
    """A loss of its own: the same for every example, as written down."""

    def __init__(self, *losses: float) -> None:
        self.losses = list(losses)

    def supervise(self, logits: Tensor, labels: Tensor) -> Tensor:
        return 0 * logits.sum(1) + self.losses.pop(0)


def test_patience_goes_on_where_it_was_interrupted() -> None:
    settings = replace(SETTINGS, epochs=1, batch_size=99, lr=1.0, patience=2)
    made, again = (
        server(settings, defense=Scripted(*losses), distillation=Distillation(to_server=0.0))
        for losses in ([3, 2, 2.5, 2.5, 2.5], [])
    )
    for number in (1, 2, 3):
        made.train(*inbox(), number)
    kept = made.state()
    assert made.optimizer.lr == 1.0
    again.defense = Scripted(2.5)
    again.restore(kept)
    again.train(*inbox(), 4)
    assert (again.optimizer.lr, again.waited, again.best) == (0.1, 0, 2.0)
    made.train(*inbox(), 4)
    same(again.state(), made.state())
    made.restore(kept)  # also back
    assert (made.optimizer.lr, made.waited) == (1.0, 1)


@pytest.mark.parametrize("optimizer", [{"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0.9}])
def test_a_kept_state_is_the_same_whatever_the_memory_format(optimizer: dict[str, Any]) -> None:
    settings = replace(SETTINGS, **optimizer)
    plain, other = server(settings), server(settings, Compute(memory_format="channels_last"))
    weight = other.module[0].weight  # type: ignore[index]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    close = {"rtol": 1e-3, "atol": 1e-4}
    for number in (1, 2):
        plain.train(*inbox(), number), other.train(*inbox(), number)
        found, expected = other.state(), plain.state()
        assert all(tensor.is_contiguous() for tensor in found.values())
        torch.testing.assert_close(found, expected, **close)
        features = inbox()[0].features
        torch.testing.assert_close(other.logits(features), plain.logits(features), **close)
    slots = [name for name in found if name.startswith("optimizer") and found[name].numel() > 2]
    assert slots
    assert all(found[name].abs().max() > 1e-4 for name in slots)
    plain.train(*inbox(), 3)
    for compute in (None, Compute(memory_format="channels_last")):
        resumed = server(settings, compute)
        resumed.restore(found)
        same(resumed.state(), found)
        resumed.train(*inbox(), 3)
        torch.testing.assert_close(resumed.state(), plain.state(), **close)


def federation(compute: Compute | None = None, network: nn.Module | None = None) -> KnowledgeFederation:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(12) % CLASSES
    clients = [np.arange(7), np.arange(7, 12)]
    data = ResidentData.build(Split(images, labels), clients, Normalization((0.5,), (0.25,)), torch.device("cpu"))
    torch.manual_seed(0)
    client, large = build("resnet4", (1, 8, 8), CLASSES), build("resnet7", (16, 8, 8), CLASSES)
    return KnowledgeFederation(
        client,
        large if network is None else network,
        CohortTrainer(client, data, engine="loop", compute=compute),
        Split(images, labels),
        algorithm=FedGKT(LocalTraining(epochs=1, batch_size=4), SETTINGS),
        streams=STREAMS,
        rounds=3,
        num_classes=CLASSES,
    )


def test_the_server_gets_the_memory_format_that_was_asked_for_and_the_note_says_so() -> None:
    plain, other = federation(), federation(Compute(memory_format="channels_last"))
    seen: list[bool] = []
    first = next(layer for layer in other.server.module.modules() if isinstance(layer, nn.Conv2d))
    first.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    results = [each.play() for each in (plain, other)]
    assert seen
    assert all(seen)  # in training, answering and evaluation
    assert plain.engine == "loop"
    assert other.engine == "loop, channels_last; server: channels_last"
    torch.testing.assert_close(other.server.state(), plain.server.state(), rtol=1e-2, atol=2e-3)
    assert results[1].evaluated
    assert results[1].metrics["loss"] == pytest.approx(results[0].metrics["loss"], rel=1e-2)  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"channels_last .*view.*; expected contiguous"):
        federation(Compute(memory_format="channels_last"), Viewing())
    assert federation(network=Viewing()).server.compute.memory_format == "contiguous"


@pytest.mark.parametrize(("problem", "wanted"), [("", "channels_last"), ("no", "contiguous")])
def test_on_a_gpu_each_side_has_the_format_that_suits_it(
    monkeypatch: pytest.MonkeyPatch, problem: str, wanted: str
) -> None:
    """Features that say they lie on a GPU; the clients' network was given channels_last."""
    monkeypatch.setattr("fedsec.engine.precision._why_not_channels_last", lambda *_: problem)
    trainer: Any = SimpleNamespace(compute=Compute("tf32", "channels_last"))
    features: Any = SimpleNamespace(device=torch.device("cuda"))
    assert _compute(trainer, Network(), features).memory_format == wanted
    contiguous: Any = SimpleNamespace(compute=Compute("tf32", "contiguous"))
    assert _compute(contiguous, Network(), features).memory_format == "contiguous"


def test_both_sides_compute_inside_their_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    found = federation()
    inside: list[bool] = []

    @contextmanager
    def marked(self: Compute, device: torch.device) -> Iterator[None]:
        inside.append(True)
        yield
        inside.pop()

    monkeypatch.setattr(Compute, "arithmetic", marked)
    calls: dict[str, list[bool]] = {"client": [], "head": [], "server": []}
    parts = {
        "client": found.clients.extractor,
        "head": next(layer for layer in found.clients.module.modules() if isinstance(layer, nn.Linear)),
        "server": found.server.module,
    }
    for name, part in parts.items():
        part.register_forward_pre_hook(lambda *_, name=name: calls[name].append(bool(inside)))
    message = found.clients.message(0, 1)
    found.server.logits(message.features)
    assert calls == {"client": [True], "head": [True], "server": [True]}
    found.play()
    assert all(all(each) for each in calls.values())
    assert len(calls["server"]) == 1 + 2 * 3 + 2 + 2  # epochs of 12 examples in 5s, answers, evaluations


def test_messages_in_bf16_are_close_and_sent_in_float32() -> None:
    plain, rounded = (federation(Compute(precision)).clients.message(0, 1) for precision in ("fp32", "bf16"))  # type: ignore[arg-type]
    for name in ("features", "logits"):
        one, other = getattr(plain, name), getattr(rounded, name)
        assert other.dtype == torch.float32
        assert 1e-4 < (one - other).norm() / one.norm() < 0.1
