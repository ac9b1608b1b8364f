"""What gradients and activations at a cut say of labels, against closed forms."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy

from fedsec.attacks import LabelDirection, LabelNorm, ModelCompletion
from fedsec.errors import InputError
from fedsec.threat import LabelView, OwnPart


def seen(num_classes: int, count: int = 12) -> tuple[torch.Tensor, LabelView]:
    """Gradients of cross-entropy with respect to what goes into a linear layer, as a server passes them on."""
    torch.manual_seed(0)
    labels, weight = torch.arange(count) % num_classes, torch.randn(num_classes, 4)
    inputs = torch.randn(count, 4, requires_grad=True)
    (gradients,) = torch.autograd.grad(cross_entropy(inputs @ weight.T, labels, reduction="sum"), inputs)
    known = slice(0, 2 * num_classes)
    activations = inputs.detach()
    return labels, LabelView(gradients, activations, num_classes, gradients[known], activations[known], labels[known])


def test_norms_are_norms_and_of_two_classes_only() -> None:
    _, view = seen(2)
    torch.testing.assert_close(LabelNorm().infer(view), view.gradients.double().norm(dim=1))
    with pytest.raises(InputError, match="needs two_classes"):
        LabelNorm().infer(seen(3)[1])


def test_behind_a_linear_layer_the_direction_tells_two_classes_for_sure() -> None:
    labels, view = seen(2)
    scores = LabelDirection().infer(view)
    torch.testing.assert_close(scores, 2.0 * (2 * labels - 1).double(), rtol=1e-5, atol=1e-5)


def test_directions_are_mean_cosines_with_each_class() -> None:
    _, view = seen(3)
    scores = LabelDirection().infer(view)
    assert view.known_gradients is not None
    expected = [
        sum(float(cosine_similarity(view.gradients[5], view.known_gradients[k], dim=0)) for k in (y, y + 3)) / 2
        for y in range(3)
    ]
    torch.testing.assert_close(scores[5], torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5)


def test_completion_is_the_regularized_logistic_model_of_the_known() -> None:
    _, view = seen(3)
    attack = ModelCompletion(penalty=0.05, iterations=200)
    assert view.known_activations is not None
    assert view.known_labels is not None
    everything = torch.cat([view.activations, view.known_activations]).double()
    scaled = (everything - everything.mean(0)) / everything.std(0, correction=0)
    inputs, known = scaled[:12], scaled[12:]
    weight, bias = (torch.zeros(3, 4).double().requires_grad_(), torch.zeros(3).double().requires_grad_())
    for _ in range(4000):
        loss = cross_entropy(known @ weight.T + bias, view.known_labels) + 0.05 * weight.square().sum()
        for tensor, gradient in zip((weight, bias), torch.autograd.grad(loss, (weight, bias)), strict=True):
            tensor.data.sub_(gradient, alpha=0.5)
    expected = torch.log_softmax(inputs @ weight.T + bias, 1).detach()
    torch.testing.assert_close(attack.infer(view), expected, rtol=1e-3, atol=1e-3)


def test_a_completed_part_is_trained_on_the_known_and_the_others() -> None:
    """The own part throws half of what tells classes away; only what is trained gets it back."""
    labels = torch.arange(80) % 4
    draw = torch.Generator().manual_seed(0)
    inputs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])[labels] + 0.2 * torch.randn(80, 2, generator=draw)
    part = nn.Linear(2, 2)
    part.weight.data, part.bias.data = torch.tensor([[1.0, 0.01], [1.0, 0.0]]), torch.zeros(2)
    activations = part(inputs).detach()
    own, given = OwnPart(part, inputs[4:], inputs[:4]), torch.zeros(80, 2)
    view = LabelView(given[4:], activations[4:], 4, given[:4], activations[:4], labels[:4], own)
    before = part.weight.clone()
    frozen = ModelCompletion().infer(view)
    adapted = ModelCompletion(adapt=True, steps=120, lr=0.02).infer(view)
    assert float((frozen.argmax(1) == labels[4:]).double().mean()) < 0.8
    assert float((adapted.argmax(1) == labels[4:]).double().mean()) > 0.97
    assert torch.equal(adapted, ModelCompletion(adapt=True, steps=120, lr=0.02).infer(view))
    assert torch.equal(part.weight, before)
    bare = LabelView(given[4:], activations[4:], 4, given[:4], activations[:4], labels[:4])
    with pytest.raises(InputError, match="needs own_part"):
        ModelCompletion(adapt=True).infer(bare)


def test_views_that_do_not_go_together_are_refused() -> None:
    rows = torch.zeros(3, 2)
    for bad in (
        lambda: LabelView(rows, rows[:2], 2),
        lambda: LabelView(rows, rows, 1),
        lambda: LabelView(rows, rows, 2, rows[:1]),
        lambda: LabelView(rows, rows, 2, rows[:1], rows[:1], torch.tensor([2])),
        lambda: LabelView(rows, rows, 2, rows[:1, :1], rows[:1], torch.tensor([1])),
        lambda: LabelView(rows, rows, 2, own=OwnPart(nn.Identity(), rows[:2], rows[:0])),
    ):
        with pytest.raises(InputError, match="LabelView"):
            bad()  # type: ignore[no-untyped-call]
    with pytest.raises(InputError, match="penalty must be positive"):
        ModelCompletion(penalty=0)
    with pytest.raises(InputError, match="steps must be at least 1"):
        ModelCompletion(adapt=True, steps=0)
    with pytest.raises(InputError, match="floating-point inputs"):
        OwnPart(nn.Identity(), rows.long(), rows.long())
