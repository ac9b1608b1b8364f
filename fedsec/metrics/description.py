"""What is known of a metric before any value of it is seen: a row of the table in `fedsec.metrics.metric`."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

Better = Literal["higher", "lower", "neither"]
Source = Literal[
    "evaluation",
    "clients",
    "probe",
    "effort",
    "robustness",
    "detection",
    "time",
    "privacy",
    "audit",
    "cost",
    "inversion",
    "observation",
]
"""Who measures it: evaluation of the model on the test set; honest clients on test examples of their own; a probe that
an attack brings; what attackers spend; the aggregation of the rounds; whom its rule suspects; a clock; an accountant;
an audit; the cost model; what an inversion reconstructed or how often it could look."""
Scale = Literal["number", "fraction", "significant", "count", "bytes", "operations"]
"""How it is written: decimals; a percentage; three significant digits; a whole number; three digits and a unit."""

Sizes = tuple[tuple[str, float], ...]
SIZES: Mapping[Scale, Sizes] = {
    "bytes": (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1)),
    "operations": (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1)),
}
_LAST = 5
"""Rounds whose worst value stands beside the final one."""


@dataclass(frozen=True)
class Metric:
    """What is to be known of a metric before any value of it is seen.

    Args:
        name: in records, in YAML and in code.
        about: one line for readers.
        better: which direction is; `neither` for what only describes.
        source: who measures it.
        scale: how its values are written.
        low: the smallest value there can be.
        high: the largest value there can be.
        digits: after the decimal point, for `number`.
        unit: of its values, for titles of pictures.
        header: above its column in tables; the name by default.
        baseline: the metric that stands beside it in parentheses.
        by_chance: whether it differs from seed to seed, so that intervals belong to it.
        protects: whose privacy it bounds, where it is an epsilon.
        missing: why a finished cell may not have it.
        also: who else measures it, in cells of another kind.
    """

    name: str
    about: str
    better: Better = "neither"
    source: Source = "evaluation"
    scale: Scale = "number"
    low: float = -math.inf
    high: float = math.inf
    digits: int = 3
    unit: str = ""
    header: str = ""
    baseline: str | None = None
    by_chance: bool = True
    protects: str = ""
    missing: str = ""
    also: Source | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields that are not as by default, as plain data; `Metric(**data)` is the same metric."""
        return {key: value for key, value in asdict(self).items() if value != _DEFAULTS.get(key)}

    @property
    def is_fraction(self) -> bool:
        """Whether it lies in [0, 1] and is written as a percentage."""
        return self.scale == "fraction"

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which numbers every value, and so every interval, lies."""
        return (0.0, 1.0) if self.is_fraction else (self.low, self.high)

    @property
    def factor(self) -> float:
        """What a value is multiplied with where its unit is `axis_unit`."""
        return 100.0 if self.is_fraction else 1.0

    @property
    def title(self) -> str:
        """Its name with its unit: `accuracy (%)`."""
        unit = "%" if self.is_fraction else self.unit
        return f"{self.name} ({unit})" if unit else self.name

    @property
    def worst_of_last(self) -> "Metric":
        """The metric that holds the worst value of the last five evaluated rounds."""
        extreme = "max" if self.better == "lower" else "min"
        about = f"the worst {self.name} of the last {_LAST} evaluated rounds"
        return replace(self, name=f"{self.name}_{extreme}_last{_LAST}", about=about, header="")

    @property
    def worst_client(self) -> "Metric":
        """The metric that holds the worst value of an honest client's own model."""
        return replace(
            self,
            name=f"{self.name}_worst_client",
            about=f"the worst {self.name} of an honest client's own model",
            header="worst client (%)" if self.is_fraction else "worst client",
            missing="clients have models of their own only with personal algorithms, federation.bn local and fedgkt",
        )

    @property
    def over_clients(self) -> "tuple[Metric, Metric, Metric, Metric]":
        """The metrics that sum up its values of honest clients, each on test examples of its own.

        See `fedsec.metrics.fairness`: the mean, the mean of the worst tenth, the standard deviation and Jain's index.
        """
        missing = "clients have test examples of their own only with federation.client_test"
        unit, of = (
            " (%)" if self.is_fraction else "",
            f"{self.name} of honest clients, each on test examples of its own",
        )
        row, name = replace(self, source="clients", missing=missing), f"{self.name}_clients"
        worst = replace(row, name=f"{name}_worst10", about=f"{of}: mean of the worst tenth")
        spread = replace(row, name=f"{name}_std", about=f"{of}: standard deviation", better="lower", low=0.0)
        about = f"{of}: Jain's index, 1 where all have the same and 1 / clients where one has everything"
        index = Metric(f"{name}_jain", about, "higher", "clients", low=0.0, high=1.0, missing=missing)
        return (
            replace(row, name=f"{name}_mean", about=f"{of}: mean", header=f"clients{unit}"),
            replace(worst, header=f"worst 10%{unit}"),
            replace(spread, header=f"spread{unit}"),
            replace(index, header="Jain's index"),
        )

    def write(self, value: float, sign: str = "-") -> str:
        """A value as tables show it, without its unit where the header has it.

        Args:
            value: finite.
            sign: of Python's format language: `+` writes the plus of a change.
        """
        if self.scale in SIZES:
            sized = scaled(abs(value), SIZES[self.scale])
            return f"-{sized}" if value < 0 else f"+{sized}" if sign == "+" else sized
        if self.scale == "significant":
            return f"{value:{sign}.3g}"
        if self.scale == "count" and float(value).is_integer():
            return f"{value:{sign},.0f}"
        return f"{self.factor * value:{sign}.{1 if self.is_fraction else self.digits}f}"

    def within(self, value: float) -> float:
        """`value`, or the bound that it lies beyond."""
        low, high = self.bounds
        return min(max(value, low), high)

    def worst(self, values: Iterable[float]) -> float:
        """The worst of some values; of a metric without direction the smallest."""
        return max(values) if self.better == "lower" else min(values)


_DEFAULTS = {field.name: field.default for field in fields(Metric)}


def scaled(value: float, sizes: Sizes) -> str:
    """Three digits of a number and its unit, as in `1.85 MB`.

    Args:
        value: at least 0.
        sizes: units from the largest to the smallest, which is not divided any further.
    """
    # What rounds to 1000 of a unit is 1 of the next.
    unit, size = next(((unit, size) for unit, size in sizes if value >= 0.9995 * size), sizes[-1])
    number = value / size
    digits = f"{number:#.3g}".rstrip(".") if size > 1 and number < 999.5 else f"{number:,.0f}"
    return f"{digits} {unit}".rstrip()
