"""Folders of runs, looked at after the runs: what lies there, and in which state."""
