"""What a curious server sees of clients that keep layers, and what it takes in their place."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.federation import Federation
from fedsec.matching.candidates import Candidates
from fedsec.runs.curious_server import CuriousServer
from fedsec.runs.experiment import Experiment, build_experiment
from fedsec.scenario import CellConfig
from fedsec.threat import Observation, Reconstruction
from fedsec.threat.observed.local_steps import LocalSteps

LOCAL = {"epochs": 2, "batch_size": 4, "lr": 0.5, "momentum": 0.5}
FEDERATIONS: dict[str, dict[str, Any]] = {
    "fedper": {"algorithm": "fedper"},
    "fedrep": {"algorithm": "fedrep", "head_epochs": 2},
    "fedbn": {"algorithm": "fedbn", "bn": "local"},
    "ditto": {"algorithm": "ditto"},
}


class Witness:
    """Stands in for the attack and keeps what it is shown."""

    reads_labels, tells_labels_only = True, False

    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def reconstruct(self, observation: Observation, *, generator: torch.Generator) -> Reconstruction:
        self.seen.append(observation)
        return Reconstruction(None, None)


def config(algorithm: str, rounds: int = 2, **inversion: Any) -> CellConfig:
    knowledge = {"labels": True, **inversion.pop("knowledge", {})}
    target = {"client": 1, "rounds": [rounds]}
    model = {"name": "resnet4", "norm": "gn"} if algorithm == "fedbn" else {"name": "mlp", "hidden": [8]}
    return CellConfig.model_validate(
        {
            "dataset": {"name": "digits", "train_size": 12, "test_size": 10},
            "partition": {"clients": 3},
            "model": model,
            "federation": {
                "rounds": rounds,
                "local": LOCAL,
                **FEDERATIONS[algorithm],
                **inversion.pop("federation", {}),
            },
            "inversion": {"name": "analytic", "target": target, "knowledge": knowledge, **inversion},
        }
    )


def watched(cell: CellConfig, folder: Path) -> tuple[Experiment, Federation, list[Observation], list[Tensor]]:
    """A run that is over, what its server saw, and what the client's own model was as each round began."""
    experiment, witness, starts = build_experiment(cell, device=torch.device("cpu"), threads=1), Witness(), []
    federation = experiment.federation
    assert isinstance(federation, Federation)
    CuriousServer(cell, experiment.dataset, federation, folder).inversion = witness
    federation.observers.append(lambda *_: starts.append(federation.starts([1]).reshape(-1).clone()))
    list(federation.run())
    return experiment, federation, witness.seen, starts


def examples(experiment: Experiment, federation: Federation, seen: Observation) -> tuple[Tensor, Tensor]:
    images, labels = federation.data.client_examples(1)
    return seen.scale.apply(images.float() / 255)[None], labels[None]


@pytest.mark.parametrize(("algorithm", "knowledge"), [("fedper", "known"), ("fedbn", "known"), ("ditto", None)])
def test_replaying_the_client_s_images_gives_what_it_sent(
    tmp_path: Path, algorithm: str, knowledge: str | None
) -> None:
    more = {} if knowledge is None else {"personal_layers": knowledge}
    experiment, federation, (seen,), starts = watched(config(algorithm, knowledge=more), tmp_path)
    for name, row in federation.trainer.layout.views(starts[-1]).items():
        torch.testing.assert_close(seen.model.get_parameter(name).detach(), row)
    candidates = Candidates([seen])
    images, labels = examples(experiment, federation, seen)
    for name, row in zip(seen.update, candidates.updates(images, labels, torch.arange(1)), strict=True):
        torch.testing.assert_close(row[0].detach(), seen.update[name], rtol=1e-3, atol=1e-5)
    home = [name for name in federation.trainer.layout.shapes if name not in seen.update]
    assert list(seen.unsent) == home
    assert bool(home) == (algorithm != "ditto")


@pytest.mark.parametrize("algorithm", ["fedper", "fedrep", "fedbn"])
def test_a_server_that_is_granted_nothing_takes_what_the_federation_began_with(tmp_path: Path, algorithm: str) -> None:
    cell = config(algorithm)
    initial = build_experiment(cell, device=torch.device("cpu"), threads=1).federation
    assert isinstance(initial, Federation)
    before = initial.trainer.layout.views(initial.parameters.clone())
    _, federation, (seen,), starts = watched(cell, tmp_path)
    own = federation.trainer.layout.views(starts[-1])
    for name, row in before.items():
        at_home = name not in seen.update
        assert torch.equal(seen.model.get_parameter(name), row) == at_home, name
        assert torch.equal(seen.model.get_parameter(name), own[name]) == (not at_home), name
    # FedRep's head holds still while the rest is trained.
    assert bool(seen.unsent) == (algorithm != "fedrep")


def test_a_head_at_home_hides_no_input_of_a_linear_first_layer(tmp_path: Path) -> None:
    cell = config("fedper", federation={"local": {"epochs": 1, "batch_size": 1, "lr": 0.5}})
    cell = CellConfig.model_validate({**cell.model_dump(), "partition": {"clients": 12}})
    experiment = build_experiment(cell, device=torch.device("cpu"), threads=1)
    server = CuriousServer(cell, experiment.dataset, experiment.federation, tmp_path)
    list(experiment.federation.run())
    leaked = server.take(2)
    assert leaked is not None
    assert leaked["metrics"]["psnr"] > 60  # whatever the head, which the server does not know


@pytest.mark.parametrize(
    ("algorithm", "inversion", "message"),
    [
        ("fedper", {"knowledge": {"labels": False}}, "the last layer, which FedPer leaves with its clients"),
        ("fedper", {"name": "labels"}, "leaves with its clients; expected an inversion of images"),
        ("fedper", {"name": "imprint"}, "'imprint' takes the model that the server holds for the client's"),
        ("fedrep", {"knowledge": {"personal_layers": "known"}}, "train their own layers before those that they send"),
        ("ditto", {"knowledge": {"personal_layers": "known"}}, "clients of ditto keep no layers to themselves"),
        (
            "fedper",
            {"knowledge": {"personal_layers": "known"}, "federation": {"secure_aggregation": {"clients": 3}}},
            "each client of a sum has layers of its own",
        ),
    ],
)
def test_what_cannot_be_inverted_is_refused(
    tmp_path: Path, algorithm: str, inversion: dict[str, Any], message: str
) -> None:
    with pytest.raises((InputError, ValueError), match=message):
        watched(config(algorithm, 1, **inversion), tmp_path)


def test_dlg_searches_for_labels_and_needs_none(tmp_path: Path) -> None:
    cell = config("fedper", 1, name="dlg", knowledge={"labels": False})
    assert len(watched(cell, tmp_path)[2]) == 1


@pytest.mark.parametrize(("unsent", "message"), [("0.bias", "is part of the update"), ("9.bias", "is none of")])
def test_unsent_parameters_are_those_that_an_update_leaves_out(unsent: str, message: str) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    names = [name for name, _ in model.named_parameters()]
    update = {names[1]: torch.ones(2)}
    seen = Observation(model, update, (1, 2, 2), 2, 1, local=LocalSteps(0.1, 1), unsent=(names[0],))
    assert seen.unsent == (names[0],)
    wrong = names[1] if unsent.startswith("0") else unsent
    with pytest.raises(InputError, match=message):
        Observation(model, update, (1, 2, 2), 2, 1, unsent=(wrong,))
