"""Generalized cross-entropy: a loss that believes a label the less, the less the network agrees with it.

Reference: Zhang, Sabuncu, Generalized cross entropy loss for training deep neural networks with noisy labels, NeurIPS
2018, arXiv:1805.07836. The truncated form of section 3.3 is left out: it prunes examples in stages, which a server that
sees a client's examples once a round cannot do.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.defense.knowledge import KnowledgeDefense
from fedsec.errors import InputError


class RobustLoss(KnowledgeDefense):
    """A FedGKT server trains on labels with generalized cross-entropy instead of cross-entropy.

    (1 - p_y^q) / q, where p_y is the probability that the network gives the label

    Its gradient is p_y^q times that of
    cross-entropy, so examples that the network finds impossible (flipped labels, others' features) pull little.

    Args:
        q: between cross-entropy (the limit 0) and the mean absolute error (1), in (0, 1]; the paper takes 0.7.

    Raises:
        InputError: q is out of range.

    Cost:
        As cross-entropy.

    Limits:
        It looks at labels alone: wrong feature maps are trained on, and wrong logits distilled. The nearer q is to 1,
        the slower the server learns (Zhang and Sabuncu, NeurIPS 2018).

    Reference: Zhang & Sabuncu, NeurIPS 2018, arXiv:1805.07836
    """

    def __init__(self, q: float = 0.7) -> None:
        if not 0 < q <= 1:
            raise InputError(f"RobustLoss: q must lie in (0, 1], not {q}")
        self.q = q

    def supervise(
        self, logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        likely = -F.cross_entropy(logits, labels, reduction="none")
        # expm1 keeps the digits of small q, where 1 - p^q cancels.
        return -torch.expm1(self.q * likely) / self.q
