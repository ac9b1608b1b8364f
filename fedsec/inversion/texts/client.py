"""The client of an inversion of texts: what it computes on them, and what of it the server sees."""

from copy import deepcopy

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedsec.defense.updates import UpdateTransform
from fedsec.tasks import NextToken
from fedsec.threat.texts import TextObservation

__all__ = ["observe_texts"]


def observe_texts(
    model: nn.Module,
    texts: Float[Tensor, "batch length"],
    targets: Int64[Tensor, "batch length"],
    *,
    num_tokens: int,
    steps: int | None = None,
    lr: float = 0.0,
    defense: UpdateTransform | None = None,
    noise: torch.Generator | None = None,
) -> TextObservation:
    """Let the client work on its texts, and return what the server then holds.

    gradient of the mean of the texts' losses, or (parameters after `steps` steps on all texts) - (parameters before)

    Args:
        model: as broadcast; it is left as it is.
        texts: numbers of tokens.
        targets: the tokens that follow.
        num_tokens: different tokens there are, padding included.
        steps: of plain SGD; None for a single gradient.
        lr: of these steps.
        defense: what the client does to its update before it sends it.
        noise: of the defense.

    Raises:
        InputError: the update is zero everywhere, or not finite.
    """
    client, task = deepcopy(model).eval(), NextToken(num_tokens)
    trained = {name: parameter for name, parameter in client.named_parameters() if parameter.requires_grad}

    def gradient() -> dict[str, Tensor]:
        loss = task.losses(client(texts), targets).mean()
        rows = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
        return dict(zip(trained, rows, strict=True))

    if steps is None:
        update = gradient()
    else:
        before = {name: parameter.detach().clone() for name, parameter in trained.items()}
        for _ in range(steps):
            rows = gradient()
            with torch.no_grad():
                for name, parameter in trained.items():
                    parameter.sub_(rows[name], alpha=lr)
        update = {name: parameter.detach() - before[name] for name, parameter in trained.items()}
    if defense is not None:
        update = defense(update, generator=noise)
    return TextObservation(model, update, texts.shape[1], num_tokens, len(texts))
