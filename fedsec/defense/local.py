"""The interface of defenses that clients apply in their own training."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.privacy.accounting import Accountant
from fedsec.privacy.ledger import Ledger
from fedsec.privacy.private_training import PrivateTraining
from fedsec.threat.rows import as_given, as_tensor
from fedsec.threat.sealed import Sealed, unmodified

WhenSpent = Literal["client", "run"]


class LocalDefense(Sealed, ABC):
    """Changes how a client trains, so that its update tells little about any single example.

    Attributes:
        accountant: by which epsilon is computed.
        budget: an epsilon that no client may exceed; None for none.
        when_spent: what happens when a client's next round would exceed it: `client`, it takes no part any more;
            `run`, the run ends.
    """

    role: ClassVar[str] = "local"
    """Where in a round its kind acts: each client, in its training."""
    guarantee: ClassVar[str] = ""
    """Of privacy: the parameters of what is proven, a colon, and of what unit; nothing where a class does not say."""
    accountant: Accountant = "rdp"
    budget: float | None = None
    when_spent: WhenSpent = "client"

    @final
    def private(self, num_examples: int, batch_size: int, steps: int, *, largest: int | None = None) -> PrivateTraining:
        """How one client trains.

        Args:
            num_examples: of the client.
            batch_size: the expected size of its batches: each example is in one with probability
                batch_size / num_examples.
            steps: of the whole run, if the client takes part in every round.
            largest: examples of the federation's largest client, which delta may depend on; by default this one's.

        Raises:
            InputError: numbers that fit no client, or a target that no noise reaches.
        """
        name = type(self).__name__
        if not 1 <= batch_size <= num_examples or steps < 1:
            raise InputError(
                f"{name}: expected 1 <= batch_size <= num_examples and at least one step, got a batch_size of "
                f"{batch_size}, {num_examples} examples and {steps} steps"
            )
        if largest is not None and largest < num_examples:
            raise InputError(f"{name}: the largest client has {largest} examples, and this one {num_examples}")
        delta = self.delta_of(num_examples if largest is None else largest)
        training = self.prepare(batch_size / num_examples, steps, delta)
        if isinstance(training.noise_multiplier, tuple):
            raise InputError(f"{name}.prepare: expected one noise multiplier, got {training.noise_multiplier}")
        return training

    @abstractmethod
    def prepare(self, sample_rate: float, steps: int, delta: float) -> PrivateTraining:
        """How a client trains that takes each example into a step's batch with probability `sample_rate`.

        Args:
            sample_rate: in (0, 1].
            steps: of the whole run.
            delta: of the guarantee.
        """

    @abstractmethod
    def delta_of(self, largest: int) -> float:
        """Delta of everyone's guarantee.

        Args:
            largest: examples of the federation's largest client.
        """

    @final
    def ledger(self, num_clients: int, largest: int) -> Ledger:
        """An empty ledger for a federation's clients.

        Args:
            num_clients: of the federation.
            largest: examples of its largest client.
        """
        return Ledger(num_clients, self.delta_of(largest), self.accountant)

    @final
    def noisy_mean(
        self,
        per_example: Float[Tensor, "batch parameters"],
        expected_batch: float,
        generator: torch.Generator,
        *,
        noise_multiplier: float | None = None,
    ) -> Float[Tensor, "parameters"]:
        """A private step's gradient from per-example gradients, for a training loop of one's own.

        Half precision is computed in float32; only the noisy mean is rounded to it.

        Args:
            per_example: gradients of a Poisson sample's examples, one a row, over all parameters; maybe none. A matrix
                or a NumPy array; the mean is of the same kind.
            expected_batch: the mean size of the samples, sampling rate x examples; not this one's size.
            generator: of the noise, on the CPU. Never the one that draws the batches, and never used twice.
            noise_multiplier: of `private(...)`; by default the defense's own.

        Raises:
            InputError: malformed arguments, or a defense that knows no noise multiplier of its own.
        """
        name = type(self).__name__
        give = as_given(per_example)
        per_example = as_tensor(name, per_example)
        if per_example.ndim != 2 or not per_example.is_floating_point():
            raise InputError(
                f"{name}: per_example must be a floating-point matrix with a row for each example, not "
                f"{per_example.dtype} of shape {tuple(per_example.shape)}"
            )
        if not expected_batch > 0:
            raise InputError(f"{name}: expected_batch must be positive, got {expected_batch}")
        # Norms and weights in half precision let gradients pass that are longer than the bound.
        rows = per_example.detach().to(torch.promote_types(per_example.dtype, torch.float32))
        with unmodified(f"{name}.perturb", per_example=rows):
            total = self.perturb(rows, generator, noise_multiplier)
        if total.shape != rows.shape[1:] or total.dtype != rows.dtype:
            raise InputError(
                f"{name}.perturb gave {total.dtype} of shape {tuple(total.shape)}; expected {rows.dtype} of "
                f"shape {tuple(rows.shape[1:])}"
            )
        mean: Tensor = give((total / expected_batch).to(per_example.dtype))
        return mean

    @abstractmethod
    def perturb(
        self,
        per_example: Float[Tensor, "batch parameters"],
        generator: torch.Generator,
        noise_multiplier: float | None,
    ) -> Float[Tensor, "parameters"]:
        """The noisy sum of bounded rows, of float32 or float64; those that are not finite add nothing."""
