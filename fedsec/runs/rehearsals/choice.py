"""Of which cells nothing but the beginning tells whether their parts go together.

What clients and server do is checked part by part (see `fedsec.scenario.checks`), which takes no data and, in scenarios
of hundreds of cells, much less time.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from fedsec.errors import FedsecError
from fedsec.plugins import registry
from fedsec.scenario import CellConfig, DatasetConfig
from fedsec.scenario.federation_config import ModelConfig

__all__ = ["Reason", "reasons"]

Reason = Literal["watched", "normalized", "divided"]
"""watched: somebody looks at, audits or attacks what clients exchange; normalized: clients' networks normalize by the
batch, and batches may be too small for it; divided: only the drawn examples tell if there is such a partition, or room
for the server's own."""


def reasons(config: CellConfig) -> Sequence[Reason]:
    """Why a cell's beginning may refuse what no other check does; none for most.

    Args:
        config: the cell's; it has passed `check_scenario`.
    """
    if config.inversion is not None or config.audit is not None or config.attack.role == "activations":
        return ["watched"]  # which begins it as it is
    chosen: list[Reason] = []
    counts = registry.entry("partition", config.partition.name).traits["counts_classes"]
    if not config.pooled and (counts or config.federation.server_data is not None):
        chosen.append("divided")
    if _normalizes(config.model.model_dump_json(), config.dataset.model_dump_json()):
        chosen.append("normalized")
    return chosen


@lru_cache(maxsize=64)
def _normalizes(model: str, dataset: str) -> bool:
    """Whether a model normalizes by the batch, as far as its dataset's shape is known without a look."""
    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    from fedsec.models import build

    network, data = ModelConfig.model_validate_json(model), DatasetConfig.model_validate_json(dataset)
    source = registry.load("dataset", data.name)(**data.options)
    if source.input_shape is None or source.num_classes is None:
        return False
    try:
        with torch.device("meta"):
            module: nn.Module = build(network.name, source.input_shape, source.num_classes, **network.options)
    except (FedsecError, RuntimeError, TypeError, ValueError):
        return False
    return any(isinstance(layer, _BatchNorm) for layer in module.modules())
