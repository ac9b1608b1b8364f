"""What an audit planned, in its folder: run again, it goes on with the same plan, however fast the machine is now."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fedsec.assessment.budget import BatteryPlan
from fedsec.assessment.deployment import Deployment
from fedsec.assessment.effort import LEVELS
from fedsec.files import read_json, write_json

__all__ = ["keep", "kept"]

_PLAN = "plan.json"


def keep(root: Path, deployed: Deployment, probes: Sequence[str], budget: float, schedule: BatteryPlan) -> None:
    """Write a plan down."""
    level = LEVELS.index(schedule.effort)
    content = {"of": _digest(deployed, probes, budget), "level": level, "effort": asdict(schedule.effort)}
    content |= {"probes": list(schedule.probes), "seconds": schedule.seconds, "left_out": dict(schedule.left_out)}
    write_json(root / _PLAN, content)


def kept(root: Path, deployed: Deployment, probes: Sequence[str], budget: float) -> BatteryPlan | None:
    """The plan of an earlier audit of the same federation, probes and budget; None where there is none."""
    try:
        content = read_json(root / _PLAN)
        if content["of"] != _digest(deployed, probes, budget):
            return None
        effort = LEVELS[int(content["level"])]
        if asdict(effort) != content["effort"]:  # of a version with other levels
            return None
        return BatteryPlan(effort, tuple(content["probes"]), float(content["seconds"]), dict(content["left_out"]))
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return None


def _digest(deployed: Deployment, probes: Sequence[str], budget: float) -> str:
    content = json.dumps([deployed.config.id, deployed.seed, list(probes), budget], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
