"""The server of FedGKT: trains a large network on the clients' feature maps, and answers with its logits."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedsec.defense.knowledge import Admission, KnowledgeDefense
from fedsec.engine.flat_parameters import FlatParameters
from fedsec.engine.messages import distillation
from fedsec.engine.optimizers import optimizer
from fedsec.engine.parameters import ParameterLayout
from fedsec.engine.precision import Compute
from fedsec.errors import DivergenceError, InputError
from fedsec.federation.knowledge.fedgkt import FedGKT
from fedsec.federation.knowledge.inbox import Inbox
from fedsec.metrics.evaluation import EVALUATION_BATCH
from fedsec.randomness import seeded
from fedsec.seeds import Streams


class KnowledgeServer:
    """The server's network and its optimizer, both kept over the rounds.

    Args:
        module: the network, on the device of the data; trained in place, its parameters become views of one vector.
        algorithm: the settings.
        defense: what counts of the clients' messages, and the loss on their labels.
        streams: the experiment's random streams.
        compute: in which precision and memory format, `resolved`; float32 and contiguous by default.

    Attributes:
        parameters: the network's.
        optimizer: its state and its rate stay from round to round.
        best: the best loss of a round so far.
        waited: rounds since then, or since the rate dropped.

    Raises:
        InputError: the network has nothing to train, or parameters of several dtypes.
    """

    def __init__(
        self,
        module: nn.Module,
        algorithm: FedGKT,
        defense: KnowledgeDefense,
        streams: Streams,
        compute: Compute | None = None,
    ) -> None:
        self.module, self.algorithm, self.settings = module.eval(), algorithm, algorithm.server
        self.defense, self.streams, self.compute = defense, streams, compute or Compute()
        layout, channels_last = ParameterLayout.of(module), self.compute.channels_last
        self.parameters = FlatParameters(module, layout, channels_last=channels_last)
        self.optimizer = optimizer(self.parameters.flat, self.settings)
        self._gradient = torch.empty_like(self.parameters.flat)
        self.best, self.waited = float("inf"), 0

    def train(self, inbox: Inbox, admissions: Mapping[int, Admission], round_number: int) -> None:
        """One round's epochs on everything in the inbox.

        The loss of a batch is the mean over its examples of w_i l(z_s, y) + to_server v_i T^2 KL(p_c || p_s), where l
        is the defense's loss (cross-entropy, undefended) and w_i, v_i are what it admits of the example and of the
        client's logits of it. Examples without any weight stay out of the batches: they would shift the statistics of
        batch normalization.

        Args:
            inbox: the clients' messages.
            admissions: of each of its clients.
            round_number: names the streams of the shuffles and of what the network draws, and the round in errors.

        Raises:
            DivergenceError: the loss or the network is no longer finite.
            InputError: batch normalization cannot work with so small a batch.
        """
        weights = _joined(inbox, admissions)
        groups = self._groups(inbox, *weights)
        if not groups:
            return
        rng, device = self.streams.numpy("server", "round", round_number), inbox.labels.device
        draws = self.streams.key("server", "round", round_number, "model")
        loss = 0.0
        self.module.train()
        try:
            with seeded(draws, device), self.compute.arithmetic(device):
                for _ in range(self.settings.epochs_of(round_number)):
                    loss = self._epoch(inbox, self._batches(groups, rng, device), *weights)
                    if not np.isfinite(loss):
                        raise DivergenceError(
                            f"round {round_number}: the server's training loss is {loss}; expected finite messages and "
                            "a rate small enough for them (federation.server.lr)"
                        )
        finally:
            self.module.eval()
        trained = [self.parameters.flat, *self.module.buffers()]
        if not bool(torch.stack([tensor.isfinite().all() for tensor in trained]).all()):  # waits for the device once
            raise DivergenceError(f"round {round_number}: the server's network is no longer finite after training")
        self._watch(loss)

    @torch.no_grad()
    def logits(self, features: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n classes"]:
        """What the server answers: its logits of feature maps, in evaluation mode."""
        self.module.eval()
        with self.compute.arithmetic(features.device):
            return torch.cat([self._forward(part) for part in torch.split(features, EVALUATION_BATCH)])

    def state(self) -> dict[str, Tensor]:
        """All that the next rounds depend on, by name; copies, the same whatever the memory format."""
        state = {f"model.{name}": tensor.clone() for name, tensor in self.module.state_dict().items()}
        for name, tensor in self.optimizer.state().items():
            copied = state[f"optimizer.{name}"] = tensor.clone()
            if tensor.shape == self.parameters.flat.shape:
                self.parameters.read(copied, tensor)
        plateau = [self.optimizer.lr, self.best, self.waited]
        state["plateau"] = torch.tensor(plateau, dtype=torch.float64)
        return {name: tensor.contiguous() for name, tensor in state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self.module.load_state_dict({name: state[f"model.{name}"] for name in self.module.state_dict()})
        for name, tensor in self.optimizer.state().items():
            saved = state[f"optimizer.{name}"].to(tensor.device)
            if tensor.shape == self.parameters.flat.shape:
                self.parameters.write(saved, tensor)
            else:
                tensor.copy_(saved)
        self.optimizer.lr, self.best, waited = state["plateau"].tolist()
        self.waited = int(waited)

    def _watch(self, loss: float) -> None:
        """Divide the rate by ten after `patience` rounds without a better loss."""
        self.best, self.waited = (loss, 0) if loss < self.best else (self.best, self.waited + 1)
        if self.settings.patience is not None and self.waited >= self.settings.patience:
            self.optimizer.lr, self.waited = self.optimizer.lr / 10, 0

    def _groups(self, inbox: Inbox, examples: Tensor, teaching: Tensor) -> list[np.ndarray]:
        """Places in the inbox that have any weight: those that are shuffled together, together."""
        counted = examples > 0
        if self.algorithm.distillation.to_server:
            counted = counted | (teaching > 0)
        chosen = counted.cpu().numpy()
        places = [inbox.place(client) for client in inbox.clients]
        parts = [place.start + np.flatnonzero(chosen[place]) for place in places]
        if self.settings.order == "mixed":
            parts = [np.concatenate(parts)]
        return [part for part in parts if len(part)]

    def _batches(
        self, groups: Sequence[np.ndarray], rng: np.random.Generator, device: torch.device
    ) -> Sequence[Int64[Tensor, "batch"]]:
        """One epoch's batches. Even ones: a last batch of one example could not be normalized."""
        parts: list[np.ndarray] = []
        for group in rng.permutation(len(groups)):
            shuffled = rng.permutation(groups[group])
            parts += np.array_split(shuffled, -(-len(shuffled) // self.settings.batch_size))
        order = torch.from_numpy(np.concatenate(parts)).to(device)  # one copy to the device an epoch
        return torch.split(order, [len(part) for part in parts])

    def _epoch(
        self,
        inbox: Inbox,
        batches: Sequence[Int64[Tensor, "batch"]],
        examples: Float[Tensor, "all"],
        teaching: Float[Tensor, "all"],
    ) -> float:
        """One pass; the mean loss over its examples, waited for once."""
        total = torch.zeros((), dtype=torch.float64, device=inbox.labels.device)
        for batch in batches:
            logits = self._forward(inbox.features[batch])
            losses = self.defense.supervise(logits, inbox.labels[batch]) * examples[batch]
            if self.algorithm.distillation.to_server:
                share = teaching[batch]
                # What does not teach is not looked at: it may be anything, and zero times NaN is NaN.
                taught = torch.where(share[:, None] > 0, inbox.logits[batch], 0)
                terms = distillation(logits, taught, self.algorithm.distillation.temperature) * share
                losses = losses + self.algorithm.distillation.to_server * terms
            self.optimizer.step(self._backward(losses.mean()))
            total += losses.detach().sum()
        return (total / sum(len(batch) for batch in batches)).item()

    def _backward(self, loss: Tensor) -> Float[Tensor, "parameters"]:
        """A loss's gradient; overwritten by the next."""
        gradients = torch.autograd.grad(loss, self.parameters.tensors, allow_unused=True, materialize_grads=True)
        return self.parameters.gather(gradients, self._gradient)

    def _forward(self, features: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        try:
            with self.compute.autocast(features.device):
                logits: Tensor = self.module(self.compute.inputs(features))
        except ValueError as error:
            if "more than 1 value per channel" in str(error):
                raise InputError(
                    f"batch normalization needs more than one value a channel, and a batch of {len(features)} has no "
                    "more in the server network's last layers; expected larger batches, order: mixed, or norm: gn"
                ) from error
            raise
        return logits.float() if self.compute.precision == "bf16" else logits


def _joined(
    inbox: Inbox, admissions: Mapping[int, Admission]
) -> tuple[Float[Tensor, "examples"], Float[Tensor, "examples"]]:
    """What is admitted, of examples and of teaching logits, by place in the inbox; zero where nobody has written."""
    examples, teaching = (inbox.features.new_zeros(len(inbox.labels)) for _ in range(2))
    for client, admission in admissions.items():
        place = inbox.place(client)
        examples[place], teaching[place] = admission.examples, admission.distillation
    return examples, teaching
