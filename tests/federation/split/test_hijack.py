"""A server that answers activations as it likes: what arrives, what the clients' part becomes, and what is kept."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedsec.attacks import FeatureHijacking
from fedsec.defenses import DistanceCorrelation
from fedsec.engine import LocalTraining
from fedsec.federation import SplitFederation, SplitLearning
from fedsec.runs.malicious.hijacked_cut import drawn_anew
from fedsec.threat import HijackView, PixelScale
from tests.federation.split.test_split_learning import federation, parts, vector

LOCAL = LocalTraining(steps=1, batch_fraction=1.0, lr=0.3)


def hijacked(disguised: bool = False, defenses: Any = (), **options: Any) -> tuple[SplitFederation, Any]:
    """A federation of one client whose server is malicious, and the server."""
    run = federation(SplitLearning(LOCAL, **options), sizes=(6,), rounds=3, defenses=defenses)
    draws = torch.Generator().manual_seed(1)
    images = torch.rand(10, 1, 4, 4, generator=draws)
    view = HijackView(drawn_anew(run.bottom, draws), images, PixelScale((0.5,), (0.5,)))
    server = FeatureHijacking(width=4, strength=2.0).begin(view, generator=draws)
    run.take_over(server, disguised=disguised)
    return run, server


def parameters(module: Any) -> list[nn.Parameter]:
    return [*module.parameters()]


@pytest.mark.parametrize("labels", ["shared", "client"])
def test_clients_descend_on_the_server_s_loss_through_the_whole_composition(labels: Any) -> None:
    run, server = hijacked(labels=labels)
    critic, by_hand = server.critic, parts((6,))[0]
    images, targets = run.data.batch(torch.arange(6))
    features: Any = by_hand.features
    bottom = parameters(features[:2])
    loss = -2.0 * critic(features[:2](images)).mean()
    expected = [old - 0.3 * one for old, one in zip(bottom, torch.autograd.grad(loss, bottom), strict=True)]
    rest = parameters(by_hand)[len(bottom) :]
    if labels == "client":  # the head is the client's own, and learns
        head = rest[-2:]
        steps = torch.autograd.grad(cross_entropy(by_hand(images), targets), head)
        rest = [*rest[:-2], *(old - 0.3 * one for old, one in zip(head, steps, strict=True))]
    run.play()
    flat = torch.cat([row.detach().reshape(-1) for row in [*expected, *rest]])
    torch.testing.assert_close(run.parameters, flat, rtol=1e-5, atol=1e-6)


def test_a_disguised_server_learns_the_task_on_what_it_is_sent() -> None:
    (idle, _), (disguised, _), honest = (
        hijacked(),
        hijacked(disguised=True),
        federation(SplitLearning(LOCAL), sizes=(6,)),
    )
    for run in (idle, disguised, honest):
        run.play()
    bottom = 2 * 25 + 2
    torch.testing.assert_close(disguised.parameters[:bottom], idle.parameters[:bottom])
    torch.testing.assert_close(disguised.parameters[bottom:], honest.parameters[bottom:])
    assert not torch.equal(disguised.parameters[bottom:], idle.parameters[bottom:])


def test_a_client_s_penalty_stands_beside_what_the_server_answers() -> None:
    (plain, _), (defended, _) = hijacked(), hijacked(defenses=[DistanceCorrelation(weight=1.0)])
    plain.play(), defended.play()
    assert not torch.allclose(plain.parameters, defended.parameters)


def test_the_server_s_networks_take_the_steps_of_their_losses() -> None:
    _, server = hijacked()
    sent, images = torch.rand(5, 2, 2, 2, generator=torch.Generator().manual_seed(0)), server.view.auxiliary
    before = {name: row.clone() for name, row in server.state().items()}
    draws = torch.Generator().manual_seed(4)
    chosen, places = torch.randint(10, (5,), generator=draws), torch.rand(5, 1, 1, 1, generator=draws)
    piloted: Tensor = server.pilot((images[chosen] - 0.5) / 0.5)
    coder = [*server.pilot.parameters(), *server.decoder.parameters()]
    shown = server.decoder(piloted).view(5, 1, 4, 4)
    mine = torch.autograd.grad((shown - images[chosen]).square().mean(), coder, retain_graph=True)
    piloted, critic = piloted.detach(), server.critic
    between = (places * piloted + (1 - places) * sent).requires_grad_()
    slopes = torch.stack(
        [torch.autograd.grad(critic(one[None]).sum(), between, create_graph=True)[0].sum(0) for one in between]
    )
    loss = critic(sent).mean() - critic(piloted).mean() + 10 * ((slopes.flatten(1).norm(dim=1) - 1) ** 2).mean()
    judged = torch.autograd.grad(loss, parameters(critic))
    server.gradient(sent, generator=torch.Generator().manual_seed(4))
    after = server.state()
    for place, gradients in enumerate((mine, judged)):
        for number, gradient in enumerate(gradients):
            kept = after[f"adam.{place}.{number}.exp_avg"]
            torch.testing.assert_close(kept, 0.1 * gradient, rtol=1e-4, atol=1e-7)  # Adam's first moment, from zero
    assert all(not torch.equal(after[name], before[name]) for name in before if name.startswith("decoder"))


def test_a_kept_run_goes_on_to_the_bit() -> None:
    (whole, _), (first, _), (second, _) = (hijacked() for _ in range(3))
    for _ in range(3):
        whole.play()
    first.play()
    second.restore({name: row.clone() for name, row in first.state().items()}, 1)
    for _ in range(2):
        second.play()
    assert torch.equal(second.parameters, whole.parameters)
    assert all(torch.equal(row, whole.state()[name]) for name, row in second.state().items())


def test_a_pilot_has_the_architecture_and_no_weight_of_the_clients() -> None:
    bottom = federation(SplitLearning(LOCAL)).bottom
    pilot = drawn_anew(bottom, torch.Generator().manual_seed(0))
    assert [one.shape for one in pilot.parameters()] == [one.shape for one in bottom.parameters()]
    assert not bool(torch.isclose(vector(pilot), vector(bottom)).any())
