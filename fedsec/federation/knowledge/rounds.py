"""The federation that exchanges knowledge: clients send feature maps and logits, the server answers with logits.

He, Annavaram, Avestimehr: Group Knowledge Transfer. NeurIPS 2020, arXiv:2007.14513, Algorithm 1.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import torch
from torch import Tensor, nn

from fedsec.data.dataset import Split
from fedsec.defense.knowledge import KnowledgeDefense, compose
from fedsec.engine.messages import LocalResult
from fedsec.engine.precision import Compute
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import DivergenceError, InputError, count_of
from fedsec.federation.evaluator import Evaluator
from fedsec.federation.knowledge.clients import KnowledgeClients
from fedsec.federation.knowledge.fedgkt import FedGKT
from fedsec.federation.knowledge.inbox import Inbox
from fedsec.federation.knowledge.server import KnowledgeServer
from fedsec.federation.loop_guards import check_loop
from fedsec.federation.rounds import EdgeCost, RoundLoop, RoundResult, checked_state
from fedsec.federation.threat import Threat, poison_data
from fedsec.metrics.evaluation import Evaluation
from fedsec.metrics.measure import Measure
from fedsec.models.costs import module_costs
from fedsec.models.split import split
from fedsec.randomness import moved, snapshot
from fedsec.seeds import Streams
from fedsec.threat import Knowledge, KnowledgePoisoning

Observer = Callable[[int, int, Knowledge], None]


class KnowledgeFederation(RoundLoop):
    """FedGKT's server, its clients and its threats.

    What is evaluated, and deployed, is each client's extractor followed by the server's network.

    Args:
        client_module: the clients' network; its weights are what every client starts from.
        server_module: the server's, which takes the client extractor's feature maps; trained in place.
        trainer: trains cohorts of the clients' network on their data.
        test: the test set.
        algorithm: the settings.
        defense: what the server does about bad messages; None for the gate alone.
        streams: the experiment's random streams.
        rounds: length of the experiment.
        num_classes: of the data.
        clients_per_round: clients sampled each round without replacement; None for all.
        threat: Byzantine clients; attacks on data or on knowledge.
        evaluate_every: rounds between evaluations; the last round is always evaluated.

    Attributes:
        observers: called with (round, client, message as received) for each message; training is not affected. A
            curious server is one.

    Raises:
        InputError: networks that do not go together, or settings that contradict each other.
    """

    def __init__(
        self,
        client_module: nn.Module,
        server_module: nn.Module,
        trainer: CohortTrainer,
        test: Split,
        *,
        algorithm: FedGKT,
        streams: Streams,
        rounds: int,
        num_classes: int,
        defense: KnowledgeDefense | None = None,
        clients_per_round: int | None = None,
        threat: Threat | None = None,
        evaluate_every: int = 1,
        measures: Mapping[str, Measure] | None = None,
    ) -> None:
        super().__init__(
            trainer.data,
            streams=streams,
            rounds=rounds,
            clients_per_round=clients_per_round,
            threat=threat,
            evaluate_every=evaluate_every,
        )
        check_loop(self, algorithm, trainer.task.name)
        poison_data(trainer.data, self.threat, num_classes, streams)
        trainer.check(algorithm.local, self.clients_per_round)
        device, shape = trainer.data.device, tuple(test.images.shape[1:])
        self._features, self._logits = _matched(client_module, server_module, shape, num_classes)
        self.trainer, self.algorithm, self.num_classes = trainer, algorithm, num_classes
        self.defense = compose([]) if defense is None else defense
        self.evaluator = Evaluator(
            test, trainer, measures=measures, threat=self.threat, streams=streams, num_classes=num_classes
        )
        self.clients = KnowledgeClients(client_module, trainer, algorithm, num_classes, streams)
        server_module = server_module.to(device)
        compute = _compute(trainer, server_module, self._features.to(device))
        self.server = KnowledgeServer(server_module, algorithm, self.defense, streams, compute)
        self.observers: list[Observer] = []
        self._joined = _Joined(self.clients.extractor, self.server.module, compute).eval()
        self._costs = module_costs(client_module, shape)
        self._inbox = self._empty(range(self.num_clients)) if algorithm.asynchronous else None

    def play(self) -> RoundResult:
        """Play one round of Algorithm 1.

        Raises:
            InputError: the server's network is no longer finite.
        """
        if self.over:
            raise InputError(
                f"the server's network is no longer finite after {count_of(self.round, 'round')}; `over` says so"
            )
        number = self.round + 1
        clients = self.sample(number)
        known = fmean(self.clients.num_known(client) for client in clients)
        result = self.clients.train(clients, number)
        inbox = self._empty(clients) if self._inbox is None else self._inbox
        for client in clients:
            message = self._message(client, number)
            inbox.put(client, message)
            for observer in self.observers:
                observer(number, client, message)
        self.clients.heard[clients] = number
        admissions = dict(zip(inbox.clients, self.defense.admit([inbox.of(c) for c in inbox.clients]), strict=True))
        try:
            self.server.train(inbox, admissions, number)
        except DivergenceError:
            self.diverged = True
        for client in inbox.clients if self.algorithm.distillation.to_clients and not self.diverged else []:
            self.clients.learn(client, self.server.logits(inbox.of(client).features))
        self.round = number
        primary = self.metric_names[0]
        evaluations = self.evaluate_each(clients) if self.evaluated(number) else None
        counted = [admissions[client].examples.double().sum().item() for client in clients]
        total = sum(counted) or 1.0  # a round in which nothing is admitted: no client has any influence
        return RoundResult(
            round=number,
            clients=tuple(clients),
            byzantine=tuple(client for client in clients if client in self.threat.in_round(number)),
            rejected=tuple(c for c in clients if admissions[c].rejected == len(admissions[c].examples)),
            influence=tuple(count / total for count in counted),
            **self.measured(None if evaluations is None else self.over_honest(clients, evaluations)),
            client_values=None if evaluations is None else tuple(one.metrics[primary] for one in evaluations),
            cost=self._cost(clients, result, known),
            diverged=self.diverged,
        )

    def evaluate_each(self, clients: Sequence[int]) -> list[Evaluation]:
        """Figures of each client's extractor followed by the server's network on the test set."""
        evaluations = []
        for client in clients:
            self.clients.load(client)
            evaluations.append(self.evaluator.undefined() if self.diverged else self.evaluator(self._joined))
        return evaluations

    def state(self) -> dict[str, Tensor]:
        parts = {"clients": self.clients.state(), "server": self.server.state()}
        return {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}

    def restore(self, state: Mapping[str, Tensor], round_number: int) -> None:
        """Continue from a kept state.

        Feature maps are not in it, they would take gigabytes: where the server still needs those of earlier rounds,
        they are computed again from what they were computed of.
        """
        restored = checked_state(state, self.state())
        self.clients.restore({k.removeprefix("clients."): v for k, v in restored.items() if k.startswith("clients.")})
        self.server.restore({k.removeprefix("server."): v for k, v in restored.items() if k.startswith("server.")})
        self.round = round_number
        self.diverged = not bool(self.server.parameters.flat.isfinite().all())
        if self._inbox is not None:
            self._inbox = self._empty(range(self.num_clients))
            for client, heard in enumerate(self.clients.heard.tolist()):
                if heard:
                    self._inbox.put(client, self._message(client, heard))

    def weights(self) -> dict[str, Tensor]:
        """The server's network as `server.<name>`, and all clients' as `clients.<name>` with a row for each."""
        weights = {f"server.{name}": tensor for name, tensor in self.server.module.state_dict().items()}
        for name, rows in self.trainer.layout.views(self.clients.parameters).items():
            weights[f"clients.{name}"] = rows
        for name, rows in self.trainer.statistics.named(self.clients.statistics).items():
            weights[f"clients.{name}"] = rows
        return {name: tensor.contiguous() for name, tensor in weights.items()}

    @property
    def engine(self) -> str:
        used, reason = self.trainer.used or "not trained yet", self.trainer.reason
        formats = [compute.memory_format for compute in (self.trainer.compute, self.server.compute)]
        server = f"; server: {formats[1]}" if "channels_last" in formats else ""
        return (f"{used} ({reason})" if reason else used) + server

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self._joined.parameters() if p.requires_grad)

    def _message(self, client: int, round_number: int) -> Knowledge:
        """What the server receives from a client: its knowledge, distorted if it is Byzantine."""
        honest, attack = self.clients.message(client, round_number), self.threat.attack
        if client not in self.threat.in_round(round_number) or not isinstance(attack, KnowledgePoisoning):
            return honest
        generator = self.streams.torch("attack", "client", client, "round", round_number)
        return attack.distort(honest, num_classes=self.num_classes, generator=generator)

    def _empty(self, clients: Sequence[int]) -> Inbox:
        sizes = {client: len(self.clients.examples[client]) for client in clients}
        return Inbox(sizes, self._features.to(self.data.device), self._logits.to(self.data.device))

    def _cost(self, clients: Sequence[int], result: LocalResult, known: float) -> EdgeCost:
        """Up go features, logits and a 4-byte label of each example; down come logits of `known` examples."""
        size, label_bytes = fmean(self.data.sizes(clients).tolist()), 4
        features, logits = (part[0].numel() * part.element_size() for part in (self._features, self._logits))
        return EdgeCost(
            upload_bytes=size * (features + logits + label_bytes),
            download_bytes=known * logits,
            flops=fmean(result.examples.tolist()) * self._costs.training_flops + size * self._costs.forward_flops,
        )


class _Joined(nn.Module):
    """A client's extractor followed by the server's network, which gets feature maps laid out as it wants them."""

    def __init__(self, extractor: nn.Module, server: nn.Module, compute: Compute) -> None:
        super().__init__()
        self.extractor, self.server, self.compute = extractor, server, compute

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.server(self.compute.inputs(self.extractor(images)))
        return logits


def _compute(trainer: CohortTrainer, server: nn.Module, features: Tensor) -> Compute:
    """How the server computes: as the clients do, with a memory format of its own.

    Raises:
        InputError: channels_last was asked for, and the server's network cannot take it.
    """
    compute = trainer.compute
    if compute.channels_last and features.device.type == "cuda" and compute.precision != "fp32":
        compute = replace(
            compute, memory_format="auto"
        )  # may have been: what suits the clients need not suit the server
    return compute.resolved(server, features)


@torch.no_grad()
def _matched(client: nn.Module, server: nn.Module, shape: tuple[int, ...], num_classes: int) -> tuple[Tensor, Tensor]:
    """Feature maps and logits that the clients' network makes of two black images, once the server's can take them.

    Raises:
        InputError: it cannot, or one of them gives other logits than are needed.
    """
    # Copies in evaluation mode: a check must not move running statistics.
    client, server = copy.deepcopy(client).eval(), copy.deepcopy(server).eval()
    extractor, classify = split(client)
    features: Tensor = extractor(_zeros(client, 2, *shape))
    logits = classify(features)
    if logits.shape != (2, num_classes):
        raise InputError(f"fedgkt's client network gives {tuple(logits.shape[1:])} logits; expected {num_classes}")
    if features.ndim != 4:
        raise InputError(
            f"fedgkt's clients send feature maps [channels, height, width], but the client network's extractor gives "
            f"{tuple(features.shape[1:])} of an image of {tuple(shape)}"
        )
    sent = f"the client network sends feature maps of {tuple(features.shape[1:])} of an image of {tuple(shape)}"
    inputs = _zeros(server, *features.shape)
    before = snapshot(inputs.device)
    try:
        answer = server(inputs)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        cause = " ".join(str(error).split())
        raise InputError(f"fedgkt: {sent}, which the server's network cannot take: {cause}") from error
    if not isinstance(answer, Tensor) or answer.shape != (2, num_classes):
        got = tuple(answer.shape[1:]) if isinstance(answer, Tensor) else type(answer).__name__
        raise InputError(f"fedgkt: {sent}; of these the server's network gives {got}, expected {num_classes} logits")
    if moved(before, snapshot(inputs.device)):
        raise InputError(
            "fedgkt: the server's network draws random numbers in evaluation mode, so that its logits could not be "
            "reproduced; expected draws in training alone (self.training)"
        )
    return features, logits


def _zeros(module: nn.Module, *shape: int) -> Tensor:
    first = next(module.parameters())
    return torch.zeros(shape, dtype=first.dtype, device=first.device)
