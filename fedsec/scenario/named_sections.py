"""What every part of a configuration shares: strict mappings, and mappings that name an entry of the registry."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.plugins.wording import Problem, shown, translate, wrong

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
    def _in_words(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        if isinstance(data, cls):
            return data
        if cls.shorthand and isinstance(data, str):
            data = {cls.shorthand: data}
        if not isinstance(data, Mapping):
            raise wrong(((), f"expected {'a name or ' if cls.shorthand else ''}a mapping, got {shown(data)}"))
        raw, found = cls.prepare(dict(data))
        try:
            made = handler(raw)
        except ValidationError as error:
            found = [*translate(error, cls), *found]
        if found:
            raise wrong(*found)
        return made


class NamedSection(Section):
    """A mapping that names an entry of the registry and holds its options beside the name."""

    kind: ClassVar[str]
    nothing: ClassVar[tuple[str, ...]] = ()
    """Names that stand for no entry at all."""
    yielding: ClassVar[tuple[str, ...]] = ()
    """Keys of the section that belong to the named entry instead where its constructor has an option of that name."""
    shorthand = "name"

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Gather the options and resolve them against the class that is named."""
        name = data.get("name", cls.model_fields["name"].default)
        own = {key: value for key, value in data.items() if key in cls.keys_beside(name, data)}
        options = {key: value for key, value in data.items() if key not in own}
        resolved = own.get("options", {})
        if not isinstance(resolved, Mapping):
            return own, []
        if not isinstance(name, str):
            return own, []
        beside = [field for field in cls.model_fields if field != "options"]
        if name in cls.nothing:
            return own, [((key,), f"{name!r} takes no options") for key in {**resolved, **options}]
        try:
            entry = registry.entry(cls.kind, name, also=cls.nothing)
        except InputError as error:
            return {**own, "options": {}}, [(("name",), str(error))]
        resolved, found = registry.problems(entry, {**resolved, **options}, beside)
        return {**own, "options": resolved}, [((key,), message) for key, message in found]

    @classmethod
    def keys_beside(cls, name: Any, data: Mapping[str, Any]) -> set[str]:
        """The keys of a raw mapping's section that are not options of what it names."""
        entry = known_entry(cls.kind, name) if cls.yielding and "options" not in data else None
        claimed = {parameter.name for parameter in entry.parameters} if entry else set()
        return {key for key in cls.model_fields if key not in cls.yielding or key not in claimed}


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
