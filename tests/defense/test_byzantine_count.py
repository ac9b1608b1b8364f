"""Every rule that is told how many clients are Byzantine refuses what is no such number."""

import inspect
from typing import Any

import numpy as np
import pytest

from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.defenses import DEFENSES, Median
from fedsec.errors import InputError
from fedsec.plugins import registry

RULES = [
    name
    for name in DEFENSES
    if "num_byzantine" in inspect.signature(registry.load("defense", name).__init__).parameters
]


def made(name: str, num_byzantine: Any) -> Any:
    method: Any = registry.load("defense", name)
    rule = {"rule": Median()} if "rule" in inspect.signature(method.__init__).parameters else {}
    return method(num_byzantine=num_byzantine, **rule)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (0.2, r"a whole number, such as round\(0\.2 \* num_clients\), not 0\.2"),
        (2.0, "a whole number, not 2.0"),
        (True, "a whole number, not True"),
        ("2", "a whole number, not '2'"),
        (-1, "num_byzantine must not be negative, but is -1"),
    ],
)
def test_what_is_no_number_of_clients_is_refused(name: str, number: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(name, number)


def test_many_rules_are_asked() -> None:
    assert len(RULES) >= 13


@pytest.mark.parametrize("name", RULES)
def test_whole_numbers_of_other_libraries_are_taken(name: str) -> None:
    assert made(name, np.int64(1)).num_byzantine == 1


def test_the_message_names_the_rule() -> None:
    with pytest.raises(InputError, match=r"^Krum: num_byzantine is how many clients"):
        checked_num_byzantine("Krum", None)
