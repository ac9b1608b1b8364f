"""Backdoors: a trigger in some images makes them a class of the attacker's choice; all else is answered as before.

Reference: Gu, Dolan-Gavitt, Garg, BadNets: identifying vulnerabilities in the machine learning model supply chain,
2017, arXiv:1708.06733 (a square in a corner); Chen, Liu, Li, Lu, Song, Targeted backdoor attacks on deep learning
systems using data poisoning, 2017, arXiv:1712.05526 (a key image, blended in). That updates are sent enlarged is from
Bhagoji et al., ICML 2019, arXiv:1811.12470 (explicit boosting).
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fedsec.threat import AttackerView, BackdoorPoisoning, PatternAttack
from fedsec.threat.backdoor import checked_positive


@dataclass(eq=False)
class Backdoor(BackdoorPoisoning, PatternAttack):
    """Byzantine clients train on images with a trigger and the target's label beside honest ones.

    Their updates are sent as they come, or `boost` times as large, so that one of them outweighs many.

    Args:
        boost: factor on the update, positive; 1 leaves it as it is.

    Raises:
        InputError: a number out of range, or an option that does not go with the pattern.

    Cost:
        What honest training costs.

    Limits:
        Median and Multi-Krum stop it where clients' data are alike, and a norm bound takes back what `boost` gains
        (docs/backdoors.md). It fades when the attackers are gone.

    Example:
        target: 1
        size: 2

    Reference: Gu et al. 2017, arXiv:1708.06733; Chen et al. 2017, arXiv:1712.05526
    """

    by_columns = True
    boost: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.forges = checked_positive(self, "boost", self.boost) != 1

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        return view.own * self.boost
