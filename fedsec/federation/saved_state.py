"""All that the remaining rounds of a federation depend on, as named tensors: what checkpoints hold, and back."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from fedsec.federation.rounds import checked_state
from fedsec.federation.user_privacy import tagged, untagged

if TYPE_CHECKING:
    from fedsec.federation.updates import Federation


def state_of(federation: "Federation") -> dict[str, Tensor]:
    """The state of a federation between two rounds."""
    spent = {} if federation.privacy is None else federation.privacy.state()
    forging, inspected = federation.forgery.state(), federation.inspections.state()
    theirs = {**tagged(forging, _ATTACK), **tagged(inspected, _CLIENTS)}
    return {**_model_state(federation), **spent, **federation.rules.state(), **theirs}


def restore(federation: "Federation", state: Mapping[str, Tensor]) -> None:
    """Set a federation's state to one that `state_of` gave.

    Raises:
        InputError: the state is not one of this federation's.
    """
    privacy = federation.privacy
    spent = {} if privacy is None else {name: state[name] for name in privacy.state() if name in state}
    # What attacks and rules remember has no shape before they began: they say themselves whether this is it.
    forging, inspected = untagged(state, _ATTACK), untagged(state, _CLIENTS)
    theirs = {*federation.rules.names(state), *tagged(forging, _ATTACK), *tagged(inspected, _CLIENTS)}
    rest = {name: tensor for name, tensor in state.items() if name not in {*spent, *theirs}}
    restored = checked_state(rest, _model_state(federation))
    federation.forgery.restore(forging, federation.parameters.device)
    federation.inspections.restore(inspected)
    if privacy is not None:
        privacy.restore(spent)
    memory = {name: tensor.clone() for name, tensor in untagged(restored, _ALGORITHM).items()}
    federation.algorithm_state = {"parameters": restored["parameters"], **memory}
    federation.statistics = restored["statistics"]
    federation.client_defenses.restore(restored)
    federation.worker_momentum.restore(restored)
    federation.rules.restore(state, federation.parameters.device)
    federation.client_statistics = restored.get("client_statistics", federation.client_statistics).clone()


def _model_state(federation: "Federation") -> dict[str, Tensor]:
    # Copies of what rounds write into, client by client.
    memory = {name: tensor.clone() for name, tensor in federation.algorithm_state.items() if name != "parameters"}
    state = {"parameters": federation.parameters, "statistics": federation.statistics}
    state |= federation.client_defenses.state() | federation.worker_momentum.state() | tagged(memory, _ALGORITHM)
    return {**state, "client_statistics": federation.client_statistics.clone()} if federation.bn == "local" else state


_ALGORITHM, _ATTACK, _CLIENTS = "algorithm", "attack", "inspections"
"""What names of an algorithm's, of an attack's and of the clients' memory begin with in a checkpoint."""
