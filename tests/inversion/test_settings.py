"""Settings that cannot work are refused before any work."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import InputError
from fedsec.inversion.settings import InversionSettings
from fedsec.threat import LocalSteps

pytestmark = pytest.mark.usefixtures("quick_attacks")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inversion": "quotent"}, r"unknown inversion 'quotent' \(did you mean 'quotient'\?\); known: "),
        ({"inversion": "label_flip"}, r"'label_flip' is no inversion by a curious server but an attack"),
        ({"model": "lennet"}, r"unknown model 'lennet' \(did you mean 'lenet'\?\)"),
        ({"dataset": "photo"}, r"unknown dataset 'photo' \(did you mean 'photos'\?\)"),
        ({"inversion": "guess", "iterations": 4}, "--iterations: inversion 'guess' has no such option; it has: none"),
        (
            {"inversion": "quotient", "inversion_options": {"stp": 1}},
            r"--inversion-option.stp: .*\(did you mean 'stop'\?\)",
        ),
        ({"inversion": "quotient", "inversion_options": {"iterations": "x"}}, "--inversion-option.iterations: "),
        (
            {"inversion": "quotient", "iterations": 4, "inversion_options": {"iterations": 5}},
            "--iterations: is given twice, also as --inversion-option iterations",
        ),
        ({"inversion_options": {"iterations": 3}}, "--inversion-option needs --inversion"),
        ({"model_options": {"depth": 3}}, "--model-option.depth: unknown key for model 'lenet'"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"trials": 0}, "--trials must be at least 1, got 0"),
        ({"seed": -1}, "--seed must not be negative, got -1"),
        ({"local_lr": 0.1}, "--local-lr and --local-batch-size describe local training; expected --local-steps too"),
        ({"local_steps": 2, "local_lr": 0.0}, "--local-lr must be positive, got 0.0"),
        ({"local_steps": 2, "local_lr": float("nan")}, "--local-lr must be positive, got nan"),
        ({"local_steps": 2, "local_batch_size": 3}, "--local-batch-size 3: the client has only 2 images"),
        ({"batch_size": 4, "local_steps": 2, "local_batch_size": 5}, "the client has only 4 images"),
        (
            {"batch_size": 8, "local_steps": 2, "local_batch_size": 2},
            "--local-steps 2: with --local-batch-size 2 only 4 of the 8 images enter the update; expected at least "
            "4 steps, or a smaller --batch-size",
        ),
        ({"batch_size": 5, "local_steps": 2, "local_batch_size": 2}, "expected at least 3 steps"),
        ({"local_steps": 1, "local_batch_size": 1}, "only 1 of the 2 images enter the update"),
        ({"labels": "maybe"}, "--labels must be one of True, False, got 'maybe'"),
        ({"bn_statistics": "exact"}, "--bn-statistics must be one of none, running, sent, batch, got 'exact'"),
        ({"classes": "one"}, "--classes must be one of any, distinct, same, got 'one'"),
        ({"device": "tpu"}, "--device must be one of auto, cpu, cuda, got 'tpu'"),
        (
            {"defense": ("prnue",)},
            r"--defense: unknown defense 'prnue' \(did you mean 'prune'\?\); known: clip, gaussian",
        ),
        (
            {"defense": ("dp_sgd",)},
            "--defense dp_sgd: is part of the client's training, of many small steps .*; a scenario attacks such "
            "clients .* and clip and gaussian_noise do ",
        ),
        ({"client_mode": "eval", "bn_statistics": "sent"}, "--bn-statistics sent: a client in eval mode"),
        ({"defense": ("median",)}, r"--defense median: is the server's, .*; expected what a client does .*: clip, "),
        ({"defense": ({"name": "prune", "ratoi": 0.5},)}, r"--defense prune.ratoi: .*\(did you mean 'ratio'\?\)"),
        ({"defense": ({"name": "prune", "ratio": 1.5},)}, r"--defense prune: Prune: ratio must lie in \[0, 1\)"),
        ({"defense": ({"ratio": 0.5},)}, "--defense {'ratio': 0.5}: expected a name, or a mapping such as"),
        ({"defense": (3,)}, "--defense 3: expected a name"),
        ({"defense": ("clip",)}, "--defense clip.max_norm: is required by defense 'clip'"),
        (
            {"defense_known": False},
            "--defense-unknown is an attacker who does not know the client's defense; expected --defense too",
        ),
        ({"images": (Path("x"),), "train_epochs": 1}, "--train-epochs needs a dataset to train on"),
        ({"image_size": 64}, "--image-size goes with --images; a dataset has its own"),
        ({"images": (Path("x"),), "image_size": 4}, "--image-size must be at least 8, got 4"),
        ({"out": Path(__file__)}, r"test_settings\.py: is not a folder"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InversionSettings(**options)


def test_local_training() -> None:
    assert InversionSettings().local is None
    assert InversionSettings(local_steps=3).local == LocalSteps(lr=0.01, steps=3)
    for steps in (3, 4):
        assert InversionSettings(batch_size=5, local_steps=steps, local_batch_size=2).local is not None
    told = InversionSettings(local_steps=3, local_lr=0.5, local_batch_size=1).local
    assert told == LocalSteps(lr=0.5, steps=3, batch_size=1)


def test_what_the_attacker_knows_by_default() -> None:
    assert InversionSettings().statistics == "none"
    assert InversionSettings(client_mode="eval").statistics == "running"
    assert InversionSettings(client_mode="eval", bn_statistics="batch").statistics == "batch"


def test_options_of_the_attack() -> None:
    settings = InversionSettings(inversion="quotient", iterations=7, inversion_options={"stop": "caught"})
    assert settings.resolved_options("quotient") == {"iterations": 7, "restarts": 1, "stop": "caught"}


def test_defenses_are_resolved_in_order() -> None:
    settings = InversionSettings(defense=({"name": "clip", "max_norm": 2.0}, "sign"), defense_known=False)
    assert settings.defenses == (("clip", {"max_norm": 2.0}), ("sign", {"scaled": True, "error_feedback": False}))
    told = settings.as_json()
    assert told["defense"][0] == {"name": "clip", "max_norm": 2.0}
    assert told["knowledge"]["defense"] is False


def test_the_fingerprint_follows_what_changes_the_result() -> None:
    base = InversionSettings().fingerprint()
    assert base == InversionSettings(out=Path("elsewhere"), gif=True, lpips="vgg", device="cpu").fingerprint()
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"batch_size": 3},
        {"labels": True},
        {"local_steps": 1},
        {"images": (Path("a.png"),)},
        {"model_options": {"activation": "relu"}},
        {"defense": ("prune",)},
        {"defense": ("prune",), "defense_known": False},
        {"defense": ({"name": "prune", "ratio": 0.5},)},
    ]
    assert len({base, *(InversionSettings(**change).fingerprint() for change in changes)}) == len(changes) + 1
    assert json.dumps(InversionSettings(images=(Path("a.png"),)).as_json())
