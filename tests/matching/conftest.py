"""A clock that needs no time."""

from collections.abc import Callable

import pytest

from fedsec.matching.limits import Deadline


class Looks(Deadline):
    """Passed once it has been looked at so often."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    @property
    def passed(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture
def looks() -> Callable[[int], Deadline]:
    return Looks
