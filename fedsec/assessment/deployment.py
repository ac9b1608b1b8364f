"""A federation as it is deployed: the sections of a scenario that no attacker changes, and what they come to."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fedsec.data.survey import Survey
from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.scenario import CellConfig, load_scenario

__all__ = ["Deployment", "deployment"]

Sections = dict[str, Any]
"""Keys of a scenario, as plain data: `dataset`, `partition`, `model`, `federation`, `defense`, ..."""
_SERVER_ROLES = ("pre_aggregation", "wrapper", "rule")


@dataclass(frozen=True)
class Deployment:
    """What is audited.

    Args:
        sections: of a scenario; `defense` is a list.
        config: the same, resolved.
        survey: what its dataset is.
        seed: the first of the seeds that it is run with.
    """

    sections: Sections = field(repr=False)
    config: CellConfig = field(repr=False)
    survey: Survey
    seed: int = 0

    @property
    def clients(self) -> int:
        """All of them."""
        return self.config.partition.clients

    @property
    def rounds(self) -> int:
        """Of communication."""
        return self.config.federation.rounds

    @property
    def num_byzantine(self) -> int:
        """A fifth of all clients, one at least: the share of Byzantine clients that the battery reckons with."""
        return max(1, int(0.2 * self.clients + 1e-9))

    @property
    def byzantine_in_round(self) -> int:
        """Of so many a round's cohort has this share, rounded up."""
        return max(1, -(-self.num_byzantine * self.config.cohort // self.clients))

    @property
    def train_examples(self) -> int:
        """Training examples of all clients together."""
        return self.config.dataset.train_size or self.survey.num_train

    @property
    def test_examples(self) -> int:
        """Examples on which accuracies are measured."""
        return self.config.dataset.test_size or self.survey.num_test

    @property
    def takes_images(self) -> bool:
        """Whether inputs are images."""
        return len(self.survey.input_shape) == 3

    @property
    def classifies(self) -> bool:
        """Whether its task has classes."""
        return self.survey.num_classes > 0

    @property
    def exchanges_updates(self) -> bool:
        """Whether its clients send updates that a rule aggregates."""
        traits = self.config.federation.traits
        return traits["exchanges"] == "updates" and not traits["pooled"]

    @property
    def whole_model(self) -> bool:
        """Whether what the server holds is a model that can be asked: no layer of it stays with the clients."""
        return bool(self.config.federation.traits["whole_model"])

    @property
    def unreplayed(self) -> str | None:
        """Why no server can replay what a client did, from what the protocol prescribes; None where one can."""
        federation = self.config.federation
        local, name = federation.local, federation.algorithm
        if not (self.exchanges_updates and self.takes_images and self.classifies):
            return "it is tried where clients send updates, on images of classes"
        if not federation.traits["replayable"]:
            return f"an update of {name} does not tell all that a replay needs"
        if federation.options.get("buffers", "reset") != "reset":
            return "momentum goes on from round to round, and is no part of one update"
        if local is None:
            return None
        if local.optimizer != "sgd":
            return (
                f"{local.optimizer} divides every step by lengths of the gradient that it hides; it is tried with sgd"
            )
        if local.steps is not None:
            return "batches of local.steps run over the seams between passes; it is tried with local.epochs"
        if local.clip_norm is not None and federation.secure_aggregation is not None:
            return (
                "steps that each client cuts for itself (clip_norm) are not those of one client with all their images"
            )
        return None

    @property
    def last_layer_at_home(self) -> bool:
        """Whether the layer from which labels are read stays with the clients."""
        return not self.whole_model and bool(self.config.federation.options.get("personal_layers"))

    @property
    def unread(self) -> str | None:
        """Why no server can read labels off an update; None where one can."""
        if self.unreplayed is None and self.last_layer_at_home:
            return f"labels are read from the last layer, which {self.config.federation.algorithm} leaves with clients"
        return self.unreplayed

    @property
    def uncrafted(self) -> str | None:
        """Why no server can make a model of its own that clients' updates give images away by; None where one can."""
        local, name = self.config.federation.local, self.config.federation.algorithm
        if self.unreplayed is not None:
            return self.unreplayed
        if not self.whole_model:
            return f"it needs the model that the client has, and {name} leaves layers with clients"
        if local is not None and local.clip_norm is not None:
            return "it reads sizes off the gradient, which clients cut (clip_norm)"
        if local is not None and local.label_smoothing:
            return (
                "it reads sizes off the gradient of the plain loss, and clients smooth their labels (label_smoothing)"
            )
        return None

    def received(self, what: str) -> str:
        """What a server receives of one client's message, as a sentence says it after "the".

        Args:
            what: the message: `update`.
        """
        sums = self.config.federation.secure_aggregation
        return what if sums is None else f"sum of {sums.clients} {what}s, among them the one"

    @cached_property
    def client_defenses(self) -> list[Any]:
        """What clients do in their training or to their updates, as the scenario has it."""
        return [part for part, role in self._roles() if role not in _SERVER_ROLES]

    @cached_property
    def rule(self) -> list[Any]:
        """What the server does, as the scenario has it."""
        return [part for part, role in self._roles() if role in _SERVER_ROLES] or ["mean"]

    def with_rule(self, rule: Sequence[Any]) -> list[Any]:
        """The deployed defense with another rule of the server.

        Args:
            rule: as a scenario has it, a list.
        """
        return [*self.client_defenses, *rule]

    def cell(self, seed: int, **changed: Any) -> Sections:
        """The sections of one cell.

        Args:
            seed: of the cell.
            changed: sections that take the place of the deployed ones; None leaves one out.
        """
        sections = deepcopy(self.sections) | {"seed": seed} | changed
        return {name: value for name, value in sections.items() if value is not None}

    def _roles(self) -> list[tuple[Any, str]]:
        roles = []
        for part in self.sections["defense"]:
            name = part["name"] if isinstance(part, Mapping) else part
            roles.append((part, registry.entry("defense", name).role))
        return roles


def deployment(sections: Mapping[str, Any], overrides: Sequence[str] = ()) -> Deployment:
    """Check what is to be audited, as a scenario of one cell.

    Args:
        sections: of a scenario.
        overrides: `key.path=value` settings.

    Raises:
        InputError: it is no federation that can be run, or names an attacker itself.
    """
    from fedsec.runs.datasets import look
    from fedsec.scenario.plan import check_scenario

    scenario = load_scenario({"name": "audit", **sections}, overrides)
    content: Mapping[str, Any] = scenario.source.document.value
    for key in ("attack", "inversion", "audit", "matrix", "expect"):
        if key in content:
            raise InputError(f"{key}: who attacks is the audit's business; expected no such key")
    check_scenario(scenario)
    config = scenario.cells()[0].config
    survey = next(iter(look(scenario).surveys.values()))
    plain = {key: deepcopy(value) for key, value in content.items() if key not in ("name", "description", "seed")}
    written = plain.get("defense", "mean")
    plain["defense"] = list(written) if isinstance(written, list | tuple) else [written]
    for section, key in (("dataset", "name"), ("federation", "algorithm")):
        value = plain.get(section, {})
        plain[section] = {key: value} if isinstance(value, str) else dict(value)
    return Deployment(plain, config, survey, config.seed)
