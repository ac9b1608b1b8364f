"""Mods on nodes: what leaves a node in place of what its app made."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from fedsec.attacks import ALIE, LabelFlip, SignFlip
from fedsec.defense.updates import compose, with_feedback
from fedsec.defenses import ClipUpdate, GaussianNoise, Median, Prune, Quantize, Soteria
from fedsec.errors import InputError
from fedsec.flower import byzantine_mod, dp_mod, poisoned, transform_mod
from fedsec.privacy import Spending, epsilon
from fedsec.threat import AttackerView, UpdatePoisoning

PARAMETERS = ("0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias")


def norm(update: dict[str, torch.Tensor]) -> float:
    return float(torch.cat([update[name].flatten() for name in PARAMETERS]).norm())


def test_byzantine_nodes_send_what_the_attack_makes_of_their_update(node: Any) -> None:
    update = node.update(node.send(byzantine_mod(SignFlip(), partitions=[2]), 0.25))
    for name in PARAMETERS:
        assert torch.allclose(update[name], torch.full_like(update[name], -0.25))
    assert torch.allclose(update["1.running_mean"], torch.full_like(update["1.running_mean"], 0.25))


@pytest.mark.parametrize("who", [{"partitions": [0, 1]}, {"nodes": [8]}])
def test_others_are_left_alone(who: dict[str, Any], node: Any) -> None:
    update = node.update(node.send(byzantine_mod(SignFlip(), **who), 0.25))
    assert torch.allclose(update["0.bias"], torch.full_like(update["0.bias"], 0.25))


def test_a_node_is_told_by_its_id_as_well_and_evaluates_honestly(node: Any) -> None:
    mod = byzantine_mod(SignFlip(), nodes=[node.node_id])
    assert float(node.update(node.send(mod, 0.25))["0.bias"][0]) < 0
    assert float(node.update(node.send(mod, 0.25, kind="evaluate"))["0.bias"][0]) > 0


class Remembering(UpdatePoisoning):
    """Sends how often it was asked, and then what the server made of the round before."""

    knowledge = "own"
    needs_last_aggregate = True

    def __init__(self) -> None:
        self._asked = 0

    def forge(self, view: AttackerView) -> torch.Tensor:
        self._asked += 1
        if view.last_aggregate is not None:
            return view.last_aggregate.clone()[None]
        return torch.full_like(view.own, float(self._asked))

    def state(self) -> dict[str, torch.Tensor]:
        return {"asked": torch.tensor(self._asked)} if self._asked else {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        self._asked = int(state["asked"]) if state else 0


def test_what_an_attack_remembers_lies_on_the_node_and_not_in_its_process(node: Any) -> None:
    first = node.update(node.send(byzantine_mod(Remembering(), partitions=[2]), 0.25))
    assert float(first["0.bias"][0]) == pytest.approx(1)
    assert int(node.context.state["fedsec.byzantine_mod"]["asked"].numpy()) == 1
    before = node.state
    node.state = {name: tensor + 3 if name in PARAMETERS else tensor for name, tensor in before.items()}
    second = node.update(node.send(byzantine_mod(Remembering(), partitions=[2]), 0.25, number=None))
    assert float(second["0.bias"][0]) == pytest.approx(3, abs=1e-5)  # the server moved by so much
    assert int(node.context.state["fedsec.byzantine_mod"]["asked"].numpy()) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: byzantine_mod(ALIE(), partitions=[0]), "ALIE knows what a node alone does not.*RobustStrategy"),
        (lambda: byzantine_mod(LabelFlip(), partitions=[0]), "no attack on updates; expected poisoned"),  # type: ignore[arg-type]
        (lambda: byzantine_mod(SignFlip()), "nobody is Byzantine"),
        (lambda: byzantine_mod(SignFlip(), partitions=0.4), "expected a collection of numbers"),  # type: ignore[arg-type]
        (lambda: byzantine_mod(SignFlip(), partitions=[0], num_clients=0), "at least 1"),
        (lambda: transform_mod(), "at least one transform"),
        (lambda: transform_mod(Median()), "Median changes no single update"),  # type: ignore[arg-type]
        (lambda: transform_mod(Soteria()), "Soteria looks at the node's data"),
        (lambda: dp_mod(1.0), "noise_multiplier or target_epsilon"),
        (lambda: dp_mod(0.0, 1.0), "clip_norm must be positive"),
        (lambda: dp_mod(1.0, 0.0), "noise_multiplier must be positive"),
        (lambda: dp_mod(1.0, target_epsilon=3.0), "expected rounds"),
        (lambda: dp_mod(1.0, 1.0, delta=2.0), "delta"),
        (lambda: dp_mod(1.0, 1.0, metrics="loss"), "a list of names"),
    ],
)
def test_what_a_mod_cannot_do_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_partitions_of_nodes_that_have_none_are_an_error_that_the_server_is_told(flower: Any, node: Any) -> None:
    del node.context.node_config["partition-id"]
    with pytest.raises(InputError, match="started without one"):
        node.send(byzantine_mod(SignFlip(), partitions=[2]), 0.25)


def test_transforms_apply_in_order_and_what_they_hold_back_is_kept_on_the_node(node: Any) -> None:
    transforms = ClipUpdate(1.0), Prune(0.5, error_feedback=True)
    generator = torch.Generator().manual_seed(1)
    carried: dict[str, torch.Tensor] = {}
    for number in (1, 2, 3):
        moved = {name: tensor + torch.randn(tensor.shape, generator=generator) for name, tensor in node.state.items()}
        moved["1.num_batches_tracked"] = node.state["1.num_batches_tracked"]
        update = {name: (moved[name] - node.state[name]) for name in PARAMETERS}
        expected, carried = with_feedback(compose(transforms), update, carried)
        mod = transform_mod(*transforms, seed=0)  # each message may be met by a process of its own
        sent = node.update(node.send(mod, moved, number=number))
        assert carried
        for name in PARAMETERS:
            assert torch.allclose(sent[name].float(), expected[name], atol=1e-6)


def test_what_is_not_an_update_is_sent_as_it_is(node: Any) -> None:
    update = node.update(node.send(transform_mod(Quantize(bits=2), seed=0), 0.25))
    assert torch.allclose(update["1.running_var"], torch.full_like(update["1.running_var"], 0.25))
    assert int(update["1.num_batches_tracked"]) == 1


def test_a_drawing_transform_draws_other_numbers_on_each_node_and_in_each_round(node: Any) -> None:
    mod = transform_mod(GaussianNoise(1.0), seed=0)
    # The server gives both rounds one number, so that equal noise would cancel.
    first, second = (node.update(node.send(mod, 0.0, number=1)) for _ in range(2))
    assert not torch.equal(first["0.weight"], second["0.weight"])
    node.context.state.clear()
    assert torch.equal(node.update(node.send(mod, 0.0, number=2))["0.weight"], first["0.weight"])
    node.context.state.clear()
    node.context.node_id += 1
    assert not torch.equal(node.update(node.send(mod, 0.0, number=1))["0.weight"], first["0.weight"])


@pytest.mark.parametrize("kind", ["evaluate", "query"])
def test_a_private_node_sends_no_more_where_it_does_not_train(kind: str, node: Any) -> None:
    reply = node.send(dp_mod(1.0, 1.0, metrics=["num-examples"]), 0.1, kind=kind, accuracy=0.5)
    assert not reply.content.array_records
    assert {*reply.content.metric_records["metrics"]} == {"num-examples"}


def test_a_mask_of_infinities_does_not_keep_a_node_from_sending(node: Any) -> None:
    node.state = {**node.state, "mask": torch.tensor([0.0, -torch.inf])}
    for mod in (dp_mod(1.0, 1.0), transform_mod(ClipUpdate(1.0)), byzantine_mod(SignFlip(), partitions=[2])):
        reply = node.send(mod, 0.1)
        assert not reply.has_error(), reply.error.reason
        sent = reply.content.array_records["arrays"].to_torch_state_dict()
        assert sent["mask"][1] == -torch.inf
        assert bool(sent["0.weight"].isfinite().all())


def test_private_nodes_send_clipped_updates_and_noise_and_nothing_else(node: Any) -> None:
    quiet = dp_mod(clip_norm=0.5, noise_multiplier=1e-9, seed=0)
    reply = node.send(quiet, 100.0, loss=3.0)
    update = node.update(reply)
    assert norm(update) == pytest.approx(0.5, rel=1e-4)
    assert float(update["1.running_mean"].abs().max()) == 0  # what came is sent back
    assert int(update["1.num_batches_tracked"]) == 0
    metrics = reply.content.metric_records["metrics"]
    assert {*metrics} == {"num-examples", "fedsec-epsilon"}


def test_private_noise_is_as_large_as_it_is_said_to_be(flower: Any, node: Any) -> None:
    large = torch.nn.Linear(100, 100).state_dict()
    node.state = large
    node_update = node.update(node.send(dp_mod(clip_norm=2.0, noise_multiplier=3.0), 0.0))
    assert float(node_update["weight"].std()) == pytest.approx(6.0, rel=0.05)


def test_private_noise_is_another_one_in_every_round_and_nobody_can_draw_it_again(node: Any) -> None:
    first, second = (node.update(node.send(dp_mod(1.0, 1.0, seed=0), 0.0, number=1))["0.weight"] for _ in range(2))
    assert not torch.equal(first, second)
    node.context.state.clear()
    assert torch.equal(node.update(node.send(dp_mod(1.0, 1.0, seed=0), 0.0, number=1))["0.weight"], first)
    node.context.state.clear()
    secret = node.update(node.send(dp_mod(1.0, 1.0), 0.0, number=1))["0.weight"]
    node.context.state.clear()
    assert not torch.equal(node.update(node.send(dp_mod(1.0, 1.0), 0.0, number=1))["0.weight"], secret)


def test_a_private_node_counts_what_it_has_spent_and_stops(node: Any) -> None:
    mod = dp_mod(clip_norm=1.0, target_epsilon=4.0, rounds=2, delta=1e-5)
    spent = []
    for number in (1, 2):
        reply = node.send(mod, 0.1, number=number)
        spent.append(reply.content.metric_records["metrics"]["fedsec-epsilon"])
    expected = [epsilon([Spending(mod.noise_multiplier / 2, 1.0, count)], 1e-5).value for count in (1, 2)]
    assert spent == pytest.approx(expected)
    assert 3.9 < spent[1] <= 4.0
    third = node.send(mod, 0.1, number=3)
    assert third.has_error()
    assert "nothing more is sent" in third.error.reason


def test_a_private_node_sends_no_model_that_noise_cannot_hide(node: Any) -> None:
    reply = node.send(dp_mod(1.0, 1.0), float("nan"))
    assert reply.has_error()
    assert "nothing is sent" in reply.error.reason


def test_what_an_app_sends_wrongly_is_told_the_server(node: Any) -> None:
    reply = node.send(transform_mod(ClipUpdate(1.0)), {"other": torch.zeros(1)})
    assert reply.has_error()
    assert "transform_mod: the app's reply: lacks '0.weight'" in reply.error.reason


def test_attacks_on_data_are_called_where_the_data_are(node: Any) -> None:
    inputs, targets = torch.rand(4, 2), torch.tensor([0, 1, 2, 9])
    same = poisoned(node.context, inputs, targets, attack=LabelFlip(), partitions=[0], num_classes=10)
    assert same[1] is targets
    flipped = poisoned(node.context, inputs, targets, attack=LabelFlip(), partitions=[2], num_classes=10)
    assert flipped[1].tolist() == [9, 8, 7, 0]
    with pytest.raises(InputError, match="byzantine_mod for attacks on updates"):
        poisoned(node.context, inputs, targets, attack=SignFlip(), partitions=[2], num_classes=10)  # type: ignore[arg-type]
