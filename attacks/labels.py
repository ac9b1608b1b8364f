"""Label recovery by itself: which classes a client's images are of, and how many of each.

Reference: Zhao, Mopuri, Bilen, iDLG: improved deep leakage from gradients, 2020, arXiv:2001.02610; Yin et al., CVPR
2021, arXiv:2104.07586; Wainakh et al., PoPETs 2022, arXiv:2105.09369; Geng et al., 2021, arXiv:2110.09074.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch

from fedsec.errors import InputError
from fedsec.matching.consistency import consistent, with_notes
from fedsec.matching.labels import recover_labels
from fedsec.threat import Inversion, Observation, Reconstruction
from fedsec.threat.inversion import Watch


class Labels(Inversion):
    """Reads the labels of a batch from the gradient of the last linear layer; no images.

    Exact for one image. For batches of untrained networks nearly so, with repeated classes too; trained networks and
    updates over several local steps tell less. Labels come sorted; granted labels are not looked at.

    Args:
        method: `idlg`: the only negative entry; batches of one. `yin`: the smallest entries; needs features that are
            not negative and labels that are all different. `wainakh`: signs, then impact and offset. `geng`: counts
            from the mean posterior. `auto`: idlg for one image, geng otherwise.

    Raises:
        InputError: the method is unknown.

    Cost:
        One pass over the gradient of the last linear layer; for a batch of several images also a pass of random images
        forward through the network.

    Limits:
        Trained networks and updates of several local steps tell less. It gives no images.

    Reference: Geng et al., 2021, arXiv:2110.09074
    """

    tells_labels_only: ClassVar[bool] = True

    def __init__(self, method: Literal["auto", "idlg", "yin", "wainakh", "geng"] = "auto") -> None:
        if method not in ("auto", "idlg", "yin", "wainakh", "geng"):
            raise InputError(f"Labels: method must be auto, idlg, yin, wainakh or geng, not {method!r}")
        self.method: Literal["auto", "idlg", "yin", "wainakh", "geng"] = method

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> Sequence[Reconstruction]:
        observations, doubts = consistent(observations)
        results = []
        for observation in observations:
            estimate = recover_labels(observation, method=self.method, generator=generator)
            notes = [f"labels read from the last layer by {estimate.method}"]
            if estimate.method == "signs" and observation.batch_size > 1:
                notes.append("of signs alone, classes that repeat cannot be told from those that do not")
            if observation.local is not None:
                notes.append("several local steps were read as one mean gradient, which costs accuracy")
            results.append(Reconstruction(images=None, labels=estimate.labels, notes=tuple(notes)))
        return with_notes(results, doubts)
