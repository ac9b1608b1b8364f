"""Recordings whose messages do not tell what a client did, or only a part of it."""

from collections.abc import Mapping
from typing import Any

from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.threat import LocalSteps

__all__ = ["check_recorded", "unsent_of"]


def check_recorded(about: Mapping[str, Any], local: Mapping[str, Any]) -> None:
    """Refuse what cannot be inverted, whatever else is known.

    Args:
        about: what the recording says of its run.
        local: what it says of a round's training.

    Raises:
        InputError: the algorithm's clients begin with other models than the one that is recorded beside their updates,
            or remember what is not recorded.
    """
    algorithm = registry.entries("algorithm").get(str(about.get("algorithm")))
    if algorithm is None:
        return
    name, traits = algorithm.name, algorithm.traits
    if traits.get("by_arrival"):
        raise InputError(
            f"inversion: clients of {name} begin with older models than the one that is recorded beside their updates, "
            "which an inversion would take for theirs; expected a recording of rounds in which all begin with it"
        )
    if not traits["replayable"]:
        raise InputError(
            f"inversion: what a client of {name} sends depends on more than the model that is recorded beside it; "
            "expected a recording of fedavg, fedprox, fedsgd or another algorithm whose updates can be replayed"
        )
    if not traits["whole_model"] and "at_home" not in about:
        raise InputError(
            f"inversion: the recording does not say which layers {name} left with its clients; record the run anew"
        )
    if about.get("buffers", "reset") != "reset":
        raise InputError("inversion: clients began with momentum of earlier rounds, which is not recorded")
    if local.get("worker_momentum"):
        raise InputError("inversion: clients sent running averages of their updates, which cannot be replayed")


def unsent_of(about: Mapping[str, Any], local: LocalSteps | None) -> dict[str, tuple[str, ...]]:
    """The names of parameters that a client trained and kept, as an `Observation` takes them; nothing without any.

    Args:
        about: what the recording says of its run.
        local: the client's training.

    Raises:
        InputError: there are such, and the training is not known.
    """
    home = tuple(about.get("at_home", ()))
    if not home:
        return {}
    if local is None:
        raise InputError("inversion: layers stayed with the clients, and how they trained is not known; expected local")
    algorithm = registry.entries("algorithm").get(str(about.get("algorithm")))
    held = algorithm is not None and algorithm.traits["trains_in_turns"]
    return {} if held else {"unsent": home}
