"""What `import fedsec` offers: every name is there, type checkers see the same names, and importing costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import fedsec

SOURCE = Path(fedsec.__file__)


def test_every_public_name_is_there() -> None:
    for name in fedsec.__all__:
        assert getattr(fedsec, name) is not None
        assert name in dir(fedsec)
    assert fedsec.load_dataset("digits").input_shape == (1, 8, 8)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(SOURCE.read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    homes = {}
    for node in guarded.body:
        assert isinstance(node, ast.ImportFrom)
        homes |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    eager = {"__version__", "FedsecError", "InputError"}
    assert homes.keys() | eager == set(fedsec.__all__)
    for name, home in homes.items():
        module, _, attribute = home.rpartition(".")
        if module != "fedsec":
            assert getattr(sys.modules[module], attribute) is getattr(fedsec, name)


def test_importing_is_light_and_unknown_names_are_errors() -> None:
    code = (
        "import sys, fedsec\n"
        "heavy = ('torch', 'numpy', 'pydantic', 'typer', 'rich', 'yaml')\n"
        "print([name for name in heavy if name in sys.modules], hasattr(fedsec, 'Fedration'))\n"
        "from fedsec import *\n"
        "print(FedAvg.__name__, run.__module__, defenses.Median.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[] False", "FedAvg fedsec.runs.runner Median"]
