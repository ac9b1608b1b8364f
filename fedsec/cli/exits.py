"""How the command ends: its exit codes."""

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
