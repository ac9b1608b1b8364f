"""fedsec in a Flower app: robust strategies for the server, mods for nodes.

    from fedsec.defenses import Median
    from fedsec.flower import RobustStrategy

    strategy = RobustStrategy(Median(), fraction_train=0.5)     # in place of FedAvg(fraction_train=0.5)

Needs the extra: `pip install "fedsec[flower]"`. The versions of Flower that this was tested with are `TESTED`.
"""

from fedsec.flower.versions import TESTED, check_flower

check_flower()

from fedsec.flower.node_verdicts import NodeVerdicts  # noqa: E402
from fedsec.flower.strategy import RobustStrategy  # noqa: E402

__all__ = ["TESTED", "RobustStrategy", "NodeVerdicts"]
