"""What a server of feature maps holds: all messages in three tensors, a slice a client.

One tensor instead of one a client, because a server that mixes its clients' examples would need both otherwise, and the
feature maps of 50,000 CIFAR images take 3.3 GB.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.threat import Knowledge


class Inbox:
    """The newest message of each client.

    Args:
        sizes: how many examples each client has that may write, by its number.
        features: a message's features are like these: shape of an example, dtype and device.
        logits: likewise.

    Attributes:
        features: of all examples; a client's are those of its `place`.
        logits: the clients' own, likewise.
        labels: likewise.
    """

    def __init__(
        self,
        sizes: Mapping[int, int],
        features: Float[Tensor, "some channels height width"],
        logits: Float[Tensor, "some classes"],
    ) -> None:
        total = sum(sizes.values())
        self.features: Float[Tensor, "examples channels height width"] = features.new_empty(total, *features.shape[1:])
        self.logits: Float[Tensor, "examples classes"] = logits.new_empty(total, *logits.shape[1:])
        self.labels: Int64[Tensor, "examples"] = torch.empty(total, dtype=torch.int64, device=features.device)
        self._places: dict[int, slice] = {}
        begin = 0
        for client, size in sizes.items():
            self._places[client] = slice(begin, begin + size)
            begin += size
        self._heard: set[int] = set()

    @property
    def clients(self) -> list[int]:
        """Those that have written, in ascending order."""
        return sorted(self._heard)

    def put(self, client: int, message: Knowledge) -> None:
        """Keep a client's message in the place of its last one."""
        place = self._places[client]
        self.features[place] = message.features
        self.logits[place] = message.logits
        self.labels[place] = message.labels
        self._heard.add(client)

    def place(self, client: int) -> slice:
        """Where a client's examples lie."""
        return self._places[client]

    def of(self, client: int) -> Knowledge:
        """A client's newest message; not a copy."""
        place = self._places[client]
        return Knowledge(self.features[place], self.logits[place], self.labels[place])
