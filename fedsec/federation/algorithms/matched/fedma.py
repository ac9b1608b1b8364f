"""FedMA: the neurons of clients' networks are matched before they are averaged.

Wang, Yurochkin, Sun, Papailiopoulos, Khazaeni: Federated Learning with Matched Averaging. ICLR 2020, arXiv:2002.06440.
Where the paper leaves a choice, or we deviate:

- The model keeps its size: no neuron is ever added, so the nonparametric part of its BBP-MAP matching (sigma, gamma and
  the cost of a new neuron) has nothing to decide, and what is left of its cost is the squared distance.
- All layers are matched at once, each given the order of the one before; in the paper clients receive each averaged
  layer and train those above it again before these are matched, which takes a round for each layer.
- The paper matches clients one after another to the average of the others. Here all are matched to one network: the
  model that was sent out, or, where clients begin with networks of their own, the received one that is nearest to most.
- Its last layer is averaged as it is, weighted by each class's examples; here by what `weighting` says of the client.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.engine.local_training import without_worker_momentum
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import StragglingAlgorithm
from fedsec.federation.algorithms.matched.chain import Layer, chain_of
from fedsec.federation.algorithms.matched.matching import matched_places, nearest_to_most
from fedsec.federation.algorithms.update_algorithm import Exchange, State
from fedsec.threat.rows import finite_rows

Beginning = Literal["common", "own"]
Match = Literal["weights", "none"]


@dataclass(frozen=True)
class FedMA(StragglingAlgorithm):
    """Federated averaging of networks whose neurons are matched first: the server permutes each row's columns.

    It does so with what it has received, before any rule judges it: rules, observers and accounts of influence see
    matched rows. In most rounds each is matched to the model that was sent out, by itself, so that no Byzantine row
    moves another's matching, and one that only permutes its neurons changes nothing. Where clients begin with networks
    of their own, the reference is the row from which half of the others are least far: who is Byzantine must be nearer
    to most than honest ones are to become it. Attacks that try the rule out try it on rows that are not matched.

    State: `layers`, [layers, 5], see `chain.Layer`; `begun`, [1], whether a round has been averaged.

    Args:
        beginning: of clients before anything is averaged: `common`, the initial model; `own`, each a network of its
            own, the initial model's weights shuffled within each layer by the client's number.
        match: `weights`, see `matching.matched_places`; `none`, the null to compare with: with a common beginning this
            is FedAvg.

    Raises:
        InputError: other words, worker momentum, or, with the model, layers that do not follow one another.

    Reference: Wang et al. 2020, arXiv:2002.06440
    """

    beginning: Beginning = "common"
    match: Match = "weights"

    private_examples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beginning not in ("common", "own"):
            raise InputError(f"beginning must be common or own, got {self.beginning!r}")
        if self.match not in ("weights", "none"):
            raise InputError(f"match must be weights or none, got {self.match!r}")
        without_worker_momentum(self.local, "FedMA matches the networks of a single round")

    def begin(self, module: nn.Module, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        rows = [(layer.weight, layer.outputs, layer.inputs, layer.area, layer.bias) for layer in chain_of(module)]
        return {"parameters": parameters, "layers": torch.tensor(rows), "begun": torch.zeros(1, dtype=torch.int64)}

    def starts(self, state: State, clients: Sequence[int]) -> Float[Tensor, "*clients parameters"]:
        parameters = state["parameters"]
        if self.beginning == "common" or state["begun"]:
            return parameters
        return torch.stack([shuffled(parameters, _layers(state), client) for client in clients])

    def received(
        self, state: State, clients: Sequence[int], rows: Mapping[str, Tensor]
    ) -> Mapping[str, Float[Tensor, "clients parameters"]]:
        sent_out, layers, updates = state["parameters"], _layers(state), rows["update"]
        starts = self.starts(state, clients)
        if starts.ndim == 2:
            updates = updates + (starts - sent_out)
        finite = finite_rows(updates)
        if self.match == "none" or not finite.any():
            return {"update": updates}
        networks, reference = sent_out + updates, sent_out
        if starts.ndim == 2:
            reference = networks[finite][nearest_to_most(networks[finite].cpu(), layers)]
        matched = updates.clone()
        for place in finite.nonzero().flatten().tolist():
            order = matched_places(reference.cpu(), networks[place].cpu(), layers).to(updates.device)
            if not torch.equal(order, torch.arange(len(order), device=order.device)):
                matched[place] = networks[place][order] - sent_out
        return {"update": matched}

    def apply(self, state: State, exchange: Exchange, aggregates: Mapping[str, Tensor]) -> State:
        after = super().apply(state, exchange, aggregates)
        return {**after, "begun": torch.ones_like(state["begun"])} if len(exchange.clients) else after


def _layers(state: State) -> list[Layer]:
    return [Layer(*row) for row in state["layers"].tolist()]


def shuffled(
    parameters: Float[Tensor, "parameters"], layers: Sequence[Layer], client: int
) -> Float[Tensor, "parameters"]:
    """An initial network of a client's own: its weights, and its biases, are shuffled within each layer.

    So all are drawn alike, whatever the model's initialization is; and they depend on nothing but it and the client.

    Args:
        parameters: of the initial model.
        layers: its own.
        client: number.
    """
    own = parameters.clone()
    digits = parameters.detach().cpu().double().numpy().view(np.uint32)
    rng = np.random.default_rng([client, int(digits.sum(dtype=np.uint64))])
    for layer in layers:
        for begin, size in ((layer.weight, layer.size), (layer.bias, layer.outputs)):
            if begin >= 0:
                order = torch.from_numpy(rng.permutation(size)).to(parameters.device)
                own[begin : begin + size] = parameters[begin : begin + size][order]
    return own
