"""The federation as audited, in words that can be shared: no folders, no users, no hosts."""

from pathlib import PurePath
from typing import Any

from fedsec.assessment.deployment import Deployment

__all__ = ["described"]


def described(deployed: Deployment) -> dict[str, Any]:
    """Its settings as plain data; of a folder of images the last name alone."""
    sections = {name: value for name, value in deployed.sections.items() if value is not None}
    dataset = sections.get("dataset")
    if isinstance(dataset, dict) and dataset.get("root"):
        sections["dataset"] = {**dataset, "root": PurePath(str(dataset["root"])).name}
    return {
        "settings": sections,
        "seed": deployed.seed,
        "clients": deployed.clients,
        "rounds": deployed.rounds,
        "train_examples": deployed.train_examples,
        "test_examples": deployed.test_examples,
        "classes": deployed.survey.num_classes,
        "input_shape": list(deployed.survey.input_shape),
    }
