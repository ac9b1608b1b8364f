"""Federations that exchange activations of a network that is cut."""

import torch

from fedsec.federation.split.columns import ColumnNetwork
from fedsec.federation.split.rounds import SplitFederation
from fedsec.federation.split.split_learning import SplitLearning
from fedsec.federation.split.vertical import Vertical
from fedsec.federation.split.vertical_rounds import VerticalFederation
from fedsec.models import build
from fedsec.runs.building.parts import Parts, Placement, build_part
from fedsec.seeds import Streams


def split_federation(parts: Parts, algorithm: SplitLearning, placement: Placement) -> SplitFederation:
    """Clients with the first blocks of the model, and a server with the others.

    Raises:
        InputError: a model that cannot be cut so, or settings that contradict each other.
    """
    module = parts.model(parts.config.model, parts.dataset.input_shape, "init")
    return SplitFederation(
        module,
        parts.trainer(module),
        algorithm=algorithm,
        defenses=[build_part("defense", part) for part in parts.config.defense],
        **parts.common(),
    )


def vertical_federation(parts: Parts, algorithm: Vertical, placement: Placement) -> VerticalFederation:
    """Parties with columns of all examples, each with the model as its bottom, and one with the labels.

    Raises:
        InputError: fewer columns than parties, or settings that contradict each other.
    """
    model = parts.config.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((parts.streams if model.seed is None else Streams(model.seed)).seed("init"))
        module = ColumnNetwork(
            lambda shape, width: build(model.name, shape, width, **model.options),
            parts.dataset.input_shape,
            parts.config.partition.clients,
            algorithm.width,
            algorithm.top,
            parts.task.outputs or parts.dataset.num_classes,
        )
    return VerticalFederation(
        module,
        parts.trainer(module),
        algorithm=algorithm,
        defenses=[build_part("defense", part) for part in parts.config.defense],
        **parts.common(),
    )
