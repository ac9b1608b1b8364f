"""Flower's own strategies around a robust aggregate: whom they sample, what they send, how the server moves on.

A strategy of the FedAvg family averages its nodes' replies and then, perhaps, takes a step of its own (momentum, Adam).
It is handed the robust aggregate as the reply of a single node. An average of one is that one, so its step is fed by
our rule, and none of its code is copied.
"""

from collections.abc import Iterable, Mapping

import torch
from flwr.app import Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    Bulyan,
    FedAvg,
    FedMedian,
    FedTrimmedAvg,
    FedXgbBagging,
    FedXgbCyclic,
    Krum,
    MultiKrum,
    QFedAvg,
    Strategy,
)
from torch import Tensor

from fedsec.errors import InputError
from fedsec.flower.arrays import record_of, state_of

__all__ = ["checked_strategy", "memory", "recall", "stepped"]

_RULES = (Bulyan, FedMedian, FedTrimmedAvg, Krum, MultiKrum, QFedAvg)
_TREES = (FedXgbBagging, FedXgbCyclic)
_MEMORIES = ("m_t", "v_t", "momentum_vector")
"""Attributes in which Flower's strategies keep what their steps depend on beside the model that was sent."""


def checked_strategy(strategy: Strategy) -> FedAvg:
    """The strategy, if a robust aggregate can stand in for its average.

    Raises:
        InputError: it has a rule of its own, averages no arrays, or is none of the FedAvg family.
    """
    name = type(strategy).__name__
    if isinstance(strategy, _RULES):
        raise InputError(
            f"RobustStrategy: {name} has a rule of its own, and two rules do not add up; expected FedAvg, FedAvgM, "
            "FedProx, FedAdam, FedAdagrad or FedYogi, and the rule as aggregator"
        )
    if isinstance(strategy, _TREES):
        raise InputError(f"RobustStrategy: {name} exchanges trees, and no vectors that a rule could aggregate")
    if not isinstance(strategy, FedAvg):
        hint = ""
        if "DifferentialPrivacy" in name:
            hint = (
                ". Its noise is made for a mean of clipped updates, and is too little for other rules; expected a "
                "private rule as aggregator, DpFedAvg, or dp_mod on the nodes"
            )
        raise InputError(f"RobustStrategy: {name} does not average as FedAvg does{hint}")
    return strategy


def stepped(strategy: FedAvg, round_number: int, aggregated: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Where the strategy's own server step leads from a robust aggregate.

    Args:
        strategy: with `configure_train` called for this round.
        round_number: from 1.
        aggregated: the model that the aggregate alone gives; left unchanged.

    Raises:
        InputError: the strategy gave no model, or one of other arrays.
    """
    if type(strategy).aggregate_train is FedAvg.aggregate_train:
        return dict(aggregated)
    content = RecordDict(
        {
            strategy.arrayrecord_key: record_of(aggregated),
            "metrics": MetricRecord({strategy.weighted_by_key: 1.0}),
        }
    )
    message = Message(content, dst_node_id=0, message_type=MessageType.TRAIN)
    arrays, _ = strategy.aggregate_train(round_number, [message])
    name = type(strategy).__name__
    if arrays is None or arrays.keys() != aggregated.keys():
        raise InputError(f"{name}.aggregate_train gave {'nothing' if arrays is None else 'other arrays'} of one reply")
    return {key: tensor.to(aggregated[key].dtype) for key, tensor in state_of(arrays, name).items()}


def memory(strategy: FedAvg) -> dict[str, Tensor]:
    """What the next steps of Flower's own strategies depend on, by name."""
    state = dict[str, Tensor]()
    for name in _MEMORIES:
        held = getattr(strategy, name, None)
        if held is None:
            continue
        items: Iterable[tuple[object, object]] = held.items() if isinstance(held, Mapping) else enumerate(held)
        state |= {f"{name}.{key}": torch.as_tensor(value).clone() for key, value in items}
    return state


def recall(strategy: FedAvg, state: Mapping[str, Tensor]) -> None:
    """Take over what `memory` gave, in the form in which the strategy keeps it."""
    for name in _MEMORIES:
        tag = f"{name}."
        own = {key.removeprefix(tag): tensor.clone() for key, tensor in state.items() if key.startswith(tag)}
        if not own:
            continue
        arrays = {key: tensor.numpy() for key, tensor in own.items()}
        if name == "momentum_vector":
            setattr(strategy, name, [arrays[key] for key in sorted(arrays, key=int)])
        else:
            setattr(strategy, name, arrays)
