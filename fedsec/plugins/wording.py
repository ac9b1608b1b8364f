"""What was expected and what was got instead, in words: pydantic's errors are not shown to users."""

import json
from typing import Annotated, Any

from pydantic import AllowInfNan, BaseModel, Strict, ValidationError
from pydantic_core import PydanticCustomError

from fedsec.plugins.registry import keys_hint, nearest

FiniteFloat = Annotated[float, Strict(), AllowInfNan(False)]
"""A number; not text, not a truth value, not NaN, not infinite."""

Path = tuple[str | int, ...]
Problem = tuple[Path, str]
"""Where in a configuration something is wrong, and what."""

_SIMPLE = {
    "integer": "an integer",
    "number": "a finite number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
    "object": "a mapping",
}
_BOUNDS = {
    "minimum": "of at least",
    "exclusiveMinimum": "greater than",
    "maximum": "of at most",
    "exclusiveMaximum": "less than",
}
_CUSTOM = "fedsec"
_LONGEST = 60


def in_words(schema: dict[str, Any]) -> str:
    """What a JSON Schema asks for, as in "an integer of at least 1"."""
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(in_words(option) for option in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "array":
        item = in_words(schema.get("items", {})) if schema.get("items") else "anything"
        length = schema.get("minItems")
        many = f"a list of {length} entries" if length and length == schema.get("maxItems") else "a list"
        return many if "prefixItems" in schema else f"{many}, each {item}"
    bounds = [f"{phrase} {_number(schema[key])}" for key, phrase in _BOUNDS.items() if key in schema]
    if "maxLength" in schema:
        bounds.append(f"of {schema.get('minLength', 0)} to {schema['maxLength']} characters")
    noun = _SIMPLE.get(str(kind), "a mapping" if "$ref" in schema else "something else")
    return " ".join([noun, " and ".join(bounds).replace(" and of ", " and ")]).strip()


def _number(value: float) -> str:
    """A bound, with commas where it has many digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def shown(value: Any) -> str:
    """A value as it would stand in YAML, cut to a readable length."""
    if isinstance(value, str | float):
        text = repr(value)
    else:
        try:
            text = json.dumps(value, default=str)
        except (TypeError, ValueError):
            text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def expected(schema: dict[str, Any], *got: Any) -> str:
    """ "expected an integer of at least 1, got 'abc'", with the nearest match where names are expected."""
    message = f"expected {in_words(schema)}"
    if not got:
        return message
    message += f", got {shown(got[0])}"
    names = [name for option in schema.get("anyOf", [schema]) for name in option.get("enum", [])]
    close = nearest(got[0], [name for name in names if isinstance(name, str)]) if isinstance(got[0], str) else None
    return f"{message} (did you mean {close!r}?)" if close else message


def wrong(*problems: Problem) -> PydanticCustomError:
    """An error for validators to raise; `translate` finds the problems in it again, wherever it was nested."""
    text = "; ".join(f"{'.'.join(map(str, path))}: {message}" for path, message in problems)
    return PydanticCustomError(_CUSTOM, "{text}", {"text": text, "problems": list(problems)})


def translate(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """A model's validation error as problems.

    Args:
        error: what the model raised.
        model: whose direct fields the error's locations start with.
    """
    problems: list[Problem] = []
    for item in error.errors(include_url=False):
        path, kind = item["loc"], item["type"]
        if kind == _CUSTOM:
            problems += [((*path, *where), message) for where, message in item["ctx"]["problems"]]
        elif kind == "extra_forbidden":
            problems.append((path, f"unknown key{keys_hint(str(path[-1]), model.model_fields)}"))
        else:
            schema = _field_schema(model, str(path[0])) if path else {"type": "object"}
            if kind == "missing":
                problems.append((path, f"is required; expected {schema.get('description') or in_words(schema)}"))
            else:
                path = (*path[:1], *(part for part in path[1:] if isinstance(part, int)))  # no names of a union's parts
                problems.append((path, expected(schema, item["input"])))
    return list(dict.fromkeys(problems))


def _field_schema(model: type[BaseModel], field: str) -> dict[str, Any]:
    schema: dict[str, Any] = model.model_json_schema()["properties"][field]
    return schema
