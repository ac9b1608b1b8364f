"""Algorithms of which some layers never leave the clients: what the others share, and what each of them keeps.

A client's model is the global one with its own layers in their place. What clients send has no columns for these: the
federation leaves them out of every row before defenses, attacks and rules, so that distances are those of the shared
part, and a Byzantine client changes nothing of another's layers whatever it sends. Bytes count the shared part alone.
In the state the global vector keeps the layers that the federation began with.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedsec.engine.parameters import ParameterLayout
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import StragglingAlgorithm
from fedsec.federation.algorithms.update_algorithm import Exchange, State, move_rows, rows_of_clients


@dataclass(frozen=True)
class PersonalLayersAlgorithm(StragglingAlgorithm):
    """An algorithm whose clients share some parameters and keep the others.

    State: `home`, [kept], the places of the parameters that never leave a client; `own`, [clients, kept], each
    client's, at the beginning those of the initial model. A client that is not in a round, or whose training was not
    finite, keeps what it had.
    """

    whole_model: ClassVar[bool] = False
    sums_do: ClassVar[bool] = True

    @abstractmethod
    def kept(self, module: nn.Module) -> Iterable[str]:
        """The names of the parameters that never leave a client.

        Args:
            module: of the federation.

        Raises:
            InputError: it has not what should be kept, or nothing else.
        """

    def begin(self, module: nn.Module, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        layout, names = ParameterLayout.of(module), {*self.kept(module)}
        flags = [torch.full((shape.numel(),), name in names) for name, shape in layout.shapes.items()]
        home = torch.cat(flags).nonzero().squeeze(1).to(parameters.device)
        own = rows_of_clients(parameters[home], num_clients)
        return {"parameters": parameters, "home": home, "own": own.add_(parameters[home])}

    def at_home(self, state: State) -> Int64[Tensor, "kept"] | None:
        return state["home"] if len(state["home"]) else None

    def starts(self, state: State, clients: Sequence[int]) -> Float[Tensor, "*clients parameters"]:
        if not len(state["home"]):
            return state["parameters"]
        rows = state["parameters"].repeat(len(clients), 1)
        rows[:, state["home"]] = state["own"][list(clients)]
        return rows

    def personal(self, state: State, clients: Sequence[int]) -> Float[Tensor, "clients parameters"] | None:
        return self.starts(state, clients) if len(state["home"]) else None

    def apply(self, state: State, exchange: Exchange, aggregates: Mapping[str, Tensor]) -> State:
        home = state["home"]
        if exchange.trained is not None:
            updates = exchange.trained.updates
            # One that has diverged anywhere has nothing to go on with.
            lost = ~updates.isfinite().all(1)
            move_rows(state["own"], exchange.clients, updates[:, home].masked_fill(lost[:, None], torch.nan))
        after = super().apply(state, exchange, aggregates)
        if not len(home):
            return after
        # A rule may add noise of its own to every column.
        return {**after, "parameters": after["parameters"].index_copy(0, home, state["parameters"][home])}


def last_layers(module: nn.Module, count: int) -> list[str]:
    """The names of a model's last parameters: from its last layers with a weight matrix on.

    Args:
        module: its layers in the order in which it names them.
        count: of layers with a weight matrix (or a convolution's), the last one being the classifier's; what comes
            after the first of them belongs to them.

    Raises:
        InputError: it has fewer layers, or no more.
    """
    if not count:
        return []
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    matrices = [name for name, parameter in module.named_parameters() if parameter.ndim > 1 and parameter.requires_grad]
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in matrices))
    if not 1 <= count < len(layers):
        raise InputError(
            f"personal_layers: the model has {len(layers)} layers with weights, {', '.join(layers)}; expected fewer, "
            f"so that something is shared, got {count}"
        )
    first = names.index(next(name for name in names if name.rpartition(".")[0] == layers[-count]))
    return names[first:]
