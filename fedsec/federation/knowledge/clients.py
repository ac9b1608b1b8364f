"""The clients of FedGKT: each trains a small network of its own and tells what that makes of its examples."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int16, Int64
from torch import Tensor, nn

from fedsec.engine.batches import BatchPlan
from fedsec.engine.messages import LocalResult, Start, Teacher
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.knowledge.fedgkt import FedGKT
from fedsec.metrics.evaluation import EVALUATION_BATCH
from fedsec.models.split import split
from fedsec.seeds import Streams
from fedsec.threat import Knowledge


class KnowledgeClients:
    """All clients' networks, and what the server has taught them.

    Args:
        module: the clients' network; its weights are what all of them start from. Copied.
        trainer: trains cohorts of it on the clients' data, poisoned already where it is to be.
        algorithm: the settings.
        num_classes: of the data.
        streams: the experiment's random streams.

    Attributes:
        examples: each client's example numbers in ascending order, the order of its messages: which examples stand
            together in a client's data says nothing about them.
        parameters: of each client's network.
        statistics: running statistics of each client's network.
        logits: the server's, by example number; zero where none are known.
        known: where they are.
        heard: round of each client's last message; 0 for none.

    Raises:
        InputError: clients share an example, or the model has no extractor.
    """

    def __init__(
        self, module: nn.Module, trainer: CohortTrainer, algorithm: FedGKT, num_classes: int, streams: Streams
    ) -> None:
        self.trainer, self.data, self.algorithm, self.streams = trainer, trainer.data, algorithm, streams
        self.module = copy.deepcopy(module).to(self.data.device).eval()
        self.extractor, self._classify = split(self.module)
        self.examples = [np.sort(examples) for examples in self.data.clients]
        everything = np.concatenate(self.examples)
        if len(np.unique(everything)) < len(everything):
            raise InputError("fedgkt keeps the server's logits by example, but clients share examples")
        start, count = trainer.start(module), len(self.examples)
        self.parameters: Float[Tensor, "clients parameters"] = start.parameters.repeat(count, 1)
        self.statistics: Float[Tensor, "clients statistics"] = start.statistics.repeat(count, 1)
        self.logits: Float[Tensor, "examples classes"]
        self.logits = start.parameters.new_zeros(len(self.data.label_of), num_classes)
        self.known: Bool[Tensor, "examples"] = torch.zeros_like(self.data.label_of, dtype=torch.bool)
        self.heard: Int64[Tensor, "clients"] = torch.zeros(count, dtype=torch.int64)

    def train(self, clients: Sequence[int], round_number: int) -> LocalResult:
        """Local training of a round's clients, each from where it stands: cross-entropy, and the server's logits."""
        rows = list(clients)
        plans = [self._plan(client, round_number) for client in rows]
        start = Start(self.parameters[rows], self.statistics[rows])
        local = self.algorithm.local.in_round(round_number)
        result = self.trainer.train(start, plans, local, self._teacher(rows))
        self.parameters[rows] = start.parameters + result.updates
        self.statistics[rows] = result.statistics
        return result

    @torch.no_grad()
    def message(self, client: int, round_number: int) -> Knowledge:
        """Features, logits and labels of all of a client's examples, honestly, in evaluation mode.

        Args:
            client: its number.
            round_number: whose views are sent.
        """
        self.load(client)
        examples = torch.from_numpy(self.examples[client]).to(self.data.device)
        drawn = self._views(client, round_number)
        views = None if drawn is None else torch.from_numpy(drawn).to(self.data.device)
        parts = []
        with self.trainer.compute.arithmetic(self.data.device):
            for begin in range(0, len(examples), EVALUATION_BATCH):
                part = slice(begin, begin + EVALUATION_BATCH)
                seen = None if views is None else views[part]
                images, _ = self.data.batch(examples[part], seen, self.algorithm.local.augmentation)
                parts.append(self._forward(images))
        features, logits = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
        return Knowledge(features, logits, self.data.label_of[examples])

    def learn(self, client: int, logits: Float[Tensor, "examples classes"]) -> None:
        """Keep the server's logits of a client's last message; none where they are not finite."""
        examples = torch.from_numpy(self.examples[client]).to(self.data.device)
        finite = logits.isfinite().all(1)
        self.logits[examples] = torch.where(finite[:, None], logits, 0)  # zero times NaN would still be NaN in a loss
        self.known[examples] = finite

    def num_known(self, client: int) -> int:
        """How many of a client's examples the server has given logits of."""
        return int(self.known[torch.from_numpy(self.examples[client]).to(self.data.device)].sum())

    def load(self, client: int) -> None:
        """Let `module` and its `extractor` be this client's."""
        self.trainer.layout.load(self.module, self.parameters[client])
        self.trainer.statistics.load(self.module, self.statistics[client])

    def state(self) -> dict[str, Tensor]:
        """All that the next rounds depend on, by name; copies."""
        named = {
            "parameters": self.parameters,
            "statistics": self.statistics,
            "logits": self.logits,
            "known": self.known,
            "heard": self.heard,
        }
        return {name: tensor.clone() for name, tensor in named.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self.parameters, self.statistics = state["parameters"].clone(), state["statistics"].clone()
        self.logits, self.known = state["logits"].clone(), state["known"].clone()
        self.heard = state["heard"].clone()

    def _plan(self, client: int, round_number: int) -> BatchPlan:
        """A client's batches: of the views that it last sent, since the server's logits are logits of those."""
        plan = plan_client(self.data, client, self.algorithm.local, round_number, self.streams)
        if not self.algorithm.distillation.to_clients or not self.heard[client]:  # nothing to distill from
            return plan
        last = self._views(client, int(self.heard[client]))
        return (
            plan if last is None else replace(plan, views=last[np.searchsorted(self.examples[client], plan.examples)])
        )

    def _forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Feature maps and logits, in the parameters' precision, whatever they were computed in."""
        compute = self.trainer.compute
        with compute.autocast(images.device):
            features = self.extractor(compute.inputs(images))
            logits = self._classify(features)
        return features.to(self.parameters.dtype), logits.to(self.parameters.dtype)

    def _views(self, client: int, round_number: int) -> Int16[np.ndarray, "examples 5"] | None:
        """How each of a client's examples looks in its message of a round; None for images as they are."""
        augmentation = self.algorithm.local.augmentation
        if augmentation is None:
            return None
        rng = self.streams.numpy("client", client, "views", round_number)
        return augmentation.draw((len(self.examples[client]),), self.data.image_size, rng)

    def _teacher(self, clients: Sequence[int]) -> Teacher | None:
        if not self.algorithm.distillation.to_clients or not bool(self.heard[list(clients)].any()):
            return None
        return Teacher(
            self.logits, self.known, self.algorithm.distillation.temperature, self.algorithm.distillation.to_clients
        )
