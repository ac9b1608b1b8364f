"""The interface of inferences: what an observer of training concludes about the data, without rebuilding any.

An inference says of each candidate (an example, a client, an update, ...) how much speaks for a statement about it:
that it was trained on, that it has a property. What it may look at is its view, and nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Generic, TypeVar, final

import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.sealed import Sealed, unmodified

__all__ = ["Inference", "InferenceView"]


class InferenceView(ABC):
    """All that an observer has; a subclass names what it may hold."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of the scores: the number of candidates first."""

    @abstractmethod
    def granted(self) -> Mapping[str, bool]:
        """What an inference may need by name -> whether it is here."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that an inference must leave as it is, by name."""


View = TypeVar("View", bound=InferenceView)


class Inference(Sealed, ABC, Generic[View]):
    """Scores a statement about each candidate; a subclass fills in `score`."""

    role: ClassVar[str] = ""
    """What its kind of inference concludes: `membership` or `property`."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What must be granted to it, in the words of its view."""
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    """The tasks on whose models it works."""

    @property
    def requirements(self) -> tuple[str, ...]:
        """What `needs` says, and what its options ask for besides."""
        return self.needs

    @final
    def infer(self, view: View) -> Tensor:
        """A score for each candidate: the higher, the more speaks for the statement. Only their order has a meaning.

        Args:
            view: all that the observer knows; left unchanged.

        Returns:
            Finite numbers, float64, of the view's shape.

        Raises:
            InputError: something that it needs was not granted, or it broke this contract.
        """
        name, granted = type(self).__name__, view.granted()
        if missing := [need for need in self.requirements if not granted.get(need, False)]:
            held = ", ".join(key for key, here in granted.items() if here) or "nothing"
            raise InputError(f"{name}: needs {' and '.join(missing)}; the view grants {held}")
        with unmodified(f"{name}.score", **view.tensors()), torch.no_grad():
            scores = self.score(view)
        if not isinstance(scores, Tensor) or tuple(scores.shape) != view.shape or not scores.is_floating_point():
            got = f"{scores.dtype} of {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
            raise InputError(f"{name}.score: expected floating-point scores of shape {view.shape}, got {got}")
        if not bool(scores.isfinite().all()):
            raise InputError(f"{name}.score: {int((~scores.isfinite()).sum())} scores are not finite")
        return scores.detach().double()

    @abstractmethod
    def score(self, view: View) -> Tensor:
        """The scores of `infer`, which checks both sides of the contract; no gradients are recorded here."""
