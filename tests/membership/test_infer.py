"""Membership in models of anybody's: found where one memorized, nowhere else, and refused where it is absurd."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import LossThreshold, Trajectory
from fedsec.auditing.membership import Auc
from fedsec.engine.local_training import LocalTraining
from fedsec.errors import InputError
from fedsec.membership import blind_auc, infer_membership
from fedsec.membership.report import _shifted

TRAINING = LocalTraining(epochs=15, batch_size=10, lr=0.2)


def pool(examples: int = 160, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(examples, 30, generator=generator), torch.randint(0, 4, (examples,), generator=generator)


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 4))


def trained(inputs: Tensor, labels: Tensor, epochs: int = 15) -> nn.Module:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).split(10):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    return model


INPUTS, LABELS = pool()
MEMBERS, OTHERS, POPULATION = ((INPUTS[part], LABELS[part]) for part in (slice(50), slice(50, 100), slice(100, 160)))


def test_a_model_that_memorized_noise_gives_its_members_away() -> None:
    versions = [trained(*MEMBERS, epochs=epochs) for epochs in (1, 8, 15)]
    names = ["loss_threshold", "lira_online", "lira_offline", "rmia", "trajectory"]
    report = infer_membership(
        versions, MEMBERS, OTHERS, inferences=names, population=POPULATION, training=TRAINING, shadow_models=8
    )
    assert list(report.results) == names
    for name, result in report.results.items():
        assert result.rates.auc.low > 0.7, name
        assert result.null.low <= 0.5 <= result.null.high, name
        curve = np.array(result.roc())
        assert curve[0].tolist() == [0, 0]
        assert curve[-1].tolist() == [1, 1]
        area = float(np.trapezoid(curve[:, 1], curve[:, 0]))
        assert area == pytest.approx(result.rates.auc.value, abs=1e-9)
    assert report.blind.low <= 0.5 <= report.blind.high
    assert any("50 non-members cannot count an FPR of 0.01" in note for note in report.notes)
    assert "unresolved" in str(report)


def test_a_model_that_saw_nobody_gives_nobody_away() -> None:
    report = infer_membership(
        trained(*POPULATION), MEMBERS, OTHERS, inferences=["loss_threshold", "lira_online"], training=TRAINING,
        shadow_models=8, start=network(),
    )  # fmt: skip
    for result in report.results.values():
        assert result.rates.auc.low <= 0.5 <= result.rates.auc.high


def test_equal_seeds_give_equal_scores_and_the_order_of_candidates_is_no_hint() -> None:
    class Positional(LossThreshold):
        """Takes the first half for members."""

        def score(self, view: Any) -> Tensor:
            return -torch.arange(view.shape[0], dtype=torch.float64)

    target = trained(*MEMBERS)
    first, second = (infer_membership(target, MEMBERS, OTHERS, inferences=[Positional()], seed=4) for _ in range(2))
    assert torch.equal(first.results["Positional"].scores, second.results["Positional"].scores)
    assert first.results["Positional"].rates.auc.low <= 0.5 <= first.results["Positional"].rates.auc.high


def test_a_judge_of_inputs_alone_sees_a_shift_and_nothing_else() -> None:
    same = blind_auc(INPUTS, LABELS, 80, np.random.default_rng(0))
    assert same.low <= 0.5 <= same.high
    moved = torch.cat([INPUTS[:80] + 0.4, INPUTS[80:]])
    assert blind_auc(moved, LABELS, 80, np.random.default_rng(0)).low > 0.7
    other_classes = torch.cat([LABELS[:80] % 2, LABELS[80:]])
    assert blind_auc(INPUTS, other_classes, 80, np.random.default_rng(0)).low > 0.6
    shifted = MEMBERS[0] + 1, MEMBERS[1]
    report = infer_membership(trained(*POPULATION), shifted, OTHERS)
    assert any("differ without any model" in note for note in report.notes)


def test_one_interval_in_forty_is_no_alarm() -> None:
    assert not _shifted(Auc(0.551, 0.505, 0.597, 300, 300, 0.95))
    assert not _shifted(Auc(0.5, 0.45, 0.55, 300, 300, 0.95))
    assert _shifted(Auc(0.62, 0.57, 0.67, 300, 300, 0.95))
    assert _shifted(Auc(1.0, 0.99, 1.0, 300, 300, 0.95))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inferences": []}, "no inference"),
        ({"inferences": ["loss_threshold", "loss_threshold"]}, "stands twice"),
        ({"inferences": ["lira"]}, "unknown inference 'lira'"),
        ({"inferences": [Trajectory()]}, "needs several_rounds"),
        ({"inferences": ["gradient_cosine"]}, "needs updates"),
        ({"inferences": ["lira_online"]}, "expected training, such as"),
        ({"inferences": ["rmia"], "training": TRAINING, "shadow_models": 2}, "needs population"),
        ({"model": []}, "no model"),
        ({"members": (INPUTS[:1], LABELS[:1])}, "members has 1 inputs and 1 classes"),
        ({"nonmembers": (INPUTS[:9], LABELS[:8])}, "nonmembers has 9 inputs and 8 classes"),
        ({"nonmembers": (INPUTS[:9, :20], LABELS[:9])}, r"nonmembers are torch.float32 of shape \(20,\)"),
        ({"members": (INPUTS[:9], LABELS[:9].int())}, "have classes as torch.int32"),
    ],
)
def test_what_cannot_be_judged_is_refused(change: dict[str, Any], message: str) -> None:
    given = {"model": network(), "members": MEMBERS, "nonmembers": OTHERS, **change}
    model, members, nonmembers = (given.pop(name) for name in ("model", "members", "nonmembers"))
    with pytest.raises(InputError, match=message):
        infer_membership(model, members, nonmembers, **given)
