"""What every part of a configuration shares: strict mappings, and mappings that name an entry of the registry."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.plugins.wording import Problem, shown, translate, wrong

WRITTEN = "written"
"""The validation context of what a user wrote, where options stand beside the name and never under `options`."""
_RESOLVED = "options"

Count = Annotated[int, Field(ge=1, le=10**9)]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise wrong(((), f"expected text on one line, without control characters, got {shown(text)}"))
    return text


Label = Annotated[str, Field(min_length=1, max_length=60), AfterValidator(_printable)]


class Section(BaseModel):
    """A mapping of a scenario: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    shorthand: ClassVar[str | None] = None
    """The key that a bare value stands for."""

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Rearrange a raw mapping before its keys are checked, and say what is wrong with it already."""
        return data, []

    @model_validator(mode="wrap")
    @classmethod
    def _in_words(cls, data: Any, handler: Callable[[Any], Self], info: ValidationInfo) -> Self:
        if isinstance(data, cls):
            return data
        if cls.shorthand and isinstance(data, str):
            data = {cls.shorthand: data}
        if not isinstance(data, Mapping):
            raise wrong(((), f"expected {'a name or ' if cls.shorthand else ''}a mapping, got {shown(data)}"))
        written = dict(data)
        refused: list[Problem] = []
        if info.context == WRITTEN and _RESOLVED in cls.model_fields and _RESOLVED in written:
            del written[_RESOLVED]
            refused = [((_RESOLVED,), "unknown key; expected the options beside the name")]
        raw, problems = cls.prepare(written)
        try:
            section = handler(raw)
        except ValidationError as error:
            problems = [*translate(error, cls), *problems]
        if refused or problems:
            raise wrong(*refused, *problems)
        return section


class NamedSection(Section):
    """A mapping that names an entry of the registry and holds its options beside the name."""

    kind: ClassVar[str]
    nothing: ClassVar[tuple[str, ...]] = ()
    """Names that stand for no entry at all."""
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Options that another key of the scenario may give in their place."""
    shorthand = "name"

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Gather the options and resolve them against the class that is named."""
        name = data.get("name", cls.model_fields["name"].default)
        own = {key: value for key, value in data.items() if key in cls.model_fields}
        beside = {key: value for key, value in data.items() if key not in own}
        resolved = own.get("options", {})
        if not isinstance(resolved, Mapping) or not isinstance(name, str):
            return own, []
        if twice := beside.keys() & resolved.keys():
            return own, [((key,), "stands under options as well; expected it once, beside the name") for key in twice]
        if name in cls.nothing:
            return own, [((key,), f"{name!r} takes no options") for key in {**resolved, **beside}]
        try:
            entry = registry.entry(cls.kind, name, also=cls.nothing)
        except InputError as error:
            return {**own, "options": {}}, [(("name",), str(error))]
        reserved = [field for field in cls.model_fields if field != "options"]
        given = {**resolved, **beside}
        resolved, mistakes = registry.problems(entry, given, reserved)
        instead = {key: f", or {other}" for key, other in cls.elsewhere.items() if key not in given}
        problems: list[Problem] = [((key,), message + instead.get(key, "")) for key, message in mistakes]
        if clash := [option.name for option in entry.parameters if option.name in cls.model_fields]:
            message = (
                f"has an option {clash[0]!r}, which is a key of the scenario's own; expected it under another name"
            )
            problems.append((("name",), f"{cls.kind} {name!r} {message}"))
        return {**own, "options": resolved}, problems


def known_entry(kind: str, name: Any) -> registry.Entry | None:
    """The registry's entry of a name, None if there is none."""
    return registry.entries(kind).get(name) if isinstance(name, str) else None


def entry_name(kind: str, name: str) -> str:
    """The name, if it is one of the registry's; for validators."""
    try:
        return registry.entry(kind, name).name
    except InputError as error:
        raise wrong(((), str(error))) from error


def either(names: tuple[str, ...]) -> str:
    """Names as a sentence lists them: `fedavg, fedprox or fedsgd`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
