"""Planted defects: an audit in one run finds mechanisms that are not what their account says, and accuses no other."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fedsec.defenses import DpFedAvg
from fedsec.engine.private_steps import PrivateGradients
from fedsec.privacy.gradients import clipping


def quiet(factor: float) -> Callable[[PrivateGradients, torch.Generator], None]:
    draw = PrivateGradients._draw

    def drawn(self: PrivateGradients, generator: torch.Generator) -> None:
        draw(self, generator)
        self._noise.mul_(factor)

    return drawn


EXAMPLE_DEFECTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "noise forgotten": lambda patch: patch.setattr(PrivateGradients, "_draw", quiet(0)),
    "sensitivity ten times too small": lambda patch: patch.setattr(PrivateGradients, "_draw", quiet(0.1)),
    "clipping forgotten": lambda patch: patch.setattr(
        clipping, "clip_weights", lambda squares, bound, dtype: torch.ones_like(squares, dtype=dtype)
    ),
}


@pytest.mark.parametrize("defect", EXAMPLE_DEFECTS)
def test_a_broken_dp_sgd_is_found(
    audited: Any, examples: dict[str, Any], defect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    EXAMPLE_DEFECTS[defect](monkeypatch)
    record = audited.run(examples)
    audit = record["audit"]["canaries"]
    assert audit["epsilon_lower"] > record["metrics"]["epsilon"] > 0.9
    assert audit["exceeds"]
    assert audit["notes"][0].startswith("the audit contradicts the claim: with 0.95 confidence epsilon (example) is at")


@pytest.mark.parametrize("seed", range(3))
def test_a_correct_dp_sgd_is_not_accused(audited: Any, examples: dict[str, Any], seed: int) -> None:
    record = audited.run(examples, seed=seed)
    assert record["metrics"]["epsilon_lower_gaussian"] < record["metrics"]["epsilon"]
    assert record["metrics"]["epsilon_lower"] < record["metrics"]["epsilon"]
    assert not record["audit"]["canaries"]["exceeds"]


def _quiet_sum(patch: pytest.MonkeyPatch, factor: float) -> None:
    released = DpFedAvg._released

    def too_quiet(self: Any, *arguments: Any) -> Any:
        noise, self._noise = self._noise, self._noise * factor
        try:
            return released(self, *arguments)
        finally:
            self._noise = noise

    patch.setattr(DpFedAvg, "_released", too_quiet)


CLIENT_DEFECTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "noise forgotten": lambda patch: _quiet_sum(patch, 0),
    "sensitivity ten times too small": lambda patch: _quiet_sum(patch, 0.1),
}


@pytest.mark.parametrize("defect", CLIENT_DEFECTS)
def test_a_broken_dp_fedavg_is_found(
    audited: Any, clients: dict[str, Any], defect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    CLIENT_DEFECTS[defect](monkeypatch)
    record = audited.run(clients)
    assert record["metrics"]["user_epsilon_lower"] > record["metrics"]["user_epsilon"] > 0.9
    assert record["audit"]["canaries"]["exceeds"]


def test_updates_that_are_not_clipped_are_found(
    audited: Any, clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Canary clients send what a Byzantine client could: many times what the bound allows."""
    monkeypatch.setattr(DpFedAvg, "_factors", lambda self, norms: torch.ones_like(norms))
    record = audited.run(clients, audit__canaries__norm=5.0)
    assert record["metrics"]["user_epsilon_lower"] > record["metrics"]["user_epsilon"]


@pytest.mark.parametrize("seed", range(3))
def test_a_correct_dp_fedavg_is_not_accused(audited: Any, clients: dict[str, Any], seed: int) -> None:
    record = audited.run(clients, seed=seed, audit__canaries__norm=5.0)
    assert record["metrics"]["user_epsilon_lower_gaussian"] < record["metrics"]["user_epsilon"]
    assert not record["audit"]["canaries"]["exceeds"]
