"""What a recording tells: who moved the model, what another rule would have done, what leaked. `fedsec.replay`."""

from fedsec.replays.hindsight import Replay, replay

__all__ = ["Replay", "replay"]
