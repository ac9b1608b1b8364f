"""Who was in the training data: signals of models, shadow models trained as one cohort, and inferences judged.

    from fedsec.membership import infer_membership

    report = infer_membership(model, (images, labels), (other_images, other_labels))
    print(report)                                  # AUC, and TPR at 0.1% and 1% FPR, with intervals

Names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedsec.membership.blind import blind_auc
    from fedsec.membership.gradients import gradient_products
    from fedsec.membership.infer import infer_membership
    from fedsec.membership.report import InferenceResult, MembershipReport, judge
    from fedsec.membership.shadow_models import balanced_members, train_shadow_models
    from fedsec.membership.signals import signals_of

__all__ = [
    "InferenceResult",
    "MembershipReport",
    "balanced_members",
    "blind_auc",
    "gradient_products",
    "infer_membership",
    "judge",
    "signals_of",
    "train_shadow_models",
]
_HOMES = {
    "blind": ("blind_auc",),
    "gradients": ("gradient_products",),
    "infer": ("infer_membership",),
    "report": ("InferenceResult", "MembershipReport", "judge"),
    "shadow_models": ("balanced_members", "train_shadow_models"),
    "signals": ("signals_of",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"fedsec.membership.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
