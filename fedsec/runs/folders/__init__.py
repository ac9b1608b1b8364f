"""Folders of runs, inversions and recordings, looked at afterwards: what lies there, in which state, what of it can go."""
