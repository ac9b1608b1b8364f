"""What a scenario's author expects of its results, and of which numbers something can be expected."""

from fedsec.scenario.expectations.expectation import Expectation, read_expectations

__all__ = ["Expectation", "read_expectations"]
