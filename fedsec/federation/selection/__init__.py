"""Who takes part in a round where not everybody is as likely to: one way of drawing clients a file."""

from fedsec.federation.selection.availability import Availability
from fedsec.federation.selection.cyclic import Cyclic
from fedsec.federation.selection.power_law import PowerLaw
from fedsec.federation.selection.power_of_choice import PowerOfChoice
from fedsec.federation.selection.selection import Electorate, Selection

__all__ = ["SELECTIONS", "Availability", "Cyclic", "Electorate", "PowerLaw", "PowerOfChoice", "Selection"]

SELECTIONS: dict[str, type[Selection]] = {
    "power_law": PowerLaw,
    "cyclic": Cyclic,
    "availability": Availability,
    "power_of_choice": PowerOfChoice,
}
