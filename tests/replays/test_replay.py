"""Replays see what the loop saw: who moved its model, what other rules make of the same rows, what attackers would."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import fedsec
from fedsec.cli import app
from fedsec.defense import Pipeline
from fedsec.defenses import NNM, CenteredClipping, Krum, Mean, Median
from fedsec.errors import InputError
from fedsec.recording import open_recording, record
from fedsec.threat import AttackerView

LIAR = "site-2"
ROWS = 15


def rows_of(seen: Path, number: int) -> np.ndarray[Any, Any]:
    return open_recording(seen)[number].updates.double().numpy()


# Who moved the model


def test_the_mean_is_the_loops_own_next_model(seen: Path) -> None:
    told = fedsec.replay(seen)
    assert [one.step for one in told.rounds] == ["recorded", "recorded", "mean"]
    for one in told.rounds:
        (mean,) = one.rules
        assert mean.defense == "mean"
        assert mean.distance == pytest.approx(0, abs=1e-6)
        assert mean.norm == pytest.approx(one.norm, rel=1e-6)
    assert repr(told) == f"Replay({seen}: 3 rounds with mean)"
    shown = told._repr_html_()
    assert shown.startswith("<pre>")
    assert "who moved the model (3 rounds, 1 to 3)" in shown


def test_shares_cosines_and_distances_by_hand(seen: Path) -> None:
    rows, weights = rows_of(seen, 2), np.array([10, 20, 30, 10, 20, 30, 10]) / 130
    step = weights @ rows
    median = np.median(rows, 0)
    far = np.linalg.norm(rows - median, axis=1)
    for place, part in enumerate(fedsec.replay(seen, rounds=[2]).rounds[0].clients):
        assert part.client == f"site-{place}"
        assert part.weight == pytest.approx(weights[place])
        assert part.norm == pytest.approx(np.linalg.norm(rows[place]), rel=1e-5)
        assert part.share == pytest.approx(weights[place] * rows[place] @ step / (step @ step), rel=1e-4)
        cosine = rows[place] @ step / np.linalg.norm(rows[place]) / np.linalg.norm(step)
        assert part.cosine == pytest.approx(cosine, abs=1e-5)
        assert part.distance == pytest.approx(far[place] / np.median(far), rel=1e-4)
        assert part.byzantine is (part.client == LIAR)
    assert sum(part.share or 0 for part in fedsec.replay(seen, rounds=[2]).rounds[0].clients) == pytest.approx(1)


def test_the_one_that_lies_stands_out(seen: Path) -> None:
    told = fedsec.replay(seen, defense=["median", {"name": "krum", "num_byzantine": 1}])
    for one in told.rounds:
        farthest = max(one.clients, key=lambda part: part.distance or 0)
        assert farthest.client == LIAR
        assert farthest.distance is not None
        assert farthest.distance > 20
        _, median, krum = one.rules
        assert krum.suspected == (LIAR,)
        assert median.cosine is not None
        assert median.cosine < 0  # the mean went where the liar pulled it


def test_rows_that_are_not_finite(tmp_path: Path) -> None:
    rows = torch.ones(5, 6)
    rows[3, 2] = torch.nan
    with record(tmp_path) as recording:
        recording.round(received=rows)
    told = fedsec.replay(tmp_path, defense=["median"])
    part = told.rounds[0].clients[3]
    assert (part.norm, part.share, part.distance) == (None, None, None)
    assert told.rounds[0].rules[1].rejected == (3,)
    assert told.rounds[0].rules[1].norm == pytest.approx(math.sqrt(6))
    json.dumps(told.as_json(), allow_nan=False)


# What another rule would have done


def test_rules_do_what_they_do_by_themselves(seen: Path) -> None:
    krum, pipeline = Krum(num_byzantine=1), Pipeline([NNM(num_byzantine=1), Median()])
    told = fedsec.replay(seen, defense=[krum, pipeline, ["nnm", "median"]], num_byzantine=1)
    for one in told.rounds:
        updates = open_recording(seen)[one.round].updates
        for step, rule in zip(one.rules[1:], (krum, pipeline, pipeline), strict=True):
            verdict = rule.aggregate(updates)
            assert step.norm == pytest.approx(float(verdict.vector.norm()), rel=1e-6)
            assert step.influence == pytest.approx(verdict.influence.tolist())
    assert [step.defense for step in told.rounds[0].rules] == [
        "mean",
        "Krum",
        "Pipeline",
        "nnm(num_byzantine=1) + median",
    ]


def test_rules_that_remember_see_the_rounds_in_order(seen: Path) -> None:
    rule, named = CenteredClipping(radius=1.0), {"name": "centered_clipping", "radius": 1.0, "label": "clipping"}
    told = fedsec.replay(seen, defense=[named])
    for one in told.rounds:
        verdict = rule.aggregate(open_recording(seen)[one.round].updates)
        assert one.rules[1].norm == pytest.approx(float(verdict.vector.norm()))
    late = fedsec.replay(seen, defense=[named], rounds="2-")
    assert "clipping remembers rounds, and saw none before round 2." in late.remarks
    assert late.rounds[0].rules[1].norm != pytest.approx(told.rounds[1].rules[1].norm, rel=0.01)


def test_what_a_recording_lacks_is_said_and_the_rest_goes_on(tmp_path: Path, seen: Path) -> None:
    told = fedsec.replay(
        seen, defense=["fltrust", {"name": "dp_sgd", "noise_multiplier": 1.0}, "robust_loss", "median"]
    )
    refused = {step.defense: step.refused for step in told.rounds[0].rules if step.refused is not None}
    assert refused == {
        "fltrust": "trusts data of the server's own, which a recording does not hold",
        "dp_sgd(noise_multiplier=1.0)": "acts while clients train, which a recording cannot repeat",
        "robust_loss": "defends what FedGKT exchanges, and no updates",
    }
    assert told.rounds[0].rules[-1].norm is not None
    with record(tmp_path / "rows") as recording:
        recording.round(received=torch.randn(6, 5))
    lasa, private, krum = (
        fedsec.replay(
            tmp_path / "rows", defense=["lasa", {"name": "dp_fedavg", "noise_multiplier": 1.0}, Krum(num_byzantine=2)]
        )
        .rounds[0]
        .rules[1:]
    )
    assert lasa.refused == "treats parameters one by one, and these rows were recorded without shapes"
    assert private.refused == "accounts for all clients of the federation; record num_clients for it"
    assert krum.refused is not None
    assert krum.refused.startswith("Krum: ")


def test_transforms_and_private_rules(seen: Path) -> None:
    told = fedsec.replay(
        seen, defense=[[{"name": "clip", "max_norm": 0.5}], {"name": "dp_fedavg", "noise_multiplier": 1.0}]
    )
    _, clipped, private = told.rounds[0].rules
    assert clipped.norm is not None
    assert clipped.norm <= 0.5
    assert private.norm is not None
    assert (
        fedsec.replay(seen, defense=[{"name": "dp_fedavg", "noise_multiplier": 1.0}], seed=1).rounds[0].rules[1]
        != private
    )


def test_next_models_are_measured(seen: Path) -> None:
    model = nn.Linear(4, 3)
    before = model.weight.clone()
    inputs = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(3, (50,), generator=torch.Generator().manual_seed(1))
    told = fedsec.replay(seen, defense=["median"], model=model, test=(inputs, targets))
    assert torch.equal(model.weight, before)
    recording = open_recording(seen)
    for one in told.rounds:
        round_ = recording[one.round]
        for step, rule in zip(one.rules, (Mean(), Median()), strict=True):
            vector = rule(round_.updates, round_.num_examples)
            weight, bias = (round_.start + vector).split([12, 3])
            logits = nn.functional.linear(inputs, weight.view(3, 4), bias)
            assert step.metrics["accuracy"] == pytest.approx((logits.argmax(1) == targets).double().mean().item())
            assert step.metrics["loss"] == pytest.approx(nn.functional.cross_entropy(logits, targets).item(), rel=1e-5)
    own = fedsec.replay(seen, model=model, test=lambda net: {"sum": float(net.bias.sum()), "none": math.nan})
    assert list(own.rounds[0].rules[0].metrics) == ["sum"]


# What attackers would have done


def test_forged_rows_are_the_attacks_own(seen: Path) -> None:
    from fedsec.attacks import SignFlip

    told = fedsec.replay(
        seen, defense=["median"], attack={"name": "sign_flip", "scale": 3.0}, byzantine=["site-0", "site-5"]
    )
    for one in told.rounds:
        assert one.byzantine == ("site-0", "site-5")
        updates = open_recording(seen)[one.round].updates
        forged = updates.clone()
        forged[[0, 5]] = SignFlip(scale=3.0).craft(updates[[0, 5]])
        clean, moved = Median()(updates), Median()(forged)
        median = one.attacked[1]
        assert median.norm == pytest.approx(float(moved.norm()), rel=1e-6)
        assert median.damage == pytest.approx(float((moved - clean).norm() / clean.norm()), rel=1e-5)
        assert one.rules[1].norm == pytest.approx(float(clean.norm()), rel=1e-6)


def test_attackers_see_the_others_and_the_rule(seen: Path) -> None:
    """An attack that knows the defense does each rule the harm that its own search finds against that rule."""
    told = fedsec.replay(seen, defense=["median"], attack="adaptive", num_byzantine=2)
    assert told.rounds[0].byzantine == ("site-0", "site-1")
    mean, median = told.rounds[0].attacked
    assert mean.damage is not None
    assert median.damage is not None
    assert mean.damage > median.damage > 0
    alie = fedsec.replay(seen, attack={"name": "alie", "z": 1.5}, num_byzantine=2, rounds="1").rounds[0].attacked[0]
    updates = open_recording(seen)[1].updates
    from fedsec.attacks import ALIE

    view = AttackerView(updates[:2], updates[2:], torch.zeros(ROWS), 7, 2, 1, torch.Generator())
    forged = torch.cat([ALIE(z=1.5).craft(view), updates[2:]])
    weights = open_recording(seen)[1].num_examples
    assert alie.norm == pytest.approx(float(Mean()(forged, weights).norm()), rel=1e-5)


def test_an_attack_leaves_no_trace_in_what_the_rule_does_without_it(seen: Path) -> None:
    rule = {"name": "centered_clipping", "radius": 1.0}
    plain = fedsec.replay(seen, defense=[rule])
    attacked = fedsec.replay(seen, defense=[rule], attack="sign_flip", num_byzantine=3)
    assert [one.rules for one in attacked.rounds] == [one.rules for one in plain.rounds]
    assert attacked.rounds[2].attacked[1].norm != attacked.rounds[2].rules[1].norm


def test_rounds_without_attackers(tmp_path: Path) -> None:
    with record(tmp_path) as recording:
        recording.round(received={1: torch.ones(5), 2: torch.ones(5)})
        recording.round(received={2: torch.ones(5), 3: torch.ones(5)})
    told = fedsec.replay(tmp_path, attack="sign_flip", byzantine=[1])
    assert [one.byzantine for one in told.rounds] == [(1,), ()]
    assert [one.attacked[0].damage for one in told.rounds] == [1.0, 0.0]


def test_ids_on_the_command_line_are_text(tmp_path: Path) -> None:
    with record(tmp_path) as recording:
        recording.round(received={10: torch.ones(5), 20: torch.ones(5), 30: torch.ones(5)})
    assert fedsec.replay(tmp_path, attack="zero", byzantine=["20"]).rounds[0].byzantine == (20,)


def test_ids_of_64_bits_without_a_sign_and_counts_beyond_any_sum(tmp_path: Path) -> None:
    ids = (2**64 - 5, 7, 2**63 + 1, 9, 11)
    generator = torch.Generator().manual_seed(0)
    with record(tmp_path) as recording:
        for _ in range(2):
            rows = {client: torch.randn(6, generator=generator) for client in ids}
            recording.round(received=rows, num_examples=dict.fromkeys(ids, 1.7e308))
    told = fedsec.replay(tmp_path, defense=["foolsgold", "fldetector"])
    for one in told.rounds:
        assert [rule.refused for rule in one.rules] == [None] * 3
        assert one.clients[0].weight == pytest.approx(0.2)


def test_a_recording_does_not_choose_what_code_runs(tmp_path: Path) -> None:
    with record(tmp_path, about={"model": "colorsys:fly", "input_shape": [4], "num_classes": 3}) as recording:
        recording.round(sent={"w": torch.zeros(2)}, received={1: {"w": torch.ones(2)}})
    with pytest.raises(InputError, match="names 'colorsys:fly', whose code would run here"):
        fedsec.replay(tmp_path, test=lambda model: {})
    with pytest.raises(InputError, match="colorsys has no fly"):
        fedsec.replay(tmp_path, test=lambda model: {}, model="colorsys:fly")


# What cannot be


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"defense": ["medain"]}, "did you mean 'median'"),
        ({"defense": [{"name": "krum"}], "rounds": "1"}, "num_byzantine: is required by defense 'krum'"),
        ({"defense": [{"name": "median", "trim": 2}]}, "unknown key for defense 'median'"),
        ({"defense": [{"trim": 2}]}, "expected a name, or"),
        ({"defense": [3]}, "expected a name, a mapping or a rule"),
        ({"defense": [[]]}, "got an empty one"),
        ({"defense": [["median", "mean"]]}, "exactly one aggregation rule"),
        ({"attack": "alie"}, "expected byzantine=IDS of the attackers, or num_byzantine=HOW_MANY"),
        (
            {"attack": "alie", "byzantine": ["site-9"]},
            "client 'site-9' is not in the recording; its clients are site-0",
        ),
        ({"attack": "alie", "num_byzantine": 7}, "expected 1 to 6 of 7 clients"),
        ({"attack": "label_flip", "num_byzantine": 1}, "acts on clients' data or trains on them"),
        ({"attack": "a3fl", "num_byzantine": 1}, "acts on clients' data or trains on them"),
        ({"byzantine": ["site-1"]}, "expected attack=NAME beside it"),
        ({"rounds": "4-"}, "none of them is recorded"),
        ({"rounds": "3:7"}, "expected numbers and spans such as 3-7"),
        ({"test": lambda model: {}}, "expected a model, too"),
        ({"test": "digits", "model": "mlp"}, "expected input_shape and num_classes"),
        ({"test": (torch.ones(2, 4), torch.ones(3)), "model": nn.Linear(4, 3)}, "2 inputs do not go with 3 targets"),
        ({"test": (torch.ones(2, 5), torch.tensor([0, 1])), "model": nn.Linear(4, 3)}, "does not take inputs of shape"),
        ({"test": lambda model: {}, "model": nn.Linear(5, 3)}, r"'weight' has shape \(3, 5\), and was recorded with"),
        ({"test": lambda model: {}, "model": nn.Sequential(nn.Linear(4, 3))}, "has no 'weight', which was recorded"),
    ],
)
def test_what_is_asked_wrongly(seen: Path, arguments: dict[str, Any], message: str) -> None:
    if "krum" in str(arguments.get("defense")):  # of a recording that knows nobody
        with record(seen.parent / "unknown") as recording:
            recording.round(received=torch.ones(3, 3))
        seen = seen.parent / "unknown"
    with pytest.raises(InputError, match=message):
        fedsec.replay(seen, **arguments)


# On the command line


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["replay", *arguments], env={"COLUMNS": "120", "TERM": "dumb"})


def test_the_command_prints_what_python_gives(seen: Path, tmp_path: Path) -> None:
    options = ("--defense", "median", "--defense", "{name: krum, num_byzantine: 1}", "--defense", "fltrust")
    attack = ("--attack", "sign_flip", "--byzantine", "site-0,site-3")
    done = command(str(seen), *options, *attack, "--rounds", "1-2", "--json", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert json.loads((tmp_path / "out" / "replay.json").read_text()) == content
    told = fedsec.replay(
        seen,
        defense=["median", {"name": "krum", "num_byzantine": 1}, "fltrust"],
        attack="sign_flip",
        byzantine=["site-0", "site-3"],
        rounds=[1, 2],
    )
    assert content == json.loads(json.dumps(told.as_json()))
    printed = command(str(seen), *options, *attack)
    assert printed.exit_code == 0, printed.output
    for line in (
        "seen: 3 rounds, 1 to 3; 7 of 20 clients a round sent 15 parameters as states",
        "who moved the model (3 rounds, 1 to 3)",
        "what each rule would have done (3 rounds, 1 to 3)",
        "what sign_flip by site-0, site-3 would have done (3 rounds, 1 to 3)",
        "not tried: fltrust: trusts data of the server's own, which a recording does not hold",
        "note: Each round starts from the model that was recorded",
        "note: What the server made of round 3 is not recorded",
    ):
        assert line in printed.stdout
    assert f"{LIAR} !" in printed.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["{seen}", "--defense", "medain"], "did you mean 'median'"),
        (["{seen}", "--defense", "{name: [}"], "--defense"),
        (["{seen}", "--input-shape", "1,a"], "--input-shape '1,a': expected whole numbers"),
        (["{seen}", "--attack", "alie", "--byzantine", ","], "expected ids, such as 3,7"),
        (["{seen}", "--dataset", "digits"], "expected a model, too"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(seen: Path, arguments: list[str], message: str) -> None:
    done = command(*(part.format(seen=seen) if part == "{seen}" else part for part in arguments))
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_a_changed_file_is_exit_code_2(seen: Path) -> None:
    path = seen / "round-000002.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    done = command(str(seen))
    assert done.exit_code == 2
    assert f"{path}: was changed since it was written" in done.output
