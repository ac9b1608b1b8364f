"""What clients do to their updates on the way to the server: their own rows, in order, with their own memory."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import SignFlip
from fedsec.data.datasets import Normalization, Split
from fedsec.defense import Aggregator
from fedsec.defense.updates import UNDISTORTED, ClientSide, UpdateTransform
from fedsec.defenses import ClipUpdate, DpSgd, GaussianNoise, Mean, Prune, Quantize, Soteria
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, Threat, private_run
from fedsec.federation.client_defenses import ClientDefenses
from fedsec.models import build
from fedsec.seeds import Streams
from fedsec.threat import Distortion

SHAPE, CLASSES, SIZES = (1, 8, 8), 3, (4, 6, 5, 3)
LOCAL = LocalTraining(steps=2, batch_size=3, lr=0.1)


def split(examples: int = sum(SIZES)) -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (examples, *SHAPE), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(examples) % CLASSES)


def model(name: str = "mlp") -> nn.Module:
    torch.manual_seed(0)
    options: dict[str, Any] = {"hidden": [6]} if name == "mlp" else {"norm": "bn"}
    return build(name, SHAPE, CLASSES, **options)


def federation(
    transforms: Sequence[UpdateTransform] = (),
    *,
    name: str = "mlp",
    rounds: int = 4,
    seed: int = 0,
    clients_per_round: int | None = None,
    aggregator: Aggregator | None = None,
    threat: Threat | None = None,
    defense: DpSgd | None = None,
) -> Federation:
    clients = [np.arange(a, b) for a, b in pairwise(np.cumsum([0, *SIZES]))]
    data = ResidentData.build(split(), clients, Normalization((0.5,), (0.25,)), torch.device("cpu"))
    algorithm, privacy = (
        (FedAvg(local=LOCAL), None) if defense is None else private_run(defense, FedAvg(local=LOCAL), SIZES, rounds)
    )
    module = model(name)
    made = Federation(
        module,
        CohortTrainer(module, data),
        split(6),
        algorithm=algorithm,
        aggregator=aggregator or Mean(),
        streams=Streams(seed),
        rounds=rounds,
        num_classes=CLASSES,
        clients_per_round=clients_per_round,
        threat=threat,
        privacy=privacy,
        transforms=transforms,
    )
    made.client_defenses.watched.update(range(len(clients)))
    return made


def received(run: Federation, rounds: int = 1) -> list[dict[int, Tensor]]:
    """What the server receives in each round: client -> row."""
    seen: list[dict[int, Tensor]] = []
    run.observers.append(lambda _, clients, rows: seen.append(dict(zip(clients, rows.clone(), strict=True))))
    for _ in range(rounds):
        run.play()
    return seen


class Recorded(UpdateTransform):
    """Adds a number to a multiple of the update, and keeps what it was shown."""

    def __init__(self, factor: float = 1.0, shift: float = 0.0, needs_client: bool = False) -> None:
        self.factor, self.shift, self.needs_client = factor, shift, needs_client
        self.seen: list[dict[str, Tensor]] = []
        self.drawn: list[float] = []
        self.sides: list[ClientSide | None] = []
        self.modes: list[bool] = []
        self.weights: list[Tensor] = []

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        self.seen.append({name: row.clone() for name, row in update.items()})
        self.drawn.append(float(torch.rand((), generator=generator)))
        self.sides.append(client)
        if client is not None:
            self.modes.append(client.model.training)
            self.weights.append(torch.cat([each.detach().flatten() for each in client.model.parameters()]))
        return {name: self.factor * row + self.shift for name, row in update.items()}

    def known(self, sent: Any, later: Distortion = UNDISTORTED) -> Distortion:
        return Distortion()


def flat(named: dict[str, Tensor]) -> Tensor:
    return torch.cat([row.flatten() for row in named.values()])


def test_each_client_s_own_row_goes_through_all_defenses_in_order() -> None:
    (plain,) = received(federation())
    first, second = Recorded(2.0, 1.0), Recorded(-3.0, 0.5)
    (sent,) = received(federation([first, second]))
    assert list(sent) == list(plain) == [0, 1, 2, 3]
    for place, client in enumerate(plain):
        assert torch.equal(flat(first.seen[place]), plain[client])
        assert torch.equal(flat(second.seen[place]), 2.0 * plain[client] + 1.0)
        torch.testing.assert_close(sent[client], -3.0 * (2.0 * plain[client] + 1.0) + 0.5)


def test_rows_are_given_by_the_parameters_names_and_shapes() -> None:
    recorded = Recorded()
    received(federation([recorded]))
    shapes = {name: each.shape for name, each in model().named_parameters()}
    assert {name: row.shape for name, row in recorded.seen[0].items()} == shapes


def test_without_defenses_nothing_changes() -> None:
    """Nor with some that do nothing: to the bit, also after several rounds."""
    plain, none, idle = federation(), federation(()), federation([ClipUpdate(1e9), GaussianNoise(0.0), Prune(0.0)])
    for run in (plain, none, idle):
        list(run.run())
    assert torch.equal(plain.parameters, none.parameters)
    assert torch.equal(plain.parameters, idle.parameters)
    assert plain.state().keys() == idle.state().keys() == {"parameters", "statistics"}


# Randomness


def draws(**settings: Any) -> dict[tuple[int, int], float]:
    """(round, client) -> the first number that a client's defenses drew."""
    recorded = Recorded()
    seen = received(federation([recorded], **settings), 4)
    places = [(number, client) for number, rows in enumerate(seen, 1) for client in rows]
    return dict(zip(places, recorded.drawn, strict=True))


def test_a_client_s_randomness_depends_on_seed_client_and_round_and_on_nothing_else() -> None:
    all_of_them = draws()
    assert len(set(all_of_them.values())) == 16
    some = draws(clients_per_round=2)
    assert len(some) == 8
    assert all(all_of_them[place] == number for place, number in some.items())
    other = draws(seed=1)
    assert not set(other.values()) & set(all_of_them.values())


def test_defenses_of_one_client_draw_one_after_the_other() -> None:
    one, two = Recorded(), Recorded()
    received(federation([one, two]))
    assert not set(one.drawn) & set(two.drawn)


# Error feedback


def with_memory() -> list[UpdateTransform]:
    return [Prune(0.5, error_feedback=True), GaussianNoise(0.01), Prune(0.7, per_tensor=False, error_feedback=True)]


def test_what_is_held_back_comes_with_the_client_s_next_update() -> None:
    """Also to a client that was away meanwhile."""
    run, plain = federation([Prune(0.5, error_feedback=True)], clients_per_round=2), federation(clients_per_round=2)
    memory: dict[int, Tensor] = {}
    sent = received(run, 4)
    # The clients' own updates, from the models that the defended federation sent.
    seen: list[dict[int, Tensor]] = []
    plain.observers.append(lambda _, clients, rows: seen.append(dict(zip(clients, rows.clone(), strict=True))))
    replay = federation([Prune(0.5, error_feedback=True)], clients_per_round=2)
    for _ in range(4):
        plain.parameters = replay.parameters.clone()
        plain.play()
        replay.play()
    comebacks = 0
    for own, rows in zip(seen, sent, strict=True):
        assert own.keys() == rows.keys()
        for client, update in own.items():
            comebacks += client in memory
            total = update + memory.get(client, torch.zeros_like(update))
            expected = flat(Prune(0.5)(run.trainer.layout.views(total)))
            torch.testing.assert_close(rows[client], expected, rtol=1e-6, atol=1e-7)
            memory[client] = total - rows[client]
    assert comebacks >= 2
    for client, held in memory.items():
        torch.testing.assert_close(run.client_defenses.carried[0, client], held, rtol=1e-6, atol=1e-7)
    away = set(range(4)) - memory.keys()
    assert not run.client_defenses.carried[0, sorted(away)].any()


def test_memories_are_kept_and_restored_to_the_bit() -> None:
    whole = federation(with_memory(), clients_per_round=3)
    list(whole.run())
    first = federation(with_memory(), clients_per_round=3)
    first.play(), first.play()
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    assert state["carried"].shape == state["waited"].shape == (2, 4, first.num_parameters)
    resumed = federation(with_memory(), clients_per_round=3)
    resumed.restore(state, 2)
    list(resumed.run())
    assert torch.equal(resumed.parameters, whole.parameters)
    assert torch.equal(resumed.client_defenses.carried, whole.client_defenses.carried)
    assert torch.equal(resumed.client_defenses.waited, whole.client_defenses.waited)
    forgetful = federation(with_memory(), clients_per_round=3)
    forgetful.restore({**state, "carried": torch.zeros_like(state["carried"])}, 2)
    list(forgetful.run())
    assert not torch.equal(forgetful.parameters, whole.parameters)


def test_a_kept_state_stays_as_it_was_when_rounds_follow() -> None:
    run = federation(with_memory())
    run.play()
    kept = run.state()
    before = {name: tensor.clone() for name, tensor in kept.items()}
    run.play()
    assert all(torch.equal(kept[name], before[name]) for name in before)
    for _ in range(2):
        again = federation(with_memory())
        again.restore(kept, 1)
        again.play()
        assert torch.equal(again.parameters, run.parameters)


def test_a_state_of_other_defenses_is_refused() -> None:
    state = federation(with_memory()).state()
    for transforms in ([], [Prune(error_feedback=True)]):
        with pytest.raises(InputError, match="carried"):
            federation(transforms).restore(state, 0)


# What a defense sees of its client


def test_a_defense_sees_its_client_s_images_and_the_model_that_was_sent() -> None:
    recorded = Recorded(needs_client=True)
    run = federation([recorded], name="resnet4", clients_per_round=2)
    for _ in range(2):
        sent = run.parameters.clone()
        statistics = run.statistics.clone()
        result = run.play()
        for client, side, weights in zip(result.clients, recorded.sides, recorded.weights, strict=True):
            assert side is not None
            images, labels = run.data.batch(torch.from_numpy(run.data.clients[client]))
            assert torch.equal(side.images, images)
            assert torch.equal(side.labels, labels)
            assert torch.equal(weights, sent)
        assert recorded.modes == [True, True]
        assert not torch.equal(run.statistics, statistics)  # by training, see below
        recorded.sides.clear(), recorded.weights.clear(), recorded.modes.clear()


def test_a_defense_that_needs_no_client_gets_none() -> None:
    recorded = Recorded()
    received(federation([recorded]))
    assert recorded.sides == [None] * 4


def test_soteria_drops_columns_and_leaves_all_else_alone() -> None:
    plain_run, run = federation(name="resnet4"), federation([Soteria(0.5)], name="resnet4")
    run.module.eval()
    modes: list[bool] = []
    run.observers.append(lambda *_: modes.append(run.module.training))
    (plain,), (sent,) = received(plain_run), received(run)
    assert modes == [False]
    assert torch.equal(run.statistics, plain_run.statistics)  # a look in train mode moves no running statistics
    assert torch.equal(torch.tensor(run.data.clients[0]), torch.tensor(plain_run.data.clients[0]))
    names = list(run.trainer.layout.shapes)
    last = [name for name in names if name.endswith("weight")][-1]
    dropped = set()
    for client, row in sent.items():
        views, own = run.trainer.layout.views(row), run.trainer.layout.views(plain[client])
        assert all(torch.equal(views[name], own[name]) for name in names if name != last)
        kept = views[last].any(0)
        assert int((~kept).sum()) == views[last].shape[1] // 2
        assert torch.equal(views[last][:, kept], own[last][:, kept])
        dropped.add(tuple(kept.tolist()))
    assert len(dropped) > 1  # each by its own images


def test_dp_sgd_goes_with_defenses_that_see_the_update_alone() -> None:
    with pytest.raises(InputError, match=r"Soteria chooses by the client's data.*epsilon would be void"):
        federation([ClipUpdate(1.0), Soteria()], defense=DpSgd(1.0))
    federation([ClipUpdate(1.0), Soteria()])
    run = federation([ClipUpdate(0.01), Prune(error_feedback=True)], defense=DpSgd(1.0), rounds=1)
    (sent,) = received(run)
    assert all(int((row != 0).sum()) <= 0.11 * len(row) + 4 for row in sent.values())


# Who comes afterwards


def test_attackers_poison_what_would_have_been_sent() -> None:
    """A Byzantine client is bound by no defense of its own, but builds on what it makes."""
    threat = Threat(frozenset({1}), SignFlip(scale=5.0))
    defenses = [ClipUpdate(0.01)]
    (honest,) = received(federation(defenses))
    (sent,) = received(federation(defenses, threat=threat))
    for client in (0, 2, 3):
        assert torch.equal(sent[client], honest[client])
        assert float(sent[client].norm()) <= 0.01 * (1 + 1e-5)
    assert float(honest[1] @ sent[1]) < 0
    assert float(sent[1].norm()) > 0.01 * 4.9


def test_an_update_that_is_not_finite_is_sent_as_it_is_and_leaves_the_memory_alone() -> None:
    run = federation([Prune(0.5, error_feedback=True), ClipUpdate(1.0)])
    run.play()
    before = run.client_defenses.carried.clone()
    honest = run.local_updates

    def broken(start: Any, clients: Sequence[int], number: int) -> Any:
        result = honest(start, clients, number)
        result.updates[2, 3] = torch.nan
        return result

    run.local_updates = broken
    result = run.play()
    assert result.rejected == (2,)
    assert torch.equal(run.client_defenses.carried[:, 2], before[:, 2])
    assert not torch.equal(run.client_defenses.carried[:, 1], before[:, 1])
    assert run.parameters.isfinite().all()


def test_what_is_known_adds_up_over_the_defenses() -> None:
    run = federation()
    data = run.data
    sending = ClientDefenses(
        [ClipUpdate(1.0), GaussianNoise(0.3), GaussianNoise(0.4)], run.trainer.layout, data, Streams(0)
    )
    found = sending.known(torch.ones(run.num_parameters), 0)
    assert found.rescaled
    assert found.noise == pytest.approx(dict.fromkeys(run.trainer.layout.shapes, 0.5))
    pruned = ClientDefenses([Prune(0.5)], run.trainer.layout, data, Streams(0)).known(
        torch.arange(run.num_parameters) + 1.0, 0
    )
    assert all(int(mask.sum()) == mask.numel() - mask.numel() // 2 for mask in pruned.kept.values())


# What the server remembers of earlier messages


def told(
    transforms: Sequence[UpdateTransform], rounds: int, *, resume_after: int | None = None, **settings: Any
) -> list[dict[int, tuple[Tensor, Tensor, Distortion]]]:
    """In each round: client -> its own update, what it sent, and what the server was told of it."""
    run = federation(transforms, **settings)
    found: list[dict[int, tuple[Tensor, Tensor, Distortion]]] = []
    own: list[Tensor] = []

    def watch(run: Federation) -> None:
        honest = run.local_updates

        def kept(*arguments: Any) -> Any:
            result = honest(*arguments)
            own[:] = [result.updates.clone()]
            return result

        run.local_updates = kept  # type: ignore[method-assign]
        run.observers.append(
            lambda _, clients, rows: found.append(
                {
                    client: (update, row.clone(), run.client_defenses.known(row, client))
                    for client, update, row in zip(clients, own[0], rows, strict=True)
                }
            )
        )

    watch(run)
    for number in range(rounds):
        if number == resume_after:
            state = run.state()
            run = federation(transforms, **settings)
            run.restore(state, number)
            watch(run)
        run.play()
    return found


def joined(rows: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([row.flatten() for row in rows.values()])


def test_the_server_counts_how_long_a_coordinate_was_held_back() -> None:
    run = federation([Prune(0.9, error_feedback=True)], clients_per_round=2)
    waits: dict[int, Tensor] = {}
    for rows in received(run, 4):
        for client, row in rows.items():
            waited = waits.get(client, torch.zeros(len(row)))
            waits[client] = torch.where(row != 0, 0.0, waited + 1)
    for client, waited in waits.items():
        assert torch.equal(run.client_defenses.waited[0, client].float(), waited)
    assert float(torch.stack(list(waits.values())).max()) >= 2
    assert not run.client_defenses.waited[0, sorted(set(range(4)) - waits.keys())].any()


def test_what_earlier_rounds_left_in_a_message_is_told_by_coordinate() -> None:
    rounds = told([Prune(0.8, error_feedback=True)], 4)
    for number, rows in enumerate(rounds):
        for update, sent, each in rows.values():
            assert (not each.carried) == (number == 0)
            if number == 0:
                continue
            kept, carried = joined(each.kept), joined(each.carried)
            error = (sent - update)[kept]
            fresh = carried[kept] == 0
            assert float(error[fresh].abs().max()) < 1e-6
            old = error[~fresh] / carried[kept][~fresh]
            assert 0.5 < float(old.square().mean().sqrt()) < 2
    assert any(bool((joined(each.kept) & (joined(each.carried) == 0)).any()) for *_, each in rounds[-1].values())


def test_a_resumed_server_remembers() -> None:
    transforms = [Prune(0.8, error_feedback=True), GaussianNoise(1e-6)]
    whole, resumed = (told(transforms, 4, clients_per_round=3, resume_after=after) for after in (None, 2))
    for rows, again in zip(whole, resumed, strict=True):
        assert rows.keys() == again.keys()
        for client, (_, sent, each) in rows.items():
            assert torch.equal(sent, again[client][1])
            assert each.carried.keys() == again[client][2].carried.keys()
            assert all(torch.equal(row, again[client][2].carried[name]) for name, row in each.carried.items())


def test_the_server_counts_for_those_it_watches() -> None:
    run = federation([Prune(0.8, error_feedback=True)])
    run.client_defenses.watched = {2}
    row = received(run, 2)[-1][2]
    assert [bool(run.client_defenses.waited[0, client].any()) for client in range(4)] == [False, False, True, False]
    assert [bool(run.client_defenses.known(row, client).carried) for client in range(4)] == [False, False, True, False]


def test_who_took_no_part_yet_has_no_past() -> None:
    run = federation([Prune(0.8, error_feedback=True)], clients_per_round=2)
    rows = received(run, 2)[-1]
    row = next(iter(rows.values()))
    for client in range(4):
        assert client in rows or not run.client_defenses.known(row, client).carried


@pytest.mark.parametrize("stochastic", [True, False])
def test_an_error_that_comes_back_is_noise(stochastic: bool) -> None:
    quantize = Quantize(4, stochastic, error_feedback=True)
    first, *others = told([quantize], 3)
    names = dict(model().named_parameters())
    for rows in (first, *others):
        for update, sent, each in rows.values():
            assert not each.carried
            once = quantize.known(federation().trainer.layout.views(sent)).noise
            twice = 1 if rows is first else 2**0.5
            assert each.noise == pytest.approx({name: twice * deviation for name, deviation in once.items()})
            noise = joined({name: torch.full_like(row, each.noise[name]) for name, row in names.items()})
            assert 0.5 < float(((sent - update) / noise).square().mean().sqrt()) < 2


def test_a_model_that_a_defense_can_do_nothing_for_is_refused() -> None:
    with pytest.raises(InputError, match="Soteria: the model has no linear layer 'head'; expected '"):
        federation([Soteria(layer="head")])
