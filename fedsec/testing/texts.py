"""The check of `fedsec.testing` for what reads texts off updates."""

import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.models.char_transformer import CharTransformer
from fedsec.tasks import NextToken
from fedsec.testing.checks import expect, expect_error, global_randomness_untouched, seeded
from fedsec.threat.texts import TextInversion, TextObservation

__all__ = ["check_text_inversion"]

_TOKENS, _LENGTH, _BATCH = 12, 5, 2


def check_text_inversion(attack: TextInversion, *, reads_texts: bool = True) -> None:
    """Put an attack that reads texts through its contract, on a gradient of two short texts.

    Args:
        attack: the attack.
        reads_texts: whether it reads texts, all of which it must then find; otherwise the set of tokens alone.

    Raises:
        AssertionError: the attack breaks the contract.
    """
    texts, observation = _observed()
    with global_randomness_untouched():
        result = attack.reconstruct(observation, generator=seeded(0))
    again = attack.reconstruct(observation, generator=seeded(0))
    expect(result.token_set == again.token_set, "equal generators give equal sets of tokens")
    expect(result.token_set == tuple(sorted(set(texts.flatten().tolist()))), "the batch's set of tokens is found")
    expect((result.tokens is not None) == reads_texts, "texts are read, or none are")
    if result.tokens is not None and again.tokens is not None:
        expect(torch.equal(result.tokens, again.tokens), "equal generators give equal texts")
        recovered = {tuple(row) for row in result.tokens.tolist()}
        expect(recovered == {tuple(row) for row in texts.tolist()}, "both texts are found")
    zero = {name: torch.zeros_like(row) for name, row in observation.update.items()}
    expect_error(
        InputError, lambda: TextObservation(observation.model, zero, _LENGTH, _TOKENS, _BATCH), "an update of zeros"
    )


def _observed() -> tuple[Tensor, TextObservation]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CharTransformer((_LENGTH,), _TOKENS, width=32, heads=2)
        rows = torch.randint(1, _TOKENS, (_BATCH, _LENGTH + 1))
    loss = NextToken(_TOKENS).losses(model(rows[:, :-1].float()), rows[:, 1:]).mean()
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    observation = TextObservation.of_gradient(model, gradient, length=_LENGTH, num_tokens=_TOKENS, batch_size=_BATCH)
    return rows[:, :-1], observation
