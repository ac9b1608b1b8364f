"""The command that asks for an inversion again."""

import json
import shlex
from dataclasses import asdict, fields
from typing import Any

from fedsec.data.normalization import Normalization
from fedsec.inversion.settings import InversionSettings
from fedsec.inversion.texts.settings import TextSettings

__all__ = ["command_of", "text_command_of"]

_FLAGS = {
    ("labels", True): "--labels",
    ("defense_known", False): "--defense-unknown",
    ("gif", True): "--gif",
    ("classes", "same"): "--same-class",
    ("classes", "distinct"): "--distinct-classes",
}


def command_of(settings: InversionSettings) -> str:
    """The command that asks for the same; empty where objects of Python say what to do, which no command can.

    Args:
        settings: of the inversion.
    """
    texts = (settings.inversion, settings.model, settings.dataset)
    if settings.pixels is not None or any(value is not None and not isinstance(value, str) for value in texts):
        return ""
    words = _changed(settings, InversionSettings(), "images")
    words += ["--images", *map(str, settings.images)] if settings.images else []
    return shlex.join(["fedsec", "invert", *words])


def text_command_of(settings: TextSettings) -> str:
    """The command that asks for the same of texts; empty where objects of Python say what to do.

    Args:
        settings: of the inversion.
    """
    dataset = settings.dataset
    if not (isinstance(dataset, str) and isinstance(settings.inversion, str) and isinstance(settings.model, str)):
        return ""
    words = _changed(settings, TextSettings(), "dataset")
    return shlex.join(["fedsec", "invert", "--dataset", dataset, *words])


def _changed(
    settings: InversionSettings | TextSettings, default: InversionSettings | TextSettings, but: str
) -> list[str]:
    """The options that say what differs from the default, in their order."""
    values = ((part.name, getattr(settings, part.name)) for part in fields(settings) if part.name != but)
    return [word for name, value in values if value != getattr(default, name) for word in _words(name, value)]


def _words(name: str, value: Any) -> list[str]:
    if (name, value) in _FLAGS if isinstance(value, bool | str) else False:
        return [_FLAGS[name, value]]
    option = f"--{name.replace('_', '-')}"
    if name in ("inversion_options", "model_options"):
        return [word for key, item in value.items() for word in (option[:-1], f"{key}={json.dumps(item)}")]
    if name == "defense":
        return [word for item in value for word in (option, json.dumps(item))]
    if isinstance(value, Normalization):
        return [option, json.dumps(asdict(value))]
    return [option, str(value)]
