"""Federations without a server: clients on a graph that average with their neighbors."""
