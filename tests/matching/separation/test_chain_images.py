"""Images follow exactly from features where the model is a chain, features with errors and dead neurons included."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.matching.features import Features
from fedsec.matching.head import find_head
from fedsec.matching.separation.chain_equations import ChainImages
from fedsec.matching.separation.chain_images import images_of_chain
from fedsec.matching.separation.linear_chain import find_chain
from fedsec.threat import Observation

PIXELS, CLASSES = 36, 6


def network(*widths: int, activation: nn.Module | None = None, bias: bool = True, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    before = PIXELS
    for width in widths:
        layers += [nn.Linear(before, width, bias=bias), activation or nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, CLASSES)).double()


def client(model: nn.Module, size: int, seed: int = 1) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Images, labels, and the gradient of their mean loss."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(size, 1, 6, 6, generator=generator, dtype=torch.double)
    labels = torch.randint(CLASSES, (size,), generator=generator)
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    return images, labels, dict(zip(dict(model.named_parameters()), rows, strict=True))


def solution(
    model: nn.Sequential, images: Tensor, labels: Tensor, gradient: dict[str, Tensor], wrong: Tensor | None = None
) -> ChainImages:
    """From the true features, or from wrong ones."""
    observation = Observation.of_gradient(
        model, gradient, input_shape=(1, 6, 6), num_classes=CLASSES, batch_size=len(images)
    )
    head = find_head(observation)
    assert head is not None
    chain = find_chain(observation, head)
    assert chain is not None
    values = model[:-1](images).detach() if wrong is None else wrong
    features = Features(values, labels, 0.0, 0.0, 1.0, 0.0, 1e-9, solved=True)
    return images_of_chain(chain, gradient, features)


def mixed(features: Tensor, share: float) -> Tensor:
    """Features as ill-conditioned equations leave them: each holds a share of its neighbor's."""
    return features + share * (features.roll(1, 0) - features)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("widths", "activation"),
    [((40,), nn.ReLU()), ((40, 30), nn.ReLU()), ((30, 20), nn.Tanh()), ((30, 30), nn.LeakyReLU(0.2)), ((), None)],
)
def test_images_are_exact(widths: tuple[int, ...], activation: nn.Module | None, bias: bool) -> None:
    model = network(*widths, activation=activation, bias=bias)
    images, labels, gradient = client(model, 4)
    solved = solution(model, images, labels, gradient)
    assert solved.fits
    torch.testing.assert_close(solved.inputs, images.flatten(1), rtol=0, atol=1e-6)


def test_zeros_that_were_taken_for_others_are_put_right() -> None:
    model = network(40, 30)
    images, labels, gradient = client(model, 4)
    wrong = mixed(model[:-1](images).detach(), 1e-3)
    assert int(((wrong > 0) != (model[:-1](images) > 0)).sum()) > 5
    solved = solution(model, images, labels, gradient, wrong)
    assert solved.fits
    torch.testing.assert_close(solved.inputs, images.flatten(1), rtol=0, atol=1e-6)


def test_smooth_layers_are_fitted_together_where_features_are_wrong() -> None:
    model = network(30, activation=nn.Sigmoid())
    images, labels, gradient = client(model, 5)
    wrong = mixed(model[:-1](images).detach(), 0.05)
    solved = solution(model, images, labels, gradient, wrong)
    assert solved.fits
    torch.testing.assert_close(solved.inputs, images.flatten(1), rtol=0, atol=1e-5)


def test_an_image_that_moves_nothing_leaves_the_others_exact() -> None:
    model = network(40)
    with torch.no_grad():
        model[1].weight.copy_(model[1].weight.abs())
        model[1].bias.fill_(-0.2)
    images, labels, _ = client(model, 4)
    images[2] = 0
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    solved = solution(model, images, labels, dict(zip(dict(model.named_parameters()), rows, strict=True)))
    assert solved.fits
    assert solved.determined.tolist() == [True, True, False, True]
    torch.testing.assert_close(solved.inputs[solved.determined], images.flatten(1)[[0, 1, 3]], rtol=0, atol=1e-6)


def test_two_of_one_image_are_that_image() -> None:
    model = network(40)
    images, labels, _ = client(model, 3)
    images[1], labels[1] = images[0], labels[0]
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    solved = solution(model, images, labels, dict(zip(dict(model.named_parameters()), rows, strict=True)))
    assert solved.resolution.tolist() == pytest.approx([0.5, 0.5, 1])
    torch.testing.assert_close(solved.inputs, images.flatten(1), rtol=0, atol=1e-6)


def test_layers_as_narrow_as_the_batch_tell_nothing_apart() -> None:
    model = network(3, 40)
    images, labels, gradient = client(model, 5)
    solved = solution(model, images, labels, gradient)
    assert not solved.fits
    assert not bool(solved.determined.all())


def test_what_is_no_gradient_of_such_images_does_not_fit() -> None:
    model = network(40)
    images, labels, gradient = client(model, 4)
    gradient["1.weight"] = gradient["1.weight"].flip(1)[torch.randperm(40)]
    assert not solution(model, images, labels, gradient).fits
    images, labels, gradient = client(model, 4)
    gradient["1.bias"] = 1.1 * gradient["1.bias"]
    assert not solution(model, images, labels, gradient).fits


def test_equations_that_hold_of_anything_confirm_nothing() -> None:
    """Four neurons without a bias, and four images that moved something: any features leave no residual there."""
    model = network(4, bias=False)
    with torch.no_grad():
        model[1].weight.abs_()
    images, labels, _ = client(model, 5)
    images[2] = 0
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    gradient = dict(zip(dict(model.named_parameters()), rows, strict=True))
    wrong = model[:-1](images).detach()
    wrong[[0, 1, 3, 4]] = wrong[[4, 0, 1, 3]]
    solved = solution(model, images, labels, gradient, wrong)
    assert solved.determined.tolist() == [True, True, False, True, True]
    assert solved.residual < 1e-9
    assert solved.mismatch > 0.01
    assert not solved.fits


def test_noise_widens_what_fits() -> None:
    model = network(60)
    images, labels, gradient = client(model, 3)
    generator = torch.Generator().manual_seed(0)
    for row in gradient.values():
        noise = torch.randn(row.shape, generator=generator, dtype=torch.double)
        row.add_(1e-3 * row.square().mean().sqrt() * noise)
    solved = solution(model, images, labels, gradient)
    assert solved.fits
    assert 1e-4 < solved.tolerance < 1e-2
    assert float((solved.inputs - images.flatten(1)).square().mean().sqrt()) < 0.02
