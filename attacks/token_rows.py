"""Token rows: which tokens a batch has, from the rows of the embedding's gradient that are not zero.

Reference: Melis, Song, De Cristofaro, Shmatikov, Exploiting unintended feature leakage in collaborative learning, IEEE
S&P 2019, arXiv:1805.04049, section 4.1.
"""

import torch

from fedsec.errors import InputError
from fedsec.threat.texts import TextInversion, TextObservation, TextReconstruction


class TokenRows(TextInversion):
    """Reads the set of a batch's tokens off the embedding layer: only rows of tokens that occur have a gradient.

    Exact, for any model with an embedding of its own and any number of texts and local steps. It tells no order and no
    number; an input's padding counts as a token, since it is embedded like one. A token is told by a row whose norm is
    more than `threshold` times the largest row's.

    Args:
        threshold: relative norm from which on a row is not zero, in [0, 1).

    Raises:
        InputError: a threshold out of range; on use: a model without an embedding of tokens.

    Cost:
        The norms of the embedding's rows.

    Limits:
        Noise makes every row a token, unless the threshold lies above it; an embedding that is shared with the last
        layer has a gradient at every token. Secure aggregation leaves the set of all clients' tokens.

    Example:
        threshold: 0.0

    Reference: Melis et al., IEEE S&P 2019, arXiv:1805.04049
    """

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = checked_threshold("TokenRows", threshold)

    def recover(self, observation: TextObservation, *, generator: torch.Generator) -> TextReconstruction:
        tokens = occurring(observation, self.threshold)
        notes: tuple[str, ...] = ()
        if len(tokens) == observation.num_tokens:
            notes = ("every token's row has a gradient: noise, or an embedding shared with the last layer",)
        return TextReconstruction(tokens, notes=notes)


def occurring(observation: TextObservation, threshold: float = 0.0) -> tuple[int, ...]:
    """The tokens whose rows of the embedding's gradient are not zero.

    Args:
        observation: of an update of texts.
        threshold: relative to the largest row's norm.
    """
    name, _ = observation.embedding
    norms = observation.gradient_of(name).norm(dim=1)
    return tuple(torch.nonzero(norms > threshold * norms.max()).flatten().tolist())


def checked_threshold(name: str, threshold: float) -> float:
    """A relative threshold in [0, 1), or an InputError."""
    if not 0 <= threshold < 1:
        raise InputError(f"{name}: threshold must lie in [0, 1), not {threshold}")
    return threshold
