"""Networks for texts: nobody sees a later token, cells are PyTorch's, both engines train them alike, also privately."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.data import Split
from fedsec.data.normalization import Normalization
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.batches import plan_batches
from fedsec.errors import InputError
from fedsec.models import build
from fedsec.models.char_lstm import CharLSTM
from fedsec.models.costs import costs
from fedsec.tasks import NextToken

TOKENS, LENGTH = 7, 5
MODELS: dict[str, dict[str, Any]] = {
    "char_lstm": {"embedding": 3, "hidden": 4},
    "char_transformer": {"width": 8, "heads": 2},
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(name, (LENGTH,), TOKENS, **MODELS[name])


def texts(examples: int) -> Tensor:
    return torch.randint(1, TOKENS, (examples, LENGTH + 1), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
def test_a_place_sees_itself_and_what_comes_before(name: str) -> None:
    model, one = made(name), texts(2)[:, :-1].float()
    other = one.clone()
    other[:, 3] = TOKENS - other[:, 3]
    before, after = model(one), model(other)
    assert before.shape == (2, TOKENS, LENGTH)
    assert torch.equal(before[..., :3], after[..., :3])
    for place in (3, 4):
        assert not torch.allclose(before[..., place], after[..., place])
    torch.testing.assert_close(model(one[:, :3]), before[..., :3])  # a shorter text is the beginning of a longer one


def test_cells_are_those_of_pytorch_s_lstm() -> None:
    model = made("char_lstm")
    assert isinstance(model, CharLSTM)
    theirs = nn.LSTM(3, 4, num_layers=2, batch_first=True)
    with torch.no_grad():
        for number, layer in enumerate(model.cells):
            parts = {"ih": layer.input, "hh": layer.recurrent}
            for part, linear in parts.items():
                getattr(theirs, f"weight_{part}_l{number}").copy_(linear.weight)  # type: ignore[union-attr]
                getattr(theirs, f"bias_{part}_l{number}").copy_(linear.bias)  # type: ignore[union-attr]
    inputs = texts(3)[:, :-1]
    expected = model.head(theirs(model.embedding(inputs))[0]).transpose(1, 2)
    torch.testing.assert_close(model(inputs.float()), expected)
    # LEAF's: 80 embeddings of 8, cells of 256 (PyTorch has two biases a gate), a linear layer.
    sizes = 82 * 8 + 4 * 256 * (8 + 256 + 2) + 4 * 256 * (256 + 256 + 2) + 257 * 82
    assert sum(p.numel() for p in build("char_lstm", (80,), 82).parameters()) == sizes


@pytest.mark.parametrize("name", MODELS)
def test_both_engines_train_it_alike(name: str) -> None:
    rows, model = texts(12), made(name)
    split = Split(rows[:, :-1].float(), rows[:, 1:].contiguous())
    clients = [np.arange(5), np.arange(5, 12)]
    local = LocalTraining(epochs=2, batch_size=3, lr=0.5)
    updates = []
    for engine in ("loop", "vectorized"):
        data = ResidentData.build(split, clients, Normalization(), torch.device("cpu"))
        trainer = CohortTrainer(model, data, engine=engine, task=NextToken(TOKENS))  # type: ignore[arg-type]
        plans = [plan_batches(part, local, np.random.default_rng(0)) for part in data.clients]
        updates.append(trainer.train(trainer.start(model), plans, local).updates)
        assert trainer.used.startswith(engine)
    torch.testing.assert_close(*updates, rtol=1e-3, atol=1e-5)
    assert updates[0].norm(dim=1).min() > 0.1


@pytest.mark.parametrize("name", MODELS)
def test_what_it_cannot_be_built_for_is_refused(name: str) -> None:
    with pytest.raises(
        InputError, match=rf"{name} takes texts, \(length,\) tokens each, got inputs of shape \(1, 8, 8\)"
    ):
        build(name, (1, 8, 8), TOKENS)
    with pytest.raises(InputError, match=f"{name}: .* must be at least 1"):
        build(name, (LENGTH,), TOKENS, layers=0)
    assert costs(name, (LENGTH,), TOKENS).forward_flops > 0  # type: ignore[arg-type]
    with pytest.raises(InputError, match="take logistic or linear or mlp"):
        build("cnn", (LENGTH,), TOKENS)
