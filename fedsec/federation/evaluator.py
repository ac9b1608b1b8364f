"""What is measured of the model after a round: the task's metrics, a scenario's own, and what an attack aims at."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.data.dataset import Split
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.threat import Threat
from fedsec.metrics.evaluation import Evaluation, evaluate, outputs_of
from fedsec.metrics.measure import Measure
from fedsec.seeds import Streams
from fedsec.threat import ByzantineAttack, Probe
from fedsec.threat.sealed import unmodified


class Evaluator:
    """A test set on the trainer's device, with all that is measured on it.

    Args:
        test: the test set.
        trainer: of the clients; its task, arithmetic and normalization count here too.
        measures: further metrics, by name.
        threat: whose attack may bring probes, built anew each time where their aim moves.
        streams: of the experiment; an attack's probes may draw from one of them.
        num_classes: of the data; None where there are none.

    Raises:
        InputError: two metrics of one name, a model or targets that do not go with the task, or a probe that does not
            go with it or the test set.
    """

    def __init__(
        self,
        test: Split,
        trainer: CohortTrainer,
        *,
        measures: Mapping[str, Measure] | None = None,
        threat: Threat,
        streams: Streams,
        num_classes: int | None,
    ) -> None:
        task = trainer.task
        if task.outputs is None and num_classes is not None:
            task = task.of_data(num_classes)
        task.check_targets(test.targets)
        task.check_targets(trainer.data.label_of)
        task.check_outputs((1, *trainer.trial.output_shape), 1)
        self.images, self.targets = test.inputs.to(trainer.data.device), test.targets.to(trainer.data.device)
        self.trainer, self.measures, self.num_classes = trainer, dict(measures or {}), num_classes
        self._threat, self._streams = threat, streams
        self.probes = self._probes()
        self.metric_names = (*task.metrics, *self.measures, *(probe.name for probe in self.probes))
        twice = sorted({name for name in self.metric_names if self.metric_names.count(name) > 1})
        if twice:
            raise InputError(f"metrics: {', '.join(twice)} would be measured twice; expected each name once")
        self.per_class_names = trainer.task.strata_metrics

    def _probes(self) -> tuple[Probe, ...]:
        attack, num_classes = self._threat.attack, self.num_classes
        if not isinstance(attack, ByzantineAttack):
            return ()
        name = f"{type(attack).__name__}.probes"
        generator = self._streams.torch("attack", "probes")
        with unmodified(name, images=self.images, labels=self.targets):
            probes = tuple(attack.probes(self.images, self.targets, num_classes=num_classes, generator=generator))
        for probe in probes:
            if (probe.inputs.shape[1:], probe.inputs.dtype) != (self.images.shape[1:], self.images.dtype):
                raise InputError(
                    f"{name}: {probe.name} has images of shape {tuple(probe.inputs.shape[1:])}, {probe.inputs.dtype}; "
                    f"expected {tuple(self.images.shape[1:])} and {self.images.dtype}, as the test set's"
                )
            if probe.metric not in self.trainer.task.metrics:
                known = ", ".join(self.trainer.task.metrics)
                raise InputError(f"{name}: {probe.name} measures {probe.metric!r}; expected one of {known}")
            self.trainer.task.check_targets(probe.targets)
        return probes

    def client_losses(self, module: nn.Module, clients: Sequence[int]) -> Float[Tensor, "clients"]:
        """The mean loss of a model on each client's own examples, as they are for now (poisoned ones, of attackers).

        Args:
            module: on the trainer's device.
            clients: whose.
        """
        trainer, means = self.trainer, []
        for client in clients:
            images, targets = trainer.data.client_examples(client)
            outputs = outputs_of(module, images, trainer.data.normalization, compute=trainer.compute)
            means.append(trainer.task.losses(outputs, targets).mean())
        return torch.stack(means)

    def constant_answer(self) -> dict[str, float]:
        """The primary metric of the best answer that looks at no input; nothing where the task knows none."""
        task, outputs = self.trainer.task, self.trainer.task.constant_outputs(self.targets)
        if outputs is None:
            return {}
        primary = task.metrics[0]
        return {primary: task.measure(outputs, self.targets)[primary]}

    def undefined(self) -> Evaluation:
        """What is measured of a model that is no longer finite: its outputs are NaN, whatever it looks at.

        A classifier's answer is then its first class, always; what else has no value is NaN.
        """
        task, constants = self.trainer.task, self.trainer.data.normalization
        if task.output_axes != 1:  # NaN would have to be put into maps of whatever size: nothing has a value
            names = dict.fromkeys(self.metric_names, float("nan"))
            return Evaluation(names, dict.fromkeys(self.per_class_names, ()))
        module = _Undefined(task.outputs or self.num_classes or 1)
        evaluation = evaluate(module, self.images, self.targets, constants, task)
        successes = {
            probe.name: task.measure(outputs_of(module, probe.inputs, constants), probe.targets)[probe.metric]
            for probe in self.probes
        }
        return Evaluation(
            {**evaluation.metrics, **dict.fromkeys(self.measures, float("nan")), **successes}, evaluation.per_class
        )

    def __call__(self, module: nn.Module) -> Evaluation:
        """Measure a model.

        Args:
            module: with its current parameters and statistics, on the trainer's device.
        """
        constants, task, compute = self.trainer.data.normalization, self.trainer.task, self.trainer.compute
        if isinstance(self._threat.attack, ByzantineAttack) and self._threat.attack.aim_moves:
            self.probes = self._probes()
        evaluation = evaluate(
            module, self.images, self.targets, constants, task, measures=self.measures, compute=compute
        )
        successes = {
            probe.name: task.measure(outputs_of(module, probe.inputs, constants, compute=compute), probe.targets)[
                probe.metric
            ]
            for probe in self.probes
        }
        return Evaluation({**evaluation.metrics, **successes}, evaluation.per_class)


class _Undefined(nn.Module):
    """Puts out NaN first and minus infinity behind it: whatever breaks ties, NaN counts as the largest."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = inputs.new_full((len(inputs), self.outputs), -torch.inf)
        outputs[:, 0] = torch.nan
        return outputs
