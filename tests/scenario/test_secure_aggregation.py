"""The section on secure aggregation: what a protocol has, what only another has, and ids from before there were any."""

from typing import Any

import pytest

from fedsec.errors import ScenarioError
from fedsec.federation.secure_sums.dropouts import Dropouts
from fedsec.federation.secure_sums.pairwise_masks import PairwiseMasks
from fedsec.federation.secure_sums.turbo_aggregate import TurboAggregate
from fedsec.scenario import CellConfig, Scenario, load_scenario
from fedsec.scenario.algorithm import make_secure_aggregation
from fedsec.scenario.checks import check_scenario


def scenario(**section: Any) -> Scenario:
    federation = {"rounds": 3, "secure_aggregation": {"clients": 4, **section}}
    content = {"dataset": "digits", "partition": {"clients": 8}, "model": "logistic", "federation": federation}
    return load_scenario(content)


def cell(**section: Any) -> CellConfig:
    return scenario(**section).cells()[0].config


def test_sums_without_a_protocol_keep_their_ids() -> None:
    assert cell().id == "ce592edf30a7"
    assert cell(protocol="pairwise_masks").id != cell().id
    assert cell(protocol="pairwise_masks", bits=32).id == cell(protocol="pairwise_masks").id


def test_protocols_are_built_as_they_are_written() -> None:
    pairs = make_secure_aggregation(
        cell(protocol="pairwise_masks", bits=64, neighbors=2, dropouts={"before_upload": [1, 2]}).federation
    )
    assert pairs is not None
    assert pairs.protocol is not None
    assert pairs.protocol.protocol == PairwiseMasks(64, 2 / 3, 2)
    assert pairs.protocol.dropouts == Dropouts(before_upload=(1, 2))
    ring = make_secure_aggregation(cell(protocol="turbo_aggregate", clip=2.0, fraction_bits=8).federation)
    assert ring is not None
    assert ring.protocol is not None
    assert (ring.protocol.protocol, ring.protocol.clip, ring.protocol.fraction_bits) == (TurboAggregate(), 2.0, 8)


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"bits": 32}, r"secure_aggregation\.bits: goes with protocol: pairwise_masks"),
        ({"clip": 1.0}, r"secure_aggregation\.clip: goes with protocol: pairwise_masks or turbo_aggregate"),
        ({"protocol": "turbo_aggregate", "threshold": 0.5}, r"threshold: goes with protocol: pairwise_masks"),
        ({"protocol": "pairwise_masks", "group_size": 2}, r"group_size: goes with protocol: turbo_aggregate"),
        ({"protocol": "bonawitz"}, "expected one of pairwise_masks, turbo_aggregate or null"),
        ({"protocol": "pairwise_masks", "neighbors": 3}, "neighbors must be even"),
        ({"protocol": "pairwise_masks", "dropouts": {"before_upload": 0.5}}, "each round would abort"),
    ],
)
def test_what_no_protocol_has_is_refused(section: dict[str, Any], why: str) -> None:
    with pytest.raises(ScenarioError, match=why):
        check_scenario(scenario(**section))
