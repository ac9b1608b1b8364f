"""The adaptive attack: tries the server's own defense, and sends what leads it farthest astray.

That a defense is to be judged by an attacker who knows it: Carlini, Athalye, Papernot, Brendel, Rauber, Tsipras,
Goodfellow, Madry, Kurakin, On evaluating adversarial robustness, 2019, arXiv:1902.06705. The families on which it
searches contain little is enough (along the standard deviations), inner product manipulation and sign flipping (along
the mean), the directions of min-max and min-sum, and mimicry (towards an honest row), each with a signed magnitude
without a cap: Baruch et al., NeurIPS 2019, arXiv:1902.06156; Xie et al., UAI 2019, arXiv:1903.03936; Shejwalkar,
Houmansadr, NDSS 2021; Karimireddy et al., ICLR 2022, arXiv:2006.09365.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Literal, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, Objective, UpdatePoisoning, largest_on_line

DIRECTIONS = ("mean", "std", "sign", "principal", "farthest")
LAYOUTS = ("equal", "spread")
MAX_MAGNITUDE = 1000.0

_GRID = (0.05, 0.15, 0.3, 0.5, 0.75, 1.0, 1.35, 1.8, 2.5, 4.0, 7.0, 15.0, 40.0, 150.0)
_COARSE_GRID = (0.3, 1.0, 1.8, 4.0, 15.0)
"""Magnitudes as multiples of the honest rows' spread; the largest that is allowed follows."""

_CANDIDATES = 3
"""So many of the best directions are tried in further layouts, and so many of the best families more closely."""


class Adaptive(UpdatePoisoning):
    """Searches direction and signed magnitude for the rows that damage the server's own defense most.

    c_i + gamma * p / ||p||, the gamma of either sign with the largest damage over all directions p and both layouts.

    Directions are the honest rows' mean, its signs, their standard deviations coordinate by coordinate, their main
    direction of variance, and from the mean to the row that is farthest from it. For each a grid over decades of both
    signs, then golden sections. A rule that works from inner products is tried in clients x clients work a gamma,
    a rule of single coordinates on 16,384 of them, a defense that looks at whole rows on all of these, with a coarser
    grid where the model is large; the best candidates are tried in full before one is sent.

    Args:
        objective: what counts as damage: `opposition`, how far the result lies behind the mean of the honest rows along
            its direction, which is what a step loses of its descent; or its `distance` from that mean.
        knowledge: omniscient: of all honest rows. own: only of the attackers'; the others are imagined with the
            attackers' mean and covariance, drawn from the attack's stream.
        directions: on which to search; null: all of them.
        layout: equal: all Byzantine rows alike, c the mean; spread: each its own honest row and the same shift; both:
            whichever does more.
        max_magnitude: the largest gamma, as a multiple of the honest rows' spread or mean, whichever is larger.

    Raises:
        InputError: unknown names, or a magnitude that is not positive; a view without a defense to try.

    Cost:
        Some dozens of trials of the defense for each direction and layout: n^2 each for a rule that works from inner
        products, a pass over 16,384 coordinates for one of coordinates, else a pass over everything.

    Limits:
        It searches its families of rows, one line at a time: other rows may do more. What does the most damage in a
        round need not do so in a run. A defense that draws draws anew when it matters.

    Reference: Carlini et al., 2019, arXiv:1902.06705
    """

    knows_defense = True

    def __init__(
        self,
        objective: Literal["opposition", "distance"] = "opposition",
        knowledge: Literal["omniscient", "own"] = "omniscient",
        directions: Sequence[str] | None = None,
        layout: Literal["both", "equal", "spread"] = "both",
        max_magnitude: float = 1000.0,
    ) -> None:
        unknown = [name for name in directions or () if name not in DIRECTIONS]
        if unknown or (directions is not None and not directions):
            raise InputError(f"Adaptive: directions must be some of {list(DIRECTIONS)}, not {directions}")
        if objective not in get_args(Objective):
            raise InputError(f"Adaptive: objective must be one of {list(get_args(Objective))}, not {objective!r}")
        if knowledge not in ("omniscient", "own"):
            raise InputError(f"Adaptive: knowledge must be omniscient or own, not {knowledge!r}")
        if layout not in ("both", "equal", "spread"):
            raise InputError(f"Adaptive: layout must be both, equal or spread, not {layout!r}")
        if not 1 <= max_magnitude < inf:
            raise InputError(f"Adaptive: max_magnitude must be at least 1 and finite, not {max_magnitude}")
        self.objective: Objective = objective
        self.knowledge = knowledge
        self.directions = tuple(DIRECTIONS if directions is None else directions)
        self.layouts = tuple(LAYOUTS if layout == "both" else (layout,))
        self.max_magnitude = max_magnitude

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        if why := unsearchable(view):
            view.report["remark"] = f"Adaptive saw {why} and sent its own"
            return view.own
        search = FamilySearch("Adaptive", view, self.objective, self.max_magnitude)
        family, damage = search.worst(self.directions, self.layouts)
        if family is None:
            return view.own
        view.report.update(direction=family.direction, layout=family.layout)
        view.report.update(magnitude=family.magnitude / search.unit, damage=damage)
        return search.rows(family)


def unsearchable(view: AttackerView) -> str:
    """Why nothing can be searched for among the updates that an attacker sees; nothing where it can.

    Updates whose lengths do not fit their arithmetic are those of a model that diverges by itself.
    """
    rows = view.benign
    if not bool(rows[0].isfinite().all()):
        return "no finite update"
    largest = max(float(part.abs().nan_to_num(0.0, 0.0).max()) for part in (rows, view.own))
    room = torch.finfo(torch.promote_types(rows.dtype, torch.float32)).max / rows.numel()
    return "updates too large to search among" if largest * MAX_MAGNITUDE > room**0.5 else ""


@dataclass(frozen=True)
class Family:
    """Rows on a line, and the place on it with the largest damage.

    Attributes:
        direction: its name.
        layout: where the rows begin.
        magnitude: signed, in the updates' unit.
        damage: there, as the search saw it.
    """

    direction: str
    layout: str
    magnitude: float
    damage: float


class FamilySearch:
    """One round's search over families of rows, for attacks that know the defense.

    Args:
        attack: who asks, for messages.
        view: with a defense, and a finite update.
        objective: what counts as damage.
        max_magnitude: see `Adaptive`.

    Attributes:
        unit: of magnitudes: the honest rows' root mean squared distance from their mean.
        mean: of the rows that the attacker knows to be honest.

    Raises:
        InputError: the view has no defense.
    """

    def __init__(
        self, attack: str, view: AttackerView, objective: Objective, max_magnitude: float = MAX_MAGNITUDE
    ) -> None:
        if view.defense is None:
            raise InputError(
                f"{attack}: tries the server's defense; expected a view with `defense`, such as "
                "AggregatorTrial(rule, generator) or CallableTrial(rule)"
            )
        benign = view.benign
        center, std = _mean_and_std(benign)
        sign = center.sign()
        self.mean, self._defense, self._objective = center.to(benign.dtype), view.defense, objective
        # An attacker whose own training failed begins at the mean.
        self._own = torch.where(view.own.isfinite().all(1, keepdim=True), view.own, self.mean)
        self._points = torch.cat([benign, self._own, std.to(benign.dtype)[None], sign.to(benign.dtype)[None]])
        known, points = len(benign), len(self._points)
        self._honest = _honest(view, known, points)
        self._trial = view.defense.mixtures(self._points, len(self._honest) + len(view.own))
        self._center = torch.zeros(points, dtype=torch.float64)
        self._center[:known] = 1 / known
        self._own_places = torch.eye(points, dtype=torch.float64)[known:-2]
        self._honest_rows = benign if len(view.honest) else self._honest.to(self._points) @ self._points
        self._vectors = {"std": std, "sign": sign, "mean": center}
        lengths = {name: float(torch.linalg.vector_norm(vector)) for name, vector in self._vectors.items()}
        self.unit = lengths["std"] or lengths["mean"] or 1.0
        self._largest = max_magnitude * max(self.unit, lengths["mean"])
        self._directions = self._all_directions(known, lengths)
        self._values: dict[tuple[str, str, float], float] = {}

    def worst(self, directions: Sequence[str], layouts: Sequence[str]) -> tuple[Family | None, float]:
        """The family with the largest damage, and that damage, of all the rows in full.

        The most promising ones are tried in full until the next one does not promise more than was reached.

        Args:
            directions: their names.
            layouts: their names.

        Returns:
            None and the damage of honest rows where no family does more than these.
        """
        families = self._promising(directions, layouts)
        best: Family | None = None
        largest = self.honest_damage()
        for family in families:
            if family.damage <= largest:
                break
            damage = self.full_damage(self.rows(family))
            if damage > largest:
                best, largest = family, damage
        return best, largest

    def rows(self, family: Family) -> Float[Tensor, "byzantine parameters"]:
        """What the Byzantine clients send."""
        coefficients, length = self._directions[family.direction]
        shift = (coefficients * (family.magnitude / length)).to(self._points) @ self._points
        base = self.mean.expand_as(self._own) if family.layout == "equal" else self._own
        return base + shift

    def honest_damage(self) -> float:
        """What honest rows do: a defense may lie off the honest mean without any attack."""
        if not self._trial.exact:
            return self.full_damage(self._own)
        return self._trial.damage(torch.cat([self._honest, self._own_places]), self._center, self._objective)

    def full_damage(self, rows: Float[Tensor, "byzantine parameters"]) -> float:
        """What the rows do to the defense, beside the honest ones: all of them looked at."""
        return self._defense.damage(torch.cat([self._honest_rows, rows]), self.mean, self._objective)

    def _promising(self, directions: Sequence[str], layouts: Sequence[str]) -> list[Family]:
        """The best of each family, the most damaging ones first: of a grid, then after a closer look at a few."""
        first, *others = layouts
        families = [self._search(direction, first) for direction in directions if direction in self._directions]
        families.sort(key=_by_damage)
        best = [family.direction for family in families[:_CANDIDATES]]
        families += [self._search(direction, layout) for layout in others for direction in best]
        refinements = 12 if self._trial.fast else 5
        closer = [
            self._search(family.direction, family.layout, refinements)
            for family in sorted(families, key=_by_damage)[:_CANDIDATES]
        ]
        return sorted(closer, key=_by_damage)

    def _search(self, direction: str, layout: str, refinements: int = 0) -> Family:
        grid = [size * self.unit for size in (_GRID if self._trial.fast else _COARSE_GRID)]
        magnitudes = [*(size for size in grid if size < self._largest), self._largest]
        value = partial(self._damage, direction, layout)
        return Family(direction, layout, *largest_on_line(value, magnitudes, refinements=refinements))

    def _damage(self, direction: str, layout: str, magnitude: float) -> float:
        key = direction, layout, magnitude
        if key not in self._values:
            coefficients, length = self._directions[direction]
            base = self._center.expand(len(self._own), -1) if layout == "equal" else self._own_places
            byzantine = base + coefficients * (magnitude / length)
            mixing = torch.cat([self._honest, byzantine])
            self._values[key] = self._trial.damage(mixing, self._center, self._objective)
        return self._values[key]

    def _all_directions(self, benign: int, lengths: dict[str, float]) -> dict[str, tuple[Tensor, float]]:
        """Of each direction the coefficients of the points and its length; only of those that lead anywhere."""
        points = len(self._points)
        unit = torch.eye(points, dtype=torch.float64)
        directions = {"mean": (self._center, lengths["mean"])}
        directions |= {"std": (unit[-2], lengths["std"]), "sign": (unit[-1], lengths["sign"])}
        deviations = unit[:benign] - self._center
        distances = self._trial.squared_distances(torch.cat([unit[:benign], self._center[None]]))
        from_mean = distances[:benign, benign]
        farthest = int(from_mean.argmax())
        directions["farthest"] = deviations[farthest], float(from_mean[farthest].sqrt())
        products = (from_mean[:, None] + from_mean - distances[:benign, :benign]) / 2
        main = torch.linalg.eigh(products).eigenvectors[:, -1]
        main = main * main[main.abs().argmax()].sign()
        directions["principal"] = main @ deviations, float((main @ products @ main).clamp_min(0).sqrt())
        return {name: (way, length) for name, (way, length) in directions.items() if length > 0}


def _by_damage(family: Family) -> float:
    return -family.damage


def _mean_and_std(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of every column, over the rows (`torch.var_mean` takes several times as long down a column); 16 bits as 32."""
    center = rows.mean(0, dtype=torch.float32 if rows.element_size() < 4 else None)
    squares = torch.zeros_like(center)
    for row in rows:
        deviation = row - center
        squares.addcmul_(deviation, deviation, value=1 / len(rows))
    return center, squares.sqrt_()


def _honest(view: AttackerView, known: int, num_points: int) -> Float64[Tensor, "honest points"]:
    """How the honest rows that the server receives are made of the points: they are the first, or are imagined.

    Of its own rows alone an attacker knows a mean and a covariance; normal mixtures of them have the same.
    """
    if len(view.honest):
        return torch.eye(num_points, dtype=torch.float64)[:known]
    count = view.num_clients - view.num_byzantine
    mixing = torch.zeros(count, num_points, dtype=torch.float64)
    if known > 1:
        draws = torch.randn(count, known, generator=view.generator, dtype=torch.float64) / (known - 1) ** 0.5
        mixing[:, :known] = draws - draws.mean(1, keepdim=True)
    mixing[:, :known] += 1 / known
    return mixing
