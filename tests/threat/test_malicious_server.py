"""The contract of malicious servers: a model of their own for the same images, the honest one left as it was."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.threat import MaliciousServer, Reconstruction, ServerView


class Sends(MaliciousServer):
    """Sends what a function makes of the view's model."""

    def __init__(self, build: Any, *, changes: bool = False) -> None:
        self.function = build
        type(self).changes_architecture = changes

    def build(self, view: ServerView, *, generator: torch.Generator) -> nn.Module:
        built: nn.Module = self.function(view.model)
        return built

    def recover(self, observations: Any, **_: Any) -> list[Reconstruction]:
        raise NotImplementedError


def network(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, classes))


def view(model: nn.Module | None = None, **known: Any) -> ServerView:
    return ServerView(model or network(), (1, 2, 2), 3, 2, **known)


def test_a_copy_with_other_weights_is_sent() -> None:
    def doubled(model: nn.Module) -> nn.Module:
        copied = deepcopy(model)
        for parameter in copied.parameters():
            parameter.data.mul_(2)
        return copied

    honest = network()
    crafted = Sends(doubled).craft(view(honest))
    assert torch.equal(next(crafted.parameters()), 2 * next(honest.parameters()))


def shifted(model: nn.Module) -> nn.Module:
    next(model.parameters()).data.add_(1)
    return deepcopy(model)


def spoiled(model: nn.Module) -> nn.Module:
    copied = deepcopy(model)
    next(copied.parameters()).data.fill_(torch.nan)
    return copied


@pytest.mark.parametrize(
    ("build", "changes", "message"),
    [
        (lambda model: model, False, "a new nn.Module"),
        (lambda model: nn.Sequential(*model), True, "shares tensors"),
        (shifted, False, "changed the view's model"),
        (spoiled, False, "not finite"),
        (lambda model: network(4), True, "must give 3 logits"),
        (lambda model: nn.Sequential(nn.Identity(), *deepcopy(model)), False, "changes the architecture"),
        (lambda model: "a model", True, "a new nn.Module, got str"),
    ],
)
def test_what_breaks_the_contract_is_refused(build: Any, changes: bool, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sends(build, changes=changes).craft(view())


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"auxiliary": torch.zeros(2, 1, 3, 3)}, "auxiliary images must have shape"),
        ({"auxiliary": torch.full((2, 1, 2, 2), 2.0)}, r"must lie in \[0, 1\]"),
        ({"auxiliary": torch.zeros(2, 1, 2, 2), "auxiliary_labels": torch.zeros(1)}, "2 auxiliary images with 1"),
        ({"auxiliary_labels": torch.zeros(1)}, "without auxiliary images"),
    ],
)
def test_views_whose_parts_do_not_go_together_are_refused(known: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        view(**known)


def test_the_contract_cannot_be_taken_over() -> None:
    with pytest.raises(TypeError, match="may not define craft"):
        type("Bad", (Sends,), {"craft": lambda self, view: view.model})
