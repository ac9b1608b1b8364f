"""How a scenario says who takes part in a round where not everybody is as likely to."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer

from fedsec.errors import InputError
from fedsec.plugins.wording import Problem, shown
from fedsec.scenario.named_sections import Count, Section
from fedsec.scenario.participation.availability_trace import read_trace

_OPTIONS: dict[str, dict[str, Any]] = {
    "power_law": {"exponent": 1.0, "attackers": "anywhere"},
    "cyclic": {"blocks": 4, "period": 1, "attackers": "anywhere"},
    "availability": {"trace": None, "mean_on": 5.0, "mean_off": 5.0, "attackers": "as_others"},
    "power_of_choice": {"candidates": None},
}
"""Name -> its options with their defaults, as the classes of `fedsec.federation.selection` have them; None for none."""
_ATTACKERS = {
    "power_law": ("anywhere", "first", "last"),
    "cyclic": ("anywhere", "together"),
    "availability": ("as_others", "always"),
}
Round = Annotated[int, Field(ge=0, le=10**9)]


class SelectionConfig(Section):
    """How the clients of a round are drawn, in place of `sampling`; options of other names are refused."""

    shorthand = "name"

    name: Literal["power_law", "cyclic", "availability", "power_of_choice"] = Field(
        description="power_law: some clients often and most seldom; cyclic: blocks of clients by turns; availability: "
        "those that are there; power_of_choice: of some candidates those whose loss is highest."
    )
    exponent: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="power_law: the k-th client has the weight k^-exponent (default 1)."
    )
    attackers: Literal["anywhere", "first", "last", "together", "as_others", "always"] | None = Field(
        default=None,
        description="power_law: where Byzantine clients stand, anywhere (default), first or last; cyclic: anywhere "
        "(default), or together in as few blocks as hold them; availability: there as_others (default) or always.",
    )
    blocks: Count | None = Field(default=None, description="cyclic: blocks of clients in a day (default 4).")
    period: Count | None = Field(default=None, description="cyclic: rounds for which a block is there (default 1).")
    trace: list[Annotated[list[Round], Field(min_length=3, max_length=3)]] | None = Field(
        default=None,
        description="availability: a file .csv or .json with client, from and until (rounds), or these as a list of "
        "lists; without one, clients come and go at random.",
    )
    mean_on: Annotated[float, Field(ge=1)] | None = Field(
        default=None, description="availability: rounds for which a client stays, on average (default 5)."
    )
    mean_off: Annotated[float, Field(ge=1)] | None = Field(
        default=None, description="availability: rounds for which it stays away, on average (default 5)."
    )
    candidates: Count | None = Field(
        default=None, description="power_of_choice: how many clients are asked for their loss; needed."
    )

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Fill in what the named way of drawing takes, read its trace, and refuse what others take."""
        name = data.get("name")
        if not isinstance(name, str) or name not in _OPTIONS:
            return data, []
        options, problems = _OPTIONS[name], list[Problem]()
        for key in cls.model_fields:
            if key not in (*options, "name") and data.get(key) is not None:
                owners = " or ".join(other for other, its in _OPTIONS.items() if key in its)
                problems.append(((key,), f"goes with {owners}; expected no such key with {name}"))
        if "attackers" in options and isinstance(given := data.get("attackers"), str) and given not in _ATTACKERS[name]:
            known = ", ".join(_ATTACKERS[name])
            problems.append((("attackers",), f"expected one of {known} with {name}, got {shown(given)}"))
        if isinstance(path := data.get("trace"), str) and name == "availability":
            try:
                data["trace"] = read_trace(path)
            except InputError as error:
                data["trace"] = None
                problems.append((("trace",), str(error)))
        if name == "power_of_choice" and data.get("candidates") is None:
            problems.append((("candidates",), "is required; expected how many clients are asked, an integer"))
        filled = {key: default for key, default in options.items() if data.get(key) is None}
        return {**data, **filled}, problems

    @model_serializer(mode="wrap")
    def _own_options(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Its own options alone: a way of drawing that comes later changes nobody's id."""
        own = _OPTIONS[self.name]
        return {key: value for key, value in handler(self).items() if key == "name" or key in own}

    @property
    def options(self) -> dict[str, Any]:
        """What the constructor of its class takes."""
        return {key: getattr(self, key) for key in _OPTIONS[self.name]}
