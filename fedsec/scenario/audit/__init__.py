"""The `audit:` section of a scenario: what is measured of privacy beside what is claimed, one part a file."""
