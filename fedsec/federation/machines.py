"""The machines of Byzantine clients that train: the loop engine, on what one client has and nothing else."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.data.images import normalize
from fedsec.engine.batch_norm import check_batch
from fedsec.engine.batches import plan_batches
from fedsec.engine.correction import Correction
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.loop import LoopWorker
from fedsec.engine.messages import Start
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.randomness import seeded
from fedsec.seeds import Streams
from fedsec.threat import AttackerMachine

__all__ = ["ClientMachine", "Machines"]


class Machines:
    """Makes the machines of a round's Byzantine clients.

    Args:
        trainer: of the federation, which gives architecture, task, arithmetic and the clients' data.
        training: what honest clients do in a round, asked with its number; None where they send one gradient, and no
            attacker can train.
        streams: the experiment's.
        num_classes: of the data; None for a task without classes.
        start: what these clients receive in the current round.
    """

    def __init__(
        self,
        trainer: CohortTrainer,
        training: Callable[[int], LocalTraining | None],
        streams: Streams,
        num_classes: int | None,
        start: Callable[[Sequence[int]], Start],
    ) -> None:
        self.trainer, self.streams, self.num_classes, self.start = trainer, streams, num_classes, start
        self._training = training

    def __call__(self, clients: Sequence[int], round_number: int) -> tuple["ClientMachine", ...]:
        """One machine for each of these clients.

        Args:
            clients: the Byzantine ones of the round.
            round_number: from 1.
        """
        start = self.start(clients)
        return tuple(
            ClientMachine(self, *start.of(place), client, round_number) for place, client in enumerate(clients)
        )

    def local(self, round_number: int) -> LocalTraining:
        """What honest clients do in a round, without the noise that nobody makes an attacker draw."""
        training = self._training(round_number)
        if training is None:
            raise InputError("attack: it trains for several steps, and these clients send one gradient")
        return replace(training, private=None)

    @cached_property
    def worker(self) -> LoopWorker:
        """One engine for all of them: they take turns."""
        trainer = self.trainer
        return LoopWorker(
            trainer.module,
            trainer.data,
            cumulative=trainer.cumulative,
            compute=trainer.compute,
            task=trainer.task,
            statistics=trainer.statistics,
            whole_batches=trainer.trial.whole_batches,
        )

    @cached_property
    def evaluated(self) -> nn.Module:
        """A copy of the model, to be looked at without training it."""
        return copy.deepcopy(self.trainer.module).to(self.trainer.data.device).eval()


class ClientMachine(AttackerMachine):
    """One Byzantine client's machine in one round.

    Its first training takes the batches of its honest training, so that nothing but the attack makes the difference.

    Args:
        shared: what all machines of a federation have in common.
        parameters: that it received.
        statistics: likewise.
        client: whose machine it is.
        round_number: from 1.
    """

    def __init__(
        self,
        shared: Machines,
        parameters: Float[Tensor, "parameters"],
        statistics: Float[Tensor, "statistics"],
        client: int,
        round_number: int,
    ) -> None:
        self._shared, self._trainer = shared, shared.trainer
        self._raw, self.targets = shared.trainer.data.client_examples(client)
        self.inputs = self._raw.float() / 255 if self._raw.dtype == torch.uint8 else self._raw.clone()
        self.parameters, self._statistics = parameters, statistics
        self.num_classes, self.examples = shared.num_classes, 0
        self._client, self._round, self._trainings = client, round_number, 0

    def train(
        self,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        start: Float[Tensor, "parameters"] | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        lr: float | None = None,
        pull: float = 0.0,
        center: Float[Tensor, "parameters"] | None = None,
        mask: Float[Tensor, "parameters"] | None = None,
    ) -> Float[Tensor, "parameters"]:
        data, local = self._data(inputs, targets), self._shared.local(self._round)
        if epochs is not None or steps is not None:
            local = replace(local, epochs=epochs, steps=steps)
        local = local if lr is None else replace(local, lr=lr)
        streams, stream = self._shared.streams, self._stream()
        rng, key = streams.numpy(*stream), streams.key(*stream, "model")
        self._trainings += 1
        size = (1, 1) if local.augmentation is None else data.image_size
        plan = plan_batches(data.clients[0], local, rng, size, draws=key)
        check_batch(int(plan.sizes.min()), self._trainer.trial.smallest_batch)
        begin = self.parameters if start is None else start
        statistics = self._statistics
        if self._trainer.cumulative:
            statistics = self._trainer.statistics.fresh(statistics)
        correction = Correction(pull, center, mask=None if mask is None else mask[None])
        correction.check(1, len(begin))
        with self._engine(data, key) as worker:
            update, _ = worker.train(begin, statistics, plan, local, correction=correction)
        self.examples += int(plan.sizes.sum())
        # Weight decay joins behind the mask, and must not move what it holds.
        return update if mask is None else update * (mask != 0)

    def gradient(
        self,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        at: Float[Tensor, "parameters"] | None = None,
    ) -> Float[Tensor, "parameters"]:
        data = self._data(inputs, targets)
        check_batch(len(data.label_of), self._trainer.trial.smallest_batch)
        key = self._shared.streams.key(*self._stream(), "gradient", "model")
        examples = torch.arange(len(data.label_of), device=data.device)
        begin = self.parameters if at is None else at
        with self._engine(data, key) as worker:
            gradient, _ = worker.gradient(begin, self._statistics, examples)
        self.examples += len(examples)
        return gradient

    def input_gradient(
        self, inputs: Tensor, targets: Tensor, *, at: Float[Tensor, "parameters"] | None = None
    ) -> Tensor:
        data, module = self._data(inputs, targets), self._shared.evaluated
        self._trainer.layout.load(module, self.parameters if at is None else at)
        self._trainer.statistics.load(module, self._statistics)
        pixels = data.images.detach().clone().requires_grad_()
        compute = self._trainer.compute
        with torch.enable_grad(), compute.arithmetic(data.device), compute.autocast(data.device):
            outputs = module(compute.inputs(normalize(pixels, data.normalization)))
            loss = self._trainer.task.losses(outputs.to(pixels.dtype), data.label_of).mean()
            (gradient,) = torch.autograd.grad(loss, pixels)
        self.examples += len(pixels)
        return gradient

    def _data(self, inputs: Tensor | None, targets: Tensor | None) -> ResidentData:
        """Examples as the engine takes them; its own stay as they lie, for the same bits as honest training."""
        images = self._raw if inputs is None else inputs
        labels = self.targets if targets is None else targets
        if len(images) != len(labels) or not len(labels) or images.shape[1:] != self._raw.shape[1:]:
            raise InputError(
                f"attacker's training: expected at least one example of shape {tuple(self._raw.shape[1:])} and a "
                f"target for each, got inputs of shape {tuple(images.shape)} and {len(labels)} targets"
            )
        own = np.arange(len(labels))
        device = self._raw.device
        numbers = torch.arange(len(labels), device=device)
        return ResidentData(images, numbers, labels, [own], self._trainer.data.normalization)

    def _stream(self) -> tuple[str | int, ...]:
        """The random stream of the next training: first that of honest training, then others."""
        own = ("client", self._client, "round", self._round)
        return ("attack", "machine", *own, self._trainings) if self._trainings else own

    @contextmanager
    def _engine(self, data: ResidentData, key: int) -> Iterator[LoopWorker]:
        """The shared engine, while it works on this client's examples and draws from its stream."""
        trainer, worker = self._trainer, self._shared.worker
        with ExitStack() as contexts:
            contexts.enter_context(trainer.compute.arithmetic(data.device))
            if trainer.trial.draws:
                contexts.enter_context(seeded(key, data.device))
            worker.data = data
            try:
                yield worker
            finally:
                worker.data = trainer.data
