"""The example of a model of one's own under attack: the mean breaks, the median holds."""

import runpy
from pathlib import Path

from fedsec.defenses import Mean, Median

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_your_own_model.py"


def test_the_mean_breaks_and_the_median_holds() -> None:
    accuracy = runpy.run_path(str(EXAMPLE))["accuracy"]
    assert accuracy(Mean(), 3) < 0.3
    assert accuracy(Median(), 3) > 0.9
