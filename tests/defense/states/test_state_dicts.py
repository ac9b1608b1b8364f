"""Rules on state dicts: the numbers of the plain formula, whatever stands beside the parameters kept as it was."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsec.defenses import (
    LASA,
    NNM,
    CenteredClipping,
    ClipUpdate,
    DpFedAvg,
    FLDetector,
    FLTrust,
    FoolsGold,
    GeometricMedian,
    Krum,
    Mean,
    Median,
    MultiKrum,
    Pipeline,
    Sign,
    StateLayout,
    aggregate_state_dicts,
)
from fedsec.errors import AggregationError, DivergenceError, InputError

State = dict[str, Tensor]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def trained(reference: State, seed: int, scale: float = 0.1) -> State:
    """A state dict as a client might send it."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, values in reference.items():
        if not values.is_floating_point():
            state[name] = values + 1 + seed
        elif name.endswith("running_var"):
            state[name] = values * (1 + torch.rand(values.shape, generator=generator))
        else:
            state[name] = values + (scale * torch.randn(values.shape, generator=generator)).to(values.dtype)
    return state


REFERENCE = network().state_dict()
CLIENTS = [trained(REFERENCE, seed) for seed in range(7)]
PARAMETERS = ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]
MEAN, VAR, COUNT = "1.running_mean", "1.running_var", "1.num_batches_tracked"


def stacked(states: list[State], names: list[str]) -> Tensor:
    return torch.stack([torch.cat([state[name].flatten() for name in names]) for state in states])


def test_the_formula() -> None:
    sent = deepcopy(REFERENCE), deepcopy(CLIENTS)
    for rule in (Median(), Mean(), MultiKrum(2), Pipeline([ClipUpdate(0.3), NNM(1), Median()])):
        new, verdict = aggregate_state_dicts(CLIENTS, rule, reference=REFERENCE, server_lr=0.5)
        updates = stacked(CLIENTS, PARAMETERS) - stacked([REFERENCE], PARAMETERS)
        expected = stacked([REFERENCE], PARAMETERS)[0] + 0.5 * rule(updates)
        torch.testing.assert_close(stacked([new], PARAMETERS)[0], expected, rtol=0, atol=0)
        torch.testing.assert_close(verdict.influence, rule.aggregate(updates).influence)
        assert list(new) == list(REFERENCE)
        network().load_state_dict(new)
    for before, after in zip([sent[0], *sent[1]], [REFERENCE, *CLIENTS], strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_mean_is_federated_averaging() -> None:
    sizes = [10.0, 1, 1, 5, 3, 2, 4]
    new, _ = aggregate_state_dicts(CLIENTS, "mean", reference=REFERENCE, weights=sizes)
    for name in (*PARAMETERS, MEAN, VAR):
        average = sum(size * state[name] for size, state in zip(sizes, CLIENTS, strict=True)) / sum(sizes)
        torch.testing.assert_close(new[name], average)
    assert torch.equal(new[COUNT], REFERENCE[COUNT])


def test_statistics_by_choice() -> None:
    rows = stacked(CLIENTS, [MEAN])
    sizes = [10.0, 1, 1, 5, 3, 2, 4]

    def statistics(rule: Any, choice: Any) -> Tensor:
        result = aggregate_state_dicts(CLIENTS, rule, reference=REFERENCE, statistics=choice, weights=sizes)
        values: Tensor = result.state_dict[MEAN]
        return values

    torch.testing.assert_close(statistics(Median(), "mean"), rows.mean(0))  # a robust rule counts nobody more
    torch.testing.assert_close(statistics(Median(), "median"), rows.median(0).values)
    torch.testing.assert_close(statistics(Median(), "auto"), rows.median(0).values)
    torch.testing.assert_close(statistics(Median(), "rule"), rows.median(0).values)
    torch.testing.assert_close(statistics(MultiKrum(2), "rule"), _of_statistics(MultiKrum(2)))
    assert torch.equal(statistics(Median(), "reference"), REFERENCE[MEAN])
    chosen = aggregate_state_dicts(CLIENTS, Krum(2), reference=REFERENCE, statistics="mean")
    (place,) = chosen.aggregate.influence.nonzero().flatten().tolist()
    torch.testing.assert_close(chosen.state_dict[MEAN], CLIENTS[place][MEAN])
    assert chosen.statistics == "mean"


def _of_statistics(rule: MultiKrum) -> Tensor:
    block = stacked(CLIENTS, [MEAN, VAR]) - stacked([REFERENCE], [MEAN, VAR])
    return REFERENCE[MEAN] + rule(block)[:4]


def test_a_liar_about_statistics_moves_the_mean_and_not_the_default() -> None:
    liar = {**CLIENTS[0], VAR: torch.full((4,), 1e30)}
    lied = [liar, *CLIENTS[1:]]
    assert float(aggregate_state_dicts(lied, Median(), reference=REFERENCE).state_dict[VAR].max()) < 3
    assert float(aggregate_state_dicts(lied, Mean(), reference=REFERENCE).state_dict[VAR].max()) > 1e28
    for weighted in (Median(weighted=True), Pipeline([NNM(1), GeometricMedian(weighted=True)])):
        result = aggregate_state_dicts(lied, weighted, reference=REFERENCE, weights=[1.0] * 7)
        assert float(result.state_dict[VAR].max()) < 3


def test_counters_by_choice() -> None:
    for choice, value in (("reference", 0), ("median", 4), ("largest", 7)):
        new, _ = aggregate_state_dicts(CLIENTS, Median(), reference=REFERENCE, counters=choice)
        assert new[COUNT].dtype == torch.int64
        assert int(new[COUNT]) == value


def test_what_is_not_finite_is_rejected_and_named() -> None:
    broken = {**CLIENTS[3], "3.bias": torch.tensor([1.0, torch.nan])}
    infinite = {**CLIENTS[4], MEAN: torch.full((4,), torch.inf)}
    negative = {**CLIENTS[5], VAR: -CLIENTS[5][VAR]}
    states = {10 + place: state for place, state in enumerate([*CLIENTS[:3], broken, infinite, negative, CLIENTS[6]])}
    result = aggregate_state_dicts(states, Median(), reference=REFERENCE)
    assert result.rejected == (13, 14, 15)
    assert result.aggregate.rejected == (3, 4, 5)
    assert result.influence[13] == 0
    assert result.remarks == (
        "client 13: '3.bias' holds NaN or infinity",
        "client 14: '1.running_mean' holds NaN or infinity",
        "client 15: '1.running_var' holds negative variances",
    )
    kept, _ = aggregate_state_dicts([*CLIENTS[:3], CLIENTS[6]], Median(), reference=REFERENCE)
    assert all(torch.equal(result.state_dict[name], kept[name]) for name in kept)
    by_rule = aggregate_state_dicts(states, Median(), reference=REFERENCE, statistics="rule")
    assert torch.equal(by_rule.state_dict[MEAN], kept[MEAN])
    with pytest.raises(
        AggregationError, match=r"rows \[0, 1\] of 3 .*; client 0: '3.bias' holds NaN.*client 1: '1.run"
    ):
        aggregate_state_dicts([broken, infinite, CLIENTS[0]], Median(), reference=REFERENCE)
    unasked = aggregate_state_dicts(states, Median(), reference=REFERENCE, statistics="reference")
    assert unasked.rejected == (13,)


def test_malformed_clients_are_an_error_or_rejected() -> None:
    states = [*CLIENTS[:5], {**CLIENTS[5], "3.bias": torch.zeros(3)}, {"x": torch.zeros(1)}]
    with pytest.raises(InputError, match=r"client 5: '3.bias' has shape \(3,\); expected \(2,\)"):
        aggregate_state_dicts(states, Median(), reference=REFERENCE)
    result = aggregate_state_dicts(states, Median(), reference=REFERENCE, malformed="reject", counters="largest")
    assert result.rejected == (5, 6)
    assert result.remarks[0] == "client 5: '3.bias' has shape (3,); expected (2,)"
    assert result.remarks[1].startswith("client 6: lacks '0.weight'")
    assert int(result.state_dict[COUNT]) == 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_are_kept_and_computed_with_enough_precision(dtype: torch.dtype) -> None:
    reference = {name: values.to(dtype) if values.is_floating_point() else values for name, values in REFERENCE.items()}
    states = [trained(reference, seed) for seed in range(5)]
    new, verdict = aggregate_state_dicts(states, Mean(), reference=reference)
    assert all(new[name].dtype == values.dtype for name, values in reference.items())
    exact = torch.stack([state["0.weight"].double() for state in states]).mean(0)
    assert verdict.vector.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float((new["0.weight"].double() - exact).abs().max()) <= 0.6 * torch.finfo(dtype).eps


def test_frozen_entries_come_back_to_the_bit() -> None:
    reference = {"frozen": torch.tensor([0.1, -0.0, 1e-40, 3e38]), "half": torch.randn(3).half(), "w": torch.ones(2)}
    reference["table"], reference["flag"] = torch.arange(4), torch.tensor(True)
    states = [{**reference, "w": torch.randn(2)} for _ in range(5)]
    for rule in ("mean", "median", Krum(1), "geometric_median"):
        new, _ = aggregate_state_dicts(states, rule, reference=reference)
        for name in ("frozen", "half", "table", "flag"):
            assert torch.equal(new[name], reference[name])
            assert torch.equal(torch.signbit(new[name]), torch.signbit(reference[name]))


def test_tied_parameters_count_once_and_come_back_tied() -> None:
    weight = torch.randn(5, 2)
    reference = {"embedding": weight, "head": weight, "bias": torch.zeros(5)}
    states = []
    for seed in range(4):
        own = trained({"embedding": weight, "bias": torch.zeros(5)}, seed)
        states.append({"embedding": own["embedding"], "head": own["embedding"].clone(), "bias": own["bias"]})
    result = aggregate_state_dicts(states, Median(), reference=reference)
    assert len(result.aggregate.vector) == 15
    assert result.state_dict["head"] is result.state_dict["embedding"]
    assert not result.remarks
    states[2]["head"] = torch.zeros(5, 2)
    odd = aggregate_state_dicts(states, Median(), reference=reference)
    assert odd.remarks == (
        "client 2: 'head' differs from 'embedding', which the reference ties it with; the latter counts",
    )


def test_partial_state_dicts() -> None:
    reference = {"base": torch.randn(3, 3), "lora.a": torch.randn(2, 3), "lora.b": torch.zeros(3, 2)}
    adapters = {name: values for name, values in reference.items() if name != "base"}
    states = [trained(adapters, seed) for seed in range(5)]
    with pytest.raises(InputError, match=r"client 0: lacks 'base'.*partial=True"):
        aggregate_state_dicts(states, Median(), reference=reference)
    new, verdict = aggregate_state_dicts(states, Median(), reference=reference, partial=True)
    assert list(new) == list(reference)
    assert torch.equal(new["base"], reference["base"])
    assert len(verdict.vector) == 12
    alone, _ = aggregate_state_dicts(states, Median(), reference=adapters)
    assert all(torch.equal(new[name], alone[name]) for name in adapters)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    head = [{name: values + 1 for name, values in model.state_dict().items() if name.startswith("0.")}] * 3
    model[1].requires_grad_(False)
    with pytest.raises(InputError, match=r"client 0: lacks '1\.running_mean', '1\.running_var'; .*partial=True"):
        aggregate_state_dicts(head, Median(), reference=model.state_dict(), model=model)
    assert aggregate_state_dicts(head, Median(), reference=model.state_dict(), model=model, statistics="reference")
    odd = [*states[:4], {"lora.a": states[4]["lora.a"]}]
    with pytest.raises(InputError, match=r"client 4: lacks 'lora\.b'"):
        aggregate_state_dicts(odd, Median(), reference=reference, partial=True)


def test_a_part_with_one_of_two_tied_names_is_not_dropped_in_silence() -> None:
    shared = torch.zeros(3)
    reference = {"encoder": shared, "decoder": shared, "bias": torch.zeros(2)}
    part = {"decoder": torch.ones(3), "bias": torch.ones(2)}
    with pytest.raises(InputError, match="have 'decoder' without 'encoder', which the reference ties it with"):
        aggregate_state_dicts([part] * 3, "mean", reference=reference, partial=True)
    part = {"encoder": torch.ones(3)}
    new = aggregate_state_dicts([part] * 3, "mean", reference=reference, partial=True).state_dict
    assert torch.equal(new["decoder"], torch.ones(3))


def test_rules_with_memory_remember_over_rounds() -> None:
    for rule, twin in ((CenteredClipping(0.2), CenteredClipping(0.2)), (FoolsGold(), FoolsGold())):
        state, row = REFERENCE, stacked([REFERENCE], PARAMETERS)[0]
        for round in range(2):
            numbers = [5, 1, 7, 3]
            sent = {number: trained(state, 10 * round + number) for number in numbers}
            updates = stacked(list(sent.values()), PARAMETERS) - row
            state = aggregate_state_dicts(sent, rule, reference=state).state_dict
            row = row + twin(updates, clients=numbers)
            torch.testing.assert_close(stacked([state], PARAMETERS)[0], row, rtol=0, atol=0)
        with pytest.raises(InputError, match="remembers rounds of parameters"):
            aggregate_state_dicts(sent, rule, reference=REFERENCE, statistics="rule")
    assert rule.state().keys() == twin.state().keys()


def test_a_detector_names_clients() -> None:
    detector = FLDetector()
    states = {number: trained(REFERENCE, number) for number in (4, 9, 11)}
    generator = torch.Generator().manual_seed(0)
    assert aggregate_state_dicts(states, detector, reference=REFERENCE, generator=generator).suspected == ()
    assert aggregate_state_dicts(states, Median(), reference=REFERENCE).suspected is None


def test_rules_get_what_they_need() -> None:
    server = trained(REFERENCE, 50)
    layout = StateLayout.of(REFERENCE)
    row = layout.updates([server])[0]
    by_state = aggregate_state_dicts(CLIENTS, FLTrust(), reference=REFERENCE, server_update=server)
    by_row = aggregate_state_dicts(CLIENTS, FLTrust(), reference=REFERENCE, server_update=row)
    assert torch.equal(by_state.aggregate.vector, by_row.aggregate.vector)
    with pytest.raises(InputError, match="which has no statistics"):
        aggregate_state_dicts(CLIENTS, FLTrust(), reference=REFERENCE, server_update=row, statistics="rule")
    updates = layout.updates(CLIENTS)
    lasa = aggregate_state_dicts(CLIENTS, LASA(), reference=REFERENCE)
    assert torch.equal(lasa.aggregate.vector, LASA()(updates, shapes=layout.shapes))
    signed = aggregate_state_dicts(CLIENTS, [Sign(), "mean"], reference=REFERENCE).aggregate.vector
    assert torch.equal(signed, Pipeline([Sign(), Mean()], layout.shapes)(updates))
    assert not torch.equal(signed, Pipeline([Sign(), Mean()])(updates))


def test_privacy_does_not_leak_beside_the_row() -> None:
    private = DpFedAvg(noise_multiplier=1.0)
    generator = torch.Generator().manual_seed(0)
    result = aggregate_state_dicts(CLIENTS, private, reference=REFERENCE, generator=generator)
    assert torch.equal(result.state_dict[MEAN], REFERENCE[MEAN])
    assert result.statistics == "reference"
    for choice in ({"statistics": "mean"}, {"counters": "largest"}):
        with pytest.raises(InputError, match="DpFedAvg: accounts for the updates alone"):
            aggregate_state_dicts(CLIENTS, private, reference=REFERENCE, generator=generator, **choice)


def test_results_beyond_the_range_are_no_results() -> None:
    reference = {"w": torch.full((2,), 6e4).half()}
    with pytest.raises(DivergenceError, match="beyond the range"):
        aggregate_state_dicts([{"w": torch.full((2,), 9e4)}], "mean", reference=reference)
    far, mask = torch.tensor([3e38, 0.0]), torch.tensor([-torch.inf])
    reference = {"w": torch.zeros(2), "mask": mask}
    with pytest.raises(DivergenceError, match=r"'w': the new values are NaN or beyond the range of torch\.float32"):
        aggregate_state_dicts([{"w": far, "mask": mask}], "mean", reference=reference, server_lr=2.0)


@pytest.mark.parametrize(
    ("states", "options", "message"),
    [
        ([], {}, "expected at least one, got none"),
        (REFERENCE, {}, "expected a list of state dicts, one for each client, not a single one"),
        (network(), {}, "state_dicts: expected a state dict, .* not Sequential; call its state_dict"),
        (7, {}, "state_dicts: expected a state dict"),
        ([network()], {}, "client 0: expected a state dict, .* not Sequential; call its"),
        (CLIENTS, {"clients": [1, 2]}, "expected 7 different numbers"),
        (CLIENTS, {"clients": list("abcdefg")}, "expected whole numbers"),
        ({3: CLIENTS[0]}, {"clients": [3]}, "expected none beside"),
        ({3: CLIENTS[0]}, {"weights": {4: 1.0}}, r"one for each of the clients \[3\]"),
        (CLIENTS, {"weights": [1.0, 2.0]}, "weights must be 7 finite numbers"),
        (CLIENTS, {"statistics": "average"}, "statistics: expected auto, .* not 'average'"),
        (CLIENTS, {"counters": "mean"}, "counters: expected"),
        (CLIENTS, {"server_lr": -1.0}, "positive server_lr"),
        (CLIENTS, {"server_lr": "fast"}, "positive server_lr .* got 'fast'"),
        (CLIENTS, {"malformed": "ignore"}, "malformed to be raise or reject"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_malformed_calls_are_told(states: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        aggregate_state_dicts(states, Median(), reference=REFERENCE, **options)
