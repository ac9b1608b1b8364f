"""Checks of attacks, inversions, inferences and defenses: what one inherits from says which contract is its."""

from inspect import signature
from typing import Any

from fedsec.defense import (
    ActivationDefense,
    KnowledgeDefense,
    LocalDefense,
    ModelInspector,
    PreAggregator,
    PrivateAggregator,
)
from fedsec.defense.aggregation import Aggregator
from fedsec.defense.updates import UpdateTransform
from fedsec.errors import InputError
from fedsec.testing.conformance import check_aggregator, check_inversion
from fedsec.testing.cuts import (
    check_activation_defense,
    check_activation_poisoning,
    check_hijacking_server,
    check_label_inference,
)
from fedsec.testing.inspection import check_model_inspector
from fedsec.testing.knowledge import check_feature_inversion, check_knowledge_defense, check_knowledge_poisoning
from fedsec.testing.membership import check_membership_inference
from fedsec.testing.poisoning import check_data_poisoning, check_update_poisoning
from fedsec.testing.pre_aggregation import check_pre_aggregator
from fedsec.testing.privacy import check_local_defense, check_private_aggregator
from fedsec.testing.properties import check_property_inference
from fedsec.testing.texts import check_text_inversion
from fedsec.testing.updates import check_update_transform
from fedsec.threat import (
    ActivationPoisoning,
    DataPoisoning,
    FeatureInversion,
    HijackingServer,
    Inversion,
    KnowledgePoisoning,
    LabelInference,
    MembershipInference,
    PropertyInference,
    UpdatePoisoning,
)
from fedsec.threat.texts import TextInversion

__all__ = ["check_attack", "check_defense"]


def check_attack(attack: Any, **needs: Any) -> None:
    """Put an attack, an inversion or an inference through its kind's contract; through both of a poisoner of two kinds.

    Args:
        attack: the attack.
        needs: what the check of its kind has to know, see `check_data_poisoning`, `check_update_poisoning`,
            `check_knowledge_poisoning`, `check_inversion`, `check_feature_inversion`,
            `check_text_inversion`, `check_hijacking_server`, `check_activation_poisoning`,
            `check_membership_inference`, `check_property_inference` and `check_label_inference`; an attack of two kinds
            gives each of the two what is its own.

    Raises:
        AssertionError: the attack breaks the contract.
        InputError: it is of no kind.
    """
    kinds = (
        (KnowledgePoisoning, check_knowledge_poisoning),
        (ActivationPoisoning, check_activation_poisoning),
        (FeatureInversion, check_feature_inversion),
        (HijackingServer, check_hijacking_server),
        (TextInversion, check_text_inversion),
        (Inversion, check_inversion),
        (MembershipInference, check_membership_inference),
        (PropertyInference, check_property_inference),
        (LabelInference, check_label_inference),
        (DataPoisoning, check_data_poisoning),
        (UpdatePoisoning, check_update_poisoning),
    )
    checks: list[Any] = [check for kind, check in kinds if isinstance(attack, kind)]
    if not checks:
        raise _no_kind(attack, f"{', '.join(kind.__name__ for kind, _ in kinds[:-1])} or {kinds[-1][0].__name__}")
    for check in checks:
        known = signature(check).parameters
        check(attack, **{key: value for key, value in needs.items() if len(checks) == 1 or key in known})


def check_defense(defense: Any, **needs: Any) -> None:
    """Put a defense through the contract of its kind.

    Args:
        defense: the rule, pre-aggregator, transform, private training or inspector.
        needs: what the check of its kind has to know, see `check_aggregator`, `check_private_aggregator`,
            `check_pre_aggregator`, `check_update_transform`, `check_local_defense`, `check_model_inspector`,
            `check_knowledge_defense` and `check_activation_defense`.

    Raises:
        AssertionError: the defense breaks the contract.
        InputError: it is of no kind.
    """
    kinds = (
        (KnowledgeDefense, check_knowledge_defense),
        (ActivationDefense, check_activation_defense),
        (PrivateAggregator, check_private_aggregator),
        (LocalDefense, check_local_defense),
        (ModelInspector, check_model_inspector),
        (PreAggregator, check_pre_aggregator),
        (UpdateTransform, check_update_transform),
        (Aggregator, check_aggregator),
    )
    checks: list[Any] = [check for kind, check in kinds if isinstance(defense, kind)]
    if not checks:
        raise _no_kind(defense, _DEFENSES)
    checks[0](defense, **needs)


_DEFENSES = "Aggregator, PreAggregator, UpdateTransform, LocalDefense, ModelInspector, "
_DEFENSES += "KnowledgeDefense or ActivationDefense"


def _no_kind(subject: object, kinds: str) -> InputError:
    return InputError(f"{type(subject).__name__} is of no kind that fedsec knows; expected a subclass of {kinds}")
