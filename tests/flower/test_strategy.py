"""The robust strategy, on messages made by hand."""

import logging
import re
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedXgbBagging,
)

from fedsec.attacks import SignFlip
from fedsec.defense import aggregate_state_dicts
from fedsec.defenses import NNM, CenteredClipping, DpFedAvg, FLTrust, FoolsGold, Krum, Mean, Median, MultiKrum
from fedsec.errors import AggregationError, DivergenceError, InputError
from fedsec.flower import RobustStrategy

NODES = (2**64 - 5, 7, 1_000_000_007, 11, 13)
MOVES = dict(zip(NODES, (0.1, 0.2, 0.3, 0.4, 50.0), strict=True))
LIAR = NODES[-1]


def test_the_next_model_is_what_the_rule_makes_of_state_dicts(flower: Any) -> None:
    state = flower.model().state_dict()
    rule = [NNM(num_byzantine=1), Krum(num_byzantine=1)]
    model, metrics = flower.play(RobustStrategy(rule), state, MOVES)
    order = sorted(MOVES)
    sent = [flower.shifted(state, MOVES[node]) for node in order]
    expected, aggregate = aggregate_state_dicts(sent, rule, reference=state)
    for name, tensor in expected.items():
        assert torch.equal(model[name], tensor), name
        assert model[name].dtype == tensor.dtype
    assert metrics["fedsec-nodes"] == order
    assert metrics["fedsec-influence"] == aggregate.influence.tolist()


def test_the_mean_is_what_flower_averages(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    results: list[Any] = []
    for strategy in (RobustStrategy(Mean()), FedAvg()):
        messages = flower.configured(strategy, state)
        replies = [
            flower.answer(messages[node], flower.shifted(state, by), num_examples=place + 1, loss=float(place))
            for place, (node, by) in enumerate(MOVES.items())
        ]
        results.append(strategy.aggregate_train(1, replies))
    (model, metrics), (theirs, their_metrics) = results
    for name, array in theirs.items():
        np.testing.assert_allclose(model[name].numpy(), array.numpy(), rtol=1e-5)
    assert metrics["loss"] == pytest.approx(their_metrics["loss"])
    assert {name for name in metrics if not name.startswith("fedsec-")} == {*their_metrics}


def test_statistics_and_counters_go_by_themselves(flower: Any) -> None:
    state = flower.model().state_dict()
    model, _ = flower.play(RobustStrategy(Median()), state, MOVES)
    assert torch.allclose(model["1.running_mean"], state["1.running_mean"] + 0.3)  # the median of 0.1, ..., 50
    assert torch.equal(model["1.num_batches_tracked"], state["1.num_batches_tracked"])
    model, _ = flower.play(RobustStrategy(Median(), statistics="reference"), state, MOVES)
    assert torch.equal(model["1.running_var"], state["1.running_var"])


def test_a_lie_about_the_number_of_examples_counts_for_as_much_as_is_granted(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    options: list[tuple[dict[str, Any], float]] = [
        ({}, 50.0),
        ({"max_examples": 10}, 10.2),
        ({"weighting": "equal"}, 10.2),
    ]
    for believed, expected in options:
        strategy = RobustStrategy(Mean(), **believed)
        messages = flower.configured(strategy, state)
        replies = [
            flower.answer(messages[node], flower.shifted(state, by), num_examples=10**9 if node == LIAR else 10)
            for node, by in MOVES.items()
        ]
        arrays, _ = strategy.aggregate_train(1, replies)
        assert arrays is not None
        np.testing.assert_allclose(arrays["0.bias"].numpy() - state["0.bias"].numpy(), expected, rtol=1e-4)


def test_counts_beyond_any_sum_neither_end_the_run_nor_empty_its_averages(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    strategy = RobustStrategy(Mean())
    messages = flower.configured(strategy, state)
    replies = [
        flower.answer(messages[node], flower.shifted(state, by), num_examples=1.7e308 if by >= 0.4 else 10, loss=by)
        for node, by in MOVES.items()
    ]
    arrays, metrics = strategy.aggregate_train(1, replies)
    assert arrays is not None
    assert metrics is not None
    np.testing.assert_allclose(arrays["0.bias"].numpy() - state["0.bias"].numpy(), 25.2, rtol=1e-5)
    assert metrics["loss"] == pytest.approx(25.2)


def lacking(state: dict[str, Any], first: str) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != first}


def unreadable(state: dict[str, Any], first: str) -> RecordDict:
    record = ArrayRecord(dict(state))
    record[first] = Array(dtype="float32", shape=(3,), stype="numpy.ndarray", data=b"not an array")
    return RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": 1})})


def two_models(state: dict[str, Any], first: str) -> RecordDict:
    return RecordDict({"a": ArrayRecord(state), "b": ArrayRecord(state), "m": MetricRecord({"num-examples": 1})})


ODD = {
    "lacks '0.weight'": lacking,
    "has 'extra'": lambda state, first: {**state, "extra": torch.zeros(1)},
    r"has shape \(1, 1\)": lambda state, first: {**state, first: torch.zeros(1, 1)},
    "holds NaN or infinity": lambda state, first: {**state, first: torch.full_like(state[first], torch.inf)},
    "is torch.int64; expected floating-point": lambda state, first: {**state, first: state[first].long()},
    "cannot be read": unreadable,
    "holds 2 array records": two_models,
    "negative variances": lambda state, first: {**state, "1.running_var": -state["1.running_var"]},
}
"""What a node may do to a round, by what is said of it."""


@pytest.mark.parametrize("what", list(ODD))
def test_one_node_that_sends_anything_loses_its_own_say(
    what: str, flower: Any, caplog: pytest.LogCaptureFixture
) -> None:
    state = flower.model().state_dict()
    strategy = RobustStrategy(MultiKrum(num_byzantine=1))
    messages = flower.configured(strategy, state)
    sent = ODD[what](flower.shifted(state, 0.1), "0.weight")
    odd = (
        Message(sent, reply_to=messages[LIAR]) if isinstance(sent, RecordDict) else flower.answer(messages[LIAR], sent)
    )
    replies = [flower.answer(messages[node], flower.shifted(state, by)) for node, by in MOVES.items() if node != LIAR]
    arrays, metrics = strategy.aggregate_train(1, [odd, *replies])
    assert arrays is not None
    assert metrics is not None
    assert metrics["fedsec-rejected"] == [LIAR]
    assert re.search(what, strategy.verdicts[-1].rejected[LIAR])
    assert strategy.verdicts[-1].influence[LIAR] == 0


def test_the_log_names_who_was_left_out(flower: Any, caplog: pytest.LogCaptureFixture) -> None:
    state = flower.model(norm=False).state_dict()
    logger = logging.getLogger("flwr")
    logger.addHandler(caplog.handler)
    try:
        flower.play(RobustStrategy(MultiKrum(num_byzantine=1)), state, MOVES | {LIAR: float("nan")})
    finally:
        logger.removeHandler(caplog.handler)
    assert f"fedsec, round 1: node {LIAR} was rejected: '0.weight' holds NaN" in caplog.text


def test_what_no_node_can_send_is_a_defect_of_the_app(flower: Any) -> None:
    state = flower.model().state_dict()
    strategy = RobustStrategy(Median())
    messages = flower.configured(strategy, state)
    replies = [flower.answer(message, {"other": torch.zeros(2)}) for message in messages.values()]
    with pytest.raises(InputError, match=r"none of 5 replies can be used; node \d+: its reply: lacks '0.weight'"):
        strategy.aggregate_train(1, replies)


def test_a_round_in_which_the_only_reply_is_unusable_is_skipped_where_that_is_said(flower: Any) -> None:
    state = flower.model().state_dict()
    strategy = RobustStrategy(Median(), broken_condition="skip")
    messages = flower.configured(strategy, state)
    arrays, _ = strategy.aggregate_train(1, [flower.answer(messages[LIAR], {"other": torch.zeros(2)})])
    assert arrays is None
    assert "none of 1 replies can be used; node 13" in strategy.verdicts[-1].broken
    assert {*strategy.verdicts[-1].rejected} == {LIAR}


def test_too_few_nodes_are_refused_before_they_train_and_too_few_replies_by_number(flower: Any) -> None:
    state = flower.model().state_dict()
    with pytest.raises(InputError, match=r"asks 5 nodes a round: Krum"):
        flower.configured(RobustStrategy(Krum(num_byzantine=4)), state)
    strategy = RobustStrategy(Krum(num_byzantine=1))
    messages = flower.configured(strategy, state)
    replies = [flower.answer(messages[node], flower.shifted(state, 0.1)) for node in NODES[:2]]
    with pytest.raises(InputError, match="round 1: 2 of 5 nodes replied, 0 were rejected: Krum"):
        strategy.aggregate_train(1, replies)


def test_a_skipped_round_leaves_the_model_and_says_so(flower: Any) -> None:
    state = flower.model().state_dict()
    strategy = RobustStrategy(Krum(num_byzantine=1), broken_condition="skip")
    messages = flower.configured(strategy, state)
    error = flower.failure(messages[NODES[1]], "out of memory")
    reply = flower.answer(messages[NODES[0]], flower.shifted(state, 0.1))
    arrays, metrics = strategy.aggregate_train(1, [reply, error])
    assert arrays is None
    assert metrics is not None
    assert metrics["fedsec-aggregated"] == 0
    missing: Any = metrics["fedsec-missing"]
    assert sorted(missing) == sorted(NODES[1:])
    verdict = strategy.verdicts[-1]
    assert verdict.failed == {NODES[1]: "out of memory"}
    assert "Krum" in verdict.broken
    flower.configured(strategy, state, number=2)
    assert strategy.aggregate_train(2, [])[0] is None
    assert strategy.verdicts[-1].broken == "no node sent a model"


def test_rules_remember_nodes_over_rounds_and_a_restored_strategy_goes_on(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    later = dict(zip(NODES, (0.2, 0.1, 0.4, 0.3, -9.0), strict=True))

    def fresh() -> RobustStrategy:
        return RobustStrategy(CenteredClipping(radius=0.1), strategy=FedAvgM(server_momentum=0.9), seed=3)

    whole, first, second = fresh(), fresh(), fresh()
    model, _ = flower.play(whole, state, MOVES)
    expected, _ = flower.play(whole, model, later, number=2)
    flower.play(first, state, MOVES)
    second.restore(first.state())
    resumed, _ = flower.play(second, model, later)
    assert second.verdicts[-1].round == 2
    forgetful, _ = flower.play(fresh(), model, later)
    for name, tensor in expected.items():
        assert torch.equal(resumed[name], tensor)
    assert not torch.equal(forgetful["0.weight"], expected["0.weight"])
    with pytest.raises(InputError, match="remembers"):
        fresh().restore({**first.state(), "other": torch.zeros(1)})


@pytest.mark.parametrize("make", [lambda: FedAdam(eta=0.1), lambda: FedAvgM(server_momentum=0.9)])
def test_a_server_step_is_fed_the_robust_aggregate_and_moves_parameters_alone(make: Any, flower: Any) -> None:
    state = flower.model().state_dict()
    model, _ = flower.play(RobustStrategy(Median(), strategy=make()), state, MOVES)
    step, aggregated = make(), flower.shifted(state, 0.3)
    message = next(iter(flower.configured(step, state).values()))
    expected, _ = step.aggregate_train(1, [flower.answer(message, aggregated)])
    for name in ("0.weight", "1.bias", "2.bias"):
        np.testing.assert_allclose(model[name].numpy(), expected[name].numpy(), rtol=1e-5)
        assert model[name].dtype == torch.float32
    assert torch.allclose(model["1.running_mean"], state["1.running_mean"] + 0.3)
    assert torch.equal(model["1.num_batches_tracked"], state["1.num_batches_tracked"])


def test_server_steps_with_two_memories_go_on(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    whole, second = (RobustStrategy(Median(), strategy=FedAdam(eta=0.1)) for _ in range(2))
    model, _ = flower.play(whole, state, MOVES)
    second.restore(whole.state())
    expected, _ = flower.play(whole, model, MOVES, number=2)
    resumed, _ = flower.play(second, model, MOVES, number=2)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    "odd",
    [
        {"metrics": MetricRecord({"num-examples": 10, "other": 0.5})},
        {"metrics": MetricRecord({"accuracy": 0.0})},
        {"metrics": MetricRecord({"num-examples": -10, "accuracy": 0.0})},
        {"metrics": MetricRecord({"num-examples": 10, "accuracy": float("nan")})},
        {"elsewhere": MetricRecord({"num-examples": 10, "accuracy": 0.0})},
        {},
    ],
    ids=str,
)
def test_one_node_that_answers_an_evaluation_with_anything_loses_its_own_say(odd: Any, flower: Any) -> None:
    state = flower.model().state_dict()
    strategy = RobustStrategy(Median())
    messages = flower.configured(strategy, state)
    honest = {"metrics": MetricRecord({"num-examples": 10, "accuracy": 0.75})}
    replies = [Message(RecordDict(odd if node == LIAR else honest), reply_to=messages[node]) for node in NODES]
    for order in (replies, replies[::-1]):
        metrics = strategy.aggregate_evaluate(1, order)
        assert metrics is not None
        assert metrics["accuracy"] == pytest.approx(0.75)
    assert not strategy.aggregate_evaluate(1, [flower.failure(messages[LIAR], "out of memory")])


def test_metrics_of_another_form_and_negative_counts_are_nobodys(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    strategy = RobustStrategy(Mean())
    messages = flower.configured(strategy, state)
    odd: dict[int, dict[str, Any]] = {7: {"curve": [1.0] * 5}, 11: {"num_examples": -1e9, "curve": [1.0, 2.0]}}
    replies = [
        flower.answer(messages[node], flower.shifted(state, 0.1), **{"curve": [1.0, 2.0], **odd.get(node, {})})
        for node in NODES
    ]
    arrays, metrics = strategy.aggregate_train(1, replies)
    assert arrays is not None
    assert metrics is not None
    assert metrics["curve"] == pytest.approx([1.0, 2.0])
    assert list(strategy.verdicts[-1].rejected) == [11]
    assert "does not say how many examples" in strategy.verdicts[-1].rejected[11]


def test_metrics_are_averaged_over_nodes_that_are_believed(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    strategy = RobustStrategy(MultiKrum(num_byzantine=1))
    messages = flower.configured(strategy, state)
    replies = [
        flower.answer(messages[node], flower.shifted(state, by), loss=float("nan") if by == 0.4 else by)
        for node, by in MOVES.items()
    ]
    _, metrics = strategy.aggregate_train(1, replies)
    assert metrics is not None
    assert metrics["fedsec-suspected"] == [LIAR]
    assert metrics["loss"] == pytest.approx(0.2)


def test_a_report_of_counts_lists_nobody(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    _, metrics = flower.play(RobustStrategy(MultiKrum(num_byzantine=1), report="counts"), state, MOVES)
    assert metrics["fedsec-rejected"] == 0
    assert metrics["fedsec-suspected"] == 1
    assert not any(isinstance(value, list) for value in metrics.values())


def test_a_rule_may_trust_the_servers_own_data(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    with pytest.raises(InputError, match=r"FLTrust trusts .* expected server_training"):
        RobustStrategy(FLTrust())
    strategy = RobustStrategy(FLTrust(), server_training=lambda number, model: flower.shifted(model, -0.1))
    model, _ = flower.play(strategy, state, MOVES)
    assert torch.equal(model["0.weight"], state["0.weight"])  # all nodes went the other way


def test_private_rules_account_for_the_rounds_of_all_nodes(flower: Any) -> None:
    state = flower.model().state_dict()
    rule = DpFedAvg(noise_multiplier=2.0, clip_norm=0.1)
    with pytest.raises(InputError, match=r"rule.prepare\(num_clients"):
        flower.play(RobustStrategy(rule), state, MOVES)
    rule.prepare(5, 0.5, 3)
    with pytest.raises(InputError, match="draws a fixed number"):
        flower.play(RobustStrategy(rule), state, MOVES)
    rule.prepare(5, 1.0, 3)
    strategy = RobustStrategy(rule)
    model, metrics = flower.play(strategy, state, MOVES)
    assert torch.equal(model["1.running_mean"], state["1.running_mean"])
    _, later = flower.play(strategy, state, MOVES, number=2)
    assert 0 < metrics["fedsec-epsilon"] < later["fedsec-epsilon"]
    whole, resumed = strategy.state(), RobustStrategy(rule)
    _, third = flower.play(strategy, state, MOVES, number=3)
    resumed.restore(whole)
    _, again = flower.play(resumed, state, MOVES, number=3)
    assert again["fedsec-epsilon"] == third["fedsec-epsilon"] > later["fedsec-epsilon"]
    with pytest.raises(InputError, match="statistics='reference'"):
        RobustStrategy(rule, statistics="mean")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregator": Median}, "Median is a class"),
        ({"aggregator": "krum"}, "krum needs num_byzantine"),
        ({"strategy": FedMedian()}, "FedMedian has a rule of its own"),
        ({"strategy": FedXgbBagging()}, "exchanges trees"),
        (
            {"strategy": DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 5)},
            "noise is made for a mean .* DpFedAvg",
        ),
        ({"strategy": FedAvg(), "fraction_train": 0.5}, "fraction_train belong"),
        ({"fraction_fit": 0.5}, "fraction_fit"),
        ({"weighting": "loss"}, "examples, equal"),
        ({"max_examples": 0}, "positive and finite"),
        ({"broken_condition": "retry"}, "stop, skip, relax"),
        ({"statistics": "rule"}, "not asked twice"),
        ({"report": "all"}, "nodes or counts"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RobustStrategy(**{"aggregator": Median(), **options})


def test_replies_without_a_round_are_refused(flower: Any) -> None:
    state = flower.model().state_dict()
    strategy = RobustStrategy(Median())
    messages = flower.configured(strategy, state)
    replies = [flower.answer(message, flower.shifted(state, 0.1)) for message in messages.values()]
    strategy.aggregate_train(1, replies)
    with pytest.raises(InputError, match="expected configure_train before"):
        strategy.aggregate_train(1, replies)


def test_a_model_beyond_its_dtype_is_not_sent(flower: Any) -> None:
    state = {name: torch.full_like(tensor, -3e38) for name, tensor in flower.model(norm=False).state_dict().items()}
    strategy = RobustStrategy(Mean(), attack=SignFlip(), byzantine_nodes=list(NODES))
    with pytest.raises(DivergenceError, match=r"'0\.weight'.* beyond the range of torch\.float32"):
        flower.play(strategy, state, dict.fromkeys(NODES, 2e38))


def test_more_nodes_without_finite_updates_than_the_rule_can_lose_end_the_run(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    moves = dict(zip(NODES, (0.1, 0.2, 0.3, float("nan"), float("inf")), strict=True))
    with pytest.raises(AggregationError, match=r"round 1: 5 of 5 nodes replied, 2 were rejected: MultiKrum"):
        flower.play(RobustStrategy(MultiKrum(num_byzantine=1)), state, moves)


def test_a_restored_strategy_knows_nodes_by_the_numbers_that_its_rule_remembers(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    first, second = RobustStrategy(FoolsGold()), RobustStrategy(FoolsGold())
    flower.play(first, state, MOVES)
    second.restore(first.state())
    flower.play(second, state, {node: MOVES[node] for node in NODES[:2]})
    assert torch.equal(second.state()["nodes"], first.state()["nodes"])
    assert sorted(second.state()["rule.clients"].tolist()) == [0, 1, 2, 3, 4]
