"""Rounds whose rows no process has: workers in this process, or on the machines of a Ray cluster."""
