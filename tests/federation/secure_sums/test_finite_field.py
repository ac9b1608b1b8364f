"""The field and Shamir's shares against Python's integers."""

import itertools

import numpy as np
import pytest

from fedsec.errors import InputError
from fedsec.federation.secure_sums.finite_field import PRIME, combined, inverse, lagrange, product, reduced, uniform
from fedsec.federation.secure_sums.shamir import dealt, reconstructed

P = int(PRIME)


def test_products_and_inverses_are_those_of_integers() -> None:
    values = uniform(np.random.SFC64(0), 50)
    values[:2] = 1, P - 1
    assert product(values, values[::-1]).tolist() == [
        a * b % P for a, b in zip(values.tolist(), values[::-1].tolist(), strict=True)
    ]
    assert inverse(values).tolist() == [pow(value, -1, P) for value in values.tolist()]
    edges = [0, 1, P - 1, P, P + 1, 2**32 - 1, 2**62, P * P, 2**63, 2**64 - P, 2**64 - 1]
    assert reduced(np.array(edges, np.uint64)).tolist() == [value % P for value in edges]
    with pytest.raises(ZeroDivisionError):
        inverse(np.array([3, P], np.uint64))


def test_lagrange_weights_give_the_values_of_a_polynomial() -> None:
    coefficients = uniform(np.random.SFC64(1), 5).tolist()

    def value(at: int) -> int:
        return sum(coefficient * pow(at, power, P) for power, coefficient in enumerate(coefficients)) % P

    known, asked = np.array([1, 5, 2, P - 1, 9], np.uint64), np.array([0, 7, 5, P - 2], np.uint64)
    values = np.array([[value(point)] for point in known.tolist()], np.uint64)
    assert combined(lagrange(known, asked), values)[:, 0].tolist() == [value(point) for point in asked.tolist()]


def test_any_threshold_of_shares_gives_the_secret_and_fewer_fit_every_secret() -> None:
    secrets, points = np.array([0, 12345, P - 1], np.uint64), np.array([1, 2, 3, 4, 5], np.uint64)
    shares = dealt(secrets, points, 3, np.random.SFC64(2))
    for rows in itertools.combinations(range(5), 3):
        assert reconstructed(shares[[*rows]], points[[*rows]]).tolist() == secrets.tolist()
    for rows in itertools.combinations(range(5), 2):
        assert reconstructed(shares[[*rows]], points[[*rows]]).tolist() != secrets.tolist()
        # Whatever the secret, some third share would make it: two shares exclude nothing.
        for claimed in (0, 1, P - 1):
            known = np.array([0, *points[[*rows]].tolist()], np.uint64)
            values = np.array([[claimed], *shares[[*rows], :1].tolist()], np.uint64)
            third = next(row for row in range(5) if row not in rows)
            value = combined(lagrange(known, points[[third]]), values)
            rebuilt = reconstructed(np.concatenate([shares[[*rows], :1], value]), points[[*rows, third]])
            assert rebuilt.tolist() == [claimed]
    with pytest.raises(InputError, match="a threshold of 6 shares needs as many holders; there are 5"):
        dealt(secrets, points, 6, np.random.SFC64(2))
