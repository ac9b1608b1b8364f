"""What a shell offers where a scenario, or something that fedsec left, is named."""

from pathlib import Path

__all__ = ["left_folders", "run_folders", "scenario_names"]


def scenario_names(incomplete: str) -> list[str]:
    """For shell completion: folders, YAML files and the scenarios that come with fedsec."""
    from fedsec.scenario.shipped import shipped_scenarios

    start = Path(incomplete)
    folder = start if incomplete.endswith("/") else start.parent
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_dir() or path.suffix in (".yaml", ".yml"))
    except OSError:
        paths = []
    names = [f"{path}/" if path.is_dir() else str(path) for path in paths if not path.name.startswith(".")]
    names += [name for name in shipped_scenarios() if name not in names]
    return [name for name in names if name.startswith(incomplete)]


def left_folders(incomplete: str) -> list[str]:
    """What lies in `runs/` and `inversions/`; with a slash, the folders there."""
    start = Path(incomplete)
    if "/" in incomplete:
        places = [start if incomplete.endswith("/") else start.parent]
    else:
        places = [Path("runs"), Path("inversions")]
    names = []
    for place in places:
        try:
            inner = sorted(path for path in place.iterdir() if path.is_dir())
        except OSError:
            continue
        names += [f"{path}" if "/" in incomplete else path.name for path in inner if not path.name.startswith(".")]
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def run_folders(incomplete: str) -> list[str]:
    """The folders of runs and inversions where they usually lie; what is elsewhere the shell completes."""
    names = [*left_folders("runs/"), *left_folders("inversions/")]
    return [name for name in names if name.startswith(incomplete)]
