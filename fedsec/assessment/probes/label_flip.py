"""Wrong labels: what clients do to the model that know nothing but their own data."""

from collections.abc import Sequence

from fedsec.assessment.probes.byzantine import AccuracyAttack, AccuracyProbe

__all__ = ["LabelFlipProbe"]


class LabelFlipProbe(AccuracyProbe):
    """A fifth of the clients train, as everybody does, on flipped labels."""

    name = "label-flip"
    title = "Training on wrong labels"
    granted = ("their own training data, whose labels they change", "nothing of the server, nor of other clients")
    taxonomy = ("data_poisoning",)
    value = 4.0

    def attacks(self, *, thorough: bool) -> Sequence[AccuracyAttack]:
        """See `AccuracyProbe`."""
        return [AccuracyAttack("label_flip", {"name": "label_flip"})]

    def statement(self, attackers: str, attack: str) -> str:
        """See `AccuracyProbe`."""
        return f"{attackers} that train on flipped labels"
