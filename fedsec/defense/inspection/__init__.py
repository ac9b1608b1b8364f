"""What a client can tell from the model that it received, before it trains on it."""

from fedsec.defense.inspection.inspector import Inspection, ModelInspector, ReceivedModel

__all__ = ["Inspection", "ModelInspector", "ReceivedModel"]
