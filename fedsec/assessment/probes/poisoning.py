"""Forged updates: the worst of several attacks under the deployed rule, and under rules that are recommended."""

from collections.abc import Sequence

from fedsec.assessment.probes.byzantine import AccuracyAttack, AccuracyProbe

__all__ = ["PoisoningProbe"]

_SEES_ALL = ("sees_honest_updates",)


class PoisoningProbe(AccuracyProbe):
    """A fifth of the clients send forged updates, chosen round by round to do the most damage to the server's rule."""

    name = "poisoning"
    title = "Forged updates"
    granted = (
        "the server's rule and its parameters",
        "each other: the attackers act together",
        "in attacks that say 'sees all updates', what honest clients send in the same round, which takes severity down",
    )
    taxonomy = ("model_poisoning",)
    value = 10.0

    def attacks(self, *, thorough: bool) -> Sequence[AccuracyAttack]:
        """See `AccuracyProbe`."""
        known = [
            AccuracyAttack("auto, own updates", {"name": "auto", "knowledge": "own"}, search=0.6),
            AccuracyAttack("sign_flip", {"name": "sign_flip"}),
            AccuracyAttack("auto, sees all updates", {"name": "auto"}, _SEES_ALL, 0.8),
            AccuracyAttack("alie, sees all updates", {"name": "alie"}, _SEES_ALL),
            AccuracyAttack("ipm, sees all updates", {"name": "ipm", "epsilon": 2.0}, _SEES_ALL),
        ]
        return known if thorough else known[:3]

    def statement(self, attackers: str, attack: str) -> str:
        """See `AccuracyProbe`."""
        return f"{attackers} that send forged updates ({attack})"
