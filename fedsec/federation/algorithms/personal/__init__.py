"""Algorithms that leave each client with a model of its own, one a file."""
