"""fedsec in a Flower app: robust strategies for the server, mods for nodes.

    from fedsec.defenses import Median
    from fedsec.flower import RobustStrategy

    strategy = RobustStrategy(Median(), fraction_train=0.5)     # in place of FedAvg(fraction_train=0.5)

Needs the extra: `pip install "fedsec[flower]"`. The versions of Flower that this was tested with are `TESTED`. Names
are loaded when they are first used: a node's process, which Flower starts for every message, loads nothing of a server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedsec.flower.versions import TESTED, check_flower

if TYPE_CHECKING:
    from fedsec.flower.local_privacy import dp_mod
    from fedsec.flower.node_verdicts import NodeVerdicts
    from fedsec.flower.observing import observe
    from fedsec.flower.poisoned_data import poisoned
    from fedsec.flower.received import Received
    from fedsec.flower.recording_observer import record
    from fedsec.flower.strategy import RobustStrategy
    from fedsec.flower.update_attack import byzantine_mod
    from fedsec.flower.update_transforms import transform_mod

__all__ = [
    "TESTED",
    "NodeVerdicts",
    "Received",
    "RobustStrategy",
    "byzantine_mod",
    "dp_mod",
    "observe",
    "poisoned",
    "record",
    "transform_mod",
]

check_flower()

_HOMES = {
    "NodeVerdicts": "node_verdicts",
    "Received": "received",
    "RobustStrategy": "strategy",
    "byzantine_mod": "update_attack",
    "dp_mod": "local_privacy",
    "observe": "observing",
    "poisoned": "poisoned_data",
    "record": "recording_observer",
    "transform_mod": "update_transforms",
}
"""Public name -> the module that has it."""

if not TYPE_CHECKING:  # a type checker is to know the names, not to take any name for one

    def __getattr__(name: str) -> Any:
        """Load a public name when it is first used."""
        if name in _HOMES:
            value = getattr(import_module(f"fedsec.flower.{_HOMES[name]}"), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'fedsec.flower' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
