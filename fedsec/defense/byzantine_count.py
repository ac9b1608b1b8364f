"""How many Byzantine clients a rule is told of."""

from numbers import Integral

from fedsec.errors import InputError

__all__ = ["checked_num_byzantine"]


def checked_num_byzantine(rule: str, number: object) -> int:
    """A number of Byzantine clients, as a rule's constructor takes it.

    Raises:
        InputError: it is a fraction, a boolean, negative, or no number at all; names the rule.
    """
    if isinstance(number, bool) or not isinstance(number, Integral):
        fraction = isinstance(number, float) and 0 < number < 1
        hint = f", such as round({number:g} * num_clients)" if fraction else ""
        raise InputError(f"{rule}: num_byzantine is how many clients, a whole number{hint}, not {number!r}")
    if number < 0:
        raise InputError(f"{rule}: num_byzantine must not be negative, but is {number}")
    return int(number)
