"""What canaries of every unit have in common: fair coins, scores, and the bounds that follow from them.

Steinke, Nasr, Jagielski: Privacy Auditing with One (1) Training Run. NeurIPS 2023, arXiv:2305.08846, for which all
canaries are in one run, each with probability 1/2. Which score is used, and how many guesses are made, is decided
before the scores are seen, or paid for in confidence. The bound that counts assumes nothing of the mechanism; the one
of Mahloujifar, Melis, Chaudhuri, arXiv:2410.22235, for Gaussian mechanisms, stands beside it.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.auditing import Bonferroni, EpsilonBound, SplitCanaries, audit_one_run, ceiling
from fedsec.auditing.one_run import OneRunMethod
from fedsec.engine.memory import free_bytes
from fedsec.errors import InputError, size_of
from fedsec.federation.updates import Federation
from fedsec.privacy import Epsilon
from fedsec.runs.audits.part import AuditConclusion, AuditPart
from fedsec.scenario import CellConfig
from fedsec.seeds import Streams

DELTA = 1e-5
"""Of a run without any claim."""
_METHODS = get_args(OneRunMethod)
"""What bounds assume: nothing, and that the mechanism is Gaussian."""


class CanaryPart(AuditPart):
    """Canaries of a cell.

    Args:
        config: of the cell; its audit asks for canaries.

    Attributes:
        included: of each canary, whether it is in the training data, by a fair coin from a stream of its own.
        federation: that is audited, once it is attached.
    """

    name = "canaries"
    metric: ClassVar[str]
    """The row of METRICS that holds the bound; with `_gaussian` that of the bound for Gaussian mechanisms."""
    federation: Federation

    def __init__(self, config: CellConfig) -> None:
        super().__init__(config)
        assert config.audit is not None
        assert config.audit.canaries is not None
        self.settings, self.confidence = config.audit.canaries, config.audit.confidence
        self.streams = Streams(config.seed)
        self.included = self.streams.numpy("audit", "canaries", "included").random(self.settings.count) < 0.5

    @abstractmethod
    def scores(self) -> Mapping[str, Float64[np.ndarray, "canaries"]]:
        """By kind of score, what each canary scores after the last round: higher says that it was included."""

    @abstractmethod
    def claim(self, delta: float | None) -> Epsilon | None:
        """What is claimed of the canaries' privacy; None where nothing is.

        Args:
            delta: at which; None for the claim's own.
        """

    def about(self, delta: float) -> Mapping[str, Any]:
        """What else belongs in the record.

        Args:
            delta: at which epsilon is bounded.
        """
        return {}

    def check(self) -> None:
        """Refuse canaries that could show nothing, whatever they score.

        Raises:
            InputError: they are too few at this delta and confidence.
        """
        delta = self._delta(self.claim(self.settings.delta))
        most = ceiling(self.settings.count, delta, self.confidence, self._strategy, choices=len(self.settings.score))
        if not most["approximate_dp"]:
            raise InputError(
                f"audit.canaries.count: {self.settings.count} canaries can show nothing at delta {delta:.2g} and "
                f"confidence {self.confidence:.4g}, even if every guess is right; expected more canaries or a smaller "
                "audit.canaries.delta"
            )

    def check_room(self, canaries: int, copies: int) -> None:
        """Refuse more canaries than there is memory for.

        Args:
            canaries: that are held at a time, a vector of the model's length each.
            copies: of all of them.

        Raises:
            InputError: there is less.
        """
        parameters = self.federation.parameters
        needed = parameters.element_size() * parameters.numel() * canaries * copies
        free = free_bytes(parameters.device)
        if free is not None and needed > free:
            raise InputError(
                f"audit.canaries.count: {canaries} canaries of {parameters.numel():,} parameters each take "
                f"{size_of(needed)}, and {size_of(free)} are free; expected fewer canaries or a smaller model"
            )

    @property
    def _strategy(self) -> SplitCanaries | Bonferroni:
        return SplitCanaries() if self.settings.threshold == "split" else Bonferroni()

    def _delta(self, claim: Epsilon | None) -> float:
        return self.settings.delta or (DELTA if claim is None else claim.delta)

    def conclude(self) -> AuditConclusion:
        claim = self.claim(self.settings.delta)
        delta = self._delta(claim)
        scores = self.scores()
        bounds: dict[str, dict[OneRunMethod, EpsilonBound]] = {}
        notes = []
        for score, values in scores.items():
            if not np.isfinite(values).all():
                notes.append(f"{score}: some canaries have no finite score, so nothing is bounded by it")
                continue
            bounds[score] = audit_one_run(
                values,
                self.included,
                delta,
                self.confidence,
                strategy=self._strategy,
                choices=len(scores),
                seed=self.streams.seed("audit", "canaries", "ties"),
            )
        lower, gaussian = (
            max((by_method[method].epsilon_lower for by_method in bounds.values()), default=None) for method in _METHODS
        )
        most = max((by_method["approximate_dp"].ceiling for by_method in bounds.values()), default=None)
        exceeds = lower is not None and claim is not None and lower > claim.value
        if exceeds:
            assert claim is not None
            notes.insert(0, exceeding(self.settings.unit, claim.value, lower or 0.0, self.confidence))
        record = {
            "unit": self.settings.unit,
            "kind": self.settings.kind,
            "count": self.settings.count,
            **self.about(delta),
            "included": self.included.tolist(),
            "scores": {score: [_rounded(value) for value in values] for score, values in scores.items()},
            "bounds": {
                score: {method: bound.as_dict() for method, bound in by_method.items()}
                for score, by_method in bounds.items()
            },
            "epsilon_lower": lower,
            "epsilon_lower_gaussian": gaussian,
            "ceiling": most,
            "confidence": self.confidence,
            "delta": delta,
            "claim": None if claim is None else {**asdict(claim), "value": _finite(claim.value)},
            "exceeds": exceeds,
        }
        return AuditConclusion(record, {self.metric: lower, f"{self.metric}_gaussian": gaussian}, notes)


def exceeding(unit: str, claimed: float, lower: float, confidence: float) -> str:
    """What is said where an audit contradicts a claim.

    Args:
        unit: of the claim.
        claimed: epsilon.
        lower: the audited bound.
        confidence: of it.
    """
    return (
        f"the audit contradicts the claim: with {confidence:.4g} confidence epsilon ({unit}) is at least {lower:.3g}, "
        f"and {claimed:.3g} is claimed; the mechanism is not what its account assumes"
    )


def checked(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """What an audit remembered, if it is of as many canaries.

    Raises:
        InputError: it is not.
    """
    if state.keys() != expected.keys() or any(state[name].shape != tensor.shape for name, tensor in expected.items()):
        raise InputError(f"a kept audit of canaries has {_shapes(expected)}; got {_shapes(state)}")
    return state


def _shapes(state: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(state.items())) or "nothing"


def tensor_of(values: Float64[np.ndarray, "canaries"]) -> Tensor:
    """A copy, for a checkpoint."""
    return torch.from_numpy(values.copy())


def _rounded(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
