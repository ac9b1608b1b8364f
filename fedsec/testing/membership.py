"""Conformance checks of membership inferences; see `fedsec.testing`."""

import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.testing.checks import expect, expect_error, global_randomness_untouched, seeded
from fedsec.threat import GradientProducts, MembershipInference, MembershipView, ShadowModels

__all__ = ["check_membership_inference"]

_CANDIDATES, _POPULATION, _SHADOWS, _ROUNDS = 200, 300, 16, 4


def check_membership_inference(inference: MembershipInference, *, auc: float | None = 0.6) -> None:
    """Put a membership inference through its contract, on signals of members and others that differ as they should.

    Args:
        inference: the inference.
        auc: how often a member must be placed before another, at least; None: not checked.

    Raises:
        AssertionError: the inference breaks the contract.
    """
    members, view = _signals()
    before = {name: tensor.clone() for name, tensor in view.tensors().items()}
    with global_randomness_untouched():
        scores = inference.infer(view)
    expect(
        all(torch.equal(tensor, before[name]) for name, tensor in view.tensors().items()), "the view must not change"
    )
    expect(torch.equal(scores, inference.infer(view)), "equal views must give equal scores")
    order = torch.randperm(_CANDIDATES, generator=seeded(1))
    moved = inference.infer(view.of(order))
    expect(torch.allclose(moved, scores[order]), "a candidate's score must not depend on where it stands")
    if auc is not None:
        above = (scores[members][:, None] - scores[~members][None]).sign().mean()
        measured = 0.5 + 0.5 * float(above)
        expect(measured >= auc, f"an AUC of at least {auc} on members that stand out, not {measured:.3f}")
    bare = MembershipView(view.logits[-1:], (_ROUNDS,))
    if any(not bare.granted()[need] for need in inference.needs):
        expect_error(InputError, lambda: inference.infer(bare), "a view without what it needs")
    else:
        expect(inference.infer(bare).shape == (_CANDIDATES,), "what it does not say that it needs must not be needed")


def _signals() -> tuple[Tensor, MembershipView]:
    """Candidates of different hardness, the even ones members, and all that a view can hold of them."""
    generator = seeded(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    members = torch.arange(_CANDIDATES) % 2 == 0
    hardness, easy = normal(_CANDIDATES), normal(_POPULATION)
    inside = torch.rand(_SHADOWS, _CANDIDATES, generator=generator).argsort(0) < _SHADOWS // 2
    known = torch.rand(_SHADOWS, _POPULATION, generator=generator).argsort(0) < _SHADOWS // 2
    learned = torch.linspace(0.2, 2.0, _ROUNDS)[:, None]
    shadows = ShadowModels(
        hardness + 1.6 * inside + 0.5 * normal(_SHADOWS, _CANDIDATES),
        inside,
        easy + 1.6 * known + 0.5 * normal(_SHADOWS, _POPULATION),
        known,
    )
    products = 0.5 * members + normal(_ROUNDS, _CANDIDATES)
    norms = GradientProducts(products, torch.ones(_ROUNDS, _CANDIDATES), torch.full((_ROUNDS,), 2.0))
    observed = hardness + learned * (1 + members) / 2 + 0.5 * normal(_ROUNDS, _CANDIDATES)
    rounds = tuple(range(1, _ROUNDS + 1))
    return members, MembershipView(observed, rounds, shadows, easy + 0.5 * normal(_POPULATION), norms)
