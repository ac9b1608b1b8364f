"""How base classes keep their contract when somebody else's subclass fills them in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor

from fedsec.errors import InputError

_HARMLESS = ("max_rejected", "check_clients")
"""Methods that may be filled in anew without a word about claims: they look at no rows."""


class Sealed:
    """A class whose `@final` methods cannot be replaced, at run time as well as for the type checker.

    Attributes:
        claims: names of attributes by which a class says that its methods get by with less. Whoever replaces a method
            makes the claim anew, in the same class: it is not inherited then.
    """

    claims: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for claim in cls.claims:
            place = next(place for place, base in enumerate(cls.__mro__) if claim in vars(base))
            if getattr(cls, claim) is True and _replaces(cls.__mro__[:place], cls.__mro__[place:]):
                setattr(cls, claim, False)
        for name in vars(cls):
            for base in cls.__mro__[1:]:
                if getattr(vars(base).get(name), "__final__", False):
                    raise TypeError(
                        f"{cls.__name__} may not define {name}: {base.__name__}.{name} checks the contract for every "
                        f"subclass; fill in the abstract methods instead"
                    )


def _replaces(classes: Sequence[type], bases: Sequence[type]) -> bool:
    """Whether some classes have a method that their bases have, too."""
    methods = {
        name
        for base in bases
        for name, value in vars(base).items()
        if not name.startswith("__") and (callable(value) or isinstance(value, property))
    }
    return any(name in vars(some) for some in classes for name in methods.difference(_HARMLESS))


@contextmanager
def unmodified(who: str, **tensors: Tensor) -> Iterator[None]:
    """Refuse in-place changes of other people's tensors made inside the block.

    Args:
        who: the method that runs inside the block, for the message.
        tensors: what it must leave alone, by name.

    Raises:
        InputError: a tensor was written to. (PyTorch counts the writes; tensors made in inference
            mode carry no counter and cannot be watched.)
    """
    watched = {name: (tensor, tensor._version) for name, tensor in tensors.items() if not tensor.is_inference()}
    yield
    for name, (tensor, version) in watched.items():
        if tensor._version != version:
            raise InputError(f"{who} changed `{name}` in place; it must return new tensors and leave its inputs as is")


def isolated(tensor: Tensor) -> Tensor:
    """The tensor without gradient history, or a copy of it where its memory holds more than its own numbers.

    A slice of a matrix leads back to the matrix (`tensor._base`, its storage), and so to rows of others.
    """
    own = tensor.detach()
    if own.untyped_storage().nbytes() <= own.numel() * own.element_size():
        return own
    return own.clone()
