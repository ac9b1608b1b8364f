"""Sections of a run's page, one a file: a function from what is to be told of a run to a section, or None."""
