"""What options of the command line may be, how help shows them, and what a shell offers to complete them."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from typer.core import TyperCommand

from fedsec.errors import InputError

__all__ = [
    "BnStatistics",
    "ClientMode",
    "Device",
    "LpipsNetwork",
    "PlainCommand",
    "names_of",
    "options_of",
    "value_of",
    "without_flag_types",
]


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class BnStatistics(StrEnum):
    """What an inversion has of batch normalization; the words of scenarios."""

    none = "none"
    running = "running"
    sent = "sent"
    batch = "batch"


class ClientMode(StrEnum):
    """How a client's batch normalization works."""

    train = "train"
    eval = "eval"


class LpipsNetwork(StrEnum):
    """Backbones of the perceptual distance."""

    alex = "alex"
    vgg = "vgg"
    squeeze = "squeeze"


def without_flag_types(parameters: list[Any]) -> list[Any]:
    """Parameters of which those that are switched on, and take no value, name no type in the help."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


class PlainCommand(TyperCommand):
    """A command whose flags show no `<bool>` in the help, and of whose arguments the hidden ones alone are left out."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters."""
        parameters = without_flag_types(super().get_params(ctx))
        annotations = getattr(self.callback, "__annotations__", {})
        for parameter in parameters:
            # Click 8.5 has a help of arguments itself, and empties that which older typers have set before.
            if getattr(parameter, "help", "") is None:
                metadata = getattr(annotations.get(parameter.name), "__metadata__", ())
                parameter.help = next((text for info in metadata if (text := getattr(info, "help", None))), None)
        return parameters

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the command's name in its usage."""
        shown = [parameter for parameter in self.get_params(ctx) if not getattr(parameter, "hidden", False)]
        options = [self.options_metavar] if self.options_metavar else []
        return [*options, *(piece for parameter in shown for piece in parameter.get_usage_pieces(ctx))]


def names_of(kind: str, role: str | None = None) -> Callable[[str], list[str]]:
    """What a shell offers where one thing of a kind is named.

    Args:
        kind: of `fedsec.plugins.registry.KINDS`.
        role: the only role that counts.
    """

    def complete(incomplete: str) -> list[str]:
        from fedsec.plugins import registry

        try:
            known = registry.names(kind)
        except InputError:  # of a plugin, which is told where it is used
            known = registry.names(kind, plugins=False)
        names = [name for name in known if name.startswith(incomplete)]
        return names if role is None else [name for name in names if registry.entry(kind, name).role == role]

    return complete


def options_of(option: str, texts: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE texts of a repeatable option as a mapping; values are YAML."""
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{option} {text!r}: expected KEY=VALUE")
        if key.strip() in options:
            raise InputError(f"{option} {key.strip()}: is given twice")
        options[key.strip()] = value_of(f"{option} {key.strip()}", value)
    return options


def value_of(name: str, text: str) -> Any:
    """One value in YAML, as everywhere on the command line."""
    from fedsec.scenario.reader import read_text

    return read_text(text, name).value
