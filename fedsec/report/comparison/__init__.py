"""Runs against each other, cell by cell: which cells belong together, what differs, and whether seeds tell it apart."""
