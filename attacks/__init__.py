"""Attacks, one a file; `ATTACKS` maps the name used in scenario files to the class."""

from fedsec.attacks.label_flip import LabelFlip
from fedsec.attacks.sign_flip import SignFlip

if __name__ != "fedsec.attacks":
    raise ImportError(f"this package is fedsec.attacks; do not import it as {__name__}")

__all__ = ["ATTACKS", "LabelFlip", "SignFlip"]

ATTACKS = {
    "label_flip": LabelFlip,
    "sign_flip": SignFlip,
}
