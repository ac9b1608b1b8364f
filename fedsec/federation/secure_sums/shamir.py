"""Shamir's secret sharing: any `threshold` of the shares give the secret, and fewer tell nothing of it.

A secret is the value at 0 of a random polynomial of degree `threshold` - 1, and a share its value at the holder's
point.

Reference: Shamir, How to share a secret, Communications of the ACM 22 (11), 1979
"""

import numpy as np
from jaxtyping import UInt64

from fedsec.errors import InputError
from fedsec.federation.secure_sums.finite_field import combined, lagrange, product, reduced, uniform

__all__ = ["dealt", "reconstructed"]


def dealt(
    secrets: UInt64[np.ndarray, "secrets"],
    points: UInt64[np.ndarray, "holders"],
    threshold: int,
    generator: np.random.BitGenerator,
) -> UInt64[np.ndarray, "holders secrets"]:
    """Shares of several secrets.

    Args:
        secrets: elements of the field.
        points: of the holders: different from each other and from 0.
        threshold: how many shares a secret takes.
        generator: of the polynomials.

    Raises:
        InputError: the threshold is more than there are holders, or below one.
    """
    if not 1 <= threshold <= len(points):
        raise InputError(f"a threshold of {threshold} shares needs as many holders; there are {len(points)}")
    shares = np.zeros((len(points), len(secrets)), np.uint64)
    for coefficients in uniform(generator, threshold - 1, len(secrets)):
        shares = product(reduced(shares + coefficients), points[:, None])
    return reduced(shares + secrets)


def reconstructed(
    shares: UInt64[np.ndarray, "shares secrets"], points: UInt64[np.ndarray, "shares"]
) -> UInt64[np.ndarray, "secrets"]:
    """The secrets of which these are shares: right if there are as many as the threshold, or more.

    Args:
        shares: a row of each holder.
        points: of the holders.
    """
    secrets: UInt64[np.ndarray, "secrets"] = combined(lagrange(points, np.zeros(1, np.uint64)), shares)[0]
    return secrets
