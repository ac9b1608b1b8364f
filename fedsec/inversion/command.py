"""The command that asks for an inversion again."""

import json
import shlex
from dataclasses import asdict, fields
from typing import Any

from fedsec.data.normalization import Normalization
from fedsec.inversion.settings import InversionSettings

__all__ = ["command_of"]

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
    words = ["fedsec", "invert"]
    default = InversionSettings()
    for part in fields(settings):
        value = getattr(settings, part.name)
        if value != getattr(default, part.name) and part.name != "images":
            words += _words(part.name, value)
    words += ["--images", *map(str, settings.images)] if settings.images else []
    return shlex.join(words)


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
