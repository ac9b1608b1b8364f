"""Dropout without a module: heard when the model runs, and nowhere else."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.threat import Observation
from fedsec.threat.observed.functional_dropout import calls_dropout


class Own(nn.Module):
    """A network of someone's own."""

    def __init__(self, inside: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.norm, self.head, self.inside = nn.BatchNorm1d(4), nn.Linear(4, 3), inside

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.inside(self.norm(images.flatten(1)), self.training))
        return logits


def attention(hidden: Tensor, share: float) -> Tensor:
    rows = hidden.view(1, 1, -1, 4)
    return F.scaled_dot_product_attention(rows, rows, rows, dropout_p=share).view(-1, 4)


DRAWING = {
    "dropout": lambda hidden, training: F.dropout(hidden, 0.2, training),
    "by default": lambda hidden, training: F.dropout(hidden) if training else hidden,
    "alpha": lambda hidden, training: F.alpha_dropout(hidden, training=training),
    "maps": lambda hidden, training: F.dropout2d(hidden[..., None, None], 0.1, training)[..., 0, 0],
    "torch's own": lambda hidden, training: torch.dropout(hidden, 0.5, training),
    "attention": lambda hidden, training: attention(hidden, 0.1 if training else 0.0),
}
SILENT = {
    "none": lambda hidden, training: hidden,
    "a share of zero": lambda hidden, training: F.dropout(hidden, 0.0, training),
    "switched off": lambda hidden, training: F.dropout(hidden, 0.5, False),
}
IMAGES = torch.full((2, 1, 2, 2), 0.5)


@pytest.mark.parametrize("name", DRAWING)
def test_masks_are_heard_in_train_mode_alone(name: str) -> None:
    model = Own(DRAWING[name])
    assert calls_dropout(model.train(), IMAGES)
    assert not calls_dropout(model.eval(), IMAGES)


@pytest.mark.parametrize("name", SILENT)
def test_nothing_is_heard_of_what_draws_none(name: str) -> None:
    assert not calls_dropout(Own(SILENT[name]).train(), IMAGES)


def test_the_model_and_the_global_generator_are_left_as_they_are() -> None:
    model = Own(DRAWING["dropout"]).train()
    before, state = {name: row.clone() for name, row in model.state_dict().items()}, torch.get_rng_state()
    calls_dropout(model, IMAGES)
    assert all(torch.equal(row, before[name]) for name, row in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_what_the_model_cannot_take_is_said_elsewhere() -> None:
    assert not calls_dropout(Own(DRAWING["dropout"]).train(), torch.zeros(2, 1, 3, 3))


@pytest.mark.parametrize("name", ["dropout", "none"])
@pytest.mark.parametrize("wrapper", [nn.DataParallel, lambda model: model])
def test_an_observation_says_so(name: str, wrapper: Callable[[nn.Module], nn.Module]) -> None:
    model = wrapper(Own({**DRAWING, **SILENT}[name]).train())
    update = {key: torch.ones_like(row) for key, row in model.named_parameters()}
    seen = Observation(model, update, (1, 2, 2), 3, 2)
    assert any("dropout was on" in remark for remark in seen.remarks) == (name == "dropout")


def test_recurrent_layers_have_dropout_too() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.head = nn.LSTM(2, 4, num_layers=2, dropout=0.5, batch_first=True), nn.Linear(4, 3)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.head(self.rows(images[:, 0])[0][:, -1])
            return logits

    model = Recurrent()
    update = {key: torch.ones_like(row) for key, row in model.named_parameters()}
    said = [bool(Observation(model.train(mode), update, (1, 2, 2), 3, 2).remarks) for mode in (True, False)]
    assert said == [True, False]
