"""A model as blocks that follow each other, so that it can be cut between any two of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.models.split import PARTS

RUNNING_STATISTICS = (
    "the model has running statistics, and nothing is known of whose they would be in a network that is cut; expected "
    "norm: gn, or a model without batch normalization"
)
"""Why a network with batch normalization cannot be cut."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some blocks of a model that follow each other; they compute with the model's own parameters.

    Attributes:
        blocks: what they do, one after the other.
        parameters: names of their parameters in the model.
    """

    blocks: Sequence[Callable[[Tensor], Tensor]]
    parameters: tuple[str, ...]

    def __call__(self, inputs: Tensor) -> Tensor:
        """What the last block makes of what the first one is given."""
        for block in self.blocks:
            inputs = block(inputs)
        return inputs


def blocks(module: nn.Module) -> list[Part]:
    """A model as blocks, each with parameters of its own; one after the other they are the model.

    A sequence is cut before each layer with parameters. Models with a feature extractor (`stem` or `features`) are its
    blocks, and `classify` as one more.

    Args:
        module: the model; the blocks are parts of it, not copies.

    Raises:
        InputError: it has no parts that are known to follow each other, or parameters that are in two or none of them.
    """
    classify = getattr(module, "classify", None)
    extractor = next((part for name in PARTS if isinstance(part := getattr(module, name, None), nn.Module)), None)
    layers = getattr(module, "layers", None)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    if extractor is not None and callable(classify):
        pieces = _pieces(extractor)
        inside = {id(parameter) for piece in pieces for parameter in piece.parameters()}
        rest = tuple(name for key, name in names.items() if key not in inside)
        parts = [*_parts(pieces, names), Part((classify,), rest)]
    elif isinstance(module, nn.Sequential) or isinstance(layers, nn.Sequential):
        parts = _parts(_pieces(module if isinstance(module, nn.Sequential) else layers), names)
    else:
        raise InputError(
            f"the model {type(module).__name__} cannot be cut; expected mlp, a model with a feature extractor (cnn, "
            "lenet, pooled_cnn, convnet64, resnet20, ...), or a torch.nn.Sequential"
        )
    listed = [name for part in parts for name in part.parameters]
    if sorted(listed) != sorted(names.values()):
        raise InputError(
            f"the model {type(module).__name__} cannot be cut: some of its parameters are in two of its blocks, or in "
            "none"
        )
    return parts


def check_cuts(module: nn.Module, cut: int, tail: int) -> list[Part]:
    """A model's blocks, if so many at the beginning and at the end leave some in between.

    Args:
        module: the model.
        cut: blocks at the beginning that lie elsewhere.
        tail: blocks at the end that do.

    Raises:
        InputError: they do not, or the model has no blocks.
    """
    parts = blocks(module)
    if cut + tail >= len(parts):
        asked = f"cut {cut} and head {tail}" if tail else f"cut {cut}"
        raise InputError(
            f"the model has {len(parts)} blocks, and {asked} leave none to the server; expected fewer, or a deeper "
            "model"
        )
    return parts


def joined(parts: Iterable[Part]) -> Part:
    """Several parts as one."""
    several = list(parts)
    return Part(
        tuple(block for part in several for block in part.blocks),
        tuple(name for part in several for name in part.parameters),
    )


def _pieces(sequence: nn.Module | None) -> list[nn.Module]:
    """A sequence's layers, those without parameters together with the one before; another module as it is."""
    if not isinstance(sequence, nn.Sequential):
        return [] if sequence is None else [sequence]
    groups: list[list[nn.Module]] = [[]]
    for layer in sequence:
        has_parameters = any(True for _ in layer.parameters())
        if has_parameters and any(True for before in groups[-1] for _ in before.parameters()):
            groups.append([])
        groups[-1].append(layer)
    return [nn.Sequential(*group) for group in groups]


def _parts(pieces: Sequence[nn.Module], names: dict[int, str]) -> list[Part]:
    return [Part((piece,), tuple(names[id(parameter)] for parameter in piece.parameters())) for piece in pieces]
