"""What attacks by Byzantine clients have in common, whatever they act on."""

import copy
from abc import ABC
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from fedsec.threat.probes import Probe
from fedsec.threat.sealed import Sealed

__all__ = ["ByzantineAttack"]


class ByzantineAttack(Sealed, ABC):
    """What Byzantine clients do: whom it concerns, and how its success is tested.

    Attributes:
        tasks: the tasks that it goes with; whatever the task is, where none is named.
        divided: whether attackers divide it among themselves, so that each has a `part` of its own.
        aim_moves: whether what it aims at changes from round to round, so that its tests are built anew each time.
    """

    tasks: ClassVar[tuple[str, ...]] = ()
    divided: ClassVar[bool] = False
    aim_moves: ClassVar[bool] = False

    def resolve(self, class_number: Callable[[int | str], int]) -> Self:
        """The same attack with classes by number, for attacks that are told them by name; the attack itself for others.

        Args:
            class_number: the number of a class, from its name or its number, such as a dataset's; raises where there is
                no such class.
        """
        return self

    def check_data(self, input_shape: Sequence[int], num_classes: int | None) -> None:
        """Refuse data that it cannot work on, before anybody runs.

        Args:
            input_shape: of one input.
            num_classes: how many classes there are; None where there are none.

        Raises:
            InputError: what is wrong with them; by default nothing is.
        """

    def part(self, place: int, num_attackers: int) -> Self:
        """What one of several attackers does of an attack that they divide; the whole attack for others.

        Args:
            place: which of them it is, from 0.
            num_attackers: how many they are.
        """
        return self

    def probes(
        self, inputs: Tensor, targets: Tensor, *, num_classes: int | None, generator: torch.Generator
    ) -> Sequence[Probe]:
        """Tests of what the attack aims at, built from the test set; none by default.

        Args:
            inputs: [n, ...] of the test set; left unchanged.
            targets: what to predict of them, as a client's; left unchanged.
            num_classes: how many classes there are; None where there are none.
            generator: the only source of randomness.

        Returns:
            Tests that the federation evaluates wherever it evaluates the model; each becomes a metric of its name.
        """
        return ()

    def _with(self, **attributes: object) -> Self:
        """A copy with other attributes."""
        other = copy.copy(self)
        vars(other).update(attributes)
        return other
