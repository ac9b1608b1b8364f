"""The shapes in the signatures of attacks, inversions and defenses are true: beartype checks them at every call.

Every method of the tables goes through the checks of its kind, as in `test_conformance`, with the hook in place and
budgets cut short: here only what goes in and out of functions counts.
"""

import subprocess
import sys
from pathlib import Path

from fedsec.attacks import ATTACKS, INVERSIONS
from fedsec.defenses import DEFENSES

CHECKED = """
import contextlib, importlib.util, sys, types, typing
import beartype
from jaxtyping import TypeCheckError, install_import_hook

checker = types.ModuleType("checker")
strict = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))  # an int will do for a float
# The hook decorates methods one by one, and beartype knows what Self is in decorated classes only.
def checked(method):
    return method if typing.Self in getattr(method, "__annotations__", {}).values() else strict(method)
checker.checked = checked
sys.modules["checker"] = checker
rooms = ("attacks", "defenses", "threat", "defense", "matching", "privacy", "testing", "models")
hook = install_import_hook([f"fedsec.{room}" for room in rooms], "checker.checked")
spec = importlib.util.spec_from_file_location("conformance", sys.argv[1])
conformance = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conformance)

# Malformed input is refused in words, which is tried elsewhere; here the hook would refuse it first.
for module in [module for name, module in sys.modules.items() if name.startswith("fedsec.testing.")]:
    if hasattr(module, "expect_error"):
        module.expect_error = lambda *arguments: None
    if hasattr(module, "global_randomness_untouched"):  # the hook draws which entries of a list it looks at
        module.global_randomness_untouched = contextlib.nullcontext
    if hasattr(module, "_DTYPES"):  # annotations say Float, of whatever width, or are right for one of these two
        module._DTYPES = module._DTYPES[:2]

SHORT = {"iterations": 3, "starts": 2, "hypotheses": 2}
done = set()
for rows, check in (
    (conformance.ATTACK_ROWS, conformance.test_attack),
    (conformance.INVERSION_ROWS, conformance.test_inversion),
    (conformance.DEFENSE_ROWS, conformance.test_defense),
):
    for name, options, needs in rows:
        short = {key: SHORT.get(key, value) for key, value in options.items()}
        if rows is conformance.INVERSION_ROWS and name not in ("token_rows", "dager", "feature_hijacking"):
            needs = {**needs, "gain": None}
        if name not in done:
            try:
                check(name, short, needs)
            except TypeCheckError as error:
                print(name, *str(error).splitlines()[:4], sep="\\n    ", file=sys.stderr)
        done.add(name)
print(*sorted(done))

import torch
from fedsec.defense.order_statistics import Scratch, middle_mean

for wrong in ("no matrix", torch.zeros(3)):
    try:
        middle_mean(wrong, 1, Scratch())
    except TypeCheckError:
        print("bites")
"""


def test_annotations_of_every_method(tmp_path: Path) -> None:
    conformance = Path(__file__).with_name("test_conformance.py")
    result = subprocess.run(
        [sys.executable, "-c", CHECKED, str(conformance)], cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert not result.stderr
    names, *bites = result.stdout.splitlines()
    assert names.split() == sorted({*ATTACKS, *INVERSIONS, *DEFENSES})
    assert bites == ["bites"] * 2
