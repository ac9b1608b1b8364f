"""The contract of attacks: no subclass gets past it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.attacks import LabelFlip
from fedsec.defense import CallableTrial
from fedsec.errors import InputError
from fedsec.threat import AttackerView, DataPoisoning, Knowledge, KnowledgePoisoning, UpdatePoisoning

IMAGES = torch.arange(24, dtype=torch.uint8).reshape(6, 1, 2, 2)
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


def poison(attack: DataPoisoning, images: Tensor = IMAGES, labels: Tensor = LABELS) -> tuple[Tensor, Tensor]:
    return attack.poison(images, labels, num_classes=3, generator=torch.Generator())


def data_attack(result: object) -> DataPoisoning:
    class Attack(DataPoisoning):
        def corrupt(self, images, labels, *, num_classes, generator):  # type: ignore[no-untyped-def]
            return result(images, labels) if callable(result) else result

    return Attack()


def view(own: int = 2, honest: int = 3, columns: int = 4) -> AttackerView:
    return AttackerView(
        own=torch.ones(own, columns),
        honest=torch.full((honest, columns), 2.0),
        parameters=torch.zeros(columns),
        num_clients=own + honest,
        num_byzantine=own,
        round=1,
        generator=torch.Generator(),
    )


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (lambda images, labels: (images, labels[1:]), "labels must keep shape"),
        (lambda images, labels: (images[1:], labels), "images must keep shape"),
        (lambda images, labels: (images.float(), labels), "images must keep .*uint8"),
        (lambda images, labels: (images, labels.int()), "labels must keep .*int64"),
        (lambda images, labels: (images, labels + 1), r"labels must lie in \[0, 3\)"),
        (lambda images, labels: (images, labels - 1), r"labels must lie in \[0, 3\)"),
        (lambda images, labels: (images, labels.fill_(0)), "changed `labels` in place"),
        (lambda images, labels: (images.zero_(), labels), "changed `images` in place"),
        (lambda images, labels: (images[0].zero_(), labels)[1:] * 2, "changed `images` in place"),
    ],
)
def test_data_attack_that_breaks_the_contract(corrupt: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        poison(data_attack(corrupt), IMAGES.clone(), LABELS.clone())


def test_data_attack_may_change_both() -> None:
    images, labels = poison(data_attack(lambda images, labels: (255 - images, 2 - labels)))
    assert torch.equal(images, 255 - IMAGES)
    assert torch.equal(labels, 2 - LABELS)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (IMAGES, LABELS[1:]),
        (IMAGES, LABELS + 1),
        (IMAGES, LABELS - 1),
        (IMAGES, LABELS.float()),
        (IMAGES, LABELS[:, None]),
    ],
)
def test_malformed_data(images: Tensor, labels: Tensor) -> None:
    with pytest.raises(InputError, match="Attack: "):
        poison(data_attack((images, labels)), images, labels)


class Echo(UpdatePoisoning):
    knowledge = "omniscient"

    def forge(self, view: AttackerView) -> Tensor:
        return view.honest.sum() + torch.zeros_like(view.own)


class Blind(Echo):
    knowledge = "own"


def test_knowledge_is_enforced() -> None:
    assert Echo().craft(view()).unique().tolist() == [24]
    assert Blind().craft(view()).unique().tolist() == [0]


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda view: torch.zeros(5, 4), r"rows must keep shape \(2, 4\)"),
        (lambda view: view.own[:1], r"rows must keep shape \(2, 4\)"),
        (lambda view: view.own.double(), "rows must keep .*float32"),
        (lambda view: view.own.neg_(), "changed `own` in place"),
        (lambda view: (view.honest.zero_(), view.own)[1], "changed `honest` in place"),
        (lambda view: (view.parameters.add_(1), view.own)[1], "changed `parameters` in place"),
    ],
)
def test_update_attack_that_breaks_the_contract(forge: object, message: str) -> None:
    attack = type("Attack", (Echo,), {"forge": lambda self, view: forge(view)})()  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        attack.craft(view())


def test_rows_may_hold_anything() -> None:
    attack = type("Attack", (Echo,), {"forge": lambda self, view: view.own * torch.nan})()
    assert attack.craft(view()).isnan().all()


@pytest.mark.parametrize("base", [DataPoisoning, UpdatePoisoning])
def test_checks_cannot_be_replaced(base: type) -> None:
    name = "poison" if base is DataPoisoning else "craft"
    with pytest.raises(TypeError, match=f"may not define {name}"):
        type("Cheat", (base,), {name: lambda self, *args, **options: None})


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_byzantine": 3},
        {"parameters": torch.zeros(5)},
        {"honest": torch.zeros(3, 5)},
        {"num_clients": 4},
        {"clients": (1, 2)},
        {"last_aggregate": torch.zeros(5)},
    ],
)
def test_views_that_contradict_themselves(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="AttackerView: "):
        replace(view(), **wrong)  # type: ignore[arg-type]


def test_ids_and_the_last_aggregate_are_told_to_whom_they_may_be_told() -> None:
    seen: list[AttackerView] = []
    last = torch.arange(8.0)[:4]
    given = replace(view(), clients=(3, 5, 9), last_aggregate=last)
    for needs, base in ((False, Echo), (True, Echo), (True, Blind)):
        attack = type(
            "Attack",
            (base,),
            {"needs_last_aggregate": needs, "forge": lambda self, view: (seen.append(view), view.own)[1]},
        )()
        attack.craft(given)
    assert [one.clients for one in seen] == [(3, 5, 9), (3, 5, 9), ()]
    assert [one.last_aggregate is None for one in seen] == [True, False, False]
    assert seen[1].last_aggregate is not None
    assert seen[1].last_aggregate.untyped_storage().nbytes() == 16
    assert view().clients == (0, 1, 2)
    assert torch.equal(seen[0].benign, given.honest)
    assert torch.equal(seen[2].benign, given.own)


def test_only_who_adapts_gets_the_defense_and_only_who_trains_gets_machines() -> None:
    seen: list[AttackerView] = []
    machine: Any = object()
    given = replace(view(), defense=CallableTrial(lambda rows: rows[0]), machines=(machine, machine))
    for adapts, trains in ((False, False), (True, False), (False, True)):
        parts = {"knows_defense": adapts, "trains": trains}
        attack = type("Attack", (Echo,), {**parts, "forge": lambda self, view: (seen.append(view), view.own)[1]})()
        attack.craft(given)
    assert [one.defense is not None for one in seen] == [False, True, False]
    assert [len(one.machines) for one in seen] == [0, 0, 2]


class Spy(UpdatePoisoning):
    knowledge = "own"

    def forge(self, view: AttackerView) -> Tensor:
        self.seen = {name: getattr(view, name) for name in ("own", "honest", "parameters")}
        return view.own


def test_no_view_leads_back_to_what_the_attacker_may_not_know() -> None:
    """Slices of one matrix have its memory behind them, honest rows and all."""
    matrix, spy = torch.arange(20.0).reshape(5, 4), Spy()
    spy.craft(AttackerView(matrix[:2], matrix[2:], matrix[4], 5, 2, 1, torch.Generator()))
    for name, tensor in spy.seen.items():
        base = tensor if tensor._base is None else tensor._base
        assert base.untyped_storage().nbytes() == 4 * tensor.numel(), name
    assert torch.equal(spy.seen["own"], matrix[:2])
    assert not len(spy.seen["honest"])


def test_data_and_knowledge_of_others_are_not_behind_a_clients_own() -> None:
    seen: list[Tensor] = []
    attack = data_attack(lambda images, labels: (seen.extend((images, labels)), (images, labels))[1])
    images, _ = poison(attack, IMAGES[2:4], LABELS[2:4])
    assert [tensor.untyped_storage().nbytes() for tensor in seen] == [8, 16]
    assert images.data_ptr() == IMAGES[2:4].data_ptr()
    whole = poison(data_attack(lambda images, labels: (images, labels)))
    assert whole[0] is IMAGES

    class Sent(KnowledgePoisoning):
        def corrupt(self, knowledge, *, num_classes, generator):  # type: ignore[no-untyped-def]
            seen[:] = knowledge.features, knowledge.logits, knowledge.labels
            return knowledge

    features, logits, classes = torch.zeros(6, 1, 2, 2), torch.zeros(6, 3), torch.zeros(6, dtype=torch.int64)
    Sent().distort(Knowledge(features[:2], logits[:2], classes[:2]), num_classes=3, generator=torch.Generator())
    assert [tensor.untyped_storage().nbytes() for tensor in seen] == [32, 24, 16]


def test_rows_alone_are_no_view_of_an_omniscient_attacker() -> None:
    with pytest.raises(InputError, match="Echo: sees the honest clients' updates; expected an AttackerView"):
        Echo().craft(torch.ones(2, 3))
    assert torch.equal(Blind().craft(torch.ones(2, 3)), torch.zeros(2, 3))


class Shift(DataPoisoning):
    def corrupt(self, inputs, targets, *, num_classes, generator):  # type: ignore[no-untyped-def]
        return inputs, targets + 1


def test_targets_of_a_regression_are_floating_point() -> None:
    targets = torch.tensor([[0.5, -3.0], [2.0, 1.0]])
    inputs = torch.zeros(2, 7)
    poisoned = Shift().poison(inputs, targets, num_classes=None, generator=torch.Generator())
    assert poisoned[0] is inputs
    assert torch.equal(poisoned[1], targets + 1)
    with pytest.raises(InputError, match="Shift: labels must be floating-point targets where there are no classes"):
        Shift().poison(inputs, torch.tensor([0, 1]), num_classes=None, generator=torch.Generator())
    with pytest.raises(InputError, match="LabelFlip: flips classes, and this task has none"):
        LabelFlip().poison(inputs, targets, num_classes=None, generator=torch.Generator())
