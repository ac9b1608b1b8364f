"""Nothing: an update of zeros.

Where a rule weights clients alike, it slows training down; it is also the plain free rider of Fraboni, Vidal, Lorenzi,
Free-rider attacks on model aggregation in federated learning, AISTATS 2021, arXiv:2006.11901.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.threat import AttackerView, UpdatePoisoning


class ZeroUpdate(UpdatePoisoning):
    """Sends zeros: the model as it was received.

    Cost:
        Nothing.

    Limits:
        The mean becomes shorter, and no more. A rule that takes the row with the nearest neighbors may take zeros,
        which are equal and lie in the middle; training then stands still (`krum` in docs/results/byzantine_zoo.csv).

    Reference: Fraboni et al., AISTATS 2021, arXiv:2006.11901
    """

    knowledge = "own"
    by_columns = True

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        return torch.zeros_like(view.own)
