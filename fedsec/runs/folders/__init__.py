"""Folders of runs, inversions and recordings: what lies there, in which state, and what of it can go."""
