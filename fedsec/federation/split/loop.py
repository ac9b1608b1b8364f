"""What federations of one cut network have in common: the network as one vector, its evaluation, and who looks on."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.data.dataset import Split
from fedsec.defense.activations import ActivationDefense
from fedsec.engine.flat_parameters import FlatParameters
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.optimizers import Optimizer, optimizer
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.evaluator import Evaluator
from fedsec.federation.loop_guards import check_loop
from fedsec.federation.rounds import RoundLoop, checked_state
from fedsec.federation.split.attacker import cut_attackers
from fedsec.federation.split.network import Attacks, Crossing, Step
from fedsec.federation.split.split_learning import SplitLearning
from fedsec.federation.split.vertical import Vertical
from fedsec.federation.threat import Threat, poison_data
from fedsec.metrics.evaluation import Evaluation
from fedsec.metrics.measure import Measure
from fedsec.models.blocks import RUNNING_STATISTICS
from fedsec.seeds import Streams

Observer = Callable[[Crossing], None]


class CutNetworkLoop(RoundLoop):
    """A federation that trains one network in parts; a subclass says whose turn it is.

    Args:
        module: the whole network; its weights are what training starts from. Trained in place.
        trainer: of this network on the clients' data; it says the task and how numbers are computed.
        test: the test set.
        algorithm: the settings.
        defenses: what is done to what crosses the cut, in order.
        streams: the experiment's random streams.
        rounds: length of the experiment.
        num_classes: of the data; None for a task without classes.
        clients_per_round: clients sampled each round without replacement; None for all.
        threat: Byzantine clients.
        evaluate_every: rounds between evaluations; the last round is always evaluated.
        measures: further metrics, by name.

    Attributes:
        observers: called with each step's `Crossing`; training is not affected. A curious party is one.
        parameters: the network's, after the last round.

    Raises:
        InputError: settings that contradict each other, or a network that cannot be trained so.
    """

    def __init__(
        self,
        module: nn.Module,
        trainer: CohortTrainer,
        test: Split,
        *,
        algorithm: SplitLearning | Vertical,
        streams: Streams,
        rounds: int,
        num_classes: int | None,
        defenses: Sequence[ActivationDefense] = (),
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
        for defense in defenses:
            if defense.tasks and trainer.task.name not in defense.tasks:
                goes = " or ".join(defense.tasks)
                raise InputError(f"{type(defense).__name__} goes with {goes}, and this task is {trainer.task.name}")
            defense.check_classes(num_classes)
        poison_data(trainer.data, self.threat, num_classes, streams)
        if trainer.statistics.size:
            raise InputError(RUNNING_STATISTICS)
        if trainer.compute.precision == "bf16":
            raise InputError("engine.precision: activations are sent as float32; expected fp32 or tf32, got bf16")
        self.objective = trainer.task.smoothed(algorithm.local.label_smoothing)
        self.trainer, self.num_classes, self.defenses = trainer, num_classes, tuple(defenses)
        self.module = module.to(trainer.data.device).eval()
        self.flat = FlatParameters(self.module, trainer.layout)
        self.parameters: Float[Tensor, "parameters"] = self.flat.flat.clone()
        self._gradient = torch.empty_like(self.parameters)
        self.evaluator = Evaluator(
            test, trainer, measures=measures, threat=self.threat, streams=streams, num_classes=num_classes
        )
        self.observers: list[Observer] = []
        self.attackers = cut_attackers(self.threat, trainer.data, self.examples_of, num_classes, streams)

    @abstractmethod
    def examples_of(self, client: int) -> np.ndarray:
        """The numbers of the examples of which a client, or a party, sends activations."""

    @abstractmethod
    def activations(self, examples: np.ndarray, client: int) -> Float[Tensor, "examples *features"]:
        """What stands next to whoever has the labels, by the network as it is after the last round.

        Args:
            examples: their numbers.
            client: whose activations they are.
        """

    @abstractmethod
    def own_part(self, examples: np.ndarray, client: int) -> tuple[nn.Module, Float[Tensor, "examples *shape"]]:
        """A copy of the part that makes these activations, after the last round, and what goes into it.

        Args:
            examples: their numbers.
            client: whose activations they are.
        """

    def evaluate(self) -> Evaluation:
        """What is measured of the whole network on the test set."""
        if self.diverged:
            return self.evaluator.undefined()
        self.flat.write(self.parameters)
        return self.evaluator(self.module)

    def state(self) -> dict[str, Tensor]:
        return {"parameters": self.parameters.clone()}

    def restore(self, state: Mapping[str, Tensor], round_number: int) -> None:
        self.parameters = checked_state(state, self.state())["parameters"].clone()
        self.flat.write(self.parameters)
        self.round, self.diverged = round_number, not bool(self.parameters.isfinite().all())

    def weights(self) -> dict[str, Tensor]:
        return {name: tensor.contiguous() for name, tensor in self.trainer.layout.views(self.parameters).items()}

    @property
    def engine(self) -> str:
        return "one party after another (parts of one network)"

    @property
    def num_parameters(self) -> int:
        return len(self.parameters)

    def attacks(self, client: int, number: int, examples: np.ndarray, draws: torch.Generator) -> Attacks:
        """What a client does with a batch, if it is Byzantine: under place 0, as the only bottom's owner.

        Args:
            client: or party.
            number: of the round.
            examples: of the batch.
            draws: of the client's attack in this round.
        """
        attacker = self.attackers.get(client)
        if attacker is None or client not in self.threat.in_round(number):
            return {}
        return {0: (attacker.attack, attacker.batch(torch.from_numpy(examples).to(self.data.device), draws))}

    def optimizer(self, local: LocalTraining) -> Optimizer:
        """Of the parameters as they stand in the network, with no steps behind it."""
        return optimizer(self.flat.flat, local)

    def descend(self, step: Step, optimizer: Optimizer) -> None:
        """Move the network along a step's gradients."""
        rows = [step.gradients[name] for name in self.trainer.layout.shapes]
        optimizer.step(self.flat.gather(rows, self._gradient))

    def show(self, client: int, number: int, examples: np.ndarray, step: Step, place: int = 0) -> None:
        """Let observers look at what crossed the cuts in a step.

        Args:
            client: who made the activations.
            number: of the round.
            examples: of the batch.
            step: its gradients and activations.
            place: which of the step's bottoms was the client's.
        """
        if not self.observers:
            return
        gradients = step.passed_on[place] * len(examples)
        crossing = Crossing(number, client, examples, step.sent[place], step.outputs[place], gradients)
        for observer in self.observers:
            observer(crossing)

    def settle(self, parameters: Tensor, number: int) -> dict[str, Any]:
        """Take over a round's parameters; what its result says of them."""
        self.parameters, self.round = parameters, number
        self.diverged = not bool(parameters.isfinite().all())
        self.flat.write(parameters)
        return {**self.measured(self.evaluate() if self.evaluated(number) else None), "diverged": self.diverged}
