"""fedsec: what an attacker can do to a federation, and what each defense buys and costs.

What stands in `__all__` is public, and so are the packages `fedsec.attacks`, `fedsec.defenses`, `fedsec.threat`,
`fedsec.defense`, `fedsec.auditing` and `fedsec.testing`; everything else may move. Names are loaded when they are first
used, so that `import fedsec` itself costs nothing.

    import fedsec

    result = fedsec.run("quickstart")              # a shipped scenario, a file, or a mapping
    seen = fedsec.invert(images, labels, model=net)  # what a server sees of a client's images
    rule = fedsec.Pipeline([fedsec.defenses.ClipUpdate(max_norm=1.0), fedsec.defenses.Median()])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedsec.errors import FedsecError, InputError

if TYPE_CHECKING:
    from fedsec import attacks, auditing, defense, defenses, testing, threat
    from fedsec.assessment import Audit, AuditFinding, audit
    from fedsec.attacks import ATTACKS, INVERSIONS
    from fedsec.data import Dataset
    from fedsec.data import load as load_dataset
    from fedsec.defense import Pipeline
    from fedsec.defenses import DEFENSES
    from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
    from fedsec.federation import Federation, KnowledgeFederation, Threat
    from fedsec.federation.algorithms import (
        ALGORITHMS,
        Centralized,
        Ditto,
        FedAvg,
        FedBN,
        FedDyn,
        FedGKT,
        FedMA,
        FedNAS,
        FedNova,
        FedOpt,
        FedPer,
        FedProx,
        FedRep,
        FedSeq,
        FedSGD,
        LocalOnly,
        LocalSGD,
        PFedMe,
        Scaffold,
        SlowMo,
    )
    from fedsec.inversion.invert import invert, invert_texts
    from fedsec.inversion.result import InversionResult
    from fedsec.inversion.texts.result import TextInversionResult
    from fedsec.recording import Recorder, Recording, open_recording, record
    from fedsec.replays import Leak, Replay, invert_recorded, replay
    from fedsec.runs import RunResult, run
    from fedsec.runs.folders.loading import load_run
    from fedsec.scenario import Scenario, load_scenario
    from fedsec.seeds import Streams
    from fedsec.threat import Observation, Reconstruction

__all__ = [
    "__version__",
    # Scenarios
    "run",
    "load_run",
    "RunResult",
    "Scenario",
    "load_scenario",
    # How safe a federation is
    "audit",
    "Audit",
    "AuditFinding",
    # What a curious server sees
    "invert",
    "InversionResult",
    "invert_texts",
    "TextInversionResult",
    # What a server received
    "record",
    "Recorder",
    "open_recording",
    "Recording",
    "replay",
    "Replay",
    "invert_recorded",
    "Leak",
    # A federation of one's own
    "Federation",
    "KnowledgeFederation",
    "ALGORITHMS",
    "Centralized",
    "FedAvg",
    "FedDyn",
    "FedGKT",
    "Ditto",
    "FedBN",
    "FedPer",
    "FedRep",
    "LocalOnly",
    "PFedMe",
    "FedMA",
    "FedNAS",
    "FedNova",
    "FedOpt",
    "FedProx",
    "FedSGD",
    "FedSeq",
    "LocalSGD",
    "Scaffold",
    "SlowMo",
    "CohortTrainer",
    "LocalTraining",
    "ResidentData",
    "Threat",
    "Streams",
    "Dataset",
    "load_dataset",
    # Methods, for anybody's loop
    "ATTACKS",
    "INVERSIONS",
    "DEFENSES",
    "Pipeline",
    "Observation",
    "Reconstruction",
    "attacks",
    "auditing",
    "defense",
    "defenses",
    "testing",
    "threat",
    # What goes wrong
    "FedsecError",
    "InputError",
]

__version__ = "0.2.0.dev0"

_HOMES = {
    "fedsec.assessment": ("Audit", "AuditFinding", "audit"),
    "fedsec.attacks": ("ATTACKS", "INVERSIONS"),
    "fedsec.data": ("Dataset", "load_dataset"),
    "fedsec.defense": ("Pipeline",),
    "fedsec.defenses": ("DEFENSES",),
    "fedsec.engine": ("CohortTrainer", "LocalTraining", "ResidentData"),
    "fedsec.federation": ("Federation", "KnowledgeFederation", "Threat"),
    "fedsec.federation.algorithms": (
        "ALGORITHMS",
        "Centralized",
        "FedAvg",
        "FedDyn",
        "FedGKT",
        "Ditto",
        "FedBN",
        "FedPer",
        "FedRep",
        "LocalOnly",
        "PFedMe",
        "FedMA",
        "FedNAS",
        "FedNova",
        "FedOpt",
        "FedProx",
        "FedSGD",
        "FedSeq",
        "LocalSGD",
        "Scaffold",
        "SlowMo",
    ),
    "fedsec.inversion.invert": ("invert", "invert_texts"),
    "fedsec.inversion.result": ("InversionResult",),
    "fedsec.inversion.texts.result": ("TextInversionResult",),
    "fedsec.recording": ("Recorder", "Recording", "open_recording", "record"),
    "fedsec.replays": ("Leak", "Replay", "invert_recorded", "replay"),
    "fedsec.runs": ("RunResult", "run"),
    "fedsec.runs.folders.loading": ("load_run",),
    "fedsec.scenario": ("Scenario", "load_scenario"),
    "fedsec.seeds": ("Streams",),
    "fedsec.threat": ("Observation", "Reconstruction"),
}
"""Module -> what it has of the public names."""
_RENAMED = {"load_dataset": "load"}
_PACKAGES = ("attacks", "auditing", "defense", "defenses", "testing", "threat")

if not TYPE_CHECKING:  # a type checker is to know the names, not to take any name for one

    def __getattr__(name: str) -> Any:
        """Load a public name when it is first used."""
        if name in _PACKAGES:
            return import_module(f"fedsec.{name}")
        for module, names in _HOMES.items():
            if name in names:
                value = getattr(import_module(module), _RENAMED.get(name, name))
                globals()[name] = value
                return value
        raise AttributeError(f"module 'fedsec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
