"""Conformance checks of what is tried and done at the cut of a network; see `fedsec.testing`."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from fedsec.defense import ActivationDefense
from fedsec.errors import InputError
from fedsec.testing.checks import devices, expect, expect_error, global_randomness_untouched, seeded
from fedsec.threat import (
    ActivationPoisoning,
    CutBatch,
    HijackingServer,
    HijackView,
    LabelInference,
    LabelView,
    OwnPart,
    PixelScale,
)

__all__ = ["check_activation_defense", "check_activation_poisoning", "check_hijacking_server", "check_label_inference"]

_CANDIDATES, _WIDTH = 60, 6


def check_activation_defense(defense: ActivationDefense) -> None:
    """Put a defense of a cut network through its contract.

    Args:
        defense: the defense.

    Raises:
        AssertionError: the defense breaks the contract.
    """
    for device in devices():
        for shape in ((_WIDTH,), (2, 3, 3)):
            labels = (torch.arange(12, device=device) % 3 == 0).long()
            gradients = torch.randn(12, *shape, generator=seeded(0)).to(device)
            before = gradients.clone()
            with global_randomness_untouched():
                sent = defense.passed_on(gradients, labels, seeded(1))
            expect(torch.equal(gradients, before), "the gradients must not change")
            expect(bool(sent.isfinite().all()), "finite gradients must stay finite")
            expect(torch.equal(sent, defense.passed_on(gradients, labels, seeded(1))), "equal draws, equal gradients")
            zero = defense.passed_on(torch.zeros_like(gradients), labels, seeded(1))
            expect(bool(zero.isfinite().all()), "gradients of zero must stay finite")
            inputs = torch.rand(12, 1, 4, 4, generator=seeded(2)).to(device)
            activations = torch.randn(12, *shape, generator=seeded(3)).to(device).requires_grad_()
            penalty = defense.penalize(inputs, activations)
            if penalty is not None:
                (gradient,) = torch.autograd.grad(penalty, activations)
                expect(penalty.shape == () and bool(penalty.isfinite()), "a penalty must be one finite number")
                expect(bool(gradient.isfinite().all()), "a penalty's gradient must be finite")


def check_activation_poisoning(attack: ActivationPoisoning) -> None:
    """Put an attack at the cut of a network through its contract.

    Args:
        attack: the attack.

    Raises:
        AssertionError: the attack breaks the contract.
    """
    labels = torch.arange(40) % 4
    marked, known = attack.choose(labels, num_classes=4, generator=seeded(0))
    expect(bool(marked.any()) and not bool((marked & known).any()), "some examples to attack with, and others to know")
    inputs, rows = torch.rand(40, 1, 8, 8, generator=seeded(1)), torch.randn(40, _WIDTH, generator=seeded(2))
    for method, given in (("fed", inputs), ("sent", rows), ("learned", rows)):
        before, results = given.clone(), []
        for _ in range(2):
            with global_randomness_untouched():
                results.append(getattr(attack, method)(given, CutBatch(marked, known, PixelScale(), seeded(3))))
        expect(torch.equal(given, before), "what it is given must not change")
        expect(torch.equal(*results), "equal draws, equal results")
        expect(bool(results[0].isfinite().all()), "finite numbers must stay finite")


def check_hijacking_server(attack: HijackingServer) -> None:
    """Put a server that hijacks clients' part of a network through its contract.

    Args:
        attack: the server.

    Raises:
        AssertionError: the server breaks the contract.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pilots = [nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU()) for _ in range(2)]
    images = torch.rand(12, 1, 8, 8, generator=seeded(0))
    sent = torch.rand(5, 3, 3, 3, generator=seeded(1))
    with global_randomness_untouched():
        first, second = (attack.begin(HijackView(pilot, images), generator=seeded(2)) for pilot in pilots)
        begun = {name: row.shape for name, row in first.state().items()}
        first.gradient(sent, generator=seeded(3))
    expect({name: row.shape for name, row in first.state().items()} == begun, "as much to remember at any time")
    second.restore({name: row.clone() for name, row in first.state().items()})
    for number in range(2):
        answers = [one.gradient(sent, generator=seeded(number)) for one in (first, second)]
        expect(answers[0].shape == sent.shape and bool(answers[0].isfinite().all()), "an answer like what was sent")
        expect(torch.equal(*answers), "what is kept of a server must tell all that it does")
    shown = [one.reconstruct(sent).images for one in (first, second)]
    assert shown[0] is not None
    assert shown[1] is not None
    expect(torch.equal(shown[0], shown[1]) and shown[0].shape == (5, 1, 8, 8), "an image for each that was sent")


def check_label_inference(inference: LabelInference, *, right: float = 0.7) -> None:
    """Put an inference of labels through its contract, on gradients and activations that tell them.

    Args:
        inference: the inference.
        right: of how many pairs of different classes it must order, of two classes; of three, how many labels it must
            tell.

    Raises:
        AssertionError: the inference breaks the contract.
    """
    for num_classes in (2,) if "two_classes" in inference.needs else (2, 3):
        labels, view = _seen(num_classes)
        before = {name: tensor.clone() for name, tensor in view.tensors().items()}
        with global_randomness_untouched():
            scores = inference.infer(view)
        unchanged = all(torch.equal(tensor, before[name]) for name, tensor in view.tensors().items())
        expect(unchanged, "the view must not change")
        expect(torch.equal(scores, inference.infer(view)), "equal views must give equal scores")
        order = torch.randperm(_CANDIDATES, generator=seeded(1))
        rows = view.gradients[order], view.activations[order]
        own = None if view.own is None else replace(view.own, inputs=view.own.inputs[order])
        moved = inference.infer(replace(view, gradients=rows[0], activations=rows[1], own=own))
        alike = torch.allclose(moved, scores[order], rtol=1e-4, atol=1e-4)
        expect(alike, "a candidate's scores must not depend on where it stands")
        if num_classes == 2:
            pairs = (scores[labels == 1][:, None] - scores[labels == 0][None]).sign()
            measured = 0.5 + 0.5 * float(pairs.mean())
        else:
            measured = float((scores.argmax(1) == labels).double().mean())
        expect(measured >= right, f"{right} of what stands out, not {measured:.2f}")
        bare = LabelView(view.gradients, view.activations, num_classes)
        if inference.requirements and {*inference.requirements} != {"two_classes"}:
            expect_error(InputError, partial(inference.infer, bare), "a view without what it needs")
        else:
            expect(inference.infer(bare).shape == bare.shape, "what it does not say that it needs must not be needed")


def _seen(num_classes: int) -> tuple[Tensor, LabelView]:
    """Candidates whose gradients are longer in the last, rare class, and point by class, as their activations do."""
    draw = seeded(0)
    centers = 2 * torch.randn(num_classes, _WIDTH, generator=draw)

    def rows(labels: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn(2, len(labels), _WIDTH, generator=draw)
        lengths = 1.0 + 2.0 * (labels == num_classes - 1).float()
        return lengths[:, None] * (centers[labels] + 0.3 * noise[0]), centers[labels] + 0.3 * noise[1]

    labels = torch.arange(_CANDIDATES) % num_classes
    known = torch.arange(num_classes).repeat(3)
    gradients, activations = rows(labels)
    known_gradients, known_activations = rows(known)
    own = OwnPart(nn.Identity(), activations, known_activations)
    return labels, LabelView(gradients, activations, num_classes, known_gradients, known_activations, known, own)
