"""What must not be combined, said once, whoever asks: a description of a run that does not exist is enough."""

from typing import Any

import pytest

from fedsec.attacks import DLG, Backdoor, Fang, FeaturePoison, LabelFlip, SignFlip
from fedsec.defense import Pipeline
from fedsec.defenses import ClipUpdate, DpFedAvg, Mean, Median, Soteria, TrimmedMean
from fedsec.errors import InputError
from fedsec.federation import FedAvg, FedGKT, Scaffold, Stragglers
from fedsec.federation.guards import RunDescription, check, problems
from fedsec.federation.secure_aggregation import SecureAggregation
from fedsec.federation.selection import Availability, Cyclic, PowerLaw, PowerOfChoice

PRIVATE = DpFedAvg(noise_multiplier=1.0)


def run(algorithm: Any = None, **more: Any) -> RunDescription:
    return RunDescription(algorithm or FedAvg(), clients=10, **{"rule": Mean(), "cohort": 10, **more})


@pytest.mark.parametrize(
    "sound",
    [
        run(),
        run(attack=LabelFlip(), num_byzantine=2),
        run(FedGKT(), rule=None, attack=FeaturePoison(), num_byzantine=2),
        run(FedGKT(), rule=None, attack=Backdoor(), num_byzantine=2),
        run(attack=Backdoor(boost=3.0), num_byzantine=2),
        run(attack=Fang("krum"), num_byzantine=3),
        RunDescription(FedAvg(), clients=10, cohort=9, attack=Fang("krum"), num_byzantine=4, rule=Mean()),  # by chance
        run(FedAvg(weighting="population")),
        run(transforms=[ClipUpdate(1.0), Soteria()]),
        run(transforms=[ClipUpdate(1.0)], private=True),
        run(rule=Pipeline([ClipUpdate(1.0), Median()])),
        run(rule=PRIVATE, bn="local", running_statistics=True),
        run(rule=PRIVATE, running_statistics=None),  # not known yet
        run(selection=Availability()),
        run(selection=PowerLaw(), cohort=5, private=True),  # who takes part depends on nobody's data
        run(selection=PowerLaw(), cohort=5, secure_aggregation=SecureAggregation(5)),
    ],
)
def test_what_is_sound_passes(sound: RunDescription) -> None:
    assert list(problems(sound)) == []
    check(sound)


@pytest.mark.parametrize(
    ("wrong", "place", "message"),
    [
        (run(selection=PowerLaw()), "federation.selection", "all 10 clients take part, and PowerLaw has nobody to"),
        (run(selection=Cyclic(blocks=5), cohort=3), "federation.selection", "5 blocks are 2 in the smallest"),
        (run(selection=PowerLaw(), cohort=5, sampling="poisson"), "federation.selection", "in place of sampling"),
        (run(selection=PowerOfChoice(6), cohort=5, private=True), "defense", "epsilon would be void; expected a sel"),
        (run(selection=Availability(), rule=PRIVATE), "defense", "with equal chances, not by Availability"),
        (
            run(selection=Availability(), secure_aggregation=SecureAggregation(5)),
            "federation.selection",
            "how many clients take part varies",
        ),
        (
            run(selection=PowerOfChoice(6), cohort=5, secure_aggregation=SecureAggregation(5)),
            "federation.selection",
            "has each client state its loss",
        ),
        (run(attack=DLG()), "attack", "nobody would carry out DLG: it is nothing that Byzantine clients do; expected"),
        (run(attack="sign_flip"), "attack", "nobody would carry out str"),
        (run(attack=FeaturePoison()), "attack", "FeaturePoison poisons knowledge, and FedAvg exchanges updates"),
        (run(FedGKT(), rule=None, attack=SignFlip()), "attack", "SignFlip poisons updates, and FedGKT sends none"),
        (
            run(FedGKT(), rule=None, attack=Backdoor(boost=3.0)),
            "attack",
            "Backdoor also forges updates, and FedGKT",
        ),
        (run(attack=Fang("krum"), num_byzantine=4), "attack", "needs at least 11 clients for 4 Byzantine ones, not 10"),
        (run(FedAvg(weighting="population"), rule=Median()), "federation.weighting", "(mean), got Median"),
        (run(rule=TrimmedMean(num_trimmed_per_side=5)), "defense", "leaves none of 10"),
        (run(FedAvg(stragglers=Stragglers(0.5, "drop")), rule=TrimmedMean(num_trimmed_per_side=3)), "defense", "of 5"),
        (run(Scaffold(), transforms=[ClipUpdate(1.0)]), "defense", "which ClipUpdate would not cover"),
        (run(transforms=[Soteria()], private=True), "defense", "epsilon would be void"),
        (run(Scaffold(option="I"), private=True), "defense", "DP-SGD with Scaffold: its option I"),
        (run(Scaffold(), rule=PRIVATE), "defense", "no account of user-level privacy is known to hold"),
        (run(rule=Pipeline([ClipUpdate(1.0), PRIVATE])), "defense", "nobody would keep DpFedAvg's account within a Pi"),
        (run(rule=PRIVATE, running_statistics=True), "defense", "expected norm: gn, or bn: local"),
    ],
)
def test_what_is_not_is_said_with_its_place(wrong: RunDescription, place: str, message: str) -> None:
    (problem,) = problems(wrong)
    assert problem[0] == place
    assert message in problem[1]
    with pytest.raises(InputError) as caught:
        check(wrong)
    assert str(caught.value) == f"{place}: {problem[1]}"
