"""Features from the last layer's gradient, against the features themselves."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fedsec.errors import InputError
from fedsec.matching import features
from fedsec.matching.features import Features, _System, recover_features


def problem(
    size: int,
    classes: int,
    *,
    same: bool = False,
    bias: bool = True,
    kind: str = "sigmoid",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    width: int = 40,
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor | None, Tensor, Tensor | None]]:
    """Features, labels and what `recover_features` is given of them."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(size, width, generator=generator, dtype=torch.float64)
    features = {"sigmoid": raw.sigmoid(), "relu": raw.relu(), "pooled": raw.sigmoid() / 10, "signed": raw}[kind].to(
        dtype
    )
    labels = torch.randint(classes, (size,), generator=generator)
    labels = labels[:1].expand(size).clone() if same else labels
    weight = (torch.rand(classes, width, generator=generator, dtype=torch.float64) - 0.5).to(dtype).requires_grad_()
    offset = (
        (torch.rand(classes, generator=generator, dtype=torch.float64) - 0.5).to(dtype).requires_grad_()
        if bias
        else None
    )
    loss = F.cross_entropy(F.linear(features, weight, offset), labels)
    gradients = torch.autograd.grad(loss, [weight] if offset is None else [weight, offset])
    own = None if offset is None else offset.detach()
    return features, labels, (weight.detach(), own, gradients[0], None if own is None else gradients[1])


def error(found: Features, features: Tensor, labels: Tensor) -> float:
    """The largest error of any feature; images of one label have no order."""
    distances = torch.cdist(found.values.double(), features.double())
    distances = distances + 1e6 * (found.labels[:, None] != labels)
    rows, columns = linear_sum_assignment(distances.numpy())
    assert torch.equal(found.labels[rows], labels[columns])
    return float((found.values[rows] - features[columns]).abs().max())


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    size=st.integers(1, 5),
    classes=st.integers(7, 12),
    same=st.booleans(),
    bias=st.booleans(),
    kind=st.sampled_from(["sigmoid", "relu", "signed"]),
    seed=st.integers(0, 1000),
)
def test_features_are_exact(size: int, classes: int, same: bool, bias: bool, kind: str, seed: int) -> None:
    features, labels, given_ = problem(size, classes, same=same, bias=bias, kind=kind, seed=seed)
    found = recover_features(*given_, [labels])
    assert found.solved, found
    assert error(found, features, labels) < 1e-4


@pytest.mark.parametrize("kind", ["sigmoid", "relu", "pooled", "signed"])
def test_float32_gradients(kind: str) -> None:
    features, labels, given_ = problem(4, 10, kind=kind, dtype=torch.float32, seed=3)
    found = recover_features(*given_, [labels])
    assert found.solved
    assert found.values.dtype == torch.float32
    assert error(found, features, labels) < 2e-3 * float(features.abs().max())


def test_at_the_rank_limit() -> None:
    features, labels, given_ = problem(5, 6, seed=1)
    found = recover_features(*given_, [labels])
    assert found.solved
    assert error(found, features, labels) < 1e-4


def test_one_image_is_the_closed_form() -> None:
    features, labels, given_ = problem(1, 10)
    found = recover_features(*given_, [labels])
    gradient, bias_gradient = given_[2], given_[3]
    assert bias_gradient is not None
    torch.testing.assert_close(found.values, gradient[labels] / bias_gradient[labels])
    torch.testing.assert_close(found.values, features)


def test_wrong_labels_do_not_solve_and_right_ones_are_found() -> None:
    features, labels, given_ = problem(3, 10, seed=5)
    wrong = [(labels + shift) % 10 for shift in (1, 2, 3)]
    assert not recover_features(*given_, wrong, starts=3).solved
    found = recover_features(*given_, [*wrong, labels], starts=3)
    assert found.solved
    assert error(found, features, labels) < 1e-4


def test_noise_raises_the_tolerance_and_is_measured() -> None:
    features, labels, (weight, bias, gradient, bias_gradient) = problem(2, 10, seed=2, width=400)
    deviation = 0.01 * float(gradient.std())
    noise = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0), dtype=gradient.dtype)
    found = recover_features(weight, bias, gradient + deviation * noise, bias_gradient, [labels])
    assert found.deviation == pytest.approx(deviation, rel=0.3)
    assert found.solved
    assert error(found, features, labels) < 0.5


def test_gradient_that_no_batch_has_is_not_solved() -> None:
    _, labels, (weight, bias, gradient, bias_gradient) = problem(3, 10, seed=2)
    rank_three = gradient @ torch.randn(40, 40, generator=torch.Generator().manual_seed(0), dtype=gradient.dtype)
    assert not recover_features(weight, bias, rank_three, bias_gradient, [labels], starts=4).solved


@pytest.mark.parametrize("bias", [True, False])
def test_normal_equations_against_autograd(bias: bool) -> None:
    _, labels, given_ = problem(3, 7, bias=bias)
    system = replace(_System.of(*given_, 3), smoothing=0.1)
    mixing = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    both = labels.expand(2, 3)
    matrix, gradient = system.normal(mixing, both)
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda a: system.residual(a[None], both[:1])[0].flatten(), mixing[i]
        ).flatten(1)
        residual = system.residual(mixing[i][None], both[:1])[0].flatten()
        torch.testing.assert_close(matrix[i], jacobian.T @ jacobian)
        torch.testing.assert_close(gradient[i], jacobian.T @ residual)


def test_seeds_reproduce() -> None:
    _, labels, given_ = problem(4, 10)
    first, second = (
        recover_features(*given_, [labels], generator=torch.Generator().manual_seed(3)).values for _ in range(2)
    )
    assert torch.equal(first, second)


def test_malformed_input() -> None:
    _, labels, (weight, bias, gradient, bias_gradient) = problem(3, 4)
    with pytest.raises(InputError, match="at most 3 images apart, not 4"):
        recover_features(weight, bias, gradient, bias_gradient, [torch.zeros(4, dtype=torch.int64)])
    with pytest.raises(InputError, match="two matrices of one shape"):
        recover_features(weight, bias, gradient[:, 1:], bias_gradient, [labels])
    with pytest.raises(InputError, match="bias_gradient must be of shape"):
        recover_features(weight, bias, gradient, torch.zeros(3), [labels])
    with pytest.raises(InputError, match="at least one hypothesis"):
        recover_features(weight, bias, gradient, bias_gradient, [])


@pytest.mark.parametrize("share", [1e-4, 1e-3])
def test_expected_error_has_the_right_size(share: float) -> None:
    features, labels, (weight, bias, gradient, bias_gradient) = problem(3, 10, seed=4, width=400)
    noise = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1), dtype=gradient.dtype)
    found = recover_features(weight, bias, gradient + share * gradient.std() * noise, bias_gradient, [labels])
    assert found.solved
    rows, columns = linear_sum_assignment(torch.cdist(found.values, features).numpy())
    actual = float((found.values[rows] - features[columns]).square().mean().sqrt())
    assert actual / 4 < found.error < actual * 4


@pytest.mark.parametrize(("dtype", "precision"), [(torch.bfloat16, 0.1), (torch.float16, 0.02), (torch.float32, 1e-4)])
def test_a_client_of_lower_precision_than_the_attacker(dtype: torch.dtype, precision: float) -> None:
    for seed in range(3):
        features, labels, given = problem(2, 10, dtype=dtype, seed=seed)
        wide = [
            None if part is None else part.to(torch.float64 if dtype == torch.float32 else torch.float32)
            for part in given
        ]
        hypotheses = [labels, (labels + 1) % 10, labels.flip(0)]
        recovered = recover_features(*wide, hypotheses)  # type: ignore[arg-type]
        assert recovered.solved
        assert error(recovered, features.to(recovered.values.dtype), labels) < precision
        assert not recover_features(*wide, hypotheses[1:2]).solved  # type: ignore[arg-type]


def test_time_runs_out(looks) -> None:  # type: ignore[no-untyped-def]
    _, labels, given = problem(6, 10)
    recovered = recover_features(*given, [(labels + 1) % 10], deadline=looks(3))
    assert recovered.values.isfinite().all()
    assert not recovered.solved


@pytest.mark.parametrize(("classes", "tried"), [(600, 4), (30, 24)])
def test_many_classes_leave_time_for_few_starts(monkeypatch: pytest.MonkeyPatch, classes: int, tried: int) -> None:
    """Each start is long there: with 10,000 classes all of them would take an hour."""
    _, labels, given = problem(2, classes)
    solved, attempts = _System.solve, list[Tensor]()

    def counted(system: _System, mixing: Tensor, *others: object) -> object:
        attempts.append(mixing)
        return solved(system, mixing, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(_System, "solve", counted)
    monkeypatch.setattr(features, "_WORK", 1.0)
    wrong = [(labels + 1 + shift) % classes for shift in range(3)]
    recovered = recover_features(*given, wrong, starts=8, iterations=3)
    assert not recovered.solved
    assert sum(map(len, attempts)) == 2 * tried  # softened, then in full
    assert recovered.untried == 24 - tried
