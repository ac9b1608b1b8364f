"""The updates that candidate images would have caused, for many independent problems at once.

A problem is one restart of one observation. All share the broadcast model. Gradients of models made of known layers
come from `fedsec.matching.layers`. Otherwise one forward pass under `vmap`, with the parameters expanded to one copy a
problem, and the ordinary gradient of the summed losses give every problem's own gradient in its row. Modules that
neither can handle are computed one problem after another.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _NormBase

from fedsec.errors import InputError
from fedsec.matching.comparison import Comparison
from fedsec.matching.distances import squared_distance, squared_norm
from fedsec.matching.layers import LayerGradients
from fedsec.matching.limits import Deadline
from fedsec.threat import Observation

__all__ = ["Candidates", "attacked_model"]

State = dict[str, Tensor]

_LARGE = 100_000
"""From so many parameters on a single problem gains more from `LayerGradients` than its overhead costs."""


class Candidates:
    """What a client with candidate images and labels would have sent.

    Args:
        observations: of one model, alike in kind.
        restarts: problems for each of them; problem p belongs to observation p // restarts.
        generator: draws the order in which a client with several local steps goes through its images,
            anew for each restart but the first, which goes through them in order.

    Attributes:
        problems: how many there are.
        targets: for each updated parameter, the observed updates [observations, ...]; where a distortion is known, what
            is compared of them (see `Comparison`), as in `updates`.
        scales: squared norms of the targets [observations].
        noise: share of the scales that is known to be noise [observations]; zero without a distortion.
        owner: observation of each problem.
        vectorized: whether problems are computed together.
    """

    def __init__(
        self, observations: Sequence[Observation], restarts: int = 1, *, generator: torch.Generator | None = None
    ) -> None:
        observations = [observation.as_gradient() for observation in observations]
        first = self.observation = observations[0]
        self.problems = len(observations) * restarts
        self.names = list(first.update)
        self._comparison = Comparison.of(observations, self.names)
        if self._comparison is None:
            self.targets = [
                torch.stack([observation.update[name] for observation in observations]) for name in self.names
            ]
        else:
            self.targets = self._comparison.targets
        self.scales = squared_norm(self.targets)
        self.noise = torch.zeros_like(self.scales) if self._comparison is None else self._comparison.noise
        self.owner: Int64[Tensor, "problems"] = torch.arange(len(observations)).repeat_interleave(restarts)
        self.vectorized = True
        self._hurried = False
        self._layers: LayerGradients | None = None
        self._loss = first.loss.mean
        self._model = attacked_model(first)
        own = dict(self._model.named_parameters())
        for name in (*self.names, *first.unsent):
            own[name].requires_grad_()
        self._parameters = {name: own[name] for name in self.names}
        # What a client trained and kept moves between its steps; a single gradient needs none of it.
        self._kept = {} if first.local is None else {name: own[name] for name in first.unsent}
        self._orders = _orders(first, restarts, len(observations), generator)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the way that was chosen."""
        if self.vectorized:
            return ()
        if self._hurried:
            return ("there was no time to try computing several problems together; they ran one after another",)
        return ("the model cannot be computed for several problems together; they ran one after another",)

    def targets_of(self, which: Int64[Tensor, "some"]) -> list[Tensor]:
        """The observed updates that these problems, in rising order, should reach; [some, ...] for each parameter."""
        if len(which) == self.problems == len(self.scales):
            return self.targets  # every problem its own: nothing to copy
        rows = self.owner[which]
        return [target[rows.to(target.device)] for target in self.targets]

    def updates(
        self, inputs: Float[Tensor, "some batch c h w"], labels: Tensor, which: Int64[Tensor, "some"]
    ) -> list[Tensor]:
        """The updates that clients would have sent, as they are compared with `targets`; twice differentiable.

        Args:
            inputs: of the model, one batch a problem.
            labels: int64 [some, batch], or probabilities [some, batch, classes].
            which: the problems' numbers.

        Returns:
            For each updated parameter, [some, ...].
        """
        updates = self._updates(inputs, labels, which)
        return updates if self._comparison is None else self._comparison(updates, self.owner[which])

    def _updates(self, inputs: Tensor, labels: Tensor, which: Int64[Tensor, "some"]) -> list[Tensor]:
        """The updates before they are compared."""
        if len(inputs) > 1 and not self.vectorized:
            return self._one_by_one(inputs, labels, which)
        if self.observation.local is not None:
            return self._trained(inputs, labels, which)
        if self._layers is not None:
            return self._layers(inputs, labels)
        if len(inputs) == 1:
            loss = self._loss(self._model(inputs[0]), labels[0])
            gradients = torch.autograd.grad(loss, list(self._parameters.values()), create_graph=True)
            return [gradient.unsqueeze(0) for gradient in gradients]
        state = self._expanded(len(inputs))
        return list(self._gradients(state, inputs, labels).values())

    def prepare(self, labels: Tensor, deadline: Deadline | None = None) -> None:
        """Choose the fastest way to compute these problems that gives the right numbers, tried on random images.

        Args:
            labels: of all problems, as in `updates`.
            deadline: of the search, if it has one. A share of its time is for this; when that is over, other ways than
                the plainest are not tried. Where time counts, two images of a batch are enough.

        Raises:
            InputError: the model cannot take such images, or its gradient has no gradient.
        """
        # Different ones for each problem, and no search's start: where all are alike, batches that influence each other
        # go unnoticed.
        deadline = deadline or Deadline()
        preparation = deadline.for_preparation()
        size = self.observation.batch_size
        if deadline.limited and self.observation.local is None:
            size = min(2, size)
        shape = (min(2, self.problems), size, *self.observation.input_shape)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        tried = noise.to(self.targets[0]).requires_grad_()
        labels = labels[:2, :size]
        try:
            first = self._one_by_one(tried[:1], labels[:1], torch.arange(1))
            torch.autograd.grad(squared_norm(first).sum(), tried)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"the model cannot be attacked: {' '.join(str(error).split())}") from error
        if preparation.passed:
            self.vectorized = self.problems == 1
            self._hurried = self.problems > 1
            return
        others = self._one_by_one(tried[1:], labels[1:], torch.arange(1, len(tried))) if len(tried) > 1 else None
        expected = first if others is None else [torch.cat(rows) for rows in zip(first, others, strict=True)]
        large = sum(row.numel() for row in self._parameters.values()) >= _LARGE
        if self.observation.local is None and (self.problems > 1 or large):
            layers = LayerGradients(deepcopy(self._model), self.names, self.observation.loss)
            apart = self.problems == 1 or not _couples(self._model)
            if apart and layers.complete and _agree(lambda: layers(tried, labels), expected):
                self._layers = layers
                return
        if self.problems > 1:
            self.vectorized = _agree(lambda: self._updates(tried, labels, torch.arange(2)), expected)

    def _one_by_one(self, inputs: Tensor, labels: Tensor, which: Int64[Tensor, "some"]) -> list[Tensor]:
        rows = [self._updates(inputs[i : i + 1], labels[i : i + 1], which[i : i + 1]) for i in range(len(inputs))]
        return [torch.cat(parts) for parts in zip(*rows, strict=True)]

    def _expanded(self, count: int) -> State:
        return {
            name: parameter.detach().expand(count, *parameter.shape).requires_grad_()
            for name, parameter in (*self._parameters.items(), *self._kept.items())
        }

    def _gradients(self, state: State, inputs: Tensor, labels: Tensor) -> State:
        """The gradient of each problem's mean loss."""
        losses = self._losses(state, inputs, labels)
        rows = torch.autograd.grad(losses.sum(), list(state.values()), create_graph=True)
        return dict(zip(state, rows, strict=True))

    def _losses(self, state: State, inputs: Tensor, labels: Tensor) -> Float[Tensor, "some"]:
        def loss(state: State, inputs: Tensor, labels: Tensor) -> Tensor:
            return self._loss(functional_call(self._model, state, (inputs,)), labels)

        if len(inputs) == 1:
            return loss({name: row[0] for name, row in state.items()}, inputs[0], labels[0]).unsqueeze(0)
        return vmap(loss, randomness="different")(state, inputs, labels)

    def _trained(self, inputs: Tensor, labels: Tensor, which: Int64[Tensor, "some"]) -> list[Tensor]:
        """Local training, unrolled."""
        local = self.observation.local
        assert local is not None
        start = self._expanded(len(inputs))
        state, velocity = dict(start), dict[str, Tensor]()
        rows = torch.arange(len(inputs), device=inputs.device)[:, None]
        for epoch, places in local.slots(inputs.shape[1]):
            chosen = self._orders[which, epoch][:, places].to(inputs.device)
            gradients = self._gradients(state, inputs[rows, chosen], labels[rows, chosen])
            factor = self.observation.loss_scale * (chosen.shape[1] if self.observation.reduction == "sum" else 1)
            if factor != 1:
                gradients = {name: factor * gradient for name, gradient in gradients.items()}
            if local.clip_norm is not None:
                gradients = _clipped(gradients, local.clip_norm)
            for name, gradient in gradients.items():
                if local.weight_decay:
                    gradient = gradient + local.weight_decay * state[name]
                if local.momentum:
                    gradient = velocity[name] = gradient + local.momentum * velocity.get(
                        name, torch.zeros_like(gradient)
                    )
                state[name] = state[name] - local.lr * gradient
        return [state[name] - start[name].detach() for name in self.names]


def attacked_model(observation: Observation) -> nn.Module:
    """The model as the attacker computes it, from a copy.

    Normalization layers in train mode use the candidates' own statistics, as the client's batch used its own, and leave
    the running ones alone.
    """
    model = deepcopy(observation.model)
    for module in model.modules():
        if isinstance(module, _NormBase) and module.training:
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return model


def _clipped(gradients: State, bound: float) -> State:
    """What is longer cut to a bound, as PyTorch's `clip_grad_norm_` and clients do it."""
    shares = (bound / (squared_norm(list(gradients.values())).sqrt() + 1e-6)).clamp(max=1)
    return {name: row * shares.view(-1, *[1] * (row.ndim - 1)) for name, row in gradients.items()}


def _agree(updates: Callable[[], list[Tensor]], expected: list[Tensor]) -> bool:
    """Whether another way of computing updates works and gives the same, but for rounding."""
    try:
        tried = [row.detach() for row in updates()]
    except (RuntimeError, ValueError, IndexError, TypeError):
        return False
    goal = [row.detach() for row in expected]
    return bool((squared_distance(tried, goal, squared_norm(goal)) < 1e-6).all())


def _couples(model: nn.Module) -> bool:
    """Whether the images of a batch influence each other's outputs through batch normalization."""
    return any(
        isinstance(module, _NormBase) and (module.training or module.running_mean is None) for module in model.modules()
    )


def _orders(
    observation: Observation, restarts: int, observations: int, generator: torch.Generator | None
) -> Int64[Tensor, "problems epochs batch"]:
    """The order in which each problem's client goes through its images."""
    local, size = observation.local, observation.batch_size
    epochs = local.epochs(size) if local else 1
    orders = torch.arange(size).expand(observations * restarts, epochs, size).clone()
    if local is not None and local.batch_size is not None and local.batch_size < size:
        for problem in range(len(orders)):
            for epoch in range(epochs) if problem % restarts else ():
                orders[problem, epoch] = torch.randperm(size, generator=generator)
    return orders
