"""Logit poisoning: a teacher that teaches wrong classes.

Reference: Tang, Wu, Gao, Wen, Wang, Sun, Logits poisoning attack in federated distillation, 2024, arXiv:2401.03685.
That attack puts the values of each logit vector into another order, so that the peak falls on a wrong class; `mirror`
is such an order. He et al., FedGKT, NeurIPS 2020, arXiv:2007.14513, name the risk of "incorrect soft labels".
"""

from dataclasses import replace
from math import isfinite
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import Knowledge, KnowledgePoisoning

_PEAK = 10.0
"""A softmax over ten classes puts 0.9996 on a logit that is so much larger than the others."""


class LogitPoison(KnowledgePoisoning):
    """Byzantine clients of FedGKT send wrong logits for the server to distill; features and labels stay as they are.

    mirror: the logits in reverse order of the classes (the middle one of an odd number stays).
    negate: the logits with their sign flipped: the least likely class becomes the most likely one.
    confident: 10 for the class after the label (cyclically) and 0 for all others, whatever the client's model says;
        all attackers teach the same wrong class.

    Args:
        mode: what is sent.
        scale: factor on the logits that are sent, positive; large ones make the teacher surer of itself.

    Raises:
        InputError: the mode is unknown, or the factor is not positive and finite.

    Cost:
        What honest training costs.

    Limits:
        `knowledge_screening` distills no logits that contradict their label. The server's loss on labels and feature
        maps is not touched.

    Reference: Tang et al., 2024, arXiv:2401.03685
    """

    def __init__(self, mode: Literal["mirror", "negate", "confident"] = "mirror", scale: float = 1.0) -> None:
        if mode not in ("mirror", "negate", "confident"):
            raise InputError(f"LogitPoison: mode must be mirror, negate or confident, not {mode!r}")
        if not (isfinite(scale) and scale > 0):
            raise InputError(f"LogitPoison: scale must be positive and finite, not {scale}")
        self.mode, self.scale = mode, scale

    def corrupt(self, knowledge: Knowledge, *, num_classes: int, generator: torch.Generator) -> Knowledge:
        return replace(knowledge, logits=self._lies(knowledge) * self.scale)

    def _lies(self, knowledge: Knowledge) -> Tensor:
        if self.mode == "mirror":
            return knowledge.logits.flip(1)
        if self.mode == "negate":
            return -knowledge.logits
        wrong = (knowledge.labels + 1) % knowledge.num_classes
        return F.one_hot(wrong, knowledge.num_classes).to(knowledge.logits.dtype) * _PEAK
