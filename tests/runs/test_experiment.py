"""From a configuration to an experiment: the seeds of its parts, and algorithms by their options."""

from typing import Any

import pytest
import torch

from fedsec.federation import Federation, Scaffold
from fedsec.runs.experiment import Experiment, build_experiment
from fedsec.scenario import CellConfig

BASE: dict[str, Any] = {
    "dataset": {"name": "digits", "train_size": 60, "test_size": 20},
    "model": {"name": "mlp", "hidden": [4]},
}


def experiment(**more: Any) -> Experiment:
    content = {**BASE, **more, "model": {**BASE["model"], **more.get("model", {})}}
    return build_experiment(CellConfig.model_validate(content), device=torch.device("cpu"), threads=1)


def parts(made: Experiment) -> tuple[Any, ...]:
    """(images, who has which, weights) of an experiment."""
    federation = made.federation
    assert isinstance(federation, Federation)
    clients = [client.tolist() for client in federation.data.clients]
    return made.dataset.train.images, clients, federation.parameters


@pytest.mark.parametrize(
    ("more", "same_images", "same_clients", "same_weights"),
    [
        ({"seed": 5}, False, False, False),
        ({"seed": 5, "partition": {"seed": 0}}, True, True, False),
        ({"seed": 5, "model": {"seed": 0}}, False, False, True),
        ({"partition": {"seed": 5}}, False, False, True),
        ({"model": {"seed": 5}}, True, True, False),
    ],
)
def test_data_and_model_have_seeds_of_their_own(
    more: dict[str, Any], same_images: bool, same_clients: bool, same_weights: bool
) -> None:
    (images, clients, weights), other = parts(experiment()), parts(experiment(**more))
    assert torch.equal(images, other[0]) == same_images
    assert (clients == other[1]) == same_clients
    assert torch.equal(weights, other[2]) == same_weights


def test_an_algorithm_gets_its_options() -> None:
    local = {"steps": 2, "batch_size": 4, "lr": 0.5}
    made = experiment(federation={"algorithm": "scaffold", "option": "I", "weighting": "uniform", "local": local})
    assert isinstance(made.federation, Federation)
    algorithm = made.federation.algorithm
    assert isinstance(algorithm, Scaffold)
    assert (algorithm.option, algorithm.weighting, algorithm.local.steps) == ("I", "uniform", 2)
    assert made.federation.play().round == 1
