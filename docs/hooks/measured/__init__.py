"""What was measured of each attack, inversion and defense, from the rows in docs/results.

Every number is one of a committed row; nothing is computed beyond means over seeds. No hook itself.
"""

from measured import (
    backdoors,
    byzantine,
    cuts,
    inspections,
    inversions,
    malicious_servers,
    membership,
    privacy,
    training,
)
from measured.results import Bar, Measurement

__all__ = ["Bar", "Measurement", "measurements"]

_SOURCES = (
    *byzantine.SOURCES,
    *backdoors.SOURCES,
    *training.SOURCES,
    *inversions.SOURCES,
    *malicious_servers.SOURCES,
    *membership.SOURCES,
    *privacy.SOURCES,
    *inspections.SOURCES,
    *cuts.SOURCES,
)


def measurements(kind: str, name: str) -> list[Measurement]:
    """All that was measured of a method; nothing where nothing was.

    Args:
        kind: attack, inversion, inference or defense.
        name: in YAML.
    """
    pictures = [picture for source in _SOURCES for picture in source(kind, name)]
    return [picture for picture in pictures if any(bar.values for bar in picture.bars)]
