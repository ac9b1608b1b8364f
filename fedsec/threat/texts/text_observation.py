"""What an honest-but-curious server holds of one client's update, where clients have texts."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError


def _nobody(done: int, total: int) -> None:
    pass


@dataclass(frozen=True, eq=False)
class TextObservation:
    """All that the server knows of one client's update. There is no field for the truth.

    Attributes:
        model: architecture and broadcast parameters; a private copy is kept, in eval mode.
        update: what the client sent, by parameter name: a gradient, or the change of one local step, which is that but
            for a factor. Spans and zeros, which is what is looked at, do not depend on the factor.
        length: of a text, in tokens.
        num_tokens: different tokens there are, padding (token 0) included.
        batch_size: how many texts the client used.
        watch: told how much of an attack is done, and of how much; by default nobody is.

    Raises:
        InputError: the parts do not go together, or an update that is zero everywhere or not finite.
    """

    model: nn.Module
    update: Mapping[str, Tensor]
    length: int
    num_tokens: int
    batch_size: int
    watch: Callable[[int, int], None] = _nobody

    def __post_init__(self) -> None:
        model = deepcopy(self.model).eval()
        object.__setattr__(self, "model", model)
        shapes = {name: parameter.shape for name, parameter in model.named_parameters() if parameter.requires_grad}
        update = {name: row.detach().clone() for name, row in self.update.items()}
        if {name: row.shape for name, row in update.items()} != shapes:
            raise InputError(
                "TextObservation: the update must have the model's trainable parameters by name, of their shapes; got "
                f"{', '.join(f'{name} {list(row.shape)}' for name, row in list(update.items())[:3])}, ..."
            )
        if min(self.length, self.num_tokens - 1, self.batch_size) < 1:
            raise InputError(
                "TextObservation: expected a length and a batch_size of at least 1 and two tokens, got "
                f"{self.length}, {self.batch_size} and {self.num_tokens}"
            )
        rows = list(update.values())
        if not all(bool(row.isfinite().all()) for row in rows) or not any(bool(row.any()) for row in rows):
            raise InputError(
                "TextObservation: the update is zero everywhere, or not finite: nothing can be read off it"
            )
        object.__setattr__(self, "update", update)

    @classmethod
    def of_gradient(
        cls,
        model: nn.Module,
        gradient: Iterable[Tensor] | Mapping[str, Tensor],
        *,
        length: int,
        num_tokens: int,
        batch_size: int,
    ) -> Self:
        """From a gradient, as `torch.autograd.grad(loss, model.parameters())` returns it.

        Args:
            model: as broadcast.
            gradient: in the order of the trainable `model.parameters()`, or by name.
            length: of a text, in tokens.
            num_tokens: different tokens there are.
            batch_size: texts in the batch.

        Raises:
            InputError: the parts do not go together.
        """
        if not isinstance(gradient, Mapping):
            names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
            rows = list(gradient)
            if len(rows) != len(names):
                raise InputError(f"TextObservation: expected {len(names)} gradients, got {len(rows)}")
            gradient = dict(zip(names, rows, strict=True))
        return cls(model, gradient, length, num_tokens, batch_size)

    @property
    def embedding(self) -> tuple[str, nn.Embedding]:
        """Name and layer of the embedding of tokens.

        Raises:
            InputError: the model has none.
        """
        for name, layer in self.model.named_modules():
            if isinstance(layer, nn.Embedding) and layer.num_embeddings == self.num_tokens:
                return name, layer
        raise InputError(f"the model embeds no {self.num_tokens} tokens; expected a layer of the kind nn.Embedding")

    def gradient_of(self, layer: str) -> Float[Tensor, "outputs inputs"]:
        """What was sent of a layer's weight, in double precision."""
        return self.update[f"{layer}.weight"].double().cpu()
