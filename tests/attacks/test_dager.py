"""DAGER and token rows: exact below the rank, false pairs sorted out, what noise and full rank do, and refusals."""

import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import DAGER, TokenRows
from fedsec.attacks.dager import _Search
from fedsec.errors import InputError
from fedsec.models import build
from fedsec.models.char_transformer import CharTransformer
from fedsec.tasks import NextToken
from fedsec.threat.texts import TextInversion, TextObservation, TextReconstruction

TOKENS, LENGTH = 20, 6


def batch(texts: int, seed: int = 0) -> Tensor:
    return torch.randint(1, TOKENS, (texts, LENGTH + 1), generator=torch.Generator().manual_seed(seed))


def seen(rows: Tensor, model: nn.Module | None = None, noise: float = 0.0) -> TextObservation:
    if model is None:
        torch.manual_seed(0)
        model = CharTransformer((LENGTH,), TOKENS, width=32, heads=2)
    loss = NextToken(TOKENS).losses(model(rows[:, :-1].float()), rows[:, 1:]).mean()
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    generator = torch.Generator().manual_seed(1)
    sent = [part + noise * torch.randn(part.shape, generator=generator) for part in gradient]
    return TextObservation.of_gradient(model, sent, length=LENGTH, num_tokens=TOKENS, batch_size=len(rows))


def rows_of(tokens: Tensor | None) -> set[tuple[int, ...]]:
    assert tokens is not None
    return {tuple(row) for row in tokens.tolist()}


@pytest.mark.parametrize("texts", [1, 2, 4])
def test_texts_are_exact_below_the_rank(texts: int) -> None:
    rows = batch(texts)
    result = DAGER().reconstruct(seen(rows))
    assert rows_of(result.tokens) == rows_of(rows[:, :-1])
    assert result.token_set == tuple(sorted(set(rows[:, :-1].flatten().tolist())))
    assert "of 32 at blocks.1.attention" in result.notes[0]


@pytest.mark.parametrize("layers", [1, 2])
def test_recurrent_networks_are_read_as_well(layers: int) -> None:
    """Of one layer by what enters the last linear one: recurrent weights are given one place at a time."""
    torch.manual_seed(0)
    rows, model = batch(2), build("char_lstm", (LENGTH,), TOKENS, hidden=32, layers=layers)
    result = DAGER().reconstruct(seen(rows, model))
    assert rows_of(result.tokens) == rows_of(rows[:, :-1])
    assert ("at head" if layers == 1 else "at cells.1.input") in result.notes[0]


def test_texts_that_begin_alike_or_are_equal_are_told_apart() -> None:
    rows = batch(3)
    rows[1, :3] = rows[0, :3]
    rows[2] = rows[0]
    assert rows_of(DAGER().reconstruct(seen(rows)).tokens) == rows_of(rows[:, :-1])


def test_the_first_check_admits_a_false_pair_that_the_second_sorts_out() -> None:
    rows = torch.tensor([[3, 4, 1, 1, 1, 1, 1], [4, 5, 2, 2, 2, 2, 2]])  # (3, 0), (4, 0) and (4, 1) span (3, 1)
    search = _Search(seen(rows), 0.01, 64)
    alone = dict(zip(search.tokens.tolist(), search._first_distances().detach(), strict=True))
    assert float(alone[3][1]) < 1e-4
    assert float(alone[5][0]) < 1e-4  # likewise, of (4, 0), (4, 1) and (5, 1)
    assert rows_of(search.texts()) == rows_of(rows[:, :-1])


def test_padded_texts_end_where_they_end() -> None:
    rows = batch(2)
    rows[0, 4:] = 0
    result = DAGER().reconstruct(seen(rows))
    # The last token before the padding has nothing to predict: no gradient tells of it.
    assert rows_of(result.tokens) == {(*rows[0, :3].tolist(), 0, 0, 0), tuple(rows[1, :-1].tolist())}


def test_a_trained_model_and_one_local_step_are_no_obstacle() -> None:
    torch.manual_seed(0)
    model = CharTransformer((LENGTH,), TOKENS, width=32, heads=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(30):
        rows = batch(8, step)
        optimizer.zero_grad()
        NextToken(TOKENS).losses(model(rows[:, :-1].float()), rows[:, 1:]).mean().backward()
        optimizer.step()
    rows = batch(3, 99)
    whole = seen(rows, model)
    step = TextObservation(model, {name: -0.1 * row for name, row in whole.update.items()}, LENGTH, TOKENS, 3)
    assert rows_of(DAGER().reconstruct(step).tokens) == rows_of(rows[:, :-1])


def test_full_rank_excludes_nothing_and_is_said() -> None:
    many, noisy = DAGER().reconstruct(seen(batch(8))), DAGER().reconstruct(seen(batch(2), noise=0.1))
    assert "full rank (48 places and a width of 32)" in many.notes[0]
    assert "full rank (noise or pruning, or several local steps)" in noisy.notes[0]
    assert rows_of(noisy.tokens) != rows_of(batch(2)[:, :-1])


def test_token_rows_are_exact_for_any_batch_and_model() -> None:
    for model in (None, build("char_lstm", (LENGTH,), TOKENS, hidden=4)):
        rows = batch(5)
        found = TokenRows().reconstruct(seen(rows, model))
        assert found.token_set == tuple(sorted(set(rows[:, :-1].flatten().tolist())))
        assert found.tokens is None
    noisy = seen(batch(1), noise=1e-4)
    assert len(TokenRows().reconstruct(noisy).token_set) == TOKENS
    assert "every token's row has a gradient" in TokenRows().reconstruct(noisy).notes[0]
    assert TokenRows(threshold=0.1).reconstruct(noisy).token_set == tuple(sorted(set(batch(1)[0, :-1].tolist())))


def test_what_cannot_be_is_refused() -> None:
    for wrong, says in (
        (lambda: DAGER(tolerance=0), "tolerance"),
        (lambda: DAGER(most=0), "most"),
        (lambda: TokenRows(1.0), "threshold"),
    ):
        with pytest.raises(InputError, match=says):
            wrong()
    model = nn.Sequential(nn.Linear(LENGTH, TOKENS))
    update = {name: torch.ones_like(row) for name, row in model.named_parameters()}
    with pytest.raises(InputError, match="the model embeds no 20 tokens"):
        TokenRows().reconstruct(TextObservation(model, update, LENGTH, TOKENS, 1))


def test_observations_are_checked() -> None:
    good = seen(batch(1))
    with pytest.raises(InputError, match="trainable parameters by name"):
        TextObservation(good.model, {"token.weight": torch.ones(1)}, LENGTH, TOKENS, 1)
    with pytest.raises(InputError, match="a batch_size of at least 1"):
        TextObservation(good.model, good.update, LENGTH, TOKENS, 0)
    with pytest.raises(InputError, match="expected 30 gradients, got 1"):
        TextObservation.of_gradient(good.model, [torch.ones(1)], length=LENGTH, num_tokens=TOKENS, batch_size=1)


def test_an_attack_keeps_its_contract_or_is_told() -> None:
    class Wrong(TextInversion):
        def recover(self, observation: TextObservation, *, generator: torch.Generator) -> TextReconstruction:
            return TextReconstruction((TOKENS,), None)

    with pytest.raises(InputError, match=r"Wrong\.recover: tokens must lie in \[0, 20\)"):
        Wrong().reconstruct(seen(batch(1)))
