"""What a curious server does with updates of texts: its view, and the interface of attacks on it."""

from fedsec.threat.texts.text_inversion import TextInversion, TextReconstruction
from fedsec.threat.texts.text_observation import TextObservation

__all__ = ["TextInversion", "TextObservation", "TextReconstruction"]
