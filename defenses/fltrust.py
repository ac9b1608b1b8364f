"""FLTrust: updates count by how far they agree with an update from a little data of the server's own.

Reference: Cao, Fang, Liu, Gong, FLTrust: Byzantine-robust federated learning via trust bootstrapping, NDSS 2021,
arXiv:2012.13995.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule


class FLTrust(GramRule):
    """Mean of the updates, each at the length of the server's own and weighted by the cosine of their angle.

    sum_i TS_i (||g_0|| / ||g_i||) g_i / sum_i TS_i  with the trust score  TS_i = max(0, cos(g_i, g_0))

    g_0 is what the server's own training on its own data gives (`server_update`). An update at a right or obtuse angle
    to it counts nothing; where all do, or the server's update is zero, the result is zero: no step, and never the plain
    mean, which would let the attackers in. Withstands any number of Byzantine clients as long as the server's data tell
    the direction. Ignores the clients' weights.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them, the server's among them; and the server's
        own training in every round.

    Limits:
        As good as the server's data are like the clients': honest clients whose updates are at a right or obtuse angle
        to its own count nothing, and what its data do not tell is not learned from others. Server data that are
        poisoned themselves mislead it.

    Reference: Cao et al., NDSS 2021, arXiv:2012.13995
    """

    normalized = False
    needs_server_update = True
    detects = True

    def max_rejected(self, num_clients: int) -> int:
        """All but one row."""
        return num_clients - 1

    def references(self, cohort: Cohort) -> Float[Tensor, "references parameters"]:
        assert cohort.server_update is not None
        return cohort.server_update[None]

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        trust = gram.cosines(references=True)[:-1, -1].clamp_min(0)
        lengths = gram.squared_norms(references=True).sqrt()
        total = float(trust.sum())
        if total == 0:
            return torch.zeros_like(trust)
        # A row of zeros has no direction, and no trust.
        shortened = torch.where(trust > 0, lengths[-1] / lengths[:-1].clamp_min(torch.finfo(torch.float64).tiny), 0.0)
        return trust / total * shortened
