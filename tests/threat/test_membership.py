"""Views of membership inferences, and the contract that `Inference` owns."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import (
    GradientProducts,
    Inference,
    MembershipInference,
    MembershipView,
    ShadowModels,
    rescaled_logits,
)


class Confident(MembershipInference):
    """Whatever is asked of it."""

    def __init__(self, scores: Any = None) -> None:
        self.scores = scores

    def score(self, view: MembershipView) -> Tensor:
        return view.confidences[-1] if self.scores is None else self.scores


class Greedy(Confident):
    """Needs what is rarely there."""

    needs = ("updates", "shadow_models")


class Spoiler(Confident):
    """Writes into what it was shown."""

    def score(self, view: MembershipView) -> Tensor:
        return view.logits.zero_()[0]


def view(**fields: Any) -> MembershipView:
    return MembershipView(torch.tensor([[0.0, 2.0, -1.0]]), **fields)


def test_a_rescaled_logit_says_loss_and_confidence() -> None:
    outputs = torch.randn(2, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4
    labels = torch.arange(7) % 5
    seen = MembershipView(rescaled_logits(outputs, labels), (1, 2))
    for model in range(2):
        assert torch.allclose(seen.losses[model], F.cross_entropy(outputs[model], labels, reduction="none"))
        confidence = outputs[model].softmax(1)[torch.arange(7), labels]
        assert torch.allclose(seen.confidences[model], confidence)
        assert torch.allclose(seen.logits[model], (confidence / (1 - confidence)).log())


def test_certainty_that_a_probability_rounds_to_one_is_still_told_apart() -> None:
    outputs = torch.tensor([[40.0, 0.0, 0.0], [60.0, 0.0, 0.0]])
    first, second = rescaled_logits(outputs, torch.tensor([0, 0])).tolist()
    assert (first, second) == pytest.approx((40 - 0.6931, 60 - 0.6931), abs=1e-3)


def test_scores_are_float64_one_a_candidate() -> None:
    scores = Confident().infer(view())
    assert scores.dtype == torch.float64
    assert scores.tolist() == pytest.approx([0.5, 0.8808, 0.2689], abs=1e-4)


def test_what_is_not_granted_is_named() -> None:
    with pytest.raises(InputError, match=r"Greedy: needs updates and shadow_models; the view grants nothing"):
        Greedy().infer(view())
    some = ShadowModels(torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(InputError, match=r"Greedy: needs updates; the view grants shadow_models"):
        Greedy().infer(view(shadows=some))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.zeros(2), r"expected floating-point scores of shape \(3,\), got torch.float32 of \(2,\)"),
        (torch.zeros(3, dtype=torch.int64), "expected floating-point scores"),
        ([1.0, 2.0, 3.0], "got list"),
        (torch.tensor([0.0, torch.nan, torch.inf]), "2 scores are not finite"),
    ],
)
def test_broken_scores_are_refused(scores: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Confident(scores).infer(view())


def test_the_view_is_left_alone_and_the_contract_cannot_be_replaced() -> None:
    with pytest.raises(InputError, match=r"Spoiler\.score changed `logits` in place"):
        Spoiler().infer(view())
    with pytest.raises(TypeError, match="may not define infer"):
        type("Cheat", (Inference,), {"infer": lambda self, view: None})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rounds": (1, 2)}, r"rounds: expected 1 increasing numbers, not \(1, 2\)"),
        ({"shadows": ShadowModels(torch.zeros(2, 3), torch.ones(2, 4).bool())}, r"shadows\.members: expected shape"),
        (
            {
                "population": torch.zeros(4),
                "shadows": ShadowModels(torch.zeros(2, 3), torch.ones(2, 3).bool(), torch.zeros(2, 5)),
            },
            r"shadows\.population: expected shape \(2, 4\), not \(2, 5\)",
        ),
        (
            {"updates": GradientProducts(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3))},
            r"updates\.update_norms: expected shape \(2,\)",
        ),
        ({"population": torch.tensor([torch.nan])}, "population: 1 numbers are not finite"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        view(**fields)


def test_no_examples_and_no_rounds_are_refused() -> None:
    for shape in ((0, 3), (1, 0), (3,)):
        with pytest.raises((InputError, TypeError), match=r"logits|Float"):
            MembershipView(torch.zeros(shape), tuple(range(shape[0])))
