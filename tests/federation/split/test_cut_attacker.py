"""Gradient replacement at the cut: what arrives, what is learned, and what others notice of it."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedsec.attacks import GradientReplacement, LabelFlip
from fedsec.engine import CohortTrainer, LocalTraining
from fedsec.errors import InputError
from fedsec.federation import SplitLearning, Threat, Vertical, VerticalFederation
from fedsec.federation.split.columns import ColumnNetwork
from fedsec.federation.split.network import Crossing
from fedsec.federation.threat import AttackRounds
from fedsec.models import build
from fedsec.threat import CutBatch, PixelScale
from tests.federation.split.test_split_learning import SHAPE, STREAMS, federation, parts

LOCAL = LocalTraining(epochs=1, batch_size=20, lr=0.3)
ATTACK: dict[str, Any] = {"target": 2, "known": 2, "poisoned_fraction": 0.3, "size": 2}


def vertical(attack: GradientReplacement | None, party: int = 1, **more: Any) -> VerticalFederation:
    _, trainer, split = parts((8, 5))
    torch.manual_seed(0)
    joint = ColumnNetwork(lambda shape, width: build("mlp", shape, width, hidden=[6]), SHAPE, 2, 4, (), 3)
    threat = Threat() if attack is None else Threat(frozenset({party}), attack, **more)
    return VerticalFederation(
        joint,
        CohortTrainer(joint, trainer.data, engine="loop"),
        split,
        algorithm=Vertical(LOCAL, width=4),
        threat=threat,
        rounds=2,
        num_classes=3,
        streams=STREAMS,
    )


def views(run: VerticalFederation) -> list[Crossing]:
    seen: list[Crossing] = []
    run.observers.append(seen.append)
    run.play()
    return seen


def test_a_party_learns_a_trigger_from_the_gradients_of_the_target() -> None:
    attack = GradientReplacement(gamma=5.0, **ATTACK)
    run = vertical(attack)
    joint: Any = run.joint
    start = [row.detach().clone() for row in joint.parameters()]
    honest, own = views(run)
    after = [row.detach().clone() for row in joint.parameters()]
    with torch.no_grad():
        for row, old in zip(joint.parameters(), start, strict=True):
            row.copy_(old)
    attacker = run.attackers[1]
    examples = torch.from_numpy(own.examples)
    marked, known = attacker.marked[examples], attacker.known[examples]
    assert int(marked.sum()) == int(0.3 * 13)
    assert int(known.sum()) == 2
    inputs, targets = run.data.batch(examples)
    assert set(targets[known].tolist()) == {2}
    # What is sent: honest activations of all others, and something else for marked examples.
    columns = inputs[..., 2:]
    sent = joint.bottoms[1](columns)
    assert torch.equal(own.sent[~marked], sent[~marked].detach())
    assert not bool(torch.isclose(own.sent[marked], sent[marked]).any())
    # What comes back is the loss's gradient at what was sent; what is learned from is the known examples' times gamma.
    ends = [joint.bottoms[0](inputs[..., :2]).detach().requires_grad_(), own.sent.clone().requires_grad_()]
    loss = cross_entropy(joint.top(torch.cat(ends, 1)), targets)
    first, second = torch.autograd.grad(loss, ends)
    torch.testing.assert_close(own.gradients, second * 13)
    torch.testing.assert_close(honest.gradients, first * 13)
    stamped = columns.clone()
    stamped[marked, :, -2:, :] = 1.0  # white: (1 - 0.5) / 0.5
    bottom = [*joint.bottoms[1].parameters()]
    learned = second.clone()
    draws = STREAMS.torch("attack", "client", 1, "round", 1, "cut")
    torch.randn(sent.shape, generator=draws)
    chosen = torch.randint(2, (int(marked.sum()),), generator=draws)
    learned[marked] = 5.0 * second[known.nonzero().flatten()[chosen]]
    expected = torch.autograd.grad(joint.bottoms[1](stamped), bottom, learned)
    names = [name for name, _ in joint.named_parameters()]
    for name, old, gradient in zip(
        [f"bottoms.1.{name}" for name, _ in joint.bottoms[1].named_parameters()], bottom, expected, strict=True
    ):
        torch.testing.assert_close(after[names.index(name)], old.detach() - 0.3 * gradient, rtol=1e-4, atol=1e-6)


def parameters(run: Any, rounds: int = 2) -> Tensor:
    for _ in range(rounds):
        run.play()
    return run.parameters  # type: ignore[no-any-return]


def test_without_strength_or_before_its_time_nobody_is_attacked() -> None:
    honest = parameters(vertical(None))
    assert torch.equal(parameters(vertical(GradientReplacement(gamma=0.0, **ATTACK))), honest)
    late = AttackRounds(since=3)
    assert torch.equal(parameters(vertical(GradientReplacement(**ATTACK), schedule=late)), honest)
    assert not torch.allclose(parameters(vertical(GradientReplacement(**ATTACK))), honest)
    server = SplitLearning(LOCAL, labels="server")
    threat = Threat(frozenset({1}), GradientReplacement(**ATTACK))
    attacked, alone = (federation(server, threat=one, model="mlp") for one in (threat, Threat()))
    assert not torch.allclose(parameters(attacked), parameters(alone))


def test_a_trigger_lies_in_the_columns_of_its_party_alone() -> None:
    for party, columns in ((0, slice(0, 2)), (1, slice(2, 4))):
        run = vertical(GradientReplacement(**ATTACK), party)
        (probe,) = run.evaluator.probes
        clean = run.evaluator.images[run.evaluator.targets != 2]
        changed = (probe.inputs != clean).any(0).any(0).any(0)
        assert changed.nonzero().flatten().tolist() == list(range(4))[columns]
        assert bool((probe.inputs[..., 2:, columns] == 255).all())


def test_a_batch_without_a_known_example_teaches_nothing_of_the_trigger() -> None:
    attack, gradients = GradientReplacement(**ATTACK), torch.randn(4, 3)
    marked = torch.tensor([True, True, False, False])
    batch = CutBatch(marked, torch.zeros(4, dtype=torch.bool), PixelScale(), torch.Generator())
    assert torch.equal(attack.learned(gradients, batch), gradients * ~marked[:, None])


def test_what_is_sent_for_a_trigger_is_as_wide_as_honest_activations_and_tells_nothing() -> None:
    attack, draws = GradientReplacement(**ATTACK), torch.Generator().manual_seed(0)
    marked = torch.arange(4000) < 2000
    batch = CutBatch(marked, ~marked, PixelScale(), draws)
    activations = torch.randn(4000, 2, generator=draws) * torch.tensor([0.5, 3.0]) + torch.tensor([4.0, -1.0])
    activations[marked] += 100.0
    sent = attack.sent(activations, batch)
    assert torch.equal(sent[~marked], activations[~marked])
    for moment in (torch.mean, torch.std):
        torch.testing.assert_close(moment(sent[marked], 0), moment(activations[~marked], 0), rtol=0.1, atol=0.2)
    centered = torch.stack([rows[:, 0] - rows[:, 0].mean() for rows in (sent[marked], activations[marked])])
    assert abs(float(torch.corrcoef(centered)[0, 1])) < 0.1


def test_no_example_is_both_known_and_marked_and_not_more_than_were_said() -> None:
    attack = GradientReplacement(**{**ATTACK, "known": 5, "poisoned_fraction": 0.6})
    labels = torch.arange(30) % 3
    marked, known = attack.choose(labels, num_classes=3, generator=torch.Generator().manual_seed(0))
    assert (int(marked.sum()), int(known.sum())) == (18, 5)
    assert not bool((marked & known).any())
    assert bool((labels[marked] == 2).any())  # of whom it does not know, it marks whoever comes


def test_a_kept_run_goes_on_to_the_bit() -> None:
    whole, first, second = (vertical(GradientReplacement(**ATTACK)) for _ in range(3))
    parameters(whole), first.play()
    second.restore(first.state(), 1)
    assert torch.equal(parameters(second, 1), whole.parameters)


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: GradientReplacement(gamma=-1.0), "gamma must not be negative"),
        (lambda: GradientReplacement(poisoned_fraction=1.0), r"poisoned_fraction must lie in \(0, 1\)"),
        (lambda: GradientReplacement(target=-1), "target must be a class"),
        (lambda: vertical(GradientReplacement(target=2, size=3)), "does not fit"),
        (
            lambda: federation(SplitLearning(LOCAL), threat=Threat(frozenset({1}), GradientReplacement(**ATTACK))),
            "is for attackers without labels, and clients have them",
        ),
        (lambda: vertical(LabelFlip()), "the labels are the server's"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused(build_it: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_it()
