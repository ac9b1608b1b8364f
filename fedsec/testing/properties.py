"""Conformance checks of property inferences; see `fedsec.testing`."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.testing.checks import expect, expect_error, global_randomness_untouched, seeded
from fedsec.threat import Observation, PropertyInference, PropertyView

__all__ = ["check_property_inference"]

_CANDIDATES, _VALUES = 15, 5
_EXAMPLES = 8


def check_property_inference(inference: PropertyInference, *, right: float = 0.6) -> None:
    """Put a property inference through its contract, on gradients of clients that hold one class each.

    Args:
        inference: the inference.
        right: of how many candidates it must find the value, at least.

    Raises:
        AssertionError: the inference breaks the contract.
    """
    values, view = _gradients()
    before = {name: tensor.clone() for name, tensor in view.tensors().items()}
    with global_randomness_untouched():
        scores = inference.infer(view)
    unchanged = all(torch.equal(tensor, before[name]) for name, tensor in view.tensors().items())
    expect(unchanged, "the view must not change")
    expect(torch.equal(scores, inference.infer(view)), "equal views must give equal scores")
    order = torch.randperm(_CANDIDATES, generator=seeded(1))
    seen = [view.observations[place] for place in order.tolist()]
    moved = inference.infer(replace(view, updates=view.updates[order], observations=seen))
    expect(torch.allclose(moved, scores[order]), "a candidate's scores must not depend on where it stands")
    measured = float((inference.most_likely(view) == values).double().mean())
    expect(measured >= right, f"the right value for {right} of candidates that stand out, not for {measured:.2f}")
    bare = PropertyView(view.updates, _VALUES)
    if inference.needs:
        expect_error(InputError, lambda: inference.infer(bare), "a view without what it needs")
    else:
        expect(inference.infer(bare).shape == bare.shape, "what it does not say that it needs must not be needed")


def _gradients() -> tuple[Tensor, PropertyView]:
    """Candidates, each with examples of one class, the gradients that they sent, and others of which that is known."""
    draw = seeded(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, _VALUES))
    patterns = torch.rand(_VALUES, 1, 4, 4, generator=draw)

    def gradient(value: int) -> list[Tensor]:
        images = patterns[value] + 0.1 * torch.randn(_EXAMPLES, 1, 4, 4, generator=draw)
        loss = nn.functional.cross_entropy(model(images), torch.full((_EXAMPLES,), value))
        return list(torch.autograd.grad(loss, list(model.parameters())))

    values = torch.arange(_CANDIDATES) % _VALUES
    sent, known = [gradient(int(value)) for value in values], [gradient(int(value)) for value in values]
    seen = [
        Observation.of_gradient(model, one, input_shape=(1, 4, 4), num_classes=_VALUES, batch_size=_EXAMPLES)
        for one in sent
    ]
    updates, others = (
        torch.stack([torch.cat([part.flatten() for part in one]) for one in all_]) for all_ in (sent, known)
    )
    middle = others.mean(0)
    return values, PropertyView(updates - middle, _VALUES, others - middle, values, seen)
