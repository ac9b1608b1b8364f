"""What a recording tells: who moved the model, what another rule would have done, what leaked. `fedsec.replay`."""

from fedsec.replays.hindsight import Replay, replay
from fedsec.replays.leak import Leak, invert_recorded

__all__ = ["Leak", "Replay", "invert_recorded", "replay"]
