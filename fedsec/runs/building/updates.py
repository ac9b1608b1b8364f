"""Federations that exchange updates."""

from dataclasses import replace
from typing import Any

from fedsec.defense import LocalDefense, ModelInspector
from fedsec.defense.updates import UpdateTransform
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.federation.example_privacy import private_run
from fedsec.federation.personal.client_tests import ClientTests
from fedsec.federation.personal.fine_tuning import FineTuning
from fedsec.federation.server_data import ServerData
from fedsec.federation.updates import Federation
from fedsec.runs.building.parts import Parts, Placement, build_part
from fedsec.scenario.algorithm import make_secure_aggregation
from fedsec.scenario.participation.rounds import selection_of
from fedsec.scenario.server_rule import server_rule


def update_federation(parts: Parts, algorithm: UpdateAlgorithm, placement: Placement) -> Federation:
    """A server that aggregates updates by a rule, and its clients with their defenses.

    Raises:
        InputError: settings that contradict each other.
    """
    settings = parts.config.federation
    module = parts.model(parts.config.model, parts.dataset.input_shape, "init")
    bn = settings.bn or "average"
    defenses = [build_part("defense", part) for part in parts.config.defense]
    privacy, client_tests = None, _client_tests(parts, algorithm)
    server_data = None
    if parts.server is not None:
        trainer = parts.trainer(module, cumulative=bn == "reset", data=parts.server)
        server_data = ServerData(trainer, algorithm, parts.streams)
    for private in (defense for defense in defenses if isinstance(defense, LocalDefense)):
        sizes = parts.data.sizes(range(len(parts.data.clients)))
        algorithm, privacy = private_run(private, algorithm, sizes, settings.rounds)
    return Federation(
        module,
        parts.trainer(module, cumulative=bn == "reset"),
        algorithm=algorithm,
        aggregator=server_rule(defenses),
        transforms=[defense for defense in defenses if isinstance(defense, UpdateTransform)],
        inspector=next((defense for defense in defenses if isinstance(defense, ModelInspector)), None),
        privacy=privacy,
        sampling=settings.sampling or "fixed",
        selection=selection_of(settings.selection),
        broken_condition=settings.broken_condition or "stop",
        local_updates=placement.local_updates,
        bn=bn,
        server_data=server_data,
        secure_aggregation=make_secure_aggregation(settings),
        memory_gib=placement.memory_gib,
        folder=placement.folder,
        exchange=placement.exchange,
        client_tests=client_tests,
        **parts.common(),
    )


def _client_tests(parts: Parts, algorithm: UpdateAlgorithm) -> ClientTests | None:
    """What each client is tested on, and how it tunes the final model before that: never privately, as nobody sees it.

    Args:
        parts: of the federation.
        algorithm: before any client trains privately.
    """
    if not parts.client_tests:
        return None
    tuning, local = parts.config.federation.fine_tune, algorithm.training
    tuned = None
    if tuning is not None and local is not None:
        size: dict[str, Any] = (
            {} if tuning.batch_size is None else {"batch_size": tuning.batch_size, "batch_fraction": None}
        )
        own = {"steps": tuning.steps, "epochs": tuning.epochs, "lr": tuning.lr or local.lr, **size}
        tuned = FineTuning(replace(local, worker_momentum=0.0, schedule=None, **own))
    return ClientTests.of(parts.dataset.train, parts.client_tests, parts.data.device, tuned)
