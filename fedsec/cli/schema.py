"""`fedsec schema`: what an editor needs to complete a scenario."""

from fedsec.cli.machine import print_json

__all__ = ["schema"]


def schema() -> None:
    """Print the JSON Schema of a scenario file, for editor completion."""
    from fedsec.scenario.schema import scenario_schema

    print_json(scenario_schema())
